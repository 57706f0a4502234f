//! How much of a call may be held, and the thread where large messages are read.

use crate::{
    frame::{self, PREFIX},
    status::{Code, Status},
};
use bytes::Bytes;
use tokio::runtime::Handle;
use tollgate_http::{BufferAccount, BufferLimitReached, BufferLimits, BufferReservation};

/// How much of a call may be held.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// How long a message may be, in bytes.
    pub(crate) limit: usize,
    pub(crate) bounds: BufferLimits,
    pub(crate) buffered: BufferAccount,
}

impl Room {
    /// Something that will be held; nothing yet.
    pub(crate) fn hold(&self) -> BufferReservation {
        self.buffered.reserve(self.bounds)
    }

    /// Counts these bytes for as long as somebody has them.
    ///
    /// # Errors
    /// As much is held as may be.
    pub(crate) fn keep(&self, bytes: impl Into<Bytes>) -> Result<Bytes, Status> {
        self.hold().into_counted(bytes.into()).map_err(|full| self.full(full))
    }

    /// A message in a frame of its own, counted.
    ///
    /// # Errors
    /// As much is held as may be.
    pub(crate) fn framed(&self, flags: u8, message: &[u8]) -> Result<Bytes, Status> {
        let mut hold = self.hold();
        hold.set(PREFIX + message.len()).map_err(|full| self.full(full))?;
        hold.into_counted(frame::framed(flags, message)).map_err(|full| self.full(full))
    }

    /// Tells that as much is held as may be.
    pub(crate) fn full(&self, full: BufferLimitReached) -> Status {
        let message = match full {
            BufferLimitReached::Connection => format!(
                "the bodies that are held for this connection reach the {} bytes of \
                 `max_buffered_per_connection`: send fewer large messages at a time",
                self.bounds.connection
            ),
            BufferLimitReached::Worker => format!(
                "the bodies that are held reach the {} bytes of `max_buffered`: try again later",
                self.bounds.worker
            ),
        };
        Status::new(Code::ResourceExhausted, message)
    }
}

/// How long a message may be that is read on the worker's own thread, in bytes: that takes a few
/// milliseconds, in which the worker's other connections wait.
const LONG: usize = 256 << 10;

/// Does work that takes as long as a message of this length, on another thread if it is long.
///
/// # Errors
/// The other thread is gone.
pub(crate) async fn aside<T: Send + 'static>(
    len: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    match Handle::try_current() {
        Ok(runtime) if len > LONG => {
            let gone = |_| Status::new(Code::Internal, "the thread for large messages is gone");
            runtime.spawn_blocking(work).await.map_err(gone)
        }
        _ => Ok(work()),
    }
}

#[cfg(test)]
mod tests;
