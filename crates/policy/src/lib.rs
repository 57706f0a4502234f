//! What a policy is, and the list of those there are.
//!
//! A policy is written against operations and holds for every protocol. Adding one that people
//! configure is a file in `kinds` and its row in [`kinds::POLICIES`].

pub mod access_log;
pub mod attributes;
mod breaker;
pub mod gate;
mod key;
mod kind;
pub mod kinds;
pub mod live;
pub mod matching;
mod over_limit;
pub mod rule;
pub mod series;
mod settings;
mod source;
mod stats;
#[cfg(test)]
mod testing;

use crate::series::{CardinalityLimit, SeriesKey};
use access_log::AccessLogPlan;
use cluster::Cluster;
use operation::{ConnectionInfo, Direction, Operation, Protocol, Rejection, Settlement};
use std::{
    borrow::Cow,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tollgate_metrics::Metrics;

pub use access_log::AccessLog;
pub use breaker::{BreakerPolicy, NAME as BREAKER};
pub use kind::{BuiltPolicy, PolicyKind};
pub use live::Live;
pub use operation::Decision;
pub use rule::{ActivePolicy, Rule};
pub use settings::PolicySettings;
pub use source::PolicySource;
pub use stats::Stats;

/// What policies are made from, for one listener on one worker.
#[derive(Clone)]
pub struct PolicyEnv {
    /// Where they count.
    pub metrics: Metrics,
    /// The listener's name.
    pub listener: Arc<str>,
    /// What its clients speak.
    pub protocol: &'static Protocol,
    /// The cluster that all of the listener's operations go to, if they all go to one.
    pub cluster: Option<Arc<Cluster>>,
    /// The limit of distinct call sites of the listener.
    pub callsites: Arc<CardinalityLimit>,
    /// Which operations are logged, if any.
    pub access_log: Option<AccessLogPlan>,
    /// The worker's lines of the access log, if there is one.
    pub lines: Option<Rc<access_log::LineBuffer>>,
}

/// The policies of a listener, in the order in which operations pass them: what counts and logs
/// comes first, so that it also sees what others reject, and then the configured policies.
///
/// One of `known` that has not changed stays, with all that it remembers.
pub(crate) fn active_policies(
    rules: &[Arc<Rule>],
    known: &[Rc<ActivePolicy>],
    from: &PolicyEnv,
) -> Vec<Rc<ActivePolicy>> {
    let stats: Option<Box<dyn WorkerPolicy>> = Some(Box::new(Stats::new(from)));
    let log = AccessLog::new(from).map(|log| Box::new(log) as Box<dyn WorkerPolicy>);
    let before = [stats, log].into_iter().flatten().map(|it| Rc::new(ActivePolicy::built_in(it)));
    let configured = rules.iter().filter(|rule| rule.enabled).map(|rule| {
        let same = known.iter().find(|entry| entry.is_for(rule));
        same.map_or_else(|| Rc::new(ActivePolicy::configured(rule, from)), Rc::clone)
    });
    let breaker = BreakerPolicy::new(from).map(|breaker| {
        Rc::new(ActivePolicy::built_in_named(breaker::NAME, Box::new(breaker), from))
    });
    before.chain(configured).chain(breaker).collect()
}

/// A policy on one worker and for one listener.
///
/// State that outlives an operation belongs here, or to the [`rule::PolicyConfig`] that all workers
/// share: what [`bind`](WorkerPolicy::bind) returns may be replaced between an operation's
/// admission and its settlement.
pub trait WorkerPolicy {
    /// Whether and how it applies to a series. Asked at first sight, not for each operation.
    fn bind(&self, key: &SeriesKey) -> Option<Box<dyn SeriesPolicy>>;

    /// Before a connection is served. Asked of each connection.
    fn connect(&self, _link: &ConnectionInfo, _now: Instant) -> ConnectDecision {
        ConnectDecision::Accept
    }

    /// Whether it is asked about connections, too, that were open before it came into force. It
    /// must let them in, and leaves them when it goes.
    fn applies_to_open(&self) -> bool {
        false
    }
}

/// A policy as it applies to one series.
pub trait SeriesPolicy {
    /// Before any byte of an operation goes on. What is written to `memo` is there again when the
    /// operation settles.
    fn admit(&self, _operation: &Operation<'_>, _now: Instant, _state: &mut u64) -> Decision {
        Decision::Admit
    }

    /// When it has come into force while an operation that is a whole connection was under way.
    /// `None` if that is nothing to it.
    fn admit_open(&self, _operation: &Operation<'_>, _now: Instant) -> Option<Decision> {
        None
    }

    /// Records bytes of a long operation since the last call: from the client, and from the
    /// service.
    fn record_bytes(&self, _bytes: [u64; 2]) {}

    /// Called exactly once for each operation that it admitted.
    fn settle(&self, _done: &Settled<'_>, _state: u64) {}
}

/// What a policy decides about a connection.
pub enum ConnectDecision {
    /// Let it in.
    Accept,
    /// Let it in, as a guest.
    AcceptWith(Box<dyn ConnectionPermit>),
    /// Let it in after a while.
    Delay(Duration),
    /// Turn it away.
    Reject(Rejection),
}

/// What a policy holds for a connection; dropped when the connection ends.
pub trait ConnectionPermit {
    /// The most bytes that should pass this way in one go.
    fn max_chunk(&self, _direction: Direction) -> usize {
        usize::MAX
    }

    /// Records bytes that passed. Returns the earliest time at which further bytes should pass.
    fn record(&self, _direction: Direction, _bytes: usize, _now: Instant) -> Option<Instant> {
        None
    }
}

/// An operation that ended.
pub struct Settled<'a> {
    /// Which series it belongs to.
    pub key: &'a SeriesKey,
    /// The front of its request, as far as it was kept.
    pub front: &'a [u8],
    /// When its first byte was seen.
    pub began: Instant,
    /// Its wait was no latency (see [`Operation::long_poll`]).
    pub awaits: bool,
    /// It may have a call site (see [`Operation::may_have_callsite`]).
    pub callsite: bool,
    /// The policies that did something to it, in order.
    pub policy_effects: &'a [PolicyEffect],
    /// How it ended.
    pub how: &'a Settlement<'a>,
}

/// A policy that did something to an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEffect {
    /// Its name.
    pub policy: Arc<str>,
    /// It would have, but only counts (`dry_run`).
    pub dry_run: bool,
}

impl Settled<'_> {
    /// From the first byte of the request to the last of the reply.
    pub fn took(&self) -> Duration {
        self.how.now.saturating_duration_since(self.began)
    }

    /// A fact that costs something to find, as logs write it; `None` where none is known.
    pub fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        self.how.attributes.get(self.front, name).text()
    }
}
