//! Where a client's operations go, as the relay is handed it.

use cluster::{ConnectionPool, Mirror, TakeOptions, UpstreamConnection};
use std::rc::Rc;

/// Where a client's operations go.
#[derive(Debug)]
pub enum RelayUpstream {
    /// A connection of the client's own.
    Connected(UpstreamConnection),
    /// A pool, of which each operation takes a connection.
    Pool {
        /// The pool.
        pool: Rc<ConnectionPool>,
        /// How operations take their connections.
        options: TakeOptions,
        /// What gets reads too.
        mirror: Option<Rc<Mirror>>,
    },
}

impl From<UpstreamConnection> for RelayUpstream {
    fn from(upstream: UpstreamConnection) -> Self {
        Self::Connected(upstream)
    }
}

impl RelayUpstream {
    /// Whether the connection to the endpoint is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        match self {
            Self::Connected(upstream) => upstream.stream.plain().is_none(),
            Self::Pool { pool, .. } => pool.is_encrypted(),
        }
    }
}
