//! Hints of `tollgate check` on valid configs, printed beside `ok`.

mod preface;
mod tls;

use super::{
    listener_loop::listener_loops,
    plan::{ListenerPlan, Plan},
};
use cluster::ClusterPlan;
use policy::Rule;
use std::{path::PathBuf, sync::Arc};
use values::{Target, nearest};

/// The hints, one line each: the subject, and what to do.
pub fn hints(plan: &Plan) -> Vec<String> {
    let mut hints = Vec::new();
    hints.extend(open_admin(plan));
    for listener in &plan.listeners {
        hints.extend(unlimited(plan, listener));
        hints.extend(more_than_all(plan, listener));
        hints.extend(several_members(plan, listener));
        hints.extend(unknown_members(plan, listener));
        hints.extend(preface::missing_certificates(listener));
    }
    let loops = listener_loops(&plan.listeners, &plan.clusters);
    let unsure = loops.into_iter().filter(|listener_loop| !listener_loop.unconditional);
    hints.extend(unsure.map(|listener_loop| {
        format!(
            "listener {listener_loop}: let its route make another request of it, or leave it out"
        )
    }));
    hints.extend(tls::tls_hints(plan));
    hints.extend(unused_clusters(plan));
    hints.extend(missing_folders(plan));
    for rule in &plan.policies {
        hints.extend(leaves_unnamed(plan, rule));
        hints.extend(database_alone(plan, rule));
        hints.extend(preface::missing_attributes(plan, rule));
        hints.extend(routes_nothing(plan, rule));
        hints.extend(rule.config.hint().map(|hint| format!("policy `{}`: {hint}", rule.name)));
    }
    hints
}

/// A listener on all interfaces without a limit on its clients.
fn unlimited(plan: &Plan, listener: &ListenerPlan) -> Option<String> {
    let ListenerPlan { name, address, protocol, .. } = listener;
    let max_connections = max_connections(plan, listener);
    let bounded = plan.policies.iter().any(|rule| {
        let holds = rule.enabled && !rule.dry_run && rule.config.limits_clients();
        holds && rule.matching.may_apply(name, protocol.name())
    });
    let open = address.ip().is_unspecified() && max_connections >= plan.max_connections;
    (open && !bounded).then(|| {
        format!(
            "listener `{name}`: {address} is every interface, and nothing limits a client there: \
             add `connection_limit: {{ max: 100, key: [peer/64] }}`, or see \
             docs/facing-strangers.md"
        )
    })
}

/// The most connections of a listener.
fn max_connections(plan: &Plan, listener: &ListenerPlan) -> usize {
    plan.connection_limits.get(&listener.name).map_or(plan.max_connections, |limits| limits.max)
}

/// A limit of a listener that is beyond the whole proxy's.
fn more_than_all(plan: &Plan, listener: &ListenerPlan) -> Option<String> {
    let (own, all) = (max_connections(plan, listener), plan.max_connections);
    let name = &listener.name;
    (own > all).then(|| {
        format!(
            "listener `{name}`: it never has {own} connections, since the whole proxy has at \
             most {all}: raise the proxy's `max_connections`"
        )
    })
}

/// An admin interface that is reachable from other machines.
fn open_admin(plan: &Plan) -> Option<String> {
    let admin = plan.admin.as_ref()?;
    let clients = admin.tls.as_ref().and_then(|tls| tls.plan().client_certificates.as_ref());
    if clients.is_some_and(|clients| clients.required) {
        return None;
    }
    let address = admin.address;
    let port = address.port();
    address.ip().is_unspecified().then(|| {
        format!(
            "admin: {address} is every interface: every host that reaches it can read the \
             config, the metrics and the clients; write `127.0.0.1:{port}`, or see \
             docs/facing-strangers.md"
        )
    })
}

/// Several servers behind a name that clients take as one: each has its own state.
fn several_members(plan: &Plan, listener: &ListenerPlan) -> Option<String> {
    let advice = listener.protocol.several_servers()?;
    let named = |cluster: &&Arc<ClusterPlan>| listener.cluster.as_ref() == Some(&cluster.name);
    let cluster = plan.clusters.iter().find(named)?;
    let srv = cluster.endpoints.iter().any(|it| matches!(it.at, Target::Srv(_)));
    let several = cluster.endpoints.len() > 1 || srv || cluster.endpoints_file.is_some();
    let check = cluster.health_check.as_ref();
    let one_at_a_time = check.is_some_and(|check| check.probe.wants_the_primary());
    let pins = cluster.pool.is_some();
    if !several || one_at_a_time || pins || cluster.lb_policy.picks_by_key() {
        return None;
    }
    let (name, cluster) = (&listener.name, &cluster.name);
    Some(format!("listener `{name}`: `{cluster}` may have several servers, and {advice}"))
}

