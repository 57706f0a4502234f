//! Discovery: names that are resolved again when their TTL expires, and a file that is read again
//! when it changes.
//!
//! A failed look-up changes nothing but the time of the next one: operations use the last good
//! answer, since a service outlives its name server more often than the reverse. An endpoint that
//! is missing in a good answer is *removed*, however well it works: its connections close when
//! idle, and at the latest after `drain_timeout`.

mod file;
mod members;
mod source;
mod srv;
mod system;

pub use srv::{SrvAnswer, SrvRecord};
pub use system::SystemResolver;

use super::{Cluster, balance, endpoint::EndpointMetrics};
use crate::plan::ClusterPlan;
use foldhash::HashSet;
use metrics::Counter;
use process::panics::{Panic, caught};
use serde_json::{Value, json};
use source::{FoundAddress, Source, SourceTable};
use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{self, Instant},
};
use tollgate_metrics::{Metrics, table as names};
use values::Target;

/// How many addresses of one name are used.
const MAX_ADDRESSES: usize = 256;
/// The time limit of one look-up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed look-up, which doubles up to `MAX_RETRY`. It is short, so that a
/// service that returns at another address is found as soon as its name is.
const MIN_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(4);

/// Resolves names.
pub trait Resolver: Send + Sync {
    /// The addresses of `host`, or the error as text.
    fn resolve<'a>(&'a self, host: &'a str) -> Lookup<'a>;

    /// The SRV records of `name`, or the error as text.
    fn resolve_srv<'a>(&'a self, name: &'a str) -> Lookup<'a, SrvAnswer> {
        Box::pin(async move { Err(format!("SRV records such as {name} can't be looked up")) })
    }
}

/// A look-up in progress.
pub type Lookup<'a, T = HostAnswer> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// What a host name resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAnswer {
    /// Addresses of both families. An empty list is a failed look-up.
    pub addresses: Vec<IpAddr>,
    /// How long the answer is valid.
    pub ttl: Duration,
}

/// A good answer, as endpoints.
struct DiscoveredEndpoints {
    found: Vec<FoundAddress>,
    ttl: Duration,
    /// The error of a part that could not be resolved; its last good answer is kept.
    missing: Option<String>,
}

/// The sources of a cluster's endpoints, and their state.
pub(super) struct Discovery {
    resolver: Box<dyn Resolver>,
    /// Locked briefly, by look-ups and reports; never by an operation.
    table: Mutex<SourceTable>,
    /// A connect failed: names may have other addresses by now.
    refresh_requested: AtomicBool,
    refresh: Notify,
    /// Registers metrics of endpoints whose names are not in the config.
    metrics: Metrics,
    /// Good and failed look-ups. A cluster that resolves nothing has no such series.
    lookups: OnceLock<[Counter; 2]>,
    cluster: Arc<str>,
}

impl Discovery {
    pub(super) fn new(plan: &ClusterPlan, metrics: &Metrics, resolver: Box<dyn Resolver>) -> Self {
        let table = SourceTable::new(plan, metrics);
        let this = Self {
            resolver,
            table: Mutex::new(table),
            refresh_requested: AtomicBool::new(false),
            refresh: Notify::new(),
            metrics: metrics.clone(),
            lookups: OnceLock::new(),
            cluster: Arc::clone(&plan.name),
        };
        this.register_lookups();
        this
    }

    /// Good and failed look-ups.
    fn lookups(&self) -> &[Counter; 2] {
        self.lookups.get_or_init(|| {
            ["ok", "error"].map(|result| {
                let labels = [("cluster", &*self.cluster), ("result", result)];
                self.metrics.counter(names::DNS_LOOKUPS_TOTAL, &labels)
            })
        })
    }

    /// Registers the counts of look-ups, if there is anything to look up.
    fn register_lookups(&self) {
        if !self.lock().sources.iter().all(Source::is_address) {
            self.lookups();
        }
    }

