//! Monitors of the members of a replicated service, without I/O.

use crate::{Role, TagSet};
use bytes::{Bytes, BytesMut};
use std::{
    fmt::Debug,
    time::{Duration, SystemTime},
};

/// Makes monitors of the members of one service.
pub trait MonitorConfig: Debug + Send + Sync {
    /// The monitor of a member, for one connection.
    fn begin(&self) -> Box<dyn Monitor>;
}

/// Follows the state of one member over one connection: requests and their replies in turn. A request
/// may be answered only when the state changes.
pub trait Monitor: Send {
    /// Appends the next request.
    fn write_request(&mut self, out: &mut BytesMut);

    /// Reads what has arrived of the reply to the last request.
    fn read_reply(&mut self, reply: &[u8]) -> MonitorStep;

    /// How long the member may take by design to answer the last request.
    fn max_await(&self) -> Duration;
}

/// What follows a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorStep {
    /// The reply is incomplete.
    NeedMore,
    /// The member's state.
    State {
        /// What the reply says.
        state: MemberState,
        /// The request was answered at once, so the time that it took is the round-trip time.
        is_round_trip: bool,
        /// The pause before the next request.
        pause: Duration,
    },
    /// The reply can't be read, or is not that of a member: why.
    Failed(String),
}

/// What a member says of itself and of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberState {
    /// Its role.
    pub role: Role,
    /// Orders primaries: of two, the one with the lesser term has been replaced.
    pub term: Vec<u8>,
    /// Its tags.
    pub tags: TagSet,
    /// When the newest write that it has was made, by the clock of the service.
    pub last_write: Option<SystemTime>,
    /// The members that clients may use, as `host:port`; `None` if it does not know them.
    pub members: Option<Vec<String>>,
    /// Its state in words, for operators: `primary of rs0`.
    pub description: String,
    /// The reply, for [`crate::HandshakeConfig::members_changed`].
    pub reply: Bytes,
}
