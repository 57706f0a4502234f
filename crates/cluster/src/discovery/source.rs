//! The sources of a cluster's endpoints: each as configured, with its state.

use super::EndpointMetrics;
use crate::{
    Endpoint,
    plan::{ClusterPlan, EndpointPlan},
};
use foldhash::HashMap;
use metrics::Counter;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tollgate_metrics::{Metrics, table as names};
use values::Target;

/// How many names that are not in the config have their own metrics at once. Further names share
/// the label `other`.
const MAX_NAMES: usize = 1024;
/// How long the metrics of a removed name are kept: long enough for a scraper that comes every few
/// minutes, and for a name that returns to continue its counters.
const FORGET_AFTER: Duration = Duration::from_secs(5 * 60);

/// The state of all sources.
pub(super) struct SourceTable {
    /// Those of the config, then those of the endpoints file.
    pub(super) sources: Vec<Source>,
    /// Removed endpoints whose time is not over.
    pub(super) draining: Vec<DrainingEndpoint>,
    /// The hash of the endpoints file when it was last read, or the error.
    pub(super) file_seen: Option<Result<u64, String>>,
    /// The current error of the endpoints file.
    pub(super) file_error: Option<String>,
    /// Whether there is an endpoints file; not any more after a switch.
    pub(super) reads_file: bool,
    /// When to read it again; `None` without a file, and while it is being read.
    pub(super) file_due: Option<Instant>,
    meters: HashMap<Arc<str>, NameMetrics>,
    /// Counts endpoints without their own metrics; `None` if none can appear later.
    capped: Option<Counter>,
    ids: u64,
}

/// A removed endpoint whose connections may still be open.
pub(super) struct DrainingEndpoint {
    pub(super) endpoint: Arc<Endpoint>,
    /// When its connections are closed.
    pub(super) deadline: Instant,
}

/// The metrics of a name.
struct NameMetrics {
    meters: Arc<EndpointMetrics>,
    /// It is in the config, so it is never removed.
    written: bool,
    /// When the metrics of a removed name are forgotten.
    until: Option<Instant>,
}

/// One endpoint as configured.
pub(super) struct Source {
    pub(super) id: u64,
    pub(super) plan: EndpointPlan,
    /// It comes from the endpoints file or from a replica set, not from the config.
    pub(super) is_discovered: bool,
    /// The last good answer; for an address, that address.
    pub(super) found: Vec<FoundAddress>,
    /// When to resolve it; `None` for an address, and while it is being resolved.
    pub(super) due: Option<Instant>,
    /// When the last look-up ended.
    pub(super) last_lookup: Option<Instant>,
    pub(super) last_ok: Option<Instant>,
    /// Why the last look-up failed, if it did.
    pub(super) last_error: Option<String>,
    /// How many look-ups in a row failed.
    pub(super) failures: u32,
}

/// A discovered address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundAddress {
    pub(super) address: SocketAddr,
    /// `host:port`, with the name that has this address.
    pub(super) name: Arc<str>,
    /// Weight and priority from SRV, which override the configured ones.
    pub(super) rank: Option<(u32, u8)>,
}

impl FoundAddress {
    pub(super) fn new(address: SocketAddr, name: &Arc<str>) -> Self {
        Self { address, name: Arc::clone(name), rank: None }
    }
}

impl Source {
    fn new(plan: EndpointPlan, id: u64, discovered: bool) -> Self {
        let literal = match &plan.at {
            Target::Host(host, port) => host.parse::<IpAddr>().ok().map(|ip| (ip, *port).into()),
            Target::Srv(_) => None,
        };
        let found = |address: SocketAddr| FoundAddress::new(address, &address.to_string().into());
        Self {
            id,
            is_discovered: discovered,
            found: literal.map(found).into_iter().collect(),
            due: literal.is_none().then(Instant::now),
            last_lookup: None,
            last_ok: None,
            last_error: None,
            failures: 0,
            plan,
        }
    }

    /// Whether it needs no look-up.
    pub(super) fn is_address(&self) -> bool {
        matches!(&self.plan.at, Target::Host(host, _) if host.parse::<IpAddr>().is_ok())
    }

    /// The name to resolve.
    pub(super) fn name(&self) -> &str {
        match &self.plan.at {
            Target::Host(name, _) | Target::Srv(name) => name,
        }
    }

    /// What to resolve, and the last answer.
    pub(super) fn lookup_input(&self) -> (Target, Vec<FoundAddress>) {
        (self.plan.at.clone(), self.found.clone())
    }
}

impl SourceTable {
    pub(super) fn new(plan: &ClusterPlan, metrics: &Metrics) -> Self {
        let mut table = Self {
            sources: Vec::new(),
            draining: Vec::new(),
            file_seen: None,
            file_error: None,
            reads_file: plan.endpoints_file.is_some(),
            file_due: plan.endpoints_file.as_ref().map(|_| Instant::now()),
            meters: HashMap::default(),
            capped: None,
            ids: 0,
        };
        table.register_capped(plan, metrics);
        for endpoint in &plan.endpoints {
            let source = table.new_source(endpoint.clone(), false);
            table.sources.push(source);
        }
        for seed in plan.replica_set.iter().flat_map(|plan| &plan.seeds) {
            let source = table.new_source(EndpointPlan::new(seed.clone()), true);
            table.sources.push(source);
        }
        table.register_written(&plan.name, metrics);
        table
    }

