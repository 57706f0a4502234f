//! The policies that people configure: the one list of them, and how one is written.

use super::{deny, matching::WrittenMatch, rate_limit, read_only, rule::Action};
use crate::config::{Given, Located, Mistake, Name};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// One policy: its name, what it applies to, and one key that says what it does.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Policy")]
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
    pub(crate) matching: Option<Located<WrittenMatch>>,
    /// Refuse whatever matches.
    pub(crate) deny: Option<Located<deny::Settings>>,
    /// `true`: refuse whatever may change data, or can't be told.
    pub(crate) read_only: Option<Located<bool>>,
    /// Let so many pass in so much time.
    pub(crate) rate_limit: Option<Located<rate_limit::Settings>>,
}

/// What came of settings; `None` if they could not even be read, which has been reported.
pub(crate) type Made = Option<Result<Arc<dyn Action>, Vec<Mistake>>>;

impl Written {
    /// What it does: each key that was written, and what came of it.
    pub(crate) fn actions(&mut self) -> Vec<(&'static str, Made)> {
        let all = [
            ("deny", self.deny.take().map(|it| it.value.map(deny::Settings::action))),
            ("read_only", self.read_only.take().map(|it| it.value.map(read_only::action))),
            (
                "rate_limit",
                self.rate_limit.take().map(|it| it.value.map(rate_limit::Settings::action)),
            ),
        ];
        all.into_iter().filter_map(|(key, made)| Some((key, made?))).collect()
    }
}

/// The keys that say what a policy does.
pub(crate) const ACTIONS: &[&str] = &["deny", "read_only", "rate_limit"];
