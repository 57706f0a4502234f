//! Values of which there are only a few, each a word.

use super::{
    decode::{did_you_mean, nearest},
    plan::{LbPolicy, OnViolation, SessionFailures, UpstreamConnectMode},
};
use crate::policy::rate_limit::shared::OnStoreFailure;
use schemars::{Schema, json_schema};
use values::Fault;
use values::FromText;

/// What to do in a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnPanic {
    IgnoreHealth,
    Fail,
}

/// What an endpoint is taken for before its first check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initial {
    Healthy,
    Unhealthy,
}

/// Finds the meaning of one of a few words.
pub(crate) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Fault> {
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*meaning);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let near = did_you_mean(nearest(text, known.iter().copied()));
    Err(Fault::new(
        format!("unknown value `{text}`{near}"),
        format!("write one of {}", known.join(", ")),
    ))
}

/// What an editor is told about them.
pub(crate) fn words_schema<T>(words: &[(&str, T)]) -> Schema {
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    json_schema!({ "enum": known })
}

const LB_POLICIES: [(&str, LbPolicy); 5] = [
    ("round_robin", LbPolicy::RoundRobin),
    ("least_request", LbPolicy::LeastRequest),
    ("random", LbPolicy::Random),
    ("ring_hash", LbPolicy::RingHash),
    ("maglev", LbPolicy::Maglev),
];

impl LbPolicy {
    /// The word for it in a config.
    pub fn as_str(self) -> &'static str {
        LB_POLICIES.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

impl FromText for LbPolicy {
    const EXPECTED: &str = "how endpoints are picked";

    fn from_text(text: &str) -> Result<Self, Fault> {
        word(text, &LB_POLICIES)
    }

    fn schema() -> Schema {
        words_schema(&LB_POLICIES)
    }
}

const SESSION_FAILURES: [(&str, SessionFailures); 3] = [
    ("none", SessionFailures::None),
    ("reset", SessionFailures::Reset),
    ("no_reply", SessionFailures::NoReply),
];

impl SessionFailures {
    /// The word for it in a config.
    pub fn as_str(self) -> &'static str {
        SESSION_FAILURES.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

impl FromText for SessionFailures {
    const EXPECTED: &str = "`none`, `reset` or `no_reply`";

    fn from_text(text: &str) -> Result<Self, Fault> {
        word(text, &SESSION_FAILURES)
    }

    fn schema() -> Schema {
        words_schema(&SESSION_FAILURES)
    }
}

const ON_VIOLATION: [(&str, OnViolation); 2] =
    [("pass", OnViolation::Pass), ("close", OnViolation::Close)];

impl OnViolation {
    /// The word for it in a config.
    pub fn as_str(self) -> &'static str {
        ON_VIOLATION.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

impl FromText for OnViolation {
    const EXPECTED: &str = "`pass` or `close`";

    fn from_text(text: &str) -> Result<Self, Fault> {
        word(text, &ON_VIOLATION)
    }

    fn schema() -> Schema {
        words_schema(&ON_VIOLATION)
    }
}

const UPSTREAM_CONNECT_MODE: [(&str, UpstreamConnectMode); 2] = [
    ("immediate", UpstreamConnectMode::Immediate),
    ("on_client_data", UpstreamConnectMode::OnClientData),
];

impl UpstreamConnectMode {
    /// The word for it in a config.
    pub fn as_str(self) -> &'static str {
        UPSTREAM_CONNECT_MODE.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

impl FromText for UpstreamConnectMode {
    const EXPECTED: &str = "`immediate` or `on_client_data`";

    fn from_text(text: &str) -> Result<Self, Fault> {
        word(text, &UPSTREAM_CONNECT_MODE)
    }

    fn schema() -> Schema {
        words_schema(&UPSTREAM_CONNECT_MODE)
    }
}

const ON_PANIC: [(&str, OnPanic); 2] =
    [("ignore_health", OnPanic::IgnoreHealth), ("fail", OnPanic::Fail)];

impl FromText for OnPanic {
    const EXPECTED: &str = "`ignore_health` or `fail`";

    fn from_text(text: &str) -> Result<Self, Fault> {
        word(text, &ON_PANIC)
    }

    fn schema() -> Schema {
        words_schema(&ON_PANIC)
    }
}

const INITIAL: [(&str, Initial); 2] =
    [("healthy", Initial::Healthy), ("unhealthy", Initial::Unhealthy)];

impl FromText for Initial {
    const EXPECTED: &str = "`healthy` or `unhealthy`";

    fn from_text(text: &str) -> Result<Self, Fault> {
        word(text, &INITIAL)
    }

    fn schema() -> Schema {
        words_schema(&INITIAL)
    }
}

impl FromText for OnStoreFailure {
    const EXPECTED: &str = "`allow`, `refuse` or `local`";

    fn from_text(text: &str) -> Result<Self, Fault> {
        word(text, &OnStoreFailure::WORDS)
    }

    fn schema() -> Schema {
        words_schema(&OnStoreFailure::WORDS)
    }
}
