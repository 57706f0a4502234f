//! The bytes of requests that are held until policies can decide about them: a bound for each
//! listener, over all workers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How many bytes of requests a listener holds, and may hold.
#[derive(Debug)]
pub struct HeldBytesBudget {
    used: AtomicUsize,
    most: AtomicUsize,
}

/// The held bytes of one request; given back when dropped.
#[derive(Debug)]
pub struct HeldBytesLease {
    of: Arc<HeldBytesBudget>,
    bytes: usize,
}

impl HeldBytesBudget {
    /// None yet, and never more than `most`.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), most: AtomicUsize::new(most) })
    }

    /// How many bytes are held now.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// The most that may be held.
    pub fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// Sets the most that may be held. What is held stays held.
    pub fn set_most(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// A request that begins to be held.
    pub fn begin(self: &Arc<Self>) -> HeldBytesLease {
        HeldBytesLease { of: Arc::clone(self), bytes: 0 }
    }
}

impl HeldBytesLease {
    /// Counts `bytes` for the request, if it has more now. Returns `false`, and counts what it did
    /// before, if that is more than the listener may hold.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let used = self.of.used.fetch_add(more, Relaxed);
        if used.saturating_add(more) > self.of.most() {
            self.of.used.fetch_sub(more, Relaxed);
            return false;
        }
        self.bytes += more;
        true
    }
}

impl Drop for HeldBytesLease {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_the_bound_and_all_is_given_back() {
        let bytes = HeldBytesBudget::new(100);
        let (mut one, mut two) = (bytes.begin(), bytes.begin());
        assert!(one.grow_to(60) && one.grow_to(40) && two.grow_to(40));
        assert!(!two.grow_to(41) && !one.grow_to(usize::MAX));
        assert_eq!(bytes.used(), 100);
        drop(one);
        assert!(two.grow_to(100));
        drop(two);
        assert_eq!(bytes.used(), 0);
    }
}
