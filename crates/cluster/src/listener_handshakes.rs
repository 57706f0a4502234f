//! The listeners that use a pool or a cluster: a reload of the config adds and removes some, and those
//! that are gone stay as long as their connections.

use operation::HandshakeConfig;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the listeners of a pool or a cluster know, the newest listener first.
#[derive(Clone, Default)]
pub(crate) struct ListenerHandshakes(Arc<Mutex<Vec<Arc<dyn HandshakeConfig>>>>);

/// A listener uses a pool or a cluster, until this is dropped.
#[must_use = "the listener is gone when it is dropped"]
pub struct ListenerRegistration {
    of: ListenerHandshakes,
    handshake: Arc<dyn HandshakeConfig>,
}

impl ListenerHandshakes {
    /// Adds a listener before the others: new connections are made as the newest config says.
    pub(crate) fn add(&self, handshake: Arc<dyn HandshakeConfig>) -> ListenerRegistration {
        self.lock().insert(0, Arc::clone(&handshake));
        ListenerRegistration { of: self.clone(), handshake }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Arc<dyn HandshakeConfig>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ListenerRegistration {
    fn drop(&mut self) {
        self.of.lock().retain(|it| !Arc::ptr_eq(it, &self.handshake));
    }
}