/// A member of a replica set that no cluster has, although one has a similar name.
fn unknown_members(plan: &Plan, listener: &ListenerPlan) -> Vec<String> {
    let endpoints = plan.clusters.iter().flat_map(|cluster| &cluster.endpoints);
    let known: Vec<String> = endpoints.map(|endpoint| endpoint.at.to_string()).collect();
    let strange = listener.protocol.members().into_iter().filter(|it| !known.contains(it));
    let hint = |member: String| {
        let near = nearest(&member, known.iter().map(String::as_str))?;
        Some(format!(
            "listener `{}`: no cluster has the member `{member}`, did you mean `{near}`? Use the \
             name that the member has in the replica set's config",
            listener.name
        ))
    };
    strange.filter_map(hint).collect()
}

/// Clusters that no listener uses.
fn unused_clusters(plan: &Plan) -> Vec<String> {
    let used: Vec<_> = plan.listeners.iter().flat_map(|listener| listener.clusters()).collect();
    let unused = plan.clusters.iter().filter(|cluster| !used.contains(&cluster.name));
    unused
        .map(|cluster| format!("cluster `{}`: no listener leads to it: leave it out", cluster.name))
        .collect()
}

/// Logs in folders that do not exist, at least on this machine.
fn missing_folders(plan: &Plan) -> Vec<String> {
    let logs = [
        ("access_log", plan.access_log.as_ref().map(|log| &log.path)),
        ("event_log", plan.event_log.as_ref()),
    ];
    let folder = |path: &PathBuf| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty())?;
        (!folder.exists()).then(|| folder.to_owned())
    };
    let missing = logs.into_iter().filter_map(|(key, path)| Some((key, folder(path?)?)));
    missing
        .map(|(key, folder)| {
            let folder = folder.display();
            format!(
                "{key}: there is no folder `{folder}` here, and `run` makes none: make it first"
            )
        })
        .collect()
}

/// A policy that routes reads, of which no listener takes connections of a pool.
fn routes_nothing(plan: &Plan, rule: &Rule) -> Option<String> {
    let pools = |listener: &&Arc<ListenerPlan>| {
        let own = |cluster: &&Arc<ClusterPlan>| listener.cluster.as_ref() == Some(&cluster.name);
        let cluster = plan.clusters.iter().find(own);
        rule.matching.may_apply(&listener.name, listener.protocol.name())
            && cluster.is_some_and(|cluster| cluster.pool.is_some())
    };
    let routes = rule.config.routes_reads() && !plan.listeners.iter().any(|it| pools(&it));
    routes.then(|| {
        format!(
            "policy `{}`: it routes nothing: no listener that it is about has a cluster with a `pool`; add \
             `pool: {{}}`, and `replica_set` or several mongos",
            rule.name
        )
    })
}

/// A resource that is only a database, where a collection was probably meant.
fn database_alone(plan: &Plan, rule: &Rule) -> Option<String> {
    let applies = |listener: &&Arc<ListenerPlan>| {
        rule.matching.may_apply(&listener.name, listener.protocol.name())
    };
    let mut reached = plan.listeners.iter().filter(applies).peekable();
    reached.peek()?;
    if !reached.all(|listener| listener.protocol.several_servers().is_some()) {
        return None;
    }
    let globs = match &rule.matching.to_json()["resource"] {
        serde_json::Value::Array(globs) => globs.clone(),
        one => vec![one.clone()],
    };
    let globs: Vec<&str> = globs.iter().filter_map(|glob| glob.as_str()).collect();
    let alone = |glob: &&&str| {
        let whole = format!("{glob}.");
        let named = !glob.is_empty() && !glob.contains(['.', '*', '?']);
        named && !globs.iter().any(|other| other.starts_with(&whole))
    };
    let name = globs.iter().find(alone)?;
    Some(format!(
        "policy `{}`: the resource `{name}` is a database by itself, as `dropDatabase` has it: its \
         collections are `{name}.*`, and a collection of that name is `*.{name}`",
        rule.name
    ))
}

/// A list of denied operations without the unknown ones: a service may have another name for one of
/// the list.
fn leaves_unnamed(plan: &Plan, rule: &Rule) -> Option<String> {
    let left_out = plan.listeners.iter().find_map(|listener| {
        let unnamed = listener.protocol.describe().unknown_operation;
        let applies = rule.matching.may_apply(&listener.name, listener.protocol.name());
        let left = applies && !unnamed.is_empty() && rule.matching.excludes_by_name(unnamed);
        left.then_some(unnamed)
    });
    let unnamed = left_out.filter(|_| rule.enabled && rule.config.rejects_all())?;
    Some(format!(
        "policy `{}`: operations that are not known by name are called `{unnamed}`, and pass: add \
         `{unnamed}` to `operation`, or deny all but what is allowed (`not: {{ operation: […] }}`)",
        rule.name
    ))
}
