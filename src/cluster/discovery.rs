//! Which endpoints there are: names looked up, and looked up again when their answer is due, and a
//! file that is read again when it changes.
//!
//! A look-up that fails changes nothing but when the next one is due: operations go on to the
//! last good answer, since a service outlives its name server more often than the reverse. An
//! endpoint that a good answer names no more is *removed*, however well it works: its connections
//! close as they come to a rest, and those that do not within `drain_timeout` close then.

mod file;
mod members;
mod source;
mod srv;
mod system;

pub use srv::{Service, Services};
pub use system::SystemResolver;

use super::{Cluster, balance, endpoint::Meters};
use crate::config::plan::{ClusterPlan, Target};
use foldhash::HashSet;
use metrics::Counter;
use process::panics::{Panic, caught};
use serde_json::{Value, json};
use source::{Found, Source, Table};
use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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

/// How many addresses of one name are taken.
const MAX_ADDRESSES: usize = 256;
/// How long one look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after a failed look-up the next one comes; it doubles up to `MAX_RETRY`. That is short:
/// a service that comes back, at another address maybe, should be found as soon as its name is.
const MIN_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(4);

/// Looks names up.
pub trait Resolve: Send + Sync {
    /// The addresses of `host`, or words for why there are none.
    fn resolve<'a>(&'a self, host: &'a str) -> Lookup<'a>;

    /// The SRV records of `name`, or words for why there are none.
    fn services<'a>(&'a self, name: &'a str) -> Lookup<'a, Services> {
        Box::pin(async move { Err(format!("SRV records such as {name} can't be looked up")) })
    }
}

/// A look-up under way.
pub type Lookup<'a, T = Answer> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its addresses, of both families. None at all is a failed look-up.
    pub addresses: Vec<IpAddr>,
    /// For how long that holds.
    pub ttl: Duration,
}

/// A good answer, as endpoints.
struct News {
    found: Vec<Found>,
    ttl: Duration,
    /// What of it could not be looked up: the last good answer stands in for that.
    missing: Option<String>,
}

/// Where a cluster's endpoints come from, and what is known about each.
pub(super) struct Names {
    resolver: Box<dyn Resolve>,
    /// Locked for moments, by look-ups and reports; never on the way of an operation.
    table: Mutex<Table>,
    /// Somebody could not connect: names may stand for other addresses by now.
    hurried: AtomicBool,
    hurry: Notify,
    /// For the metrics of endpoints whose names are not in the config.
    metrics: Metrics,
    lookups_ok: Counter,
    lookups_failed: Counter,
}

impl Names {
    pub(super) fn new(plan: &ClusterPlan, metrics: &Metrics, resolver: Box<dyn Resolve>) -> Self {
        let table = Table::new(plan, metrics);
        let addresses =
            plan.endpoints_file.is_none() && table.sources.iter().all(|source| source.is_address());
        let lookups = |result: &'static str| {
            let labels = [("cluster", &*plan.name), ("result", result)];
            match addresses {
                false => metrics.counter(names::DNS_LOOKUPS_TOTAL, &labels),
                // Nothing is ever looked up.
                true => Counter::noop(),
            }
        };
        Self {
            resolver,
            table: Mutex::new(table),
            hurried: AtomicBool::new(false),
            hurry: Notify::new(),
            metrics: metrics.clone(),
            lookups_ok: lookups("ok"),
            lookups_failed: lookups("error"),
        }
    }

    /// What the admin interface shows: the name that was known good the longest time ago stands
    /// for all; null if every endpoint is an address.
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
            "last_error": table.failing(),
        })
    }

    /// The first source that could not be read or looked up, and why.
    pub(super) fn failing(&self) -> Option<String> {
        self.lock().failing()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of a host, in an order that changes only if they do: name servers shuffle.
    async fn addresses(&self, host: &str) -> Result<Answer, String> {
        let mut answer = in_time(self.resolver.resolve(host)).await?;
        answer.addresses.sort_unstable();
        answer.addresses.dedup();
        answer.addresses.truncate(MAX_ADDRESSES);
        match answer.addresses.is_empty() {
            true => Err("it has no address".to_owned()),
            false => Ok(answer),
        }
    }
}

/// A look-up's answer, if it comes in time.
async fn in_time<T>(lookup: Lookup<'_, T>) -> Result<T, String> {
    let answer = time::timeout(LOOKUP_TIMEOUT, lookup).await;
    answer.unwrap_or_else(|_| Err(format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs())))
}

