//! The configured policies that are in force now. They may change while the proxy runs.

use super::rule::Rule;
use arc_swap::ArcSwap;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The configured policies that are in force, in order, as all workers share them.
#[derive(Debug, Default)]
pub struct Live {
    rules: ArcSwap<Vec<Arc<Rule>>>,
    generation: AtomicU64,
}

impl Live {
    /// These to begin with.
    pub fn new(rules: Vec<Arc<Rule>>) -> Arc<Self> {
        Arc::new(Self { rules: ArcSwap::from_pointee(rules), generation: AtomicU64::new(0) })
    }

    /// Grows with each change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Those in force.
    pub fn rules(&self) -> Arc<Vec<Arc<Rule>>> {
        self.rules.load_full()
    }

    /// Puts others in their place.
    pub fn replace(&self, rules: Vec<Arc<Rule>>) {
        self.rules.store(Arc::new(rules));
        self.generation.fetch_add(1, Ordering::Release);
    }
}
