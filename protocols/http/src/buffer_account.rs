//! Memory that is held for bodies which must be complete before they are forwarded: counted and
//! bounded per connection and per worker.

use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Counts for one connection and its worker. Atomic, since large bodies are read on another thread.
#[derive(Clone, Debug, Default)]
pub struct BufferAccount {
    connection: Arc<AtomicUsize>,
    worker: Arc<AtomicUsize>,
}

/// Limits in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// Of one connection.
    pub connection: usize,
    /// Of all connections of a worker.
    pub worker: usize,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferLimitReached {
    /// The connection's.
    Connection,
    /// The worker's.
    Worker,
}

impl BufferAccount {
    /// An account for a new connection of the same worker.
    #[must_use]
    pub(crate) fn for_connection(&self) -> Self {
        Self { connection: Arc::default(), worker: Arc::clone(&self.worker) }
    }

    /// An empty reservation.
    pub fn reserve(&self, bounds: BufferLimits) -> BufferReservation {
        BufferReservation { account: self.clone(), bounds, bytes: 0 }
    }

    /// Bytes reserved for the connection and for the worker.
    pub fn bytes(&self) -> (usize, usize) {
        (self.connection.load(Relaxed), self.worker.load(Relaxed))
    }
}

/// Reserved bytes; released on drop.
#[derive(Debug)]
pub struct BufferReservation {
    account: BufferAccount,
    bounds: BufferLimits,
    bytes: usize,
}

impl BufferReservation {
    /// Changes the reservation to `bytes`.
    ///
    /// # Errors
    /// The limit that would be exceeded; the count is unchanged. Shrinking never fails.
    pub fn set(&mut self, bytes: usize) -> Result<(), BufferLimitReached> {
        let Some(more) = bytes.checked_sub(self.bytes) else {
            self.release(self.bytes - bytes);
            return Ok(());
        };
        if !add(&self.account.connection, more, self.bounds.connection) {
            return Err(BufferLimitReached::Connection);
        }
        if !add(&self.account.worker, more, self.bounds.worker) {
            self.account.connection.fetch_sub(more, Relaxed);
            return Err(BufferLimitReached::Worker);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Keeps the reservation until the last copy of these bytes is dropped, for example after a
    /// slow client has read them.
    ///
    /// # Errors
    /// The limit that would be exceeded.
    pub fn into_counted(
        mut self,
        bytes: impl AsRef<[u8]> + Send + 'static,
    ) -> Result<Bytes, BufferLimitReached> {
        self.set(self.bytes.max(bytes.as_ref().len()))?;
        Ok(Bytes::from_owner(CountedBytes { bytes, _hold: self }))
    }

    fn release(&mut self, bytes: usize) {
        self.account.connection.fetch_sub(bytes, Relaxed);
        self.account.worker.fetch_sub(bytes, Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for BufferReservation {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

struct CountedBytes<B> {
    bytes: B,
    _hold: BufferReservation,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for CountedBytes<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Adds to a count; returns `false` if the sum would exceed `bound`.
fn add(count: &AtomicUsize, more: usize, bound: usize) -> bool {
    let sum = |held: usize| held.checked_add(more).filter(|sum| *sum <= bound);
    more == 0 || count.fetch_update(Relaxed, Relaxed, sum).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: BufferLimits = BufferLimits { connection: 10, worker: 15 };

    #[test]
    fn reservations_respect_connection_and_worker_limits() {
        let worker = BufferAccount::default();
        let (one, other) = (worker.for_connection(), worker.for_connection());
        let mut first = one.reserve(BOUNDS);
        assert_eq!(first.set(10), Ok(()));
        assert_eq!(first.set(11), Err(BufferLimitReached::Connection));
        assert_eq!(one.reserve(BOUNDS).set(1), Err(BufferLimitReached::Connection));
        let mut second = other.reserve(BOUNDS);
        assert_eq!(second.set(6), Err(BufferLimitReached::Worker));
        assert_eq!(second.set(5), Ok(()));
        assert_eq!((one.bytes(), other.bytes()), ((10, 15), (5, 15)));
        assert_eq!(first.set(4), Ok(()));
        assert_eq!(second.set(10), Ok(()));
        drop((first, second));
        assert_eq!((one.bytes(), other.bytes()), ((0, 0), (0, 0)));
    }

    #[test]
    fn bytes_are_counted_until_their_last_copy_is_dropped() {
        let worker = BufferAccount::default();
        let bytes = worker.reserve(BOUNDS).into_counted(vec![7; 8]).unwrap();
        let part = bytes.slice(2..4);
        drop(bytes);
        assert_eq!((worker.bytes(), part.len()), ((8, 8), 2));
        drop(part);
        assert_eq!(worker.bytes(), (0, 0));
        assert_eq!(
            worker.reserve(BOUNDS).into_counted(vec![7; 11]),
            Err(BufferLimitReached::Connection)
        );
        assert_eq!(worker.bytes(), (0, 0));
    }
}
