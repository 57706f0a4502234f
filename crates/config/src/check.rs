//! Checks a config and makes a plan of it: fills in defaults, follows references, and reports all
//! diagnostics.

mod admin;
mod cluster;
mod endpoints;
mod failover;
mod files;
mod health;
mod listener;
mod matching;
mod policies;
mod pool;
mod proxy_protocol;
mod replica_set;
mod reserved;
mod rest;
mod tls;
mod tracing;

use super::{
    file::{AccessLog, ClusterConfig, EndpointConfig, EventLog, File, Listener},
    plan::Plan,
    report::Report,
    scope::{ListenerScope, Scope},
};
use ::cluster::{ClusterPlan, FailoverPlan};
pub(crate) use endpoints::{Listed, endpoints};
use health::slow_start;
pub(crate) use policies::Policies;
use policy::access_log::AccessLogPlan;
use protocols::{Pooling, ProtocolConfig, ProtocolSettings, UncheckedProbe};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};
use values::{FilesRead, InRange, NAME_HINT, Node, ObjectSource, Workers, is_name, recording};
use values::{
    NamedMap, Span, did_you_mean, nearest,
    spanned::{Opt, Spanned},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Makes a plan. If the report has diagnostics, the plan must not run.
pub(crate) fn check(file: File, tree: &Node, report: &mut Report) -> Option<Plan> {
    let zone = given(&file.zone).map(|zone| zone.0);
    let cluster_protocols = cluster_protocols(file.listeners.as_ref());
    let cluster_probes = cluster_probes(&cluster_protocols);
    Check {
        tree,
        report,
        taken: Vec::new(),
        zone,
        cluster_probes,
        cluster_protocols,
        poolings: BTreeMap::new(),
        pooled: BTreeSet::new(),
        failovers: BTreeMap::new(),
        followed: BTreeSet::new(),
    }
    .file(file)
}

struct Check<'a> {
    tree: &'a Node,
    report: &'a mut Report,
    /// The addresses in use, and their users.
    taken: Vec<(SocketAddr, String)>,
    /// The proxy's own zone.
    zone: Option<Arc<str>>,
    /// The probes of each cluster by the protocols of its listeners.
    cluster_probes: BTreeMap<String, Vec<Arc<dyn UncheckedProbe>>>,
    /// What the listeners of each cluster speak.
    cluster_protocols: BTreeMap<String, Vec<ProtocolConfig>>,
    /// How connections to clusters are kept.
    poolings: BTreeMap<Arc<str>, Pooling>,
    /// The clusters with connections that operations share.
    pooled: BTreeSet<String>,
    /// What happens when an endpoint of a cluster fails.
    failovers: BTreeMap<Arc<str>, FailoverPlan>,
    /// The clusters with a `replica_set`.
    followed: BTreeSet<String>,
}

impl Check<'_> {
    fn file(&mut self, file: File) -> Option<Plan> {
        let admin = self.admin(file.admin);
        let max_connections = or(file.max_connections, InRange(10_000)).0;

        let scope = scope(file.listeners.as_ref());
        let (at, hint) = (self.tree.at, "a config has at least `listeners` and `clusters`");
        let listeners = self.need("listeners", at, hint, file.listeners);
        let clusters = self.need("clusters", at, hint, file.clusters);
        let names = clusters.as_ref().map(cluster_names);
        let clusters = clusters.map(|clusters| self.clusters(clusters));
        let listeners =
            listeners.map(|listeners| self.listeners(listeners, names.as_deref(), max_connections));

        let (listeners, connection_limits): (Option<Vec<_>>, _) = listeners.unzip();
        let connection_limits = connection_limits.unwrap_or_default();
        if let (Some(listeners), Some(clusters)) = (&listeners, &clusters) {
            self.listener_loops(listeners, clusters);
        }

        let policies = file.policies.map(|list| Policies::new(self, &scope).list(list));

        let drain_timeout = or(file.drain_timeout, 30 * SECOND);
        let Workers(workers) = or(file.workers, Workers(None));
        Some(Plan {
            admin,
            workers: workers.or(thread::available_parallelism().ok().map(Into::into)).unwrap_or(1),
            max_connections,
            drain_wait: or(file.drain.and_then(|it| it.value).and_then(|it| it.wait), None),
            drain_timeout,
            drain_spread: given(&file.drain_spread).map_or(drain_timeout / 2, |it| it.0),
            watch: file.watch.and_then(|watch| watch.value).unwrap_or(false),
            max_series: number(file.max_series, 1000),
            zone: self.zone.clone(),
            policies: policies.unwrap_or_default(),
            access_log: file.access_log.map(|log| self.access_log(log)),
            upgrade_socket: file.upgrade_socket.and_then(|path| self.socket_path(path)),
            event_log: file.event_log.and_then(|log| self.event_log(log)),
            tracing: self.tracing(file.tracing),
            pooling: std::mem::take(&mut self.poolings),
            listeners: listeners?,
            connection_limits,
            clusters: clusters?,
        })
    }

    fn clusters(&mut self, clusters: Spanned<NamedMap<ClusterConfig>>) -> Vec<Arc<ClusterPlan>> {
        let Some(NamedMap(entries)) = clusters.value else { return Vec::new() };
        let mut plans = Vec::new();
        for (name, cluster) in entries {
            let at = name.at;
            let name = self.name("cluster", name);
            let Some(cluster) = cluster.value else { continue };
            let (plan, files) = recording(|| self.cluster(&name, at, cluster));
            let source = self.source(&["clusters", &name], &[], files);
            plans.extend(plan.map(|plan| Arc::new(ClusterPlan { source, ..plan })));
        }
        plans
    }

    /// The source of an object that reads these files, without these keys.
    fn source(&self, path: &[&str], without: &[&str], files: FilesRead) -> ObjectSource {
        let Some(node) = self.tree.descend(path) else { return ObjectSource::default() };
        let node = without.iter().fold(node.clone(), |node, key| node.without(key));
        ObjectSource::new(&node, files)
    }

    fn access_log(&mut self, log: Spanned<AccessLog>) -> AccessLogPlan {
        let mut plan =
            AccessLogPlan { path: "/dev/stdout".into(), slower_than: None, values: false };
        let Some(log) = log.value else { return plan };
        if let Some(path) = log.path.and_then(|path| self.log(path)) {
            plan.path = path;
        }
        plan.slower_than = given(&log.slower_than).map(|it| it.0);
        plan.values = log.values.and_then(|values| values.value).unwrap_or(false);
        plan
    }

    fn event_log(&mut self, log: Spanned<EventLog>) -> Option<PathBuf> {
        match log.value?.path {
            Some(path) => self.log(path),
            None => Some("/dev/stdout".into()),
        }
    }

    /// The value of a required key; `at` is where it is missing.
    fn need<T>(&mut self, key: &str, at: Span, hint: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.report.add(at, format!("the key `{key}` is missing"), hint);
        }
        value
    }

    fn name(&mut self, what: &str, name: Spanned<String>) -> String {
        let text = name.value.unwrap_or_default();
        if !is_name(&text) {
            self.report.add(name.at, format!("`{text}` can't be the name of a {what}"), NAME_HINT);
        }
        text
    }

    fn refers_to(&mut self, cluster: &Spanned<String>, known: Option<&[String]>) {
        let (Some(name), Some(known)) = (&cluster.value, known) else { return };
        if known.contains(name) {
            return;
        }
        let near = did_you_mean(nearest(name, known.iter().map(String::as_str)));
        let hint = match known {
            [] => "there is none yet: write one under `clusters`".to_owned(),
            _ => format!("the clusters here: {}", known.join(", ")),
        };
        self.report.add(cluster.at, format!("there is no cluster `{name}`{near}"), hint);
    }
}

