//! The operation, and the interfaces between protocols and policies.
//!
//! An [`Operation`] is a client's command, call or request, or a whole byte stream. A [`Codec`] finds
//! operations in the bytes of one connection; a [`Gate`] decides on each and returns a [`Ticket`]
//! that is settled exactly once with a [`Settlement`]. The ticket's [`Effects`] are what policies
//! change about an admitted operation, such as a delay.
//!
//! Nothing here does I/O, reads a clock or knows a protocol. A protocol is a crate that implements
//! [`Codec`]; all other code is shared.

mod attribute_value;
mod byte_bucket;
mod codec;
mod direction;
mod effects;
mod end_reason;
mod gate;
mod handshake;
mod logged_value;
mod mirror;
mod monitor;
mod next;
mod operation;
mod orphan;
mod outcome;
mod placement;
mod probe;
mod query_shape;
mod random;
mod rejection;
mod replay;
mod span;
#[cfg(feature = "testing")]
pub mod testing;

pub use attribute_value::AttributeValue;
pub use byte_bucket::ByteBucket;
pub use codec::{
    Codec, ConnectionInfo, LateDetails, MAX_IN_FLIGHT, OperationNames, Reply, Request, Tag,
};
pub use direction::Direction;
pub use effects::{
    ClosePoint, Effects, Impairment, InjectedClose, LatencyDistribution, ReplyTimeout, Revision,
    Slicer,
};
pub use end_reason::{EndReason, Violation};
pub use gate::{
    Decision, DecisionFuture, Gate, PendingOperation, SettleSink, Settlement, Ticket, Verdict,
};
pub use handshake::{
    Handshake, HandshakeConfig, HandshakeStep, Identity, OpenStateCounts, PoolUser, ServiceQuery,
};
pub use logged_value::{AttributeSet, LoggedValue, ResolvedAttribute, is_plain};
pub use mirror::{
    AnswerDigest, MirrorExchange, MirrorOutcome, MirrorResult, MirrorStep, MirroredRead,
};
pub use monitor::{MemberState, Monitor, MonitorConfig, MonitorStep};
pub use next::{LocalAnswer, Next, ReadRoute, ResendReason, TakenUpstream, UpstreamUse};
pub use operation::{
    Attributes, BACKS_OFF, ExtraCounter, OTHER_RESOURCES, Operation, Protocol, WRITES,
};
pub use orphan::Orphan;
pub use outcome::{Close, Outcome, RejectReason};
pub use placement::{PinChange, Placement, ReadMode, ReadPreference, Role, TagSet};
pub use probe::{Probe, ProbeResult};
pub use query_shape::{
    CLOSED_CURSORS, CursorChange, LONG_LIST, LookupRun, OUTDATED_DRIVER, QueryRole, QueryShape,
    SHAPE_TEXT, ShapeHasher,
};
pub use random::draw;
pub use rejection::{RejectMode, Rejection, RejectionRef};
pub use replay::{Recovery, ReplayConfig};
pub use span::{
    Attempt, AttemptField, AttemptLink, AttemptSink, OpenSpan, SpanContext, SpanConventions,
    SpanField, SpanKind, SpanName, TRACEPARENT, TRACESTATE,
};
