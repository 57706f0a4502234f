//! The traits that every policy implements, and what they decide about.

use crate::series_key::SeriesKey;
use operation::{
    Attributes, Decision, Direction, LoggedValue, Operation, QueryShape, Rejection,
    ResolvedAttribute, Settlement,
};
use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

/// A policy on one worker and for one listener.
///
/// State that outlives an operation belongs here, or in the
/// [`PolicyConfig`](crate::rule::PolicyConfig) that all workers share: what
/// [`bind`](WorkerPolicy::bind) returns may be replaced between an operation's admission and its
/// settlement.
pub trait WorkerPolicy {
    /// Its part for the operations of a series; `None` if it does not apply to them. Called for the
    /// first operation of a series, not for each.
    fn bind(&self, key: &SeriesKey) -> Option<Box<dyn SeriesPolicy>>;

    /// Decides about a connection that was accepted, before it is served.
    fn connect(&self, _connection: &dyn Attributes, _now: Instant) -> ConnectDecision {
        ConnectDecision::Accept
    }

    /// Whether it also applies to connections that were open before it came into force. Then
    /// [`connect`](WorkerPolicy::connect) accepts each of them, and its permits are dropped when
    /// the policy is removed.
    fn applies_to_open(&self) -> bool {
        false
    }
}

/// A policy as it applies to one series.
pub trait SeriesPolicy {
    /// Decides about an operation before any of its bytes is forwarded. `state` is passed to
    /// [`settle`](SeriesPolicy::settle) as it is written here.
    fn admit(&self, _operation: &Operation<'_>, _now: Instant, _state: &mut u64) -> Decision {
        Decision::Admit
    }

    /// Decides about an operation in flight that is a whole connection, when the policy comes into
    /// force after the operation began. `None` if the policy applies to new operations only.
    fn admit_open(&self, _operation: &Operation<'_>, _now: Instant) -> Option<Decision> {
        None
    }

    /// Records the bytes of an operation in flight since the last call: those from the client, and
    /// those from the service.
    fn record_bytes(&self, _bytes: [u64; 2]) {}

    /// Records the end of an operation. Called exactly once for each operation that it admitted.
    fn settle(&self, _done: &Settled<'_>, _state: u64) {}
}

/// What a policy decides about a connection.
pub enum ConnectDecision {
    /// The connection is served.
    Accept,
    /// The connection is served, and the permit is held until it ends.
    AcceptWith(Box<dyn ConnectionPermit>),
    /// The connection is served after this time.
    Delay(Duration),
    /// The connection is rejected.
    Reject(Rejection),
}

/// A policy's grant to a connection; dropped when the connection ends.
pub trait ConnectionPermit {
    /// The most bytes that should pass in this direction at once.
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
    /// The series that it counts as.
    pub key: &'a SeriesKey,
    /// The first bytes of its request, as far as they were kept.
    pub front: &'a [u8],
    /// When its first byte was read.
    pub began: Instant,
    /// Its duration is not latency: see [`Operation::long_poll`].
    pub long_poll: bool,
    /// It may have a call site: see [`Operation::may_have_callsite`].
    pub may_have_callsite: bool,
    /// See [`Operation::query_shape`].
    pub query_shape: Option<QueryShape>,
    /// The policies that had an effect on it, in order.
    pub policy_effects: &'a [PolicyEffect],
    /// How it ended.
    pub how: &'a Settlement<'a>,
}

/// A policy that had an effect on an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEffect {
    /// Its name.
    pub policy: Arc<str>,
    /// It only counted the effect (`dry_run`).
    pub dry_run: bool,
}

impl Settled<'_> {
    /// The time from the first byte of the request to the last byte of the reply.
    pub fn took(&self) -> Duration {
        self.how.now.saturating_duration_since(self.began)
    }

    /// The text of an attribute for logs, which takes time to find; `None` if it is not known.
    pub fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        self.how.attributes.get(self.front, name).text()
    }

    /// The same for a log line, by number and in the form in which the value is at hand.
    pub(crate) fn logged(&self, attribute: ResolvedAttribute) -> Option<LoggedValue<'_>> {
        self.how.attributes.logged(self.front, attribute)
    }
}
