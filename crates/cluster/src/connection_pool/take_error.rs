//! Why an operation gets no connection of a pool.

use crate::ConnectError;
use std::{sync::Arc, time::Duration};

/// Why an operation got no connection.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// None could be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The queue is full.
    #[error(
        "the pool of cluster `{cluster}` is at its limit, and {waiting} operations wait for a connection \
         already (pool.wait_queue_size)"
    )]
    QueueFull {
        /// The cluster's name.
        cluster: Arc<str>,
        /// How many operations wait.
        waiting: usize,
    },
    /// None became free in time.
    #[error(
        "the pool of cluster `{cluster}` is at its limit: no connection was free within {waited:?} \
         (pool.max_pool_size, pool.wait_queue_timeout)"
    )]
    TimedOut {
        /// The cluster's name.
        cluster: Arc<str>,
        /// How long the operation has waited.
        waited: Duration,
    },
}

impl TakeError {
    /// The reason and message for the client; the message names no addresses.
    pub fn client_error(&self) -> (operation::RejectReason, String) {
        match self {
            TakeError::Connect(error) => error.client_error(),
            TakeError::QueueFull { .. } | TakeError::TimedOut { .. } => {
                (operation::RejectReason::Overloaded, self.to_string())
            }
        }
    }

    /// Why the operation ended.
    pub fn close_reason(&self) -> operation::Close {
        match self {
            TakeError::Connect(error) => error.close_reason(),
            TakeError::QueueFull { .. } | TakeError::TimedOut { .. } => {
                operation::Close::Overloaded
            }
        }
    }
}
