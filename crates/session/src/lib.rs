//! What serving a client's connection needs of the proxy.
//!
//! The relay and the HTTP server are handed a [`Session`] and know neither the listener nor the
//! worker behind it. What they need of a cluster they take from the crate `cluster` itself.
//!
//! - `held_bytes`: the bound on request bytes that wait for a policy's decision
//! - `linger`: the lingering close
//! - `timeouts`: the time limits of a connection
//! - `testing`: a session for tests, behind the feature of that name

mod held_bytes;
mod linger;
#[cfg(feature = "testing")]
pub mod testing;
mod timeouts;

pub use held_bytes::{HeldBytesBudget, HeldBytesLease};
pub use linger::{LINGER_TIMEOUT, linger, poll_discard};
pub use timeouts::Timeouts;

use operation::{
    AttributeValue, Close, ConnectionInfo, Direction, Gate, LookupRun, Operation, Rejection,
    Revision, Violation,
};
use std::{
    cell::Cell,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

/// A client's connection: the gate, and what the proxy knows about the connection.
pub trait Session: Gate {
    /// The client's address, and the proxy's.
    fn info(&self) -> ConnectionInfo;

    /// When the connection was accepted.
    fn accepted_at(&self) -> Instant;

    /// The listener's time limits.
    fn timeouts(&self) -> &Timeouts;

    /// An attribute of the connection, such as `peer`.
    fn attribute(&self, name: &str) -> AttributeValue<'_>;

    /// Whether the connection has attributes beyond those of every connection: of TLS, or of a PROXY
    /// protocol header.
    fn has_preface(&self) -> bool {
        false
    }

    /// The lookups that it has sent last; `None` if nothing observes them.
    fn lookups(&self) -> Option<&Cell<LookupRun>> {
        None
    }

    /// Whether the client's connection is encrypted.
    fn is_encrypted(&self) -> bool {
        false
    }

    /// The phase of the worker that serves the connection.
    fn phase(&self) -> Phase;

    /// Grows when policies, or the close requests of endpoints, may have changed.
    fn generation(&self) -> u64;

    /// Registers the waker of the connection's task: the proxy wakes it when the phase, the
    /// generation or [`kill_reason`](Session::kill_reason) changes.
    fn set_waker(&self, waker: &Waker);

    /// Why the connection is to be closed at once, if it is: an operator has requested it, or the client's
    /// certificate is no longer accepted.
    fn kill_reason(&self) -> Option<Close>;

    /// Counts bytes of this direction, for operators.
    fn record_read(&self, direction: Direction, bytes: usize, now: Instant);

    /// Sets the gate's slot of the oldest operation in flight, for operators.
    fn set_operation(&self, slot: Option<u32>);

    /// Updates the bandwidth limits if policies have changed since the last call. Returns whether
    /// any policy has.
    fn refresh_limits(&self) -> bool;

    /// Whether policies limit the connection's bandwidth.
    fn is_limited(&self) -> bool;

    /// Whether policies limit the connection's bandwidth, after an update of the limits.
    fn is_limited_now(&self) -> bool {
        self.refresh_limits();
        self.is_limited()
    }

    /// The most bytes that should pass at once in this direction.
    fn max_chunk(&self, direction: Direction) -> usize;

    /// Records passed bytes, of the operation in this slot of the gate if that is known. Returns
    /// the earliest time at which further bytes should pass.
    fn record_passed(
        &self,
        direction: Direction,
        bytes: usize,
        now: Instant,
        slot: Option<u32>,
    ) -> Option<Instant>;

    /// What policies ask now of the operation in this slot of the gate; `None` if nothing has
    /// changed for it.
    fn revise(&self, slot: u32, operation: &Operation<'_>, now: Instant) -> Option<Revision>;

    /// Whether a policy guards: what cannot be read cannot be allowed then.
    fn is_guarded(&self) -> bool;

    /// Whether the connection closes when its bytes can no longer be parsed.
    fn closes_on_violation(&self) -> bool;

    /// The rejection of a request that cannot be read, if a policy guards.
    fn reject_unreadable(&self) -> Option<Rejection>;

    /// Counts a protocol violation.
    fn count_violation(&self, violation: Violation);

    /// Logs a violation after which no byte can be parsed, and what was `done` about it: one of each kind in
    /// a minute, so that a scanner does not fill the log.
    fn log_violation(&self, violation: Violation, done: &str);

    /// The error message for clients whose endpoint does not speak `protocol`.
    fn wrong_protocol(&self, protocol: &str, violation: Violation) -> String;

    /// Logs what a codec has noticed about the service.
    fn log_notice(&self, notice: &str);

    /// The listener's budget of request bytes that wait for a policy's decision.
    fn held_bytes(&self) -> &Arc<HeldBytesBudget>;

    /// Counts and logs a request that exceeds the budget.
    fn report_not_held(&self);

    /// Counts an operation that exceeds its cluster's limit. Returns the name of that limit's
    /// policy.
    fn count_overloaded(&self) -> &'static str;

    /// Whether any connection to the listener's cluster is open.
    fn is_cluster_connected(&self) -> bool;
}

/// How long a connection is idle before it closes in [`Phase::SoftDraining`]. pymongo looks before an operation
/// whether its connection was closed only if that has been idle for a second.
pub const REST: Duration = Duration::from_secs(1);

/// The phase of a connection's worker and listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It accepts new connections.
    Running,
    /// Its connections close after a [`REST`], or with an HTTP answer that says so: a client that pauses for less may
    /// be sending its next operation already.
    SoftDraining,
    /// Its connections close as soon as they are idle.
    Draining,
    /// Its connections close now.
    Closing,
}
