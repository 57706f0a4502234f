//! Makes the listeners of a plan: their sockets, and what a reload of the config keeps of them.

use super::{
    clusters::Clusters,
    shared::{Inboxes, Running, RunningListener, RunningSocket, SharedState},
};
use crate::{
    handover,
    listener::{self, Listener, ListenerState},
    worker::Message,
};
use anyhow::Context;
use config::plan::{ConnectionLimits, ListenerPlan, Plan};
use policy::series::CardinalityLimit;
use rustix::process::{Resource, getrlimit};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use tollgate_metrics::{Metrics, table as names};

/// The sockets of listeners, by the names of these.
pub(super) type Sockets = BTreeMap<Arc<str>, RunningSocket>;

/// Opens the socket of each listener of a plan, or takes over the previous process's.
///
/// # Errors
/// A listener can't listen on its address.
pub(super) fn open_sockets(
    plan: &Plan,
    inherited: &mut handover::Sockets,
) -> anyhow::Result<Sockets> {
    let open = |listener: &Arc<ListenerPlan>| {
        let bind = |address| listener::bind(address, listener.tcp_user_timeout);
        let socket = inherited.listener(listener.address, bind);
        Ok((Arc::clone(&listener.name), prepared(listener, socket)?))
    };
    plan.listeners.iter().map(open).collect()
}

/// Opens the sockets of listeners that nothing listens for so far. A listener keeps its socket, and another one
/// with its address takes it over.
///
/// # Errors
/// A listener can't listen on its address.
pub(super) fn open_new_sockets(plan: &Plan, running: &Running) -> anyhow::Result<Sockets> {
    let open = |listener: &Arc<ListenerPlan>| {
        let has_address = |it: &&RunningListener| it.listener.plan.address == listener.address;
        let known = running.listener(&listener.name).filter(has_address);
        if let Some(known) = known {
            return Ok((Arc::clone(&listener.name), known.socket.clone()));
        }
        let other = running.listeners.iter().find(has_address);
        let socket = match other.filter(|_| listener.address.port() != 0) {
            Some(other) => other.socket.moved().with_context(|| cant_listen(listener))?,
            None => {
                let bound = listener::bind(listener.address, listener.tcp_user_timeout);
                prepared(listener, bound)?
            }
        };
        Ok((Arc::clone(&listener.name), socket))
    };
    plan.listeners.iter().map(open).collect()
}

fn prepared(
    listener: &ListenerPlan,
    socket: io::Result<std::net::TcpListener>,
) -> anyhow::Result<RunningSocket> {
    let prepared = socket.and_then(|socket| {
        listener::prepare((&socket).into(), listener.tcp_user_timeout)?;
        RunningSocket::new(socket)
    });
    prepared.with_context(|| cant_listen(listener))
}

fn cant_listen(listener: &ListenerPlan) -> String {
    format!("listener `{}` can't listen on {}", listener.name, listener.address)
}

/// The listeners of a plan with their sockets. Those of `running` with the same plan are the same objects.
///
/// # Errors
/// A socket has no address.
pub(super) fn make_listeners(
    plan: &Plan,
    sockets: &Sockets,
    clusters: &Clusters,
    running: Option<&Running>,
    metrics: &Metrics,
) -> anyhow::Result<Vec<RunningListener>> {
    let make = |listener: &Arc<ListenerPlan>| {
        let socket = sockets.get(&listener.name).cloned();
        let socket = socket.with_context(|| cant_listen(listener))?;
        let known = running.and_then(|running| running.listener(&listener.name));
        let is_same = |it: &&RunningListener| Arc::ptr_eq(&it.listener.plan, listener);
        if let Some(known) = known.filter(is_same) {
            return Ok(RunningListener { listener: Arc::clone(&known.listener), socket });
        }
        let new = || {
            let cardinality = cardinality(listener, plan.max_series, metrics);
            ListenerState::new(listener, plan.workers, cardinality)
        };
        let state = known.map_or_else(new, |known| Arc::clone(known.listener.state()));
        let cluster = listener.cluster.as_ref().and_then(|name| clusters.get(name));
        let pooled = cluster.zip(listener.protocol.pool_handshake());
        let pooled = pooled.map(|(cluster, handshake)| cluster.add_listener(handshake));
        let listener = Listener::new(Arc::clone(listener), socket.address, state, pooled);
        anyhow::Ok(RunningListener { listener, socket })
    };
    plan.listeners.iter().map(make).collect()
}

