//! Connections that belong to one client each: a pause can't hold back their operations.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How many there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnConnections(Arc<AtomicUsize>);

impl OwnConnections {
    /// Counts one more.
    pub(crate) fn add(&self) -> OwnConnection {
        self.0.fetch_add(1, Relaxed);
        OwnConnection(self.clone())
    }

    /// How many there are now.
    pub(super) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// Counts one connection, until dropped.
#[derive(Debug)]
pub(crate) struct OwnConnection(OwnConnections);

impl Drop for OwnConnection {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}