    /// Registers the count of endpoints without metrics of their own, if names can appear later.
    pub(super) fn register_capped(&mut self, plan: &ClusterPlan, metrics: &Metrics) {
        let comes_later = plan.endpoints_file.is_some()
            || plan.replica_set.is_some()
            || plan.endpoints.iter().any(|endpoint| matches!(endpoint.at, Target::Srv(_)));
        if comes_later {
            let labels = [("cluster", &*plan.name)];
            self.capped
                .get_or_insert_with(|| metrics.counter(names::ENDPOINTS_CAPPED_TOTAL, &labels));
        }
    }

    /// Registers the metrics of the hosts that are in the config; those of others are forgotten when their
    /// endpoints are gone.
    pub(super) fn register_written(&mut self, cluster: &Arc<str>, metrics: &Metrics) {
        self.meters.values_mut().for_each(|named| named.written = false);
        let written = self.sources.iter().filter(|source| !source.is_discovered);
        for source in written.filter(|source| matches!(source.plan.at, Target::Host(..))) {
            let address = source.found.first().filter(|_| source.is_address());
            let name = address.map(|found| Arc::clone(&found.name));
            let name = name.unwrap_or_else(|| source.plan.at.to_string().into());
            let named = self.meters.entry(Arc::clone(&name)).or_insert_with(|| {
                let meters = Arc::new(EndpointMetrics::new(cluster, name, true, metrics));
                NameMetrics { meters, written: true, until: None }
            });
            (named.written, named.until) = (true, None);
        }
    }

    pub(super) fn new_source(&mut self, plan: EndpointPlan, discovered: bool) -> Source {
        self.ids += 1;
        Source::new(plan, self.ids, discovered)
    }

    pub(super) fn source(&self, id: u64) -> Option<&Source> {
        self.sources.iter().find(|source| source.id == id)
    }

    pub(super) fn source_mut(&mut self, id: u64) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.id == id)
    }

    /// The metrics of this name; `register` creates new ones.
    pub(super) fn meters(
        &mut self,
        name: &Arc<str>,
        register: impl Fn(Arc<str>) -> EndpointMetrics,
    ) -> Arc<EndpointMetrics> {
        if let Some(known) = self.meters.get(name) {
            return Arc::clone(&known.meters);
        }
        let late = self.meters.values().filter(|named| !named.written).count();
        let label = match late < MAX_NAMES {
            true => Arc::clone(name),
            false => Arc::from("other"),
        };
        if let (true, Some(capped)) = (late >= MAX_NAMES, &self.capped) {
            capped.increment(1);
        }
        let new = || {
            let meters = Arc::new(register(Arc::clone(&label)));
            NameMetrics { meters, written: false, until: None }
        };
        Arc::clone(&self.meters.entry(Arc::clone(&label)).or_insert_with(new).meters)
    }

    /// How many names have metrics.
    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.meters.len()
    }

    /// Marks which names have disappeared by `now`, and which have returned.
    pub(super) fn mark_absent_names(&mut self, now: Instant) {
        for named in self.meters.values_mut().filter(|named| !named.written) {
            match named.meters.is_present() {
                true => named.until = None,
                false => _ = named.until.get_or_insert(now + FORGET_AFTER),
            }
        }
    }

    /// Forgets the metrics of names that disappeared long ago. They are kept while connections
    /// still count there.
    pub(super) fn forget_absent_names(&mut self, now: Instant) {
        self.meters.retain(|_, named| {
            if named.until.is_none_or(|until| until > now) {
                return true;
            }
            let over = Arc::strong_count(&named.meters) == 1;
            if over {
                named.meters.forget();
            }
            named.until = Some(now + FORGET_AFTER);
            !over
        });
    }

    /// Returns the sources to resolve now, whether to read the file now, and when more is due. What
    /// is returned counts as in progress until it is done.
    pub(super) fn due(&mut self, now: Instant) -> (Vec<u64>, bool, Option<Instant>) {
        let due = self.sources.iter_mut().filter(|s| s.due.is_some_and(|due| due <= now));
        let due = due
            .map(|source| {
                source.due = None;
                source.id
            })
            .collect();
        let read_file = self.file_due.take_if(|due| *due <= now).is_some();
        let next = self.sources.iter().filter_map(|source| source.due);
        let next =
            next.chain(self.draining.iter().map(|leaving| leaving.deadline)).chain(self.file_due);
        let next = next.chain(self.meters.values().filter_map(|named| named.until));
        (due, read_file, next.min())
    }

    /// The error of the first source that could not be read or resolved.
    pub(super) fn first_error(&self) -> Option<String> {
        let failed = |s: &Source| Some(format!("{}: {}", s.name(), s.last_error.as_ref()?));
        self.file_error.clone().or_else(|| self.sources.iter().find_map(failed))
    }
}