/// Logs where a listener listens.
pub(super) fn log_listening(listener: &Listener) {
    let (plan, address) = (&listener.plan, listener.address);
    tracing::info!(
        listener = &*plan.name,
        protocol = plan.protocol.name(),
        clusters = plan.clusters().join(","),
        %address,
        "listening"
    );
}

/// Limits of distinct series and of distinct call sites for one listener.
fn cardinality(
    plan: &ListenerPlan,
    max_series: usize,
    metrics: &Metrics,
) -> [Arc<CardinalityLimit>; 2] {
    [(); 2].map(|()| {
        let capped = metrics.counter(names::SERIES_CAPPED_TOTAL, &[("listener", &plan.name)]);
        Arc::new(CardinalityLimit::new(max_series, capped))
    })
}

/// Sets the limits of connections as the plan says. Of listeners that are `gone` nothing is reserved.
pub(super) fn set_connection_limits(
    shared: &SharedState,
    running: &Running,
    gone: &[RunningListener],
) {
    let plan = &running.plan;
    let limits = |it: &RunningListener| {
        let all = ConnectionLimits { max: plan.max_connections, reserved: 0 };
        plan.connection_limits.get(&it.listener.plan.name).copied().unwrap_or(all)
    };
    for it in &running.listeners {
        it.listener.state().max_connections.store(limits(it).max, Relaxed);
    }
    let gone = gone.iter().map(|it| (&it.listener.state().share, 0));
    let now = running.listeners.iter();
    let now = now.map(|it| (&it.listener.state().share, limits(it).reserved));
    shared.budget.set_limits(plan.max_connections, shared.fit, gone.chain(now));
}

/// Warns if there are too few descriptors for as many connections as a plan allows.
pub(super) fn warn_of_descriptors(plan: &Plan, fit: usize) {
    let limits = plan.connection_limits.values().map(|limits| limits.max);
    let wanted = plan.max_connections.min(limits.fold(0, usize::saturating_add));
    if fit < wanted {
        tracing::warn!(
            max_connections = wanted,
            fit,
            descriptors = getrlimit(Resource::Nofile).current,
            "file descriptors suffice for fewer connections than max_connections, since each takes \
             two: raise their limit (ulimit -n, LimitNOFILE=) or lower max_connections"
        );
    }
}

/// Verifies the clients of a listener again when the rules for their certificates change.
pub(super) fn watch_client_rules(listener: &ListenerPlan, inboxes: &Inboxes) {
    let Some(tls) = &listener.tls else { return };
    let (inboxes, server) = (Arc::clone(inboxes), Arc::downgrade(tls));
    tls.on_rules_change(move || {
        let Some(server) = server.upgrade() else { return };
        for inbox in inboxes.iter() {
            // A worker that has ended has no connections.
            let _ = inbox.send(Message::ClientRulesChanged(Arc::clone(&server)));
        }
    });
}

/// A function that makes every worker check its connections.
pub(super) fn notifier(inboxes: &Inboxes) -> impl Fn() + Send + Sync + 'static {
    let inboxes = Arc::clone(inboxes);
    move || {
        for inbox in inboxes.iter() {
            // A worker that has ended has no connections.
            let _ = inbox.send(Message::EndpointsChanged);
        }
    }
}

impl SharedState {
    /// The entries of all listeners in the admin interface.
    pub(super) fn listeners_report(&self) -> serde_json::Value {
        self.running().listeners.iter().map(|it| it.listener.report()).collect()
    }
}

impl Running {
    /// The listener with this name.
    pub(super) fn listener(&self, name: &str) -> Option<&RunningListener> {
        self.listeners.iter().find(|it| *it.listener.plan.name == *name)
    }
}
