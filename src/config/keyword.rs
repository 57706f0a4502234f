//! Keywords of the config.

use super::plan::{OnViolation, UpstreamConnectMode};
use schemars::Schema;
use values::{Diagnostic, FromText, keyword_schema, parse_keyword};

/// The action in panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnPanic {
    IgnoreHealth,
    Fail,
}

/// Whether an endpoint counts as healthy before its first check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InitialHealth {
    Healthy,
    Unhealthy,
}

const ON_VIOLATION: [(&str, OnViolation); 2] =
    [("pass", OnViolation::Pass), ("close", OnViolation::Close)];

impl OnViolation {
    /// The keyword in a config.
    pub fn as_str(self) -> &'static str {
        ON_VIOLATION.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

impl FromText for OnViolation {
    const EXPECTED: &str = "`pass` or `close`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, &ON_VIOLATION)
    }

    fn schema() -> Schema {
        keyword_schema(&ON_VIOLATION)
    }
}

const UPSTREAM_CONNECT_MODE: [(&str, UpstreamConnectMode); 2] = [
    ("immediate", UpstreamConnectMode::Immediate),
    ("on_client_data", UpstreamConnectMode::OnClientData),
];

impl UpstreamConnectMode {
    /// The keyword in a config.
    pub fn as_str(self) -> &'static str {
        UPSTREAM_CONNECT_MODE.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

impl FromText for UpstreamConnectMode {
    const EXPECTED: &str = "`immediate` or `on_client_data`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, &UPSTREAM_CONNECT_MODE)
    }

    fn schema() -> Schema {
        keyword_schema(&UPSTREAM_CONNECT_MODE)
    }
}

const ON_PANIC: [(&str, OnPanic); 2] =
    [("ignore_health", OnPanic::IgnoreHealth), ("fail", OnPanic::Fail)];

impl FromText for OnPanic {
    const EXPECTED: &str = "`ignore_health` or `fail`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, &ON_PANIC)
    }

    fn schema() -> Schema {
        keyword_schema(&ON_PANIC)
    }
}

const INITIAL: [(&str, InitialHealth); 2] =
    [("healthy", InitialHealth::Healthy), ("unhealthy", InitialHealth::Unhealthy)];

impl FromText for InitialHealth {
    const EXPECTED: &str = "`healthy` or `unhealthy`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, &INITIAL)
    }

    fn schema() -> Schema {
        keyword_schema(&INITIAL)
    }
}
