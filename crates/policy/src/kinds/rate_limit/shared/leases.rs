//! Admits operations on leases, and requests more leases in the background.

use super::{
    AttributeHasher, AttributeLookup, LimitDecision, PendingDecision, RedisPlan, SharedLimitSpec,
    StoreHealth,
    lease::{QuotaLease, TakeResult},
    redis::{RedisTask, serve},
    store_health::StoreFailure,
    thread::Inbox,
};
use foldhash::{HashMap, HashMapExt as _};
use std::{
    cell::RefCell,
    collections::hash_map::Entry,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::oneshot;

/// The most keys with a lease in this process. For further keys, each operation makes a request.
const MAX_KEYS: usize = 100_000;
/// The table is locked in parts, for moments.
const SHARDS: usize = 64;

/// A limit whose store hands out leases.
pub(super) struct Leases {
    plan: RedisPlan,
    hasher: AttributeHasher,
    limit: SharedLimitSpec,
    health: Arc<StoreHealth>,
    table: Arc<LeaseTable>,
    inbox: Inbox<LeaseRequest>,
}

/// A request for more than a lease has left.
pub(super) struct LeaseRequest {
    pub(super) key: u64,
    pub(super) lease: Arc<QuotaLease>,
    /// The operation that waits; `None` for a prefetch.
    pub(super) waiter: Option<Waiter>,
}

/// An operation that waits. If `answer` is dropped, the store is unreachable.
pub(super) struct Waiter {
    pub(super) n: u64,
    pub(super) answer: oneshot::Sender<LimitDecision>,
}

/// The leases that a worker has seen: to find one it needs no lock.
#[derive(Default)]
pub(super) struct WorkerLeases {
    leases: HashMap<u64, Arc<QuotaLease>>,
    /// At this size the retired ones are dropped.
    full: usize,
}

impl Leases {
    pub(super) fn new(
        plan: RedisPlan,
        hasher: AttributeHasher,
        limit: &SharedLimitSpec,
        health: Arc<StoreHealth>,
    ) -> Self {
        let (limit, table) = (limit.clone(), Arc::new(LeaseTable::new(MAX_KEYS)));
        Self { plan, hasher, limit, health, table, inbox: Inbox::default() }
    }

    pub(super) fn take(
        &self,
        seen: &RefCell<WorkerLeases>,
        key: u64,
        attribute: &AttributeLookup<'_>,
        n: u64,
        now: Instant,
    ) -> PendingDecision {
        if let Some(lease) = seen.borrow().leases.get(&key)
            && let Some(taken) = self.take_from(lease, key, n, now)
        {
            return taken;
        }
        let lease = self.first_sight(seen, key, attribute, now);
        let taken = self.take_from(&lease, key, n, now);
        taken.unwrap_or_else(|| self.ask(key, &lease, n, now))
    }

    /// Takes from a lease; `None` if it is retired.
    fn take_from(
        &self,
        lease: &Arc<QuotaLease>,
        key: u64,
        n: u64,
        now: Instant,
    ) -> Option<PendingDecision> {
        match lease.take(wanted(n)) {
            TakeResult::Taken => Some(LimitDecision::Allowed.into()),
            TakeResult::Last => {
                self.refill(key, lease, now);
                Some(LimitDecision::Allowed.into())
            }
            TakeResult::Out => Some(self.ask(key, lease, n, now)),
            TakeResult::Retired => None,
        }
    }

    pub(super) fn spend(
        &self,
        seen: &RefCell<WorkerLeases>,
        key: u64,
        attribute: &AttributeLookup<'_>,
        n: u64,
        now: Instant,
    ) {
        if self.health.is_away() {
            return self.health.spend(key, n, now);
        }
        let known = seen.borrow().leases.get(&key).filter(|lease| !lease.is_retired()).cloned();
        let lease = known.unwrap_or_else(|| self.first_sight(seen, key, attribute, now));
        if lease.spend(wanted(n)) == TakeResult::Last {
            self.refill(key, &lease, now);
        }
    }

    fn first_sight(
        &self,
        seen: &RefCell<WorkerLeases>,
        key: u64,
        attribute: &AttributeLookup<'_>,
        now: Instant,
    ) -> Arc<QuotaLease> {
        let named = || self.hasher.name(&self.limit.policy, &self.limit.key, attribute);
        let lease = self.table.lease(key, named, now);
        if lease.listed {
            seen.borrow_mut().insert(key, &lease);
        }
        lease
    }

    /// Requests more from the store before the lease is used up.
    fn refill(&self, key: u64, lease: &Arc<QuotaLease>, now: Instant) {
        let in_vain = lease.refused_for(self.table.nanos(now)).is_some();
        if in_vain || !self.health.may_ask() || !self.send(key, lease, None) {
            lease.ends_refill();
        }
    }

    /// Makes an operation wait for more.
    fn ask(&self, key: u64, lease: &Arc<QuotaLease>, n: u64, now: Instant) -> PendingDecision {
        if let Some(wait) = lease.refused_for(self.table.nanos(now)) {
            return LimitDecision::Limited(Some(wait)).into();
        }
        let (answer, receiver) = oneshot::channel();
        if !self.health.may_ask() || !self.send(key, lease, Some(Waiter { n, answer })) {
            return self.health.decide(key, n, now).into();
        }
        let health = Arc::clone(&self.health);
        PendingDecision::Later(Box::pin(async move {
            match tokio::time::timeout(health.timeout, receiver).await {
                Ok(Ok(answer)) => answer,
                _ => health.decide(key, n, Instant::now()),
            }
        }))
    }

    fn send(&self, key: u64, lease: &Arc<QuotaLease>, waiter: Option<Waiter>) -> bool {
        let ask = LeaseRequest { key, lease: Arc::clone(lease), waiter };
        let serve = || {
            let (plan, limit) = (self.plan.clone(), self.limit.clone());
            let (health, table) = (Arc::clone(&self.health), Arc::clone(&self.table));
            move |inbox| serve(RedisTask::new(plan, &limit, health, table), inbox)
        };
        let sent = self.inbox.send(ask, serve).is_ok();
        if !sent {
            self.health.failed(StoreFailure::Full, "too many operations ask");
        }
        sent
    }
}

/// `n` as a lease counts it, capped far below `i64::MAX`.
fn wanted(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX).min(i64::MAX / 1024)
}

