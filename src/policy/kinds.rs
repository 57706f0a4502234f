//! The policies that people configure: the one list of them, and how one is written.

use super::{
    bandwidth_limit, concurrency_limit, connection_limit, deny, fault, matching::MatchSetting,
    rate_limit, read_only, rule::PolicyConfig, time_limit,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use values::{
    Diagnostic, Name,
    spanned::{Opt, Spanned},
};

/// One policy: its name, what it applies to, and one key that says what it does.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Policy")]
#[serde(deny_unknown_fields, expecting = "a policy's keys and values")]
pub(crate) struct Written {
    /// Its name in logs and metrics (1 to 64 letters, digits, `_`, `.` and `-`).
    #[schemars(required)]
    pub(crate) name: Opt<Name>,
    /// Whether it is switched on. Default: `true`.
    pub(crate) enabled: Option<Spanned<bool>>,
    /// Only count and log what it would do. Default: `false`.
    pub(crate) dry_run: Option<Spanned<bool>>,
    /// What it applies to. Default: everything.
    #[serde(rename = "match")]
    pub(crate) matching: Option<Spanned<MatchSetting>>,
    /// Refuse whatever matches.
    pub(crate) deny: Option<Spanned<deny::Settings>>,
    /// `true`: refuse whatever may change data.
    pub(crate) read_only: Option<Spanned<bool>>,
    /// Limit how many operations, documents, bytes or connections pass in a time.
    pub(crate) rate_limit: Option<Spanned<rate_limit::Settings>>,
    /// Limit how many operations are in flight at a time.
    pub(crate) concurrency_limit: Option<Spanned<concurrency_limit::Settings>>,
    /// Limit how many connections are open at a time.
    pub(crate) connection_limit: Option<Spanned<connection_limit::Settings>>,
    /// Let bytes pass no faster than this.
    pub(crate) bandwidth_limit: Option<Spanned<bandwidth_limit::Settings>>,
    /// Answer in the service's place when it takes too long.
    pub(crate) time_limit: Option<Spanned<time_limit::Settings>>,
    /// Break something on purpose.
    pub(crate) fault: Option<Spanned<fault::Settings>>,
}

/// What came of settings; `None` if they could not even be read, which has been reported.
pub(crate) type Made = Option<Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>>>;

impl Written {
    /// What it does: each key that was written, and what came of it.
    pub(crate) fn actions(&mut self) -> Vec<(&'static str, Made)> {
        let all = [
            made("deny", self.deny.take(), deny::Settings::action),
            made("read_only", self.read_only.take(), read_only::action),
            made("rate_limit", self.rate_limit.take(), rate_limit::Settings::action),
            made(
                "concurrency_limit",
                self.concurrency_limit.take(),
                concurrency_limit::Settings::action,
            ),
            made(
                "connection_limit",
                self.connection_limit.take(),
                connection_limit::Settings::action,
            ),
            made("bandwidth_limit", self.bandwidth_limit.take(), bandwidth_limit::Settings::action),
            made("time_limit", self.time_limit.take(), time_limit::Settings::action),
            made("fault", self.fault.take(), fault::Settings::action),
        ];
        all.into_iter().flatten().collect()
    }
}

/// What came of the settings under a key, if they were written.
fn made<T>(
    key: &'static str,
    settings: Option<Spanned<T>>,
    action: impl FnOnce(T) -> Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>>,
) -> Option<(&'static str, Made)> {
    settings.map(|settings| (key, settings.value.map(action)))
}

/// The keys that say what a policy does.
pub(crate) const ACTIONS: &[&str] = &[
    "deny",
    "read_only",
    "rate_limit",
    "concurrency_limit",
    "connection_limit",
    "bandwidth_limit",
    "time_limit",
    "fault",
];

#[cfg(test)]
mod tests;
