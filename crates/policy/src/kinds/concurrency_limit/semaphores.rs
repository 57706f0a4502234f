//! Semaphores by key: operations with the same key share one.
//!
//! A worker takes a key's semaphore from the shared table when it sees the key for the first time,
//! and keeps it then. Idle semaphores are dropped when there are many.

use super::semaphore::{LimitMode, Semaphore};
use foldhash::HashMap;
use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// How many semaphores a worker keeps before it drops idle ones.
const SWEEP_AT: usize = 1024;

/// The semaphores of all workers.
#[derive(Debug)]
pub(super) struct SharedSemaphores {
    mode: LimitMode,
    semaphores: Mutex<(HashMap<u64, Weak<Semaphore>>, usize)>,
}

impl SharedSemaphores {
    pub(super) fn new(mode: LimitMode) -> Self {
        Self { mode, semaphores: Mutex::new((HashMap::default(), SWEEP_AT)) }
    }

    fn find(&self, key: u64) -> Arc<Semaphore> {
        let mut semaphores = self.semaphores.lock().unwrap_or_else(PoisonError::into_inner);
        let (semaphores, sweep_at) = &mut *semaphores;
        if let Some(semaphore) = semaphores.get(&key).and_then(Weak::upgrade) {
            return semaphore;
        }
        if semaphores.len() >= *sweep_at {
            semaphores.retain(|_, semaphore| semaphore.strong_count() > 0);
            *sweep_at = SWEEP_AT.max(2 * semaphores.len());
        }
        let semaphore = Arc::new(Semaphore::new(self.mode));
        semaphores.insert(key, Arc::downgrade(&semaphore));
        semaphore
    }
}

/// The semaphores that a worker has used.
pub(super) struct WorkerSemaphores {
    shared: Arc<SharedSemaphores>,
    /// The number at which it next looks for idle ones.
    known: RefCell<(HashMap<u64, Arc<Semaphore>>, usize)>,
}

impl WorkerSemaphores {
    pub(super) fn new(shared: Arc<SharedSemaphores>) -> Self {
        Self { shared, known: RefCell::new((HashMap::default(), SWEEP_AT)) }
    }

    /// The semaphore of a key.
    pub(super) fn find(&self, key: u64) -> Arc<Semaphore> {
        let mut known = self.known.borrow_mut();
        let (known, sweep_at) = &mut *known;
        if let Some(semaphore) = known.get(&key) {
            return Arc::clone(semaphore);
        }
        if known.len() >= *sweep_at {
            known.retain(|_, semaphore| !semaphore.is_idle());
            *sweep_at = SWEEP_AT.max(2 * known.len());
        }
        let semaphore = self.shared.find(key);
        known.insert(key, Arc::clone(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_semaphore_and_keep_it_while_it_is_in_use() {
        let shared = Arc::new(SharedSemaphores::new(LimitMode::Fixed(1)));
        let (one, two) = (
            WorkerSemaphores::new(Arc::clone(&shared)),
            WorkerSemaphores::new(Arc::clone(&shared)),
        );
        assert!(one.find(0).try_acquire());
        for key in 1..100_000 {
            one.find(key);
        }
        assert!(!two.find(0).try_acquire(), "the other worker's counts");
        assert!(one.known.borrow().0.len() <= SWEEP_AT);
        let held = shared.semaphores.lock().unwrap().0.len();
        assert!(held <= 3 * SWEEP_AT, "{held}");
        two.find(0).release();
        assert!(one.find(0).try_acquire());
    }
}
