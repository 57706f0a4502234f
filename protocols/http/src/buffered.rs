//! How much is held of bodies that have to be there in full before they can go on, counted for each
//! connection and for each worker, and bounded for both.

use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What is held for one connection, and for its worker. Large bodies are read on another thread,
/// and so the counts are atomic.
#[derive(Clone, Debug, Default)]
pub struct BufferAccount {
    connection: Arc<AtomicUsize>,
    worker: Arc<AtomicUsize>,
}

/// How much may be held, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// For one connection.
    pub connection: usize,
    /// For all connections of one worker.
    pub worker: usize,
}

/// A bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferLimitReached {
    /// The connection's.
    Connection,
    /// The worker's.
    Worker,
}

impl BufferAccount {
    /// The counts of a new connection to the same worker.
    #[must_use]
    pub fn of_connection(&self) -> Self {
        Self { connection: Arc::default(), worker: Arc::clone(&self.worker) }
    }

    /// Something that will be held; nothing yet.
    pub fn hold(&self, bounds: BufferLimits) -> BufferReservation {
        BufferReservation { by: self.clone(), bounds, bytes: 0 }
    }

    /// How many bytes are held for the connection and for the worker.
    pub fn bytes(&self) -> (usize, usize) {
        (self.connection.load(Relaxed), self.worker.load(Relaxed))
    }
}

/// Bytes that are held, and counted until this is dropped.
#[derive(Debug)]
pub struct BufferReservation {
    by: BufferAccount,
    bounds: BufferLimits,
    bytes: usize,
}

impl BufferReservation {
    /// So many bytes are held now.
    ///
    /// # Errors
    /// They are more than may be; the count stays as it was. Fewer than before always may.
    pub fn set(&mut self, bytes: usize) -> Result<(), BufferLimitReached> {
        let Some(more) = bytes.checked_sub(self.bytes) else {
            self.give_back(self.bytes - bytes);
            return Ok(());
        };
        if !add(&self.by.connection, more, self.bounds.connection) {
            return Err(BufferLimitReached::Connection);
        }
        if !add(&self.by.worker, more, self.bounds.worker) {
            self.by.connection.fetch_sub(more, Relaxed);
            return Err(BufferLimitReached::Worker);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Counts these bytes for as long as a copy of them is left anywhere, such as on the way to a
    /// client that reads slowly.
    ///
    /// # Errors
    /// They are more than may be.
    pub fn keep(
        mut self,
        bytes: impl AsRef<[u8]> + Send + 'static,
    ) -> Result<Bytes, BufferLimitReached> {
        self.set(self.bytes.max(bytes.as_ref().len()))?;
        Ok(Bytes::from_owner(CountedBytes { bytes, _hold: self }))
    }

    fn give_back(&mut self, bytes: usize) {
        self.by.connection.fetch_sub(bytes, Relaxed);
        self.by.worker.fetch_sub(bytes, Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for BufferReservation {
    fn drop(&mut self) {
        self.give_back(self.bytes);
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

/// Adds to a count, unless it would be over its bound.
fn add(count: &AtomicUsize, more: usize, bound: usize) -> bool {
    let sum = |held: usize| held.checked_add(more).filter(|sum| *sum <= bound);
    more == 0 || count.fetch_update(Relaxed, Relaxed, sum).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: BufferLimits = BufferLimits { connection: 10, worker: 15 };

    #[test]
    fn a_connection_and_a_worker_hold_no_more_than_their_bounds() {
        let worker = BufferAccount::default();
        let (one, other) = (worker.of_connection(), worker.of_connection());
        let mut first = one.hold(BOUNDS);
        assert_eq!(first.set(10), Ok(()));
        assert_eq!(first.set(11), Err(BufferLimitReached::Connection));
        assert_eq!(one.hold(BOUNDS).set(1), Err(BufferLimitReached::Connection));
        let mut second = other.hold(BOUNDS);
        assert_eq!(second.set(6), Err(BufferLimitReached::Worker));
        assert_eq!(second.set(5), Ok(()));
        assert_eq!((one.bytes(), other.bytes()), ((10, 15), (5, 15)));
        assert_eq!(first.set(4), Ok(()));
        assert_eq!(second.set(10), Ok(()));
        drop((first, second));
        assert_eq!((one.bytes(), other.bytes()), ((0, 0), (0, 0)));
    }

    #[test]
    fn bytes_are_counted_for_as_long_as_anybody_has_them() {
        let worker = BufferAccount::default();
        let bytes = worker.hold(BOUNDS).keep(vec![7; 8]).unwrap();
        let part = bytes.slice(2..4);
        drop(bytes);
        assert_eq!((worker.bytes(), part.len()), ((8, 8), 2));
        drop(part);
        assert_eq!(worker.bytes(), (0, 0));
        assert_eq!(worker.hold(BOUNDS).keep(vec![7; 11]), Err(BufferLimitReached::Connection));
        assert_eq!(worker.bytes(), (0, 0));
    }
}
