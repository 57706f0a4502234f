//! Checks a config and makes a plan of it: fills in defaults, follows references, and reports all
//! diagnostics.

mod admin;
mod cluster;
mod endpoints;
mod files;
mod health;
mod matching;
mod policies;
mod reserved;
mod rest;

use super::{
    file::{AccessLog, ClusterConfig, EndpointConfig, EventLog, File, Listener},
    listener_loop::{ListenerLoop, listener_loops},
    plan::{ListenerPlan, Plan, UpstreamConnectMode},
    report::Report,
    scope::{ListenerScope, Scope},
};
use crate::policy::access_log::AccessLogPlan;
use ::cluster::ClusterPlan;
pub(crate) use endpoints::{Listed, endpoints};
use health::slow_start;
pub(crate) use policies::Policies;
use protocols::{ListenerProtocol, Pooling, ProtocolSettings, UncheckedProbe, UnfitCluster};
use session::Timeouts;
use std::{
    collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration,
};
use values::{InRange, NAME_HINT, Node, OrOff, Size, Workers, is_name};
use values::{
    NamedMap, Span, did_you_mean, nearest,
    spanned::{Opt, Spanned},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Makes a plan. If the report has diagnostics, the plan must not run.
pub(crate) fn check(file: File, tree: &Node, report: &mut Report) -> Option<Plan> {
    let zone = given(&file.zone).map(|zone| zone.0);
    let cluster_probes = cluster_probes(file.listeners.as_ref());
    Check { tree, report, taken: Vec::new(), zone, cluster_probes, poolings: BTreeMap::new() }
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
    /// How connections to clusters are kept.
    poolings: BTreeMap<Arc<str>, Pooling>,
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

        if let (Some(listeners), Some(clusters)) = (&listeners, &clusters) {
            self.listener_loops(listeners, clusters);
        }

        let policies = file.policies.map(|list| Policies::new(self, &scope).list(list));

        let Workers(workers) = or(file.workers, Workers(None));
        Some(Plan {
            admin,
            workers: workers.or(thread::available_parallelism().ok().map(Into::into)).unwrap_or(1),
            max_connections,
            drain_wait: or(file.drain.and_then(|it| it.value).and_then(|it| it.wait), None),
            drain_timeout: or(file.drain_timeout, 30 * SECOND),
            max_series: number(file.max_series, 1000),
            zone: self.zone.clone(),
            policies: policies.unwrap_or_default(),
            access_log: file.access_log.map(|log| self.access_log(log)),
            event_log: file.event_log.and_then(|log| self.event_log(log)),
            pooling: std::mem::take(&mut self.poolings),
            listeners: listeners?,
            clusters: clusters?,
        })
    }

    fn listeners(
        &mut self,
        Spanned { at, value }: Spanned<NamedMap<Listener>>,
        clusters: Option<&[String]>,
        max_connections: usize,
    ) -> Vec<Arc<ListenerPlan>> {
        let Some(NamedMap(entries)) = value else { return Vec::new() };
        if entries.is_empty() {
            let hint = "name one: `db: { address: …, protocol: …, cluster: … }`";
            self.report.add(at, "there is no listener", hint);
        }
        let mut plans = Vec::new();
        for (name, listener) in entries {
            let at = name.at;
            let name = self.name("listener", name);
            let Some(mut listener) = listener.value else { continue };
            let reserved = listener.reserved_connections.take();
            let plan = self.listener(&name, at, listener, clusters, max_connections);
            plans.extend(plan.map(|plan| (plan, reserved)));
        }
        self.reserve(&mut plans, max_connections);
        plans.into_iter().map(|(plan, _)| Arc::new(plan)).collect()
    }

    fn listener(
        &mut self,
        name: &str,
        at: Span,
        mut listener: Listener,
        clusters: Option<&[String]>,
        max_connections: usize,
    ) -> Option<ListenerPlan> {
        let hint = "write where clients connect: `address: 127.0.0.1:27017`";
        let address = self.need("address", at, hint, listener.address.take());
        if let Some(Spanned { at, value: Some(text) }) = &address {
            self.take(text.0, format!("the listener `{name}`"), *at);
        }
        let hint = format!("write what clients speak: {}", protocols::NAMES.join(" or "));
        let protocol = self.need("protocol", at, &hint, listener.protocol.take());
        let unreadable = protocol.as_ref().is_some_and(|written| written.value.is_none());
        if let Some(rest) = protocol.as_ref().and_then(|written| written.rest.as_ref()) {
            self.rest(name, &**rest, clusters);
        }
        let written = protocol.and_then(|written| written.value);
        let written = written.as_deref();
        let named = written.map(ProtocolSettings::clusters).unwrap_or_default();
        for (path, cluster) in &named {
            let at = self.in_protocol(name, path);
            self.refers_to(&Spanned { at, value: Some(cluster.clone()) }, clusters);
        }
        let hint = "write the name of one of the `clusters`";
        let routed = written.is_some_and(ProtocolSettings::has_routes);
        let cluster = match !routed && !unreadable {
            true => self.need("cluster", at, hint, listener.cluster.take()),
            false => listener.cluster.take(),
        };
        if let Some(cluster) = &cluster {
            self.refers_to(cluster, clusters);
        }
        let own = cluster.as_ref().and_then(|it| it.value.as_deref());
        let unfit = written.map(|written| written.unfit_clusters(own, &self.poolings));
        for UnfitCluster { path, message, hint } in unfit.unwrap_or_default() {
            let own = cluster.as_ref().map_or(at, |it| it.at);
            let at = path.map_or(own, |path| self.in_protocol(name, &path));
            self.report.add(at, message, hint);
        }
        let given = cluster.is_some();
        let cluster = cluster.and_then(|it| it.value);
        let protocol = written.and_then(|it| self.protocol(name, it, cluster.as_deref()));
        if given || !routed {
            cluster.as_ref()?;
        }
        let plan = ListenerPlan::new(name, address?.value?.0, protocol?, "");
        let plan = self.limits(plan, &listener);
        let upstream_connect_mode =
            self.connect_mode(&*plan.protocol, listener.upstream_connect_mode);
        Some(ListenerPlan {
            upstream_connect_mode,
            cluster: cluster.map(Into::into),
            max_connections: or(listener.max_connections, InRange(max_connections)).0,
            max_held_bytes: or(listener.max_held_bytes, Size(plan.max_held_bytes as u64))
                .0
                .try_into()
                .unwrap_or(usize::MAX),
            on_violation: or(listener.on_violation, plan.on_violation),
            ..plan
        })
    }

    /// The timeouts of a listener.
    fn limits(&mut self, plan: ListenerPlan, listener: &Listener) -> ListenerPlan {
        let default = default_user_timeout(plan.tcp_user_timeout, &listener.write_timeout);
        let tcp_user_timeout = self.user_timeout(listener.tcp_user_timeout.clone(), default);
        let usual = &plan.timeouts;
        let timeouts = Timeouts {
            idle: given(&listener.idle_timeout).unwrap_or(usual.idle),
            max_duration: given(&listener.max_connection_duration).unwrap_or(usual.max_duration),
            first_byte: given(&listener.first_byte_timeout).unwrap_or(usual.first_byte),
            handshake: given(&listener.handshake_timeout).unwrap_or(usual.handshake),
            message: given(&listener.message_timeout).unwrap_or(usual.message),
            half_close: given(&listener.half_close_timeout).unwrap_or(usual.half_close),
            write: given(&listener.write_timeout).unwrap_or(usual.write),
        };
        ListenerPlan { tcp_user_timeout, timeouts, ..plan }
    }

    /// When a listener connects to its upstream, if the service may speak first.
    fn connect_mode(
        &mut self,
        protocol: &dyn ListenerProtocol,
        written: Opt<UpstreamConnectMode>,
    ) -> Option<UpstreamConnectMode> {
        if !protocol.client_speaks_first() {
            return Some(or(written, UpstreamConnectMode::Immediate));
        }
        if let Some(Spanned { at, .. }) = written {
            let message =
                format!("a `{}` listener has no `upstream_connect_mode`", protocol.name());
            let hint = "leave it out: its clients send the first byte, and it is waited for";
            self.report.add(at, message, hint);
        }
        None
    }

    /// The span of a path in a listener's protocol.
    fn in_protocol(&self, listener: &str, path: &[String]) -> Span {
        let keys = ["listeners", listener, "protocol"].into_iter();
        let place: Vec<_> = keys.chain(path.iter().map(String::as_str)).collect();
        self.tree.place(&place)
    }

    fn protocol(
        &mut self,
        listener: &str,
        written: &dyn ProtocolSettings,
        cluster: Option<&str>,
    ) -> Option<Arc<dyn ListenerProtocol>> {
        match written.protocol(cluster) {
            Ok(protocol) => Some(protocol),
            Err(errors) => {
                for error in errors {
                    self.report.add_diagnostic(self.in_protocol(listener, &error.path), error);
                }
                None
            }
        }
    }

    fn clusters(&mut self, clusters: Spanned<NamedMap<ClusterConfig>>) -> Vec<Arc<ClusterPlan>> {
        let Some(NamedMap(entries)) = clusters.value else { return Vec::new() };
        let mut plans = Vec::new();
        for (name, cluster) in entries {
            let at = name.at;
            let name = self.name("cluster", name);
            let Some(cluster) = cluster.value else { continue };
            plans.extend(self.cluster(&name, at, cluster).map(Arc::new));
        }
        plans
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

    /// Reports listeners that always lead back to themselves.
    fn listener_loops(&mut self, listeners: &[Arc<ListenerPlan>], clusters: &[Arc<ClusterPlan>]) {
        for found in
            listener_loops(listeners, clusters).into_iter().filter(|found| found.unconditional)
        {
            let ListenerLoop { cluster, endpoint, .. } = &found;
            let at = ["clusters", cluster, "endpoints", &endpoint.to_string()];
            let at = self.tree.place(&at);
            let hint = "name where the service is; on this machine it needs a port of its own";
            self.report.add(at, found.to_string(), hint);
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

    /// Reserves an address, unless it is in use.
    fn take(&mut self, address: SocketAddr, who: String, at: Span) {
        if let Some((other, owner)) = self.taken.iter().find(|(other, _)| overlap(*other, address))
        {
            let message = format!("{who} can't listen on {address}: {owner} listens on {other}");
            self.report.add(at, message, "give one of them another port, or another address");
        }
        self.taken.push((address, who));
    }
}

/// Whether two sockets can't both listen. `[::]` covers IPv4 too, as in Linux.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| {
        a.ip() == b.ip() || a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4())
    };
    a.port() == b.port() && a.port() != 0 && (covers(a, b) || covers(b, a))
}

