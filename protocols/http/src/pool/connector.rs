//! Connects a pool to its cluster.

use cluster::{Cluster, ConnectError, ConnectOptions, PreconnectPool, UpstreamConnection};
use operation::{Close, RejectReason};
use std::{pin::Pin, rc::Rc, sync::Arc};

/// A cluster, as a pool connects to it. The pool's tests delay and count connects.
pub(crate) trait Connector {
    /// The cluster.
    fn cluster(&self) -> &Arc<Cluster>;

    /// Connects to an endpoint: see [`PreconnectPool::connect`].
    fn connect(self: Rc<Self>, options: ConnectOptions) -> Connecting;

    /// Whether a request on any worker waits for a connection slot.
    fn has_waiters(&self) -> bool;
}

/// A connection in progress.
pub(crate) type Connecting =
    Pin<Box<dyn Future<Output = Result<UpstreamConnection, ConnectError>>>>;

impl Connector for PreconnectPool {
    fn cluster(&self) -> &Arc<Cluster> {
        PreconnectPool::cluster(self)
    }

    fn connect(self: Rc<Self>, options: ConnectOptions) -> Connecting {
        Box::pin(async move { PreconnectPool::connect(&self, options).await })
    }

    fn has_waiters(&self) -> bool {
        PreconnectPool::cluster(self).has_waiters()
    }
}

/// Why a request has no connection.
#[derive(Clone, Debug)]
pub(crate) struct Unreachable {
    /// The response to the client.
    pub(crate) reason: RejectReason,
    /// Message for the client.
    pub(crate) message: String,
    /// Reason for logs.
    pub(crate) close: Close,
}

impl From<ConnectError> for Unreachable {
    fn from(error: ConnectError) -> Self {
        let (reason, message) = error.client_error();
        tracing::debug!(%error, "a request found no upstream");
        Self { reason, message, close: error.close_reason() }
    }
}
