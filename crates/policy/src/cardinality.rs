//! A limit on the number of distinct names in metrics.

use foldhash::HashSet;
use std::sync::{PoisonError, RwLock};

/// A listener's bounded set of names with series of their own, shared by all workers.
///
/// Locked only for new names, and when the set is full.
pub struct CardinalityLimit {
    admitted: RwLock<HashSet<Vec<Box<str>>>>,
    max: usize,
    capped: metrics::Counter,
}

impl CardinalityLimit {
    /// Admits up to `max` names; `capped` counts how often a further name was not admitted.
    pub fn new(max: usize, capped: metrics::Counter) -> Self {
        Self { admitted: RwLock::default(), max, capped }
    }

    /// Whether these names may have series of their own; the rest share `other`.
    pub fn admits(&self, names: &[&str]) -> bool {
        let names: Vec<Box<str>> = names.iter().map(|name| Box::from(*name)).collect();
        let admitted = self.admitted.read().unwrap_or_else(PoisonError::into_inner);
        if admitted.contains(&names) {
            return true;
        }
        let full = admitted.len() >= self.max;
        drop(admitted);
        if full {
            self.capped.increment(1);
            return false;
        }
        self.admitted.write().unwrap_or_else(PoisonError::into_inner).insert(names);
        true
    }
}