fn cluster_names(clusters: &Spanned<NamedMap<ClusterConfig>>) -> Vec<String> {
    let entries = clusters.value.iter().flat_map(|NamedMap(entries)| entries);
    entries.filter_map(|(name, _)| name.value.clone()).collect()
}

/// The value, if it is set and valid.
fn given<T: Clone>(value: &Opt<T>) -> Option<T> {
    value.as_ref().and_then(|located| located.value.as_ref()).map(|text| text.0.clone())
}

/// The default of `tcp_user_timeout`: at least a set `write_timeout`, and off with it, since a peer
/// with a closed window acknowledges nothing.
fn default_user_timeout(usual: Option<Duration>, write: &Opt<OrOff<Duration>>) -> Option<Duration> {
    match (given(write), usual) {
        (Some(write), Some(usual)) => write.map(|write| write.max(usual)),
        _ => usual,
    }
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

/// The probes of each cluster by the protocols of its listeners, one per protocol.
fn cluster_probes(
    listeners: Option<&Spanned<NamedMap<Listener>>>,
) -> BTreeMap<String, Vec<Arc<dyn UncheckedProbe>>> {
    let mut cluster_probes: BTreeMap<String, Vec<Arc<dyn UncheckedProbe>>> = BTreeMap::new();
    let entries = listeners.and_then(|it| it.value.as_ref()).map(|NamedMap(entries)| entries);
    for listener in entries.into_iter().flatten().filter_map(|(_, it)| it.value.as_ref()) {
        let protocol = listener.protocol.as_ref().and_then(|it| it.value.as_deref());
        let Some(protocol) = protocol else { continue };
        let cluster = listener.cluster.as_ref().and_then(|it| it.value.clone());
        let named = protocol.clusters().into_iter().map(|(_, name)| name);
        for cluster in cluster.into_iter().chain(named) {
            let probes = cluster_probes.entry(cluster).or_default();
            let probe = protocol.fallback_probe();
            if probes.iter().all(|known| known.name() != probe.name()) {
                probes.push(probe);
            }
        }
    }
    cluster_probes
}
