//! What a policy is, and the list of those there are.
//!
//! A policy is written against operations and holds for every protocol. Adding one is a file
//! beside this one and a line in [`all`].

pub mod access_log;
mod breaker;
mod stats;

use crate::{
    cluster::Cluster,
    config::plan::Plan,
    metrics::Metrics,
    series::{Census, Key},
};
use operation::{Operation, Reason, Settlement};
use std::{
    borrow::Cow,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

pub use access_log::AccessLog;
pub use breaker::Breaker;
pub use stats::Stats;

/// What policies are made from, for one listener on one worker.
pub struct Materials<'a> {
    /// The whole plan.
    pub plan: &'a Plan,
    /// Where they count.
    pub metrics: &'a Metrics,
    /// The listener's name.
    pub listener: &'a Arc<str>,
    /// The listener's cluster.
    pub cluster: &'a Arc<Cluster>,
    /// The call sites that the listener tells apart.
    pub callsites: &'a Arc<Census>,
    /// The worker's lines of the access log, if there is one.
    pub lines: Option<&'a Rc<access_log::Lines>>,
}

/// The policies that there are, in the order in which operations pass them.
pub fn all(from: &Materials<'_>) -> Vec<Box<dyn Policy>> {
    let stats: Option<Box<dyn Policy>> = Some(Box::new(Stats::new(from)));
    let log = AccessLog::new(from).map(|log| Box::new(log) as Box<dyn Policy>);
    let breaker = Breaker::new(from).map(|breaker| Box::new(breaker) as Box<dyn Policy>);
    [stats, log, breaker].into_iter().flatten().collect()
}

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
    /// It may have a call site (see [`Operation::callsite`]).
    pub callsite: bool,
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
