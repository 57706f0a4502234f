//! Buffer limits of a call, and the thread that parses large messages.

use crate::{
    frame::{self, PREFIX_LEN},
    status::{Code, Status},
};
use bytes::Bytes;
use tokio::runtime::Handle;
use tollgate_http::{BufferAccount, BufferLimitReached, BufferLimits, BufferReservation};

/// Buffer limits of one call.
#[derive(Clone, Debug)]
pub(crate) struct MessageBudget {
    /// Maximum message length, in bytes.
    pub(crate) limit: usize,
    pub(crate) bounds: BufferLimits,
    pub(crate) buffered: BufferAccount,
}

impl MessageBudget {
    /// An empty reservation, to be grown.
    pub(crate) fn reserve(&self) -> BufferReservation {
        self.buffered.reserve(self.bounds)
    }

    /// Charges these bytes to the budget until they are dropped.
    ///
    /// # Errors
    /// The buffer limit is reached.
    pub(crate) fn charge(&self, bytes: impl Into<Bytes>) -> Result<Bytes, Status> {
        self.reserve().into_counted(bytes.into()).map_err(|full| self.limit_status(full))
    }

    /// Encodes a message as a frame and charges it.
    ///
    /// # Errors
    /// The buffer limit is reached.
    pub(crate) fn framed(&self, flags: u8, message: &[u8]) -> Result<Bytes, Status> {
        let mut hold = self.reserve();
        hold.set(PREFIX_LEN + message.len()).map_err(|full| self.limit_status(full))?;
        hold.into_counted(frame::framed(flags, message)).map_err(|full| self.limit_status(full))
    }

    /// The status for a reached buffer limit.
    pub(crate) fn limit_status(&self, full: BufferLimitReached) -> Status {
        let message = match full {
            BufferLimitReached::Connection => format!(
                "the bodies that are held for this connection reach the {} bytes of \
                 `max_buffered_per_connection`: send fewer large messages at a time",
                self.bounds.connection
            ),
            BufferLimitReached::Worker => format!(
                "the buffered bodies reach the {} bytes of `max_buffered`: try again later",
                self.bounds.worker
            ),
        };
        Status::new(Code::ResourceExhausted, message)
    }
}

/// Longest message to parse on the worker's own thread, in bytes. It takes a few milliseconds, during
/// which the worker's other connections wait.
const OFFLOAD_BYTES: usize = 256 << 10;

/// Runs work on a message of this length, on another thread if the message is long.
///
/// # Errors
/// The other thread has ended.
pub(crate) async fn offload<T: Send + 'static>(
    len: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    match Handle::try_current() {
        Ok(runtime) if len > OFFLOAD_BYTES => {
            let gone = |_| Status::new(Code::Internal, "the thread for large messages is gone");
            runtime.spawn_blocking(work).await.map_err(gone)
        }
        _ => Ok(work()),
    }
}

#[cfg(test)]
mod tests;
