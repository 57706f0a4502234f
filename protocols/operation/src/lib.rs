//! The one noun of this proxy, and the verbs every protocol is made of.
//!
//! An [`Operation`] is what a client asked for: a command, a call, a request, or a whole byte
//! stream. A [`Codec`] finds operations in the bytes of one connection; a [`Gate`] decides on
//! each and hands out a [`Ticket`] that settles exactly once with a [`Settlement`]; whatever a policy
//! asks beyond yes and no are the ticket's [`Terms`].
//!
//! Nothing here does I/O, keeps a clock or knows a protocol: a protocol is a crate that
//! implements [`Codec`], and everything after that is shared.

mod attribute_value;
mod codec;
mod effects;
mod end_reason;
mod gate;
mod operation;
mod outcome;
mod probe;
#[cfg(feature = "testing")]
pub mod testing;

pub use attribute_value::AttributeValue;
pub use codec::{
    Codec, ConnectionInfo, LateDetails, Next, OperationNames, Reply, Request, Tag, Violation,
};
pub use effects::{
    ClosePoint, Effects, Impairment, InjectedClose, LatencyDistribution, ReplyTimeout, Slicer,
};
pub use end_reason::EndReason;
pub use gate::{
    Decision, DecisionFuture, Gate, PendingOperation, RejectMode, Rejection, SettleSink,
    Settlement, Ticket, Verdict,
};
pub use operation::{Attributes, ExtraCounter, OTHER_RESOURCES, Operation, Protocol};
pub use outcome::{Close, Outcome, RejectReason, RejectionRef};
pub use probe::{Probe, ProbeResult};
