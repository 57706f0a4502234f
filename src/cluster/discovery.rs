//! Which endpoints there are: names looked up, and looked up again when their answer is due.
//!
//! A look-up that fails changes nothing but when the next one is due: operations go on to the
//! last good answer, since a service outlives its name server more often than the reverse.

mod system;

pub use system::SystemResolver;

use super::{Cluster, Endpoint, balance, endpoint, endpoint::Meters, set::Member};
use crate::config::plan::{ClusterPlan, Target};
use metrics::Counter;
use serde_json::{Value, json};
use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

/// How many addresses of one name are taken.
const MAX_ADDRESSES: usize = 256;
/// How long one look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after a failed look-up the next one comes; it doubles up to `MAX_RETRY`.
const MIN_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Looks names up.
pub trait Resolve: Send + Sync {
    /// The addresses of `host`, or words for why there are none.
    fn resolve<'a>(&'a self, host: &'a str) -> Lookup<'a>;
}

/// A look-up under way.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Answer, String>> + Send + 'a>>;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its addresses, of both families. None at all is a failed look-up.
    pub addresses: Vec<IpAddr>,
    /// For how long that holds.
    pub ttl: Duration,
}

/// The endpoints of a cluster as written, and what is known about each.
pub(super) struct Names {
    resolver: Box<dyn Resolve>,
    /// Locked for moments, by look-ups and reports; never on the way of an operation.
    table: Mutex<Vec<Name>>,
    lookups_ok: Counter,
    lookups_failed: Counter,
}

/// One endpoint as written.
struct Name {
    host: String,
    port: u16,
    meters: Arc<Meters>,
    /// The last good answer; for a host that is an address, that address.
    addresses: Vec<SocketAddr>,
    /// When to look it up; `None` for a host that is an address.
    due: Option<Instant>,
    last_ok: Option<Instant>,
    /// Why the last look-up failed, if it did.
    last_error: Option<String>,
    /// How many look-ups in a row failed.
    failures: u32,
}