    /// The JSON for the admin interface. The name whose last success is oldest stands for all; null
    /// if every endpoint is an address.
    pub(super) fn report(&self) -> Value {
        let table = self.lock();
        let mut names = table.sources.iter().filter(|s| !s.is_address()).peekable();
        if names.peek().is_none() && table.file_error.is_none() {
            return Value::Null;
        }
        // `None`, that is never, sorts before any time.
        let last_ok = names.map(|n| n.last_ok).min().flatten();
        json!({
            "last_ok_seconds_ago": last_ok.map(|at| at.elapsed().as_secs()),
            "last_error": table.first_error(),
        })
    }

    /// The error of the first source that could not be read or resolved.
    pub(super) fn first_error(&self) -> Option<String> {
        self.lock().first_error()
    }

    /// Makes the task that resolves names look what is due.
    fn wake(&self) {
        self.refresh.notify_one();
    }

    /// The addresses of an endpoint that is not in use yet.
    pub(super) async fn addresses_of(&self, target: &Target) -> Result<Vec<SocketAddr>, String> {
        match target {
            Target::Host(host, port) => {
                if let Ok(ip) = host.parse::<IpAddr>() {
                    return Ok(vec![SocketAddr::new(ip, *port)]);
                }
                let answer = self.addresses(host).await?;
                Ok(answer.addresses.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect())
            }
            Target::Srv(name) => Err(format!("write the endpoints of {name} as host:port")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SourceTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of a host, sorted, because name servers shuffle them.
    async fn addresses(&self, host: &str) -> Result<HostAnswer, String> {
        let mut answer = with_timeout(self.resolver.resolve(host)).await?;
        answer.addresses.sort_unstable();
        answer.addresses.dedup();
        answer.addresses.truncate(MAX_ADDRESSES);
        match answer.addresses.is_empty() {
            true => Err("it has no address".to_owned()),
            false => Ok(answer),
        }
    }
}

/// The answer of a look-up, within its time limit.
async fn with_timeout<T>(lookup: Lookup<'_, T>) -> Result<T, String> {
    let answer = time::timeout(LOOKUP_TIMEOUT, lookup).await;
    answer.unwrap_or_else(|_| Err(format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs())))
}

impl Cluster {
    /// Reads the endpoints file, if there is one, and resolves every name once. A name takes 5 s at
    /// most, an SRV name twice that; names that fail are left to [`discover`](Cluster::discover).
    pub async fn resolve(self: &Arc<Self>) {
        self.clone().read_file().await;
        let names: Vec<u64> = {
            let table = self.names.lock();
            table.sources.iter().filter(|s| !s.is_address()).map(|s| s.id).collect()
        };
        let mut lookups = JoinSet::new();
        for id in names {
            lookups.spawn(self.clone().look_up(id));
        }
        while lookups.join_next().await.is_some() {}
    }

    /// Resolves names when they are due, reads the endpoints file when it changes, and closes
    /// connections to removed endpoints, until dropped.
    pub async fn discover(self: Arc<Self>) {
        let mut under_way = JoinSet::new();
        loop {
            self.close_removed();
            let (due, read_file, next) = self.names.lock().due(Instant::now());
            for id in due {
                under_way.spawn(self.clone().look_up(id));
            }
            if read_file {
                under_way.spawn(self.clone().read_file());
            }
            let due = async {
                match next {
                    Some(next) => time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(_) = under_way.join_next() => {}
                () = due => {}
                () = self.names.refresh.notified() => self.refresh_failing(),
            }
        }
    }

    /// Requests an early look-up of names whose endpoints all fail, after a failed connect or
    /// check. Does not block; called on any thread.
    pub(super) fn request_refresh(&self) {
        // One request covers all failures until it is handled.
        if !self.names.refresh_requested.swap(true, SeqCst) {
            self.names.refresh.notify_one();
        }
    }

    /// Schedules look-ups for names whose addresses all fail or that have none: `dns.min_ttl` after
    /// the last look-up, whatever its TTL.
    fn refresh_failing(&self) {
        self.names.refresh_requested.store(false, SeqCst);
        let set = self.set.load();
        let working = set.endpoints().filter(|endpoint| !endpoint.is_failing());
        let working: HashSet<SocketAddr> = working.map(|endpoint| endpoint.address()).collect();
        let mut table = self.names.lock();
        for source in table.sources.iter_mut() {
            let (Some(due), Some(asked)) = (source.due, source.last_lookup) else { continue };
            if !source.found.iter().any(|found| working.contains(&found.address)) {
                source.due = Some(due.min(asked + self.plan().dns.min_ttl));
            }
        }
    }

    /// Resolves one name and publishes the answer.
    async fn look_up(self: Arc<Self>, id: u64) {
        let Some((target, before)) = self.names.lock().source(id).map(Source::lookup_input) else {
            return;
        };
        // After a panic the name must be scheduled again.
        let news = caught(Box::pin(self.discover_target(&target, &before))).await;
        let news = news.unwrap_or_else(|Panic { message, place }| {
            Err(format!("a panic, which is a bug in Tollgate: {message} ({place})"))
        });
        match news {
            Ok(news) => self.lookup_succeeded(id, news),
            Err(error) => self.lookup_failed(id, error),
        }
    }

    /// Resolves one target.
    async fn discover_target(
        self: &Arc<Self>,
        target: &Target,
        before: &[FoundAddress],
    ) -> Result<DiscoveredEndpoints, String> {
        match target {
            Target::Host(host, port) => self.names.addresses(host).await.map(|answer| {
                let name = target.to_string().into();
                let found = |ip| FoundAddress::new(SocketAddr::new(ip, *port), &name);
                DiscoveredEndpoints {
                    found: answer.addresses.into_iter().map(found).collect(),
                    ttl: answer.ttl,
                    missing: None,
                }
            }),
            Target::Srv(name) => self.look_up_services(name, before).await,
        }
    }

    /// Records a good answer.
    fn lookup_succeeded(&self, id: u64, news: DiscoveredEndpoints) {
        let [good, _] = self.names.lookups();
        good.increment(1);
        let mut table = self.names.lock();
        // It may have been removed from the file meanwhile.
        let Some(source) = table.source_mut(id) else { return };
        let (cluster, name) = (&self.name, source.name());
        match (&source.last_error, &news.missing) {
            (Some(_), None) => tracing::info!(%cluster, name, "the name can be looked up again"),
            (None, Some(error)) => {
                tracing::warn!(%cluster, name, %error, "can't look all of the name up: keeping what is known");
            }
            _ => {}
        }
        let changed = source.found != news.found;
        if changed {
            let addresses: Vec<_> = news.found.iter().map(|found| found.address).collect();
            tracing::info!(%cluster, name, ?addresses, "the name's addresses changed");
        }
        let now = Instant::now();
        let ttl = match &news.missing {
            None => news.ttl,
            Some(_) => news.ttl.min(MIN_RETRY),
        };
        let ttl = ttl.min(self.plan().dns.max_ttl).max(self.plan().dns.min_ttl);
        source.found = news.found;
        source.failures = 0;
        source.last_ok = Some(now);
        source.last_lookup = Some(now);
        source.last_error = news.missing;
        source.due = Some(now + ttl);
        if changed {
            self.store(&mut table);
        }
    }

    /// Records a failed look-up.
    fn lookup_failed(&self, id: u64, error: String) {
        let [_, failed] = self.names.lookups();
        failed.increment(1);
        let mut table = self.names.lock();
        let Some(source) = table.source_mut(id) else { return };
        let (cluster, name, kept) = (&self.name, source.name(), source.found.len());
        if source.last_error.is_none() {
            tracing::warn!(%cluster, name, %error, kept, "can't look the name up: keeping what is known");
        }
        let now = Instant::now();
        source.last_lookup = Some(now);
        source.due = Some(now + retry_after(source.failures, balance::share()));
        source.failures = source.failures.saturating_add(1);
        source.last_error = Some(error);
    }
}

/// The pause after a failed look-up, with `failures` failed ones before it: 75 to 125 % of a time
/// that doubles, so that proxies spread out.
fn retry_after(failures: u32, share: f64) -> Duration {
    let delay = MIN_RETRY.saturating_mul(2u32.saturating_pow(failures)).min(MAX_RETRY);
    delay.mul_f64(0.75 + share / 2.0)
}

#[cfg(test)]
mod tests;