impl Cluster {
    /// Reads the file of endpoints, if there is one, and looks every name up once. A name takes no
    /// longer than 5 s, or twice that by an SRV record; one that could not be looked up is left to
    /// [`discover`](Cluster::discover).
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

    /// Keeps looking names up whenever they are due, reads the file of endpoints when it changes,
    /// and lets go of endpoints that were removed, until dropped. Ends at once if there is
    /// nothing that could change.
    pub async fn discover(self: Arc<Self>) {
        let mut under_way = JoinSet::new();
        loop {
            self.let_go();
            let (due, read_file, next) = self.names.lock().due(Instant::now());
            for id in due {
                under_way.spawn(self.clone().look_up(id));
            }
            if read_file {
                under_way.spawn(self.clone().read_file());
            }
            if under_way.is_empty() && next.is_none() {
                return;
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
                () = self.names.hurry.notified() => self.look_again(),
            }
        }
    }

    /// Has names looked up again soon whose endpoints all fail: somebody could not connect, or a
    /// check failed. Waits for nobody; called on any thread.
    pub(super) fn hurry(&self) {
        // Of many that fail at once one is enough.
        if !self.names.hurried.swap(true, SeqCst) {
            self.names.hurry.notify_one();
        }
    }

    /// Looks names up again whose addresses all fail, and those that have none: `dns_min_ttl` after
    /// the last look-up, however long its answer was to hold.
    fn look_again(&self) {
        self.names.hurried.store(false, SeqCst);
        let set = self.set.load();
        let working = set.endpoints().filter(|endpoint| !endpoint.is_failing());
        let working: HashSet<SocketAddr> = working.map(|endpoint| endpoint.address()).collect();
        let mut table = self.names.lock();
        for source in table.sources.iter_mut() {
            let (Some(due), Some(asked)) = (source.due, source.asked) else { continue };
            if !source.found.iter().any(|found| working.contains(&found.address)) {
                source.due = Some(due.min(asked + self.plan.dns_min_ttl));
            }
        }
    }

    /// Looks one name up and makes its answer known.
    async fn look_up(self: Arc<Self>, id: u64) {
        let Some((target, before)) = self.names.lock().source(id).map(Source::question) else {
            return;
        };
        // A panic must not leave the name under way for ever.
        let news = caught(Box::pin(self.news(&target, &before))).await;
        let news = news.unwrap_or_else(|Panic { message, place }| {
            Err(format!("a panic, which is a bug in Tollgate: {message} ({place})"))
        });
        match news {
            Ok(news) => self.learn(id, news),
            Err(error) => self.keep(id, error),
        }
    }

    /// What looking a name up tells.
    async fn news(self: &Arc<Self>, target: &Target, before: &[Found]) -> Result<News, String> {
        match target {
            Target::Host(host, port) => self.names.addresses(host).await.map(|answer| {
                let name = target.to_string().into();
                let found = |ip| Found::new(SocketAddr::new(ip, *port), &name);
                News {
                    found: answer.addresses.into_iter().map(found).collect(),
                    ttl: answer.ttl,
                    missing: None,
                }
            }),
            Target::Srv(name) => self.look_up_services(name, before).await,
        }
    }

    /// Takes a good answer in.
    fn learn(&self, id: u64, news: News) {
        self.names.lookups_ok.increment(1);
        let mut table = self.names.lock();
        // It may have left the file meanwhile.
        let Some(source) = table.source_mut(id) else { return };
        let (cluster, name) = (&self.plan.name, source.name());
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
        let ttl = ttl.min(self.plan.dns_max_ttl).max(self.plan.dns_min_ttl);
        source.found = news.found;
        source.failures = 0;
        source.last_ok = Some(now);
        source.asked = Some(now);
        source.last_error = news.missing;
        source.due = Some(now + ttl);
        if changed {
            self.store(&mut table);
        }
    }

    /// Takes note of a failed look-up.
    fn keep(&self, id: u64, error: String) {
        self.names.lookups_failed.increment(1);
        let mut table = self.names.lock();
        let Some(source) = table.source_mut(id) else { return };
        let (cluster, name, kept) = (&self.plan.name, source.name(), source.found.len());
        if source.last_error.is_none() {
            tracing::warn!(%cluster, name, %error, kept, "can't look the name up: keeping what is known");
        }
        let now = Instant::now();
        source.asked = Some(now);
        source.due = Some(now + retry_after(source.failures, balance::share()));
        source.failures = source.failures.saturating_add(1);
        source.last_error = Some(error);
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
