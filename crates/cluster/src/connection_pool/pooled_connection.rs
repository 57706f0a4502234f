//! A connection of a pool while an operation uses it.

use super::{ConnectionPool, SharedEndpointPool, endpoint_pool::Use};
use crate::{Lease, UpstreamConnection};
use net::Stream;
use std::{fmt, rc::Rc, time::Duration};
use tokio::time::Instant;

/// An open connection of a pool.
#[derive(Debug)]
pub struct PooledSocket {
    /// The socket.
    pub stream: Stream,
    /// Counts the connection at its endpoint.
    pub lease: Lease,
    pub(super) opened: Instant,
    /// Since when it is idle, if it is.
    pub(super) since: Instant,
}

/// A connection that one operation uses. Give it back, or drop it to close it.
#[derive(Debug)]
pub struct PooledConnection {
    /// The connection.
    pub socket: Box<PooledSocket>,
    /// How long the operation has waited for it.
    pub waited: Duration,
    /// The part of that for which no endpoint fitted the operation, or none could be reached.
    pub held: Duration,
    pub(super) slot: Slot,
}

/// The place of a connection that is in use, in its pool.
pub(super) struct Slot {
    pub(super) pool: Rc<ConnectionPool>,
    pub(super) endpoint_pool: SharedEndpointPool,
    pub(super) usage: Use,
    pub(super) released: bool,
}

impl PooledConnection {
    /// Gives the connection back, for the next operation.
    pub fn give_back(self) {
        let Slot { pool, endpoint_pool, usage, .. } = &self.slot;
        let (pool, endpoint_pool) = (Rc::clone(pool), Rc::clone(endpoint_pool));
        endpoint_pool.borrow_mut().release(*usage);
        pool.hand_out(&endpoint_pool, self.into_idle());
    }

    /// The connection without its place among those in use, which the caller releases.
    pub(super) fn into_idle(self) -> Box<PooledSocket> {
        let Self { mut socket, mut slot, .. } = self;
        slot.released = true;
        socket.since = Instant::now();
        socket
    }

    /// Takes the connection out of the pool for good.
    pub fn detach(self) -> UpstreamConnection {
        let Self { socket, waited, .. } = self;
        let PooledSocket { stream, mut lease, .. } = *socket;
        lease.set_own();
        UpstreamConnection { stream, lease, queued: waited }
    }
}

/// The connection was closed, or has left the pool.
impl Drop for Slot {
    fn drop(&mut self) {
        if !self.released {
            self.pool.lost(&self.endpoint_pool, self.usage);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("usage", &self.usage).finish_non_exhaustive()
    }
}
