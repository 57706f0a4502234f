//! The policies that people configure: the one list of them, and how one is written.

use super::{bandwidth_limit, deny, fault, matching::WrittenMatch, rule::Action, time_limit};
use crate::config::{Given, Located, Mistake, Name};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// One policy: its name, what it applies to, and one key that says what it does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a policy's keys and values")]
pub(crate) struct Written {
    /// Its name in logs and metrics (1 to 64 letters, digits, `_`, `.` and `-`).
    #[schemars(required)]
    pub(crate) name: Given<Name>,
    /// Whether it is switched on. Default: `true`.
    pub(crate) enabled: Option<Located<bool>>,
    /// Only count and log what it would do. Default: `false`.
    pub(crate) dry_run: Option<Located<bool>>,
    /// What it applies to. Default: everything.
    #[serde(rename = "match")]
    #[expect(dead_code, reason = "for whoever writes matching")]
    pub(crate) matching: Option<Located<WrittenMatch>>,
    /// Refuse whatever matches.
    pub(crate) deny: Option<Located<deny::Settings>>,
    /// Let bytes pass no faster than this. Default: as fast as they come.
    pub(crate) bandwidth_limit: Option<Located<bandwidth_limit::Settings>>,
    /// Answer in the service's place when it takes too long. Default: it may take any time.
    pub(crate) time_limit: Option<Located<time_limit::Settings>>,
    /// Break something on purpose. Default: nothing is broken.
    pub(crate) fault: Option<Located<fault::Settings>>,
}

/// What came of settings; `None` if they could not even be read, which has been reported.
pub(crate) type Made = Option<Result<Arc<dyn Action>, Vec<Mistake>>>;

impl Written {
    /// What it does: each key that was written, and what came of it.
    pub(crate) fn actions(&mut self) -> Vec<(&'static str, Made)> {
        let all = [
            ("deny", self.deny.take().map(|it| it.value.map(deny::Settings::action))),
            (
                "bandwidth_limit",
                self.bandwidth_limit
                    .take()
                    .map(|it| it.value.map(bandwidth_limit::Settings::action)),
            ),
            (
                "time_limit",
                self.time_limit.take().map(|it| it.value.map(time_limit::Settings::action)),
            ),
            ("fault", self.fault.take().map(|it| it.value.map(fault::Settings::action))),
        ];
        all.into_iter().filter_map(|(key, made)| Some((key, made?))).collect()
    }
}

/// The keys that say what a policy does.
pub(crate) const ACTIONS: &[&str] = &["deny", "bandwidth_limit", "time_limit", "fault"];

#[cfg(test)]
mod tests;
