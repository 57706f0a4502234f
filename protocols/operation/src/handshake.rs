//! Handshakes with a service, without I/O.

use bytes::BytesMut;
use std::fmt::Debug;

/// Makes new connections to a service ready for operations.
pub trait HandshakeConfig: Debug + Send + Sync {
    /// The handshake of one connection, which introduces itself as this application, if one is given.
    fn begin(&self, application: Option<&str>) -> Box<dyn Handshake>;

    /// The last reply of a handshake, which shows what the service is. Called for each listener that uses
    /// the pool.
    fn connected(&self, reply: &[u8]) {
        let _ = reply;
    }

    /// The newest reply of each member of a replicated service to its monitor
    /// ([`crate::MemberState::reply`]). Called after each change.
    fn members_changed(&self, replies: &[bytes::Bytes]) {
        let _ = replies;
    }
}

/// The handshake of one connection: requests and their replies in turn.
pub trait Handshake: Debug {
    /// Appends the next request.
    fn write_request(&mut self, out: &mut BytesMut);

    /// Reads what has arrived of the reply to the last request.
    fn read_reply(&mut self, reply: &[u8]) -> HandshakeStep;
}

/// What follows a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeStep {
    /// The reply is incomplete.
    NeedMore,
    /// Another request follows.
    Continue,
    /// The connection is ready for operations.
    Done,
    /// The service has refused, or its reply can't be read: why.
    Failed(String),
}
