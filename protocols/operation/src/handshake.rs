//! Handshakes with a service, without I/O.

use bytes::BytesMut;
use std::{fmt::Debug, sync::Arc, time::Instant};

/// What pooled connections introduce themselves as. Connections with the same identity are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The user that is logged in; `None`: no user.
    pub user: Option<PoolUser>,
    /// The client's application; `None`: the proxy alone.
    pub application: Option<Arc<str>>,
}

/// A user of pooled connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolUser {
    /// The user's name, as logs show it.
    pub name: Arc<str>,
    /// Changes with the user's credentials: connections that logged in with older ones are not used again.
    pub login: u64,
}

/// A question of a codec's own to the service, asked on a connection of the pool. The last reply ends it.
#[derive(Debug)]
pub struct ServiceQuery {
    /// Questions with the same subject are one question while it is asked.
    pub subject: Arc<str>,
    /// The identity of the connection.
    pub identity: Identity,
    /// The requests, and what reads the replies.
    pub exchange: Box<dyn Handshake>,
}

/// Makes new connections to a service ready for operations.
pub trait HandshakeConfig: Debug + Send + Sync {
    /// The handshake of one connection with this identity; `None`: its user is not known here.
    fn begin(&self, identity: &Identity) -> Option<Box<dyn Handshake>>;

    /// Whether connections with this identity are of use. Idle ones that are of no use close.
    fn serves(&self, identity: &Identity) -> bool {
        identity.user.is_none()
    }

    /// The identity of connections that are kept ready although no client has asked for one
    /// (`min_pool_size`); `None`: it is not known before.
    fn ready_identity(&self) -> Option<Identity> {
        Some(Identity::default())
    }

    /// What is to be asked of the service now. Called about once a second.
    fn due_queries(&self, now: Instant) -> Vec<ServiceQuery> {
        let _ = now;
        Vec::new()
    }

    /// The first reply of a handshake, which shows what the service is. Called for each listener that uses
    /// the pool.
    fn connected(&self, reply: &[u8]) {
        let _ = reply;
    }

    /// The newest reply of each member of a replicated service to its monitor
    /// ([`crate::MemberState::reply`]). Called after each change.
    fn members_changed(&self, replies: &[bytes::Bytes]) {
        let _ = replies;
    }

    /// What the clients of the listener have open at the service.
    fn open_states(&self) -> OpenStateCounts {
        OpenStateCounts::default()
    }

    /// Whether clients that have seen the service so far can go on with the one that has sent this last
    /// reply of a handshake.
    ///
    /// # Errors
    /// Why they can't.
    fn check_successor(&self, reply: &[u8]) -> Result<(), String> {
        let _ = reply;
        Ok(())
    }

    /// The cluster points to another service, which has sent this last reply of a handshake: what is known
    /// of the service before is forgotten.
    fn switched(&self, reply: &[u8]) {
        let _ = reply;
    }
}

/// How much state clients have open at a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenStateCounts {
    /// Transactions.
    pub transactions: usize,
    /// Results that clients have not read to their end.
    pub cursors: usize,
    /// Results without an end: clients wait for news.
    pub tails: usize,
}

impl std::ops::Add for OpenStateCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            transactions: self.transactions + other.transactions,
            cursors: self.cursors + other.cursors,
            tails: self.tails + other.tails,
        }
    }
}

/// The handshake of one connection: requests and their replies in turn.
pub trait Handshake: Debug + Send {
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
    /// The service works, but refuses this identity: why.
    Refused(String),
}
