//! What a watcher wants to see.

use super::TappedOperation;
use crate::Settled;
use operation::Outcome;
use std::{str::FromStr, time::Duration};
use values::glob_matches;

/// Selects operations; the default selects all but housekeeping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapFilter {
    /// How they ended.
    pub outcome: Option<TapOutcome>,
    /// They took at least this long. A long poll is never slow.
    pub slower_than: Duration,
    /// A glob of the listener's name.
    pub listener: Option<String>,
    /// A glob of the operation's name.
    pub operation: Option<String>,
    /// A glob of the resource.
    pub resource: Option<String>,
    /// Also operations that cost the service nothing, such as handshakes, log-ins and pings: drivers and
    /// health checks send many.
    pub housekeeping: bool,
}

/// How operations ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapOutcome {
    /// In any way but `ok`.
    NotOk,
    /// In this way.
    Is(Outcome),
}

impl FromStr for TapOutcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "not_ok" {
            return Ok(Self::NotOk);
        }
        let outcome = Outcome::ALL.into_iter().find(|it| it.as_str() == text);
        outcome.map(Self::Is).ok_or_else(|| {
            let known = Outcome::ALL.map(Outcome::as_str).join(", ");
            format!("there is no outcome `{text}`: write not_ok, {known}")
        })
    }
}

impl TapOutcome {
    fn holds(self, outcome: Outcome) -> bool {
        match self {
            Self::NotOk => outcome != Outcome::Ok,
            Self::Is(wanted) => outcome == wanted,
        }
    }
}

/// What a filter looks at.
struct Parts<'a> {
    outcome: Outcome,
    took: Duration,
    long_poll: bool,
    listener: &'a str,
    operation: &'a str,
    resource: &'a str,
    housekeeping: bool,
}

impl TapFilter {
    /// Whether it selects an operation that ended.
    pub(super) fn selects(&self, listener: &str, done: &Settled<'_>, housekeeping: bool) -> bool {
        self.selects_parts(&Parts {
            outcome: done.how.outcome,
            took: done.took(),
            long_poll: done.long_poll,
            listener,
            operation: &done.key.name,
            resource: &done.key.resource,
            housekeeping,
        })
    }

    /// Whether it selects an operation that was recorded, maybe because of another filter.
    pub(super) fn selects_recorded(&self, recorded: &TappedOperation) -> bool {
        self.selects_parts(&Parts {
            outcome: recorded.ended,
            took: recorded.took,
            long_poll: recorded.long_poll,
            listener: &recorded.listener,
            operation: &recorded.operation,
            resource: &recorded.resource,
            housekeeping: recorded.housekeeping,
        })
    }

    fn selects_parts(&self, it: &Parts<'_>) -> bool {
        let fits = |glob: &Option<String>, name: &str| {
            glob.as_ref().is_none_or(|glob| glob_matches(glob, name))
        };
        (self.housekeeping || !it.housekeeping)
            && self.outcome.is_none_or(|wanted| wanted.holds(it.outcome))
            && (self.slower_than.is_zero() || (it.took >= self.slower_than && !it.long_poll))
            && fits(&self.operation, it.operation)
            && fits(&self.resource, it.resource)
            && fits(&self.listener, it.listener)
    }
}