impl Names {
    pub(super) fn new(
        plan: &ClusterPlan,
        recorder: &dyn metrics::Recorder,
        resolver: Box<dyn Resolve>,
    ) -> Self {
        let lookups = |result: &'static str| {
            let labels = [("cluster", &*plan.name), ("result", result)];
            endpoint::counter(recorder, crate::metrics::table::DNS_LOOKUPS_TOTAL, &labels)
        };
        let name = |host: &str, port: u16| {
            let literal = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
            let written = literal.map_or_else(|| format!("{host}:{port}"), |a| a.to_string());
            Name {
                host: host.to_owned(),
                port,
                meters: Arc::new(Meters::new(&plan.name, written.into(), recorder)),
                addresses: literal.into_iter().collect(),
                due: literal.is_none().then(Instant::now),
                last_ok: None,
                last_error: None,
                failures: 0,
            }
        };
        Self {
            resolver,
            table: Mutex::new(
                plan.endpoints
                    .iter()
                    .filter_map(|e| match &e.at {
                        Target::Host(host, port) => Some(name(host, *port)),
                        Target::Srv(_) => None,
                    })
                    .collect(),
            ),
            lookups_ok: lookups("ok"),
            lookups_failed: lookups("error"),
        }
    }

    /// What the admin interface shows: the name that was known good the longest time ago stands
    /// for all; null if every endpoint is an address.
    pub(super) fn report(&self) -> Value {
        let table = self.lock();
        let mut names = table.iter().filter(|n| n.due.is_some()).peekable();
        if names.peek().is_none() {
            return Value::Null;
        }
        // `None`, that is never, sorts before any time.
        let last_ok = names.map(|n| n.last_ok).min().flatten();
        json!({
            "last_ok_seconds_ago": last_ok.map(|at| at.elapsed().as_secs()),
            "last_error": failing(&table),
        })
    }

    /// The first name whose last look-up failed, and why.
    pub(super) fn failing(&self) -> Option<String> {
        failing(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Name>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failing(table: &[Name]) -> Option<String> {
    table.iter().find_map(|n| Some(format!("{}: {}", n.host, n.last_error.as_ref()?)))
}

impl Cluster {
    /// Looks every name up once. Takes no longer than 5 s, and leaves a name that could not be
    /// looked up to [`discover`](Cluster::discover).
    pub async fn resolve(self: &Arc<Self>) {
        let mut lookups = JoinSet::new();
        for index in self.due_names() {
            let cluster = self.clone();
            lookups.spawn(async move { cluster.look_up(index).await });
        }
        while lookups.join_next().await.is_some() {}
    }

    /// Keeps looking names up whenever they are due, until dropped. Ends at once if there is no
    /// name to look up.
    pub async fn discover(self: Arc<Self>) {
        let mut names = JoinSet::new();
        for index in self.due_names() {
            names.spawn(self.clone().follow(index));
        }
        while names.join_next().await.is_some() {}
    }

    fn due_names(&self) -> Vec<usize> {
        let table = self.names.lock();
        (0..table.len()).filter(|&index| table[index].due.is_some()).collect()
    }

    async fn follow(self: Arc<Self>, index: usize) {
        loop {
            let Some(due) = self.names.lock()[index].due else { return };
            time::sleep_until(due).await;
            self.look_up(index).await;
        }
    }

    /// Looks one name up and makes its answer known.
    async fn look_up(&self, index: usize) {
        let host = self.names.lock()[index].host.clone();
        let lookup = time::timeout(LOOKUP_TIMEOUT, self.names.resolver.resolve(&host)).await;
        let answer = match lookup {
            Ok(Ok(answer)) if answer.addresses.is_empty() => Err("it has no address".to_owned()),
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs())),
        };
        match answer {
            Ok(answer) => self.learn(index, answer),
            Err(error) => self.keep(index, error),
        }
    }

    /// Takes a good answer in.
    fn learn(&self, index: usize, answer: Answer) {
        self.names.lookups_ok.increment(1);
        let mut table = self.names.lock();
        let name = &mut table[index];
        // Name servers shuffle; the order here should change only if the answer does.
        let port = name.port;
        let mut addresses: Vec<SocketAddr> =
            answer.addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);

        let (cluster, host) = (&self.plan.name, &name.host);
        if name.last_error.take().is_some() {
            tracing::info!(%cluster, host, "the name can be looked up again");
        }
        let changed = name.addresses != addresses;
        if changed {
            tracing::info!(%cluster, host, ?addresses, "the name's addresses changed");
        }
        let now = Instant::now();
        let ttl = answer.ttl.min(self.plan.dns_max_ttl).max(self.plan.dns_min_ttl);
        name.addresses = addresses;
        name.failures = 0;
        name.last_ok = Some(now);
        name.due = Some(now + ttl);
        if changed {
            self.store(&table);
        }
    }

    /// Takes note of a failed look-up.
    fn keep(&self, index: usize, error: String) {
        self.names.lookups_failed.increment(1);
        let mut table = self.names.lock();
        let name = &mut table[index];
        let (cluster, host, kept) = (&self.plan.name, &name.host, name.addresses.len());
        if name.last_error.is_none() {
            tracing::warn!(%cluster, host, %error, kept, "can't look the name up: keeping what is known");
        }
        name.due = Some(Instant::now() + retry_after(name.failures, balance::share()));
        name.failures = name.failures.saturating_add(1);
        name.last_error = Some(error);
    }

    /// Makes the endpoints in the table the ones to pick from.
    pub(super) fn publish(&self) {
        self.store(&self.names.lock());
    }

    /// Like `publish`, for who holds the table locked, so that the newest one is stored last.
    fn store(&self, table: &[Name]) {
        self.change(|before| {
            let mut members: Vec<Member> = Vec::new();
            for name in table {
                for &address in &name.addresses {
                    // An address that several names stand for is one endpoint.
                    if members.iter().any(|m| m.endpoint.address() == address) {
                        continue;
                    }
                    let same = |m: &&Member| {
                        m.endpoint.address() == address
                            && Arc::ptr_eq(m.endpoint.meters(), &name.meters)
                    };
                    let known = before.iter().find(same).map(|m| Arc::clone(&m.endpoint));
                    let new = || Arc::new(Endpoint::new(address, name.meters.clone()));
                    let endpoint = known.unwrap_or_else(new);
                    members.push(Member { endpoint, weight: 1, priority: 0, zone: None });
                }
            }
            members
        });
    }
}

/// How long after a failed look-up the next one comes, with `failures` failed ones before it:
/// from three quarters to five quarters of a time that doubles, so that proxies spread out.
fn retry_after(failures: u32, share: f64) -> Duration {
    let delay = MIN_RETRY.saturating_mul(2u32.saturating_pow(failures)).min(MAX_RETRY);
    delay.mul_f64(0.75 + share / 2.0)
}

#[cfg(test)]
mod tests;
