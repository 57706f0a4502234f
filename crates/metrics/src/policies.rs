//! What a policy did, over all listeners.

use super::cells::{CounterCell, Shards};
use ::metrics::Counter;
use serde::Serialize;

/// What a policy did, or would have done (`dry_run`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Effects {
    /// Operations and connections that it refused.
    pub refused: u64,
    /// Operations that it let go on, but on terms.
    pub bent: u64,
    /// Operations and connections that it would have refused.
    pub would_refuse: u64,
    /// Operations that it would have let go on, but on terms.
    pub would_bend: u64,
}

/// Counts what one policy does. Metrics count by names, and another policy may have the name later.
#[derive(Debug, Default)]
pub struct EffectCounts {
    refused: Shards<CounterCell>,
    bent: Shards<CounterCell>,
    would_refuse: Shards<CounterCell>,
    would_bend: Shards<CounterCell>,
}

impl EffectCounts {
    /// All so far.
    pub fn effects(&self) -> Effects {
        Effects {
            refused: self.refused.total(),
            bent: self.bent.total(),
            would_refuse: self.would_refuse.total(),
            would_bend: self.would_bend.total(),
        }
    }

    /// This worker's handle of [`Effects::refused`].
    pub fn refused(&self) -> Counter {
        Counter::from_arc(self.refused.own())
    }

    /// This worker's handle of [`Effects::bent`].
    pub fn bent(&self) -> Counter {
        Counter::from_arc(self.bent.own())
    }

    /// This worker's handle of [`Effects::would_refuse`].
    pub fn would_refuse(&self) -> Counter {
        Counter::from_arc(self.would_refuse.own())
    }

    /// This worker's handle of [`Effects::would_bend`].
    pub fn would_bend(&self) -> Counter {
        Counter::from_arc(self.would_bend.own())
    }
}
