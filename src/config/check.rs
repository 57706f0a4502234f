//! From what was written to what runs: defaults filled in, references followed, and everything
//! that is wrong reported, not just the first of it.

use super::{
    ADMIN,
    address::Endpoint,
    decode::{did_you_mean, nearest},
    file::{AccessLog, Cluster, Dns, File, Given, Listener, MAX_CONNECT_ATTEMPTS, MAX_SERIES},
    located::{Located, Named},
    plan::{AccessLogPlan, ClusterPlan, EndpointPlan, LbPolicy, ListenerPlan, Plan},
    problem::{At, Report},
    value::{Count, Workers},
    yaml::Node,
};
use crate::protocols::{self, Protocol, Written};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, thread, time::Duration};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Makes a plan. If anything is wrong the report tells it, and the plan, if any, must not run.
pub(crate) fn check(file: File, tree: &Node, report: &mut Report) -> Option<Plan> {
    Check { tree, report, taken: Vec::new() }.file(file)
}

struct Check<'a> {
    tree: &'a Node,
    report: &'a mut Report,
    /// Addresses in use so far, and by whom.
    taken: Vec<(SocketAddr, String)>,
}

impl Check<'_> {
    fn file(&mut self, file: File) -> Option<Plan> {
        let admin_at = file.admin.as_ref().map_or(self.tree.at, |admin| admin.at);
        let admin = or(file.admin, ADMIN.parse().ok());
        if let Some(address) = admin {
            self.take(address, "the admin interface".to_owned(), admin_at);
        }
        let max_connections = or(file.max_connections, Count(10_000)).0;
        let max_series = self.at_most("max_series", MAX_SERIES, file.max_series, 1000);

        let (at, hint) = (self.tree.at, "a config has at least `listeners` and `clusters`");
        let listeners = self.need("listeners", at, hint, file.listeners);
        let clusters = self.need("clusters", at, hint, file.clusters);
        let names = clusters.as_ref().map(cluster_names);
        let clusters = clusters.map(|clusters| self.clusters(clusters));
        let listeners =
            listeners.map(|listeners| self.listeners(listeners, names.as_deref(), max_connections));

        let Workers(workers) = or(file.workers, Workers(None));
        Some(Plan {
            admin,
            workers: workers.or(thread::available_parallelism().ok().map(Into::into)).unwrap_or(1),
            max_connections,
            drain_timeout: or(file.drain_timeout, 30 * SECOND),
            max_series,
            access_log: file.access_log.map(|log| self.access_log(log)),
            event_log: None,
            listeners: listeners?,
            clusters: clusters?,
        })
    }

    fn listeners(
        &mut self,
        Located { at, value }: Located<Named<Listener>>,
        clusters: Option<&[String]>,
        max_connections: usize,
    ) -> Vec<Arc<ListenerPlan>> {
        let Some(Named(entries)) = value else { return Vec::new() };
        if entries.is_empty() {
            let hint = "name one: `db: { address: …, protocol: …, cluster: … }`";
            self.report.add(at, "there is no listener", hint);
        }
        let mut plans = Vec::new();
        for (name, listener) in entries {
            let at = name.at;
            let name = self.name("listener", name);
            let Some(listener) = listener.value else { continue };
            plans.extend(self.listener(&name, at, listener, clusters, max_connections));
        }
        plans.into_iter().map(Arc::new).collect()
    }

    fn listener(
        &mut self,
        name: &str,
        at: At,
        listener: Listener,
        clusters: Option<&[String]>,
        max_connections: usize,
    ) -> Option<ListenerPlan> {
        let hint = "write where clients connect: `address: 127.0.0.1:27017`";
        let address = self.need("address", at, hint, listener.address);
        if let Some(Located { at, value: Some(text) }) = &address {
            self.take(text.0, format!("the listener `{name}`"), *at);
        }
        let hint = format!("write what clients speak: {}", protocols::NAMES.join(" or "));
        let protocol = self.need("protocol", at, &hint, listener.protocol);
        let protocol = protocol.and_then(|written| self.protocol(name, written.value?));
        let hint = "write the name of one of the `clusters`";
        let cluster = self.need("cluster", at, hint, listener.cluster);
        if let Some(cluster) = &cluster {
            self.refers_to(cluster, clusters);
        }
        let plan = ListenerPlan::new(name, address?.value?.0, protocol?, &cluster?.value?);
        Some(ListenerPlan {
            max_connections: or(listener.max_connections, Count(max_connections)).0,
            idle_timeout: or(listener.idle_timeout, plan.idle_timeout),
            max_connection_duration: or(
                listener.max_connection_duration,
                plan.max_connection_duration,
            ),
            first_byte_timeout: or(listener.first_byte_timeout, plan.first_byte_timeout),
            message_timeout: or(listener.message_timeout, plan.message_timeout),
            write_timeout: or(listener.write_timeout, plan.write_timeout),
            on_violation: or(listener.on_violation, plan.on_violation),
            ..plan
        })
    }

    fn protocol(&mut self, listener: &str, written: Written) -> Option<Protocol> {
        match written.protocol() {
            Ok(protocol) => Some(protocol),
            Err(mistakes) => {
                for mistake in mistakes {
                    let mut path = vec!["listeners", listener, "protocol"];
                    path.extend(mistake.path.iter().map(String::as_str));
                    self.report.fault(self.tree.place(&path), mistake.fault);
                }
                None
            }
        }
    }

    fn clusters(&mut self, clusters: Located<Named<Cluster>>) -> Vec<Arc<ClusterPlan>> {
        let Some(Named(entries)) = clusters.value else { return Vec::new() };
        let mut plans = Vec::new();
        for (name, cluster) in entries {
            let at = name.at;
            let name = self.name("cluster", name);
            let Some(cluster) = cluster.value else { continue };
            plans.extend(self.cluster(&name, at, cluster).map(Arc::new));
        }
        plans
    }

    fn cluster(&mut self, name: &str, at: At, cluster: Cluster) -> Option<ClusterPlan> {
        let hint = "write where operations go: `endpoints: [host:port]`";
        let endpoints = self.need("endpoints", at, hint, cluster.endpoints);
        let endpoints = endpoints.map(|endpoints| self.endpoints(endpoints));
        let attempts = cluster.connect_attempts;
        let attempts = self.at_most("connect_attempts", MAX_CONNECT_ATTEMPTS, attempts, 3);
        let (dns_min_ttl, dns_max_ttl) = self.dns(cluster.dns);
        Some(ClusterPlan {
            lb_policy: or(cluster.lb_policy, LbPolicy::LeastRequest),
            connect_timeout: or(cluster.connect_timeout, SECOND),
            connect_attempts: attempts,
            dns_min_ttl,
            dns_max_ttl,
            ..ClusterPlan::new(name, endpoints?)
        })
    }

    fn endpoints(
        &mut self,
        Located { at, value }: Located<Vec<Located<Endpoint>>>,
    ) -> Vec<EndpointPlan> {
        let Some(written) = value else { return Vec::new() };
        if written.is_empty() {
            let hint = "a cluster needs one at least: `endpoints: [host:port]`";
            self.report.add(at, "there is no endpoint", hint);
        }
        let mut seen = BTreeSet::new();
        let mut endpoints = Vec::new();
        for Located { at, value } in written {
            let Some(endpoint) = value.map(|endpoint| endpoint.0) else { continue };
            let written = endpoint.at.to_string();
            if !seen.insert(written.to_ascii_lowercase()) {
                let message = format!("`{written}` is here twice");
                self.report.add(at, message, "list each endpoint once");
            }
            endpoints.push(endpoint);
        }
        endpoints
    }

    /// The shortest and the longest time between two look-ups of a name.
    fn dns(&mut self, dns: Option<Located<Dns>>) -> (Duration, Duration) {
        let (default_min, default_max) = (SECOND, 5 * MINUTE);
        let Some(Located { at, value: Some(dns) }) = dns else { return (default_min, default_max) };
        // With one bound given, the other's default gives way.
        let least = given(&dns.min_ttl);
        let most = given(&dns.max_ttl);
        let min = least.unwrap_or(default_min.min(most.unwrap_or(default_min)));
        let max = most.unwrap_or(default_max.max(min));
        if min > max {
            let at = dns.min_ttl.map_or(at, |min| min.at);
            let hint = "give the smaller one to `min_ttl`";
            self.report.add(at, "`min_ttl` is longer than `max_ttl`", hint);
        }
        (min, max)
    }

    fn access_log(&mut self, log: Located<AccessLog>) -> AccessLogPlan {
        let mut plan =
            AccessLogPlan { path: "/dev/stdout".into(), slower_than: None, values: false };
        let Some(log) = log.value else { return plan };
        if let Some(Located { at, value: Some(path) }) = log.path {
            if path.is_empty() {
                self.report.add(at, "the path is empty", "write a file, or `/dev/stdout`");
            }
            plan.path = path.into();
        }
        plan.slower_than = given(&log.slower_than);
        plan.values = log.values.and_then(|values| values.value).unwrap_or(false);
        plan
    }

    /// The value of a key that must be there; `at` is where it is missed.
    fn need<T>(&mut self, key: &str, at: At, hint: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.report.add(at, format!("the key `{key}` is missing"), hint);
        }
        value
    }

    fn at_most(&mut self, key: &str, max: usize, value: Given<Count>, default: usize) -> usize {
        let Some(Located { at, value: Some(count) }) = value else { return default };
        if count.0.0 > max {
            let message = format!("`{key}: {}` is out of range", count.0.0);
            self.report.add(at, message, format!("1 to {max}"));
        }
        count.0.0
    }

    fn name(&mut self, what: &str, name: Located<String>) -> String {
        let text = name.value.unwrap_or_default();
        let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if text.is_empty() || text.len() > 64 || text.contains(odd) {
            let hint = "1 to 64 letters, digits, `_`, `.` and `-`: names are metric labels";
            self.report.add(name.at, format!("`{text}` can't be the name of a {what}"), hint);
        }
        text
    }

    fn refers_to(&mut self, cluster: &Located<String>, known: Option<&[String]>) {
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

    /// Takes an address, unless somebody else listens there.
    fn take(&mut self, address: SocketAddr, who: String, at: At) {
        if let Some((other, owner)) = self.taken.iter().find(|(other, _)| overlap(*other, address))
        {
            let message = format!("{who} can't listen on {address}: {owner} listens on {other}");
            self.report.add(at, message, "give one of them another port, or another address");
        }
        self.taken.push((address, who));
    }
}

/// Whether two sockets can't both listen. `[::]` takes IPv4 too, as Linux has it.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| {
        a.ip() == b.ip() || a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4())
    };
    a.port() == b.port() && a.port() != 0 && (covers(a, b) || covers(b, a))
}

fn cluster_names(clusters: &Located<Named<Cluster>>) -> Vec<String> {
    let entries = clusters.value.iter().flat_map(|Named(entries)| entries);
    entries.filter_map(|(name, _)| name.value.clone()).collect()
}

/// The value that was given, if it was right.
fn given<T: Clone>(value: &Given<T>) -> Option<T> {
    value.as_ref().and_then(|located| located.value.as_ref()).map(|text| text.0.clone())
}

fn or<T: Clone>(value: Given<T>, default: T) -> T {
    given(&value).unwrap_or(default)
}
