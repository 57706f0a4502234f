//! Hints about certificates, and about connections that are less protected than they seem.

use crate::plan::{ListenerPlan, Plan};
use std::time::SystemTime;

/// The hints about TLS, one line each.
pub(super) fn tls_hints(plan: &Plan) -> Vec<String> {
    let now = SystemTime::now();
    let mut hints = Vec::new();
    for listener in &plan.listeners {
        hints.extend(certificates(listener, now));
        hints.extend(advertised_names(listener));
        hints.extend(unread_connections(plan, listener));
    }
    if let Some(tls) = plan.admin.as_ref().and_then(|admin| admin.tls.as_ref()) {
        let warnings = tls.identities().into_iter().flat_map(|identity| identity.warnings(now));
        hints.extend(warnings.map(|warning| format!("admin: {warning}")));
    }
    let clusters = plan.clusters.iter();
    let clusters =
        clusters.filter_map(|it| Some((format!("cluster `{}`", it.name), it.tls.as_ref()?)));
    let policies = plan.policies.iter();
    let policies =
        policies.filter_map(|it| Some((format!("policy `{}`", it.name), it.config.tls()?)));
    for (owner, tls) in clusters.chain(policies) {
        let warnings = tls.identity().map(|it| it.warnings(now)).unwrap_or_default();
        hints.extend(warnings.into_iter().map(|warning| format!("{owner}: {warning}")));
        if !tls.plan().verify {
            hints.push(format!(
                "{owner}: certificates are not verified (`verify: false`), so a host on the \
                 way can read and change all data: name the authority instead, `ca: FILE`"
            ));
        }
    }
    hints
}

/// Certificates that clients refuse, or that cost too much.
fn certificates(listener: &ListenerPlan, now: SystemTime) -> Vec<String> {
    let Some(tls) = &listener.tls else { return Vec::new() };
    let warnings = tls.identities().into_iter().flat_map(|identity| identity.warnings(now));
    warnings.map(|warning| format!("listener `{}`: {warning}", listener.name)).collect()
}

/// Names that the protocol hands to clients, which verify them, and that no certificate has.
fn advertised_names(listener: &ListenerPlan) -> Vec<String> {
    let Some(tls) = &listener.tls else { return Vec::new() };
    let identities = tls.identities();
    let is_known = |host: &str| identities.iter().any(|identity| identity.info.is_for(host));
    let host = |address: &str| {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        host.trim_matches(['[', ']']).to_owned()
    };
    let unknown = listener.protocol.advertised().into_iter().map(|address| host(&address));
    let unknown = unknown.filter(|host| !is_known(host));
    unknown
        .map(|host| {
            format!(
                "listener `{}`: clients are given the address `{host}` and verify it, and no \
                 certificate of the listener has this name: issue one that has",
                listener.name
            )
        })
        .collect()
}

/// A listener that passes bytes on unread to a cluster whose protocol gives clients other addresses.
fn unread_connections(plan: &Plan, listener: &ListenerPlan) -> Option<String> {
    if !listener.protocol.describe().stream {
        return None;
    }
    let cluster = listener.cluster.as_ref()?;
    let reader = plan.listeners.iter().find(|other| {
        other.cluster.as_ref() == Some(cluster) && other.protocol.several_servers().is_some()
    })?;
    Some(format!(
        "listener `{}`: it does not read what `{}` reads of the same cluster `{cluster}`, so its clients \
         get the servers' own addresses and leave the proxy: let it have `protocol: {}`",
        listener.name,
        reader.name,
        reader.protocol.name(),
    ))
}
