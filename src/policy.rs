//! What a policy is, and the list of those there are.
//!
//! A policy is written against operations and holds for every protocol. Adding one is a file
//! beside this one and a line in [`all`].

pub mod access_log;
mod stats;

use crate::series::Key;
use operation::{Operation, Reason, Settlement};
use std::{
    borrow::Cow,
    rc::Rc,
    time::{Duration, Instant},
};

pub use access_log::AccessLog;
pub use stats::Stats;

/// A policy as configured, on one worker and for one listener.
///
/// State that outlives an operation belongs here: what [`bind`](Policy::bind) returns may be
/// replaced between an operation's admission and its settlement.
pub trait Policy {
    /// Whether and how it applies to a series. Asked at first sight, not for each operation.
    fn bind(&self, key: &Key) -> Option<Box<dyn Bound>>;
}

/// A policy as it applies to one series.
pub trait Bound {
    /// Before any byte of an operation goes on.
    fn admit(&self, _operation: &Operation<'_>) -> Decision {
        Decision::Admit
    }

    /// Exactly once for each operation admitted.
    fn settle(&self, _done: &Settled<'_>) {}
}

/// What a policy decided on an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let it go on.
    Admit,
    /// Let it go on after a while.
    Delay(Duration),
    /// Say no.
    Refuse {
        /// What kind of no.
        reason: Reason,
        /// What a person reads in the error.
        message: Rc<str>,
    },
}

/// An operation that ended.
pub struct Settled<'a> {
    /// Which series it belongs to.
    pub key: &'a Key,
    /// The front of its request, as far as it was kept.
    pub front: &'a [u8],
    /// When its first byte was seen.
    pub began: Instant,
    /// Its wait was no latency (see [`Operation::awaits`]).
    pub awaits: bool,
    /// How it ended.
    pub how: &'a Settlement<'a>,
}

impl Settled<'_> {
    /// From the first byte of the request to the last of the reply.
    pub fn took(&self) -> Duration {
        self.how.now.saturating_duration_since(self.began)
    }

    /// A fact that costs something to find.
    pub fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        self.how.attributes.get(self.front, name)
    }
}
