//! One limit for several machines: a store decides for all of them.
//!
//! Redis hands out *leases*: some operations' worth at a time, which a process then lets through
//! by itself. A rate-limit service is asked about each operation, since that is its protocol. In
//! either case no operation waits longer than the plan's time-out, and none waits for a store that
//! is known to be unavailable.

mod attribute_hasher;
mod lease;
mod leases;
mod plan;
mod redis;
mod script;
mod service;
mod settings;
mod store_health;
mod store_socket;
mod thread;

pub use attribute_hasher::AttributeHasher;
pub use plan::{DescriptorEntryPlan, OnStoreFailure, Plan, RedisPlan, ServicePlan, StorePlan};
pub(crate) use settings::Settings;

use leases::Leases;
use service::ServiceLimit;
use std::{
    borrow::Cow,
    cell::RefCell,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use store_health::StoreHealth;
use tollgate_metrics::Metrics;

/// A limit that several machines share.
#[derive(Clone, Debug)]
pub struct SharedLimitSpec {
    /// The policy's name: limits of the same name and store are one limit.
    pub policy: Arc<str>,
    /// How many there may be...
    pub amount: u64,
    /// ...in this time.
    pub per: Duration,
    /// How many there may be at once. Leases need room: at least a twentieth of a second's worth is
    /// used.
    pub burst: u64,
    /// The attributes that have a limit each, by name.
    pub key: Vec<Arc<str>>,
}

impl SharedLimitSpec {
    /// The limit in a second.
    fn rate(&self) -> f64 {
        self.amount as f64 / self.per.as_secs_f64()
    }
}

/// Finds an operation's attribute by its name.
pub type AttributeLookup<'a> = dyn Fn(&str) -> Option<Cow<'a, str>> + 'a;

/// Decides while the store is unavailable.
pub trait FallbackLimiter: Send + Sync {
    /// Takes `n` of a key if the limit allows that now.
    fn take(&self, key: u64, n: u64, now: Instant) -> LimitDecision;

    /// Takes `n` in any case: they have passed already.
    fn spend(&self, key: u64, n: u64, now: Instant);
}

/// Whether an amount is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitDecision {
    /// It is allowed.
    Allowed,
    /// It is over the limit; with the time until it is worth asking again, if that is known.
    Limited(Option<Duration>),
}

/// A decision, or one that is pending.
pub enum PendingDecision {
    /// It is known.
    Now(LimitDecision),
    /// The store is asked. It is ready after the plan's time-out at the latest, and asks for
    /// Tokio's timers.
    Later(Pin<Box<dyn Future<Output = LimitDecision>>>),
}

impl From<LimitDecision> for PendingDecision {
    fn from(answer: LimitDecision) -> Self {
        PendingDecision::Now(answer)
    }
}

/// A limit shared by machines, as all workers of this process use it. Its thread starts with
/// the first operation, and ends when this and every [`SharedLimitClient`] is dropped.
#[derive(Clone)]
pub struct SharedLimitStore(Backend);

#[derive(Clone)]
enum Backend {
    Leases(Arc<Leases>),
    Service(Arc<ServiceLimit>),
}

impl SharedLimitStore {
    /// Does no I/O. `local` decides if the plan says so and the store is unavailable.
    pub fn new(
        plan: &Plan,
        limit: &SharedLimitSpec,
        local: Arc<dyn FallbackLimiter>,
        metrics: &Metrics,
    ) -> Self {
        let health = |store| Arc::new(StoreHealth::new(plan, store, &limit.policy, local, metrics));
        Self(match &plan.store {
            StorePlan::Redis(redis) => {
                let (redis, hasher) = (redis.clone(), plan.hasher.clone());
                Backend::Leases(Arc::new(Leases::new(redis, hasher, limit, health("redis"))))
            }
            StorePlan::Service(service) => {
                let health = health("rate_limit_service");
                let (service, hasher) = (service.clone(), plan.hasher.clone());
                Backend::Service(Arc::new(ServiceLimit::new(service, hasher, health)))
            }
        })
    }

    /// A worker's access to it.
    pub fn client(&self) -> SharedLimitClient {
        SharedLimitClient { shared: self.clone(), leases: RefCell::default() }
    }
}

impl std::fmt::Debug for SharedLimitStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedLimitStore").finish_non_exhaustive()
    }
}

/// One worker's access to a shared limit, with the leases that it has seen.
pub struct SharedLimitClient {
    shared: SharedLimitStore,
    leases: RefCell<leases::WorkerLeases>,
}

impl SharedLimitClient {
    /// Takes `n` if the limit allows it. `key` is a hash of the key's attributes with a secret
    /// seed: it identifies the key within this process. The attributes identify it everywhere, and
    /// are read seldom. An `n` above the burst is admitted if nothing else was for a while; then
    /// nothing more is admitted until the time that it is worth has passed.
    pub fn take(
        &self,
        key: u64,
        attribute: &AttributeLookup<'_>,
        n: u64,
        now: Instant,
    ) -> PendingDecision {
        match &self.shared.0 {
            Backend::Leases(leases) => leases.take(&self.leases, key, attribute, n, now),
            Backend::Service(service) => service.take(key, attribute, n, now),
        }
    }

    /// Takes `n` in any case: they have passed already. Later ones have to wait for it.
    pub fn spend(&self, key: u64, attribute: &AttributeLookup<'_>, n: u64, now: Instant) {
        match &self.shared.0 {
            Backend::Leases(leases) => leases.spend(&self.leases, key, attribute, n, now),
            Backend::Service(service) => service.spend(key, attribute, n, now),
        }
    }
}
