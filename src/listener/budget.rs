//! The connection budget of the proxy, with a reserved part for each listener.
//!
//! Each listener has reserved connections. The rest is shared: a listener that has used its reserved
//! part takes from it. A flood on one listener uses its own part and the shared part, and leaves the
//! other listeners theirs.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The connection budget of the whole proxy.
///
/// Invariant: `shared_used` is the sum of the connections that listeners have open beyond their
/// reserved ones. It changes at the same step of a listener's own count, up and down, so that both agree
/// in any order of workers.
#[derive(Debug)]
pub struct ConnectionBudget {
    /// The number of connections reserved for each listener, by index.
    reserved: Box<[usize]>,
    /// The number of connections that any listener may use.
    shared: usize,
    /// The number of those in use.
    shared_used: AtomicUsize,
    /// The number of connections that `max_connections` allows and descriptors do not.
    beyond_descriptors: usize,
}

impl ConnectionBudget {
    /// A budget of at most `most` connections, with descriptors for `fit`, and nothing reserved.
    pub fn new(most: usize, fit: usize) -> Arc<Self> {
        Self::with_reserved(most, fit, &[])
    }

    /// The same, with this many connections reserved for each listener, at most `most` together. If `fit`
    /// is less, each listener gets its share of `fit` in proportion.
    pub fn with_reserved(most: usize, fit: usize, reserved: &[usize]) -> Arc<Self> {
        let limit = most.min(fit);
        let scale = |reserved: &usize| {
            let part = *reserved as u128 * limit as u128 / most.max(1) as u128;
            usize::try_from(part).unwrap_or(usize::MAX)
        };
        let reserved: Box<[usize]> = reserved.iter().map(scale).collect();
        let shared = limit.saturating_sub(reserved.iter().sum());
        Arc::new(Self {
            reserved,
            shared,
            shared_used: AtomicUsize::new(0),
            beyond_descriptors: most - limit,
        })
    }

    /// How many connections are reserved for a listener.
    pub fn reserved(&self, listener: usize) -> usize {
        self.reserved.get(listener).copied().unwrap_or(0)
    }

    /// Whether there are descriptors for one more connection of a listener that has `open`.
    pub(super) fn fits_another(&self, listener: usize, open: &AtomicUsize) -> bool {
        self.beyond_descriptors == 0
            || open.load(Relaxed) < self.reserved(listener)
            || self.shared_used.load(Relaxed) < self.shared
    }

    /// Counts one more connection of a listener that has `open`. Returns `false` if its budget is used up.
    pub(super) fn acquire(&self, listener: usize, open: &AtomicUsize) -> bool {
        if open.fetch_add(1, Relaxed) < self.reserved(listener) {
            return true;
        }
        let acquired = self.shared_used.fetch_add(1, Relaxed)
            < self.shared.saturating_add(self.beyond_descriptors);
        if !acquired {
            self.release(listener, open);
        }
        acquired
    }

    /// Counts one connection less.
    pub(super) fn release(&self, listener: usize, open: &AtomicUsize) {
        if open.fetch_sub(1, Relaxed) > self.reserved(listener) {
            self.shared_used.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy, and how many connections each of its listeners has.
    struct Proxy(Arc<ConnectionBudget>, Vec<AtomicUsize>);

    impl Proxy {
        fn new(most: usize, fit: usize, reserved: &[usize]) -> Self {
            let open = reserved.iter().map(|_| AtomicUsize::new(0)).collect();
            Self(ConnectionBudget::with_reserved(most, fit, reserved), open)
        }

        /// How many connections a listener gets when it asks for more than the limit.
        fn floods(&self, listener: usize) -> usize {
            (0..1000).filter(|_| self.0.acquire(listener, &self.1[listener])).count()
        }

        fn leaves(&self, listener: usize) {
            self.0.release(listener, &self.1[listener]);
        }
    }

    #[test]
    fn a_listener_can_not_take_slots_reserved_for_others() {
        let proxy = Proxy::new(20, 1000, &[5, 5]);
        assert_eq!(proxy.floods(0), 15);
        assert_eq!(proxy.floods(1), 5);
        assert_eq!((proxy.floods(0), proxy.floods(1)), (0, 0));
    }

    #[test]
    fn the_one_listener_has_all() {
        for reserved in [0, 5, 10] {
            assert_eq!(Proxy::new(10, 1000, &[reserved]).floods(0), 10);
        }
    }

    #[test]
    fn what_a_flood_gives_back_is_free_for_any_listener() {
        let proxy = Proxy::new(20, 1000, &[5, 5]);
        assert_eq!(proxy.floods(0), 15);
        (0..12).for_each(|_| proxy.leaves(0));
        assert_eq!(proxy.floods(1), 15);
        assert_eq!(proxy.floods(0), 2, "up to its own five");
        assert_eq!(proxy.0.shared_used.load(Relaxed), 10);
        (0..15).for_each(|_| proxy.leaves(1));
        (0..5).for_each(|_| proxy.leaves(0));
        assert_eq!(proxy.0.shared_used.load(Relaxed), 0);
    }

    #[test]
    fn fewer_descriptors_shrink_all_shares_equally() {
        let proxy = Proxy::new(100, 20, &[50, 10]);
        assert_eq!((proxy.0.reserved(0), proxy.0.reserved(1)), (10, 2));
        let fit = |listener: usize| proxy.0.fits_another(listener, &proxy.1[listener]);
        let fill = |listener: usize| {
            let enter = || fit(listener) && proxy.0.acquire(listener, &proxy.1[listener]);
            (0..1000).filter(|_| enter()).count()
        };
        assert_eq!(fill(1), 10);
        assert!(!fit(1) && fit(0), "one waits, the other does not");
        assert_eq!(fill(0), 10);
        assert!(
            proxy.0.acquire(0, &proxy.1[0]),
            "a connection accepted without descriptors is served"
        );
    }

    #[test]
    fn workers_that_come_and_go_at_once_leave_the_counts_right() {
        let proxy = Proxy::new(8, 1000, &[2, 2]);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let proxy = &proxy;
                scope.spawn(move || {
                    let listener = thread % 2;
                    for _ in 0..20_000 {
                        let enter = |_: &usize| proxy.0.acquire(listener, &proxy.1[listener]);
                        let entered = (0..3).filter(enter).count();
                        (0..entered).for_each(|_| proxy.leaves(listener));
                    }
                });
            }
        });
        assert!(proxy.1.iter().all(|open| open.load(Relaxed) == 0));
        assert_eq!(proxy.0.shared_used.load(Relaxed), 0);
    }
}
