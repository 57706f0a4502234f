//! The bound on names that have metrics of their own.

use foldhash::HashSet;
use std::sync::{PoisonError, RwLock};

/// The names that have series of their own in a listener, over all workers: a bounded set.
///
/// Locked at the first sight of a name only, or past the bound.
pub struct CardinalityLimit {
    known: RwLock<HashSet<Vec<Box<str>>>>,
    most: usize,
    dropped: metrics::Counter,
}

impl CardinalityLimit {
    /// Admits up to `most` names; `capped` counts how often a further one was not admitted.
    pub fn new(most: usize, capped: metrics::Counter) -> Self {
        Self { known: RwLock::default(), most, dropped: capped }
    }

    /// Whether these names may have series of their own; the rest share `other`.
    pub fn admits(&self, names: &[&str]) -> bool {
        let names: Vec<Box<str>> = names.iter().map(|name| Box::from(*name)).collect();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&names) {
            return true;
        }
        let full = known.len() >= self.most;
        drop(known);
        if full {
            self.dropped.increment(1);
            return false;
        }
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(names);
        true
    }
}