impl WorkerLeases {
    fn insert(&mut self, key: u64, lease: &Arc<QuotaLease>) {
        if self.leases.len() >= self.full {
            self.leases.retain(|_, lease| !lease.is_retired());
            self.full = (2 * self.leases.len()).max(1024);
        }
        self.leases.insert(key, Arc::clone(lease));
    }
}

type Shard = HashMap<u64, Arc<QuotaLease>>;

/// The leases of a process.
pub(super) struct LeaseTable {
    parts: [Mutex<Shard>; SHARDS],
    max_part: usize,
    start: Instant,
}

impl LeaseTable {
    fn new(max_keys: usize) -> Self {
        let parts = std::array::from_fn(|_| Mutex::new(HashMap::new()));
        Self { parts, max_part: max_keys / SHARDS, start: Instant::now() }
    }

    /// In nanoseconds since the table was made.
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The lease of a key: a new one if there is none. It is not listed if there is no room.
    fn lease(&self, key: u64, name: impl FnOnce() -> Box<str>, now: Instant) -> Arc<QuotaLease> {
        let now = self.nanos(now);
        let Some(part) = self.parts.get((key >> 32) as usize % SHARDS) else {
            return Arc::new(QuotaLease::new(name(), false, now));
        };
        let mut part = lock(part);
        let room = part.len() < self.max_part;
        match part.entry(key) {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(entry) if room => {
                Arc::clone(entry.insert(Arc::new(QuotaLease::new(name(), true, now))))
            }
            Entry::Vacant(_) => Arc::new(QuotaLease::new(name(), false, now)),
        }
    }

    /// Drops the leases that were not used since the last sweep.
    pub(super) fn sweep(&self) {
        for part in &self.parts {
            let mut part = lock(part);
            part.retain(|_, lease| !lease.retire());
            if part.len() < part.capacity() / 4 {
                part.shrink_to_fit();
            }
        }
    }
}

fn lock(part: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_drops_idle_keys() {
        let table = LeaseTable::new(128);
        let now = Instant::now();
        let lease = |key: u64| table.lease(key << 32, || "x".into(), now);
        assert!((0..128).all(|key| lease(key).listed));
        assert!(!lease(128).listed, "there are two in each part");
        assert!(Arc::ptr_eq(&lease(5), &lease(5)));
        table.sweep();
        assert!(!lease(128).listed, "all were made since the last sweep");
        lease(5).take(1);
        table.sweep();
        assert!(lease(128).listed);
        assert!(lease(5).listed);
    }

    #[test]
    fn a_worker_forgets_what_the_table_dropped() {
        let table = LeaseTable::new(100_000);
        let now = Instant::now();
        let mut seen = WorkerLeases::default();
        for key in 0..10_000u64 {
            let lease = table.lease(key << 32, || "x".into(), now);
            seen.insert(key, &lease);
            if key % 500 == 499 {
                table.sweep();
                table.sweep();
            }
        }
        assert!(seen.leases.len() <= 1024, "{} are held", seen.leases.len());
    }
}