fn cluster_names(clusters: &Spanned<NamedMap<ClusterConfig>>) -> Vec<String> {
    let entries = clusters.value.iter().flat_map(|NamedMap(entries)| entries);
    entries.filter_map(|(name, _)| name.value.clone()).collect()
}

/// The value, if it is set and valid.
fn given<T: Clone>(value: &Opt<T>) -> Option<T> {
    value.as_ref().and_then(|located| located.value.as_ref()).map(|text| text.0.clone())
}

fn or<T: Clone>(value: Opt<T>, default: T) -> T {
    given(&value).unwrap_or(default)
}

/// The number, if it is set and valid, in the type of its default, which fits its bounds.
fn number<T: TryFrom<usize>, const MIN: usize, const MAX: usize>(
    value: Opt<InRange<MIN, MAX>>,
    default: T,
) -> T {
    given(&value).and_then(|number| number.0.try_into().ok()).unwrap_or(default)
}

/// The scope of policies.
fn scope(listeners: Option<&Spanned<NamedMap<Listener>>>) -> Scope {
    let entries = listeners.and_then(|it| it.value.as_ref()).map(|NamedMap(entries)| entries);
    let scopes = entries.into_iter().flatten().filter_map(|(name, listener)| {
        let listener = listener.value.as_ref();
        let own = listener.is_some_and(|it| it.cluster.is_some());
        let written = listener.and_then(|it| it.protocol.as_ref()?.value.as_deref());
        let (protocol, resources) =
            (written.map(ProtocolSettings::describe), written.and_then(|it| it.route_names(own)));
        Some(ListenerScope { name: name.value.as_deref()?.into(), protocol, resources })
    });
    Scope::new(scopes.collect())
}

/// What the listeners of each cluster speak.
fn cluster_protocols(
    listeners: Option<&Spanned<NamedMap<Listener>>>,
) -> BTreeMap<String, Vec<ProtocolConfig>> {
    let mut cluster_protocols: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let entries = listeners.and_then(|it| it.value.as_ref()).map(|NamedMap(entries)| entries);
    for listener in entries.into_iter().flatten().filter_map(|(_, it)| it.value.as_ref()) {
        let protocol = listener.protocol.as_ref().and_then(|it| it.value.as_ref());
        let Some(protocol) = protocol else { continue };
        let cluster = listener.cluster.as_ref().and_then(|it| it.value.clone());
        let named = protocol.clusters().into_iter().map(|(_, name)| name);
        for cluster in cluster.into_iter().chain(named) {
            cluster_protocols.entry(cluster).or_default().push(protocol.clone());
        }
    }
    cluster_protocols
}

/// The probes of each cluster by the protocols of its listeners, one per protocol.
fn cluster_probes(
    cluster_protocols: &BTreeMap<String, Vec<ProtocolConfig>>,
) -> BTreeMap<String, Vec<Arc<dyn UncheckedProbe>>> {
    let probes = |protocols: &Vec<ProtocolConfig>| {
        let mut probes: Vec<Arc<dyn UncheckedProbe>> = Vec::new();
        for probe in protocols.iter().map(|protocol| protocol.fallback_probe()) {
            if probes.iter().all(|known| known.name() != probe.name()) {
                probes.push(probe);
            }
        }
        probes
    };
    let clusters = cluster_protocols.iter();
    clusters.map(|(cluster, protocols)| (cluster.clone(), probes(protocols))).collect()
}
