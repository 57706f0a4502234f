//! The connection budget of the proxy, with a reserved part for each listener.
//!
//! Each listener has reserved connections. The rest is shared: a listener that has used its reserved
//! part takes from it. A flood on one listener uses its own part and the shared part, and leaves the
//! other listeners theirs.

use std::sync::{
    Arc,
    atomic::{AtomicIsize, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// The connections of one listener: how many are open, and how many are reserved for it.
///
/// Both are in one word, so that each change knows exactly how many connections it moves between the reserved
/// ones and the shared ones, while workers come and go and a reload of the config changes what is reserved.
#[derive(Debug, Default)]
pub struct ListenerShare(AtomicU64);

/// The connection budget of the whole proxy.
///
/// Invariant: `shared_used` is the sum of the connections that listeners have open beyond their
/// reserved ones. Each change of a listener's share changes it by the same step, so that both agree in any order
/// of workers; in between it may be below zero.
#[derive(Debug, Default)]
pub struct ConnectionBudget {
    /// The number of connections that any listener may use.
    shared: AtomicUsize,
    /// The number of those in use.
    shared_used: AtomicIsize,
    /// The number of connections that `max_connections` allows and descriptors do not.
    beyond_descriptors: AtomicUsize,
}

impl ListenerShare {
    /// How many connections are open.
    pub fn open(&self) -> usize {
        split(self.0.load(Relaxed)).0
    }

    /// How many are reserved.
    pub fn reserved(&self) -> usize {
        split(self.0.load(Relaxed)).1
    }

    /// Reserves this many. Returns how many more connections are beyond the reserved ones now.
    fn reserve(&self, reserved: usize) -> isize {
        let reserved = u32::try_from(reserved).unwrap_or(u32::MAX);
        let set = |word: u64| Some(word & u64::from(u32::MAX) | u64::from(reserved) << 32);
        let word = self.0.fetch_update(Relaxed, Relaxed, set).unwrap_or_else(|word| word);
        let (open, before) = split(word);
        let beyond = |reserved: usize| open.saturating_sub(reserved).cast_signed();
        beyond(reserved as usize) - beyond(before)
    }
}

/// The open and the reserved connections of a [`ListenerShare`].
fn split(word: u64) -> (usize, usize) {
    ((word & u64::from(u32::MAX)) as usize, (word >> 32) as usize)
}

impl ConnectionBudget {
    /// A budget of at most `most` connections, with descriptors for `fit`, and nothing reserved.
    pub fn new(most: usize, fit: usize) -> Arc<Self> {
        let this = Arc::<Self>::default();
        this.set_limits(most, fit, []);
        this
    }

    /// Sets the limits: at most `most` connections, with descriptors for `fit`, and this many reserved for each
    /// listener, at most `most` together. If `fit` is less, each listener gets its share of `fit` in proportion.
    /// Nothing is closed for a lower limit.
    pub fn set_limits<'l>(
        &self,
        most: usize,
        fit: usize,
        listeners: impl IntoIterator<Item = (&'l ListenerShare, usize)>,
    ) {
        let limit = most.min(fit);
        let mut all_reserved = 0;
        for (listener, reserved) in listeners {
            let part = reserved as u128 * limit as u128 / most.max(1) as u128;
            let reserved = usize::try_from(part).unwrap_or(usize::MAX);
            all_reserved += reserved;
            self.shared_used.fetch_add(listener.reserve(reserved), Relaxed);
        }
        self.shared.store(limit.saturating_sub(all_reserved), Relaxed);
        self.beyond_descriptors.store(most - limit, Relaxed);
    }

    /// Whether there are descriptors for one more connection of a listener.
    pub(super) fn fits_another(&self, listener: &ListenerShare) -> bool {
        let (open, reserved) = split(listener.0.load(Relaxed));
        self.beyond_descriptors.load(Relaxed) == 0
            || open < reserved
            || self.shared_used.load(Relaxed) < self.shared.load(Relaxed).cast_signed()
    }

    /// Counts one more connection of a listener. Returns `false` if its budget is used up.
    pub(super) fn acquire(&self, listener: &ListenerShare) -> bool {
        let (open, reserved) = split(listener.0.fetch_add(1, Relaxed));
        if open < reserved {
            return true;
        }
        let shared = self.shared.load(Relaxed);
        let most = shared.saturating_add(self.beyond_descriptors.load(Relaxed));
        let acquired = self.shared_used.fetch_add(1, Relaxed) < most.cast_signed();
        if !acquired {
            self.release(listener);
        }
        acquired
    }

    /// Counts one connection less.
    pub(super) fn release(&self, listener: &ListenerShare) {
        let (open, reserved) = split(listener.0.fetch_sub(1, Relaxed));
        if open > reserved {
            self.shared_used.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy, and the connections of its listeners.
    struct Proxy(Arc<ConnectionBudget>, Vec<ListenerShare>);

    impl Proxy {
        fn new(most: usize, fit: usize, reserved: &[usize]) -> Self {
            let shares = reserved.iter().map(|_| ListenerShare::default()).collect();
            let this = Self(ConnectionBudget::new(most, fit), shares);
            this.reloads(most, fit, reserved);
            this
        }

        fn reloads(&self, most: usize, fit: usize, reserved: &[usize]) {
            self.0.set_limits(most, fit, self.1.iter().zip(reserved.iter().copied()));
        }

        /// How many connections a listener gets when it asks for more than the limit.
        fn floods(&self, listener: usize) -> usize {
            (0..1000).filter(|_| self.0.acquire(&self.1[listener])).count()
        }

        fn leaves(&self, listener: usize) {
            self.0.release(&self.1[listener]);
        }
    }

    #[test]
    fn what_a_reload_reserves_counts_the_open_connections() {
        let proxy = Proxy::new(20, 1000, &[5, 5]);
        assert_eq!(proxy.floods(0), 15);
        proxy.reloads(30, 1000, &[12, 5]);
        assert_eq!(proxy.0.shared_used.load(Relaxed), 3);
        assert_eq!((proxy.floods(1), proxy.floods(0)), (15, 0), "5 reserved and 10 of 13 shared");
        proxy.reloads(10, 1000, &[0, 1]);
        assert_eq!((proxy.floods(0), proxy.floods(1)), (0, 0), "nothing is closed, nothing is new");
        (0..15).for_each(|_| proxy.leaves(0));
        (0..15).for_each(|_| proxy.leaves(1));
        assert_eq!(proxy.0.shared_used.load(Relaxed), 0);
        assert_eq!(proxy.floods(0), 9, "one is reserved for the other");
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
        assert_eq!((proxy.1[0].reserved(), proxy.1[1].reserved()), (10, 2));
        let fit = |listener: usize| proxy.0.fits_another(&proxy.1[listener]);
        let fill = |listener: usize| {
            let enter = || fit(listener) && proxy.0.acquire(&proxy.1[listener]);
            (0..1000).filter(|_| enter()).count()
        };
        assert_eq!(fill(1), 10);
        assert!(!fit(1) && fit(0), "one waits, the other does not");
        assert_eq!(fill(0), 10);
        assert!(
            proxy.0.acquire(&proxy.1[0]),
            "a connection accepted without descriptors is served"
        );
    }

    #[test]
    fn workers_that_come_and_go_at_once_leave_the_counts_right() {
        let proxy = Proxy::new(8, 1000, &[2, 2]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..2_000 {
                    proxy.reloads(8, 1000, &[round % 4, (round + 1) % 3]);
                }
                proxy.reloads(8, 1000, &[2, 2]);
            });
            for thread in 0..4 {
                let proxy = &proxy;
                scope.spawn(move || {
                    let listener = thread % 2;
                    for _ in 0..20_000 {
                        let enter = |_: &usize| proxy.0.acquire(&proxy.1[listener]);
                        let entered = (0..3).filter(enter).count();
                        (0..entered).for_each(|_| proxy.leaves(listener));
                    }
                });
            }
        });
        assert!(proxy.1.iter().all(|share| share.open() == 0));
        assert_eq!(proxy.0.shared_used.load(Relaxed), 0);
    }
}
