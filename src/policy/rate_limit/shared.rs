//! One limit for several machines: a store that all of them ask decides.
//!
//! Redis hands out *leases*: some operations' worth at a time, which a process then lets through
//! by itself. A rate-limit service is asked about each operation, since that is its protocol. In
//! either case no operation waits longer than the plan's time-out, and none waits for a store that
//! is known to be away.

mod lease;
mod leases;
mod name;
mod redis;
mod script;
mod service;
mod settings;
mod store_health;
mod thread;

pub use name::Names;
pub(crate) use settings::Settings;
pub use settings::{Entry, OnStoreFailure, Plan, RedisPlan, ServicePlan, Store};

use leases::Leases;
use service::Service;
use std::{
    borrow::Cow,
    cell::RefCell,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use store_health::StoreHealth;
use tollgate_metrics::Metrics;

/// What is limited, and how much of it there may be.
#[derive(Clone, Debug)]
pub struct Limit {
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

impl Limit {
    /// How many there may be in a second.
    fn rate(&self) -> f64 {
        self.amount as f64 / self.per.as_secs_f64()
    }
}

/// Finds an operation's attribute by its name.
pub type Attribute<'a> = dyn Fn(&str) -> Option<Cow<'a, str>> + 'a;

/// Decides while the store is unavailable.
pub trait Local: Send + Sync {
    /// Takes `n` of a key if the limit allows that now.
    fn take(&self, key: u64, n: u64, now: Instant) -> Answer;

    /// Takes them in any case: they have been already.
    fn spend(&self, key: u64, n: u64, now: Instant);
}

/// Whether an amount is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// They may.
    Yes,
    /// They may not, and perhaps it is known when it is worth asking again.
    No(Option<Duration>),
}

/// A decision, or one that is pending.
pub enum PendingDecision {
    /// It is known.
    Now(Answer),
    /// The store is asked. It is ready after the plan's time-out at the latest, and asks for
    /// Tokio's timers.
    Later(Pin<Box<dyn Future<Output = Answer>>>),
}

impl From<Answer> for PendingDecision {
    fn from(answer: Answer) -> Self {
        PendingDecision::Now(answer)
    }
}

/// A limit shared by machines, as all workers of this process use it. Its thread starts with
/// the first operation, and ends when this and every [`SharedLimitClient`] is dropped.
#[derive(Clone)]
pub struct Shared(Backend);

#[derive(Clone)]
enum Backend {
    Leases(Arc<Leases>),
    Service(Arc<Service>),
}

impl Shared {
    /// Touches no network. `local` decides if the plan says so and the store is away.
    pub fn new(plan: &Plan, limit: &Limit, local: Arc<dyn Local>, metrics: &Metrics) -> Self {
        let health = |store| Arc::new(StoreHealth::new(plan, store, &limit.policy, local, metrics));
        Self(match &plan.store {
            Store::Redis(redis) => {
                let (redis, names) = (redis.clone(), plan.names.clone());
                Backend::Leases(Arc::new(Leases::new(redis, names, limit, health("redis"))))
            }
            Store::Service(service) => {
                let health = health("rate_limit_service");
                let (service, names) = (service.clone(), plan.names.clone());
                Backend::Service(Arc::new(Service::new(service, names, health)))
            }
        })
    }

    /// A worker's access to it.
    pub fn hand(&self) -> SharedLimitClient {
        SharedLimitClient { shared: self.clone(), leases: RefCell::default() }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// One worker's access to a shared limit, with the leases that it has seen.
pub struct SharedLimitClient {
    shared: Shared,
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
        attribute: &Attribute<'_>,
        n: u64,
        now: Instant,
    ) -> PendingDecision {
        match &self.shared.0 {
            Backend::Leases(leases) => leases.take(&self.leases, key, attribute, n, now),
            Backend::Service(service) => service.take(key, attribute, n, now),
        }
    }

    /// Takes `n` in any case: they have been already. What comes later has to wait for it.
    pub fn spend(&self, key: u64, attribute: &Attribute<'_>, n: u64, now: Instant) {
        match &self.shared.0 {
            Backend::Leases(leases) => leases.spend(&self.leases, key, attribute, n, now),
            Backend::Service(service) => service.spend(key, attribute, n, now),
        }
    }
}
