//! Effects of a policy, over all listeners.

use super::cells::{CounterCell, Shards};
use ::metrics::Counter;
use serde::Serialize;

/// The effects of a policy, or what they would have been with `dry_run`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effects {
    /// Operations and connections that it rejected.
    pub refused: u64,
    /// Operations that it modified.
    pub modified: u64,
    /// Operations and connections that it would have rejected.
    pub would_refuse: u64,
    /// Operations that it would have modified.
    pub would_modify: u64,
}

/// Counts the effects of one policy. Metrics are by name, which another policy may have later.
#[derive(Debug, Default)]
pub struct EffectCounts {
    refused: Shards<CounterCell>,
    modified: Shards<CounterCell>,
    would_refuse: Shards<CounterCell>,
    would_modify: Shards<CounterCell>,
}

impl EffectCounts {
    /// The totals so far.
    pub fn effects(&self) -> Effects {
        Effects {
            refused: self.refused.total(),
            modified: self.modified.total(),
            would_refuse: self.would_refuse.total(),
            would_modify: self.would_modify.total(),
        }
    }

    /// This worker's handle of [`Effects::refused`].
    pub fn refused(&self) -> Counter {
        Counter::from_arc(self.refused.own())
    }

    /// This worker's handle of [`Effects::modified`].
    pub fn modified(&self) -> Counter {
        Counter::from_arc(self.modified.own())
    }

    /// This worker's handle of [`Effects::would_refuse`].
    pub fn would_refuse(&self) -> Counter {
        Counter::from_arc(self.would_refuse.own())
    }

    /// This worker's handle of [`Effects::would_modify`].
    pub fn would_modify(&self) -> Counter {
        Counter::from_arc(self.would_modify.own())
    }
}
