//! A limit on the number of distinct names in metrics.

use foldhash::HashSet;
use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// A listener's bounded set of names with series of their own, shared by all workers.
///
/// Locked only for new names, and when the set is full.
pub struct CardinalityLimit {
    admitted: RwLock<HashSet<Vec<Box<str>>>>,
    max: AtomicUsize,
    capped: metrics::Counter,
}

impl CardinalityLimit {
    /// Admits up to `max` names; `capped` counts how often a further name was not admitted.
    pub fn new(max: usize, capped: metrics::Counter) -> Self {
        Self { admitted: RwLock::default(), max: max.into(), capped }
    }

    /// Admits up to `max` names from now on. Those that are admitted stay.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// Whether these names may have series of their own; the rest share `other`.
    pub fn admits(&self, names: &[&str]) -> bool {
        let names: Vec<Box<str>> = names.iter().map(|name| Box::from(*name)).collect();
        let admitted = self.admitted.read().unwrap_or_else(PoisonError::into_inner);
        if admitted.contains(&names) {
            return true;
        }
        let full = admitted.len() >= self.max.load(Relaxed);
        drop(admitted);
        if full {
            self.capped.increment(1);
            return false;
        }
        self.admitted.write().unwrap_or_else(PoisonError::into_inner).insert(names);
        true
    }
}
