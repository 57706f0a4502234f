//! A whole running proxy, built from a plan.

mod clusters;
mod control;
mod discovery;
mod listener_parts;

use crate::{
    admin,
    certificates::Certificates,
    handover,
    listener::{
        self, ConnectionBudget, ListenSocket, Listener, ServerNames, Upstreams, WorkerListener,
    },
    own_log,
    threads::{Started, Threads},
    worker::{self, Dispatcher, Message, QueryShapes, Sessions, Worker},
};
use anyhow::{Context, bail};
use cluster::{Cluster, PreconnectPool};
use clusters::make_clusters;
use config::{
    Scope,
    plan::{AdminPlan, ListenerPlan, Plan},
};
pub use control::Control;
use discovery::start_discovery;
use listener_parts::{gate, mirror, pool};
use policy::series::CardinalityLimit;
use policy::{Live, access_log::LineBuffer};
use process::{
    log_file::{self, Log, Sink},
    panics,
};
use protocols::Pools;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shapes::{SharedShapes, WorkerShapes};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tollgate_metrics as metrics;
use tollgate_metrics::{Metrics, table as names};

/// The error if a thread's runtime can't start.
const NO_RUNTIME: &str =
    "can't start a runtime: if descriptors ran out, raise their limit (ulimit -n, LimitNOFILE=)";

/// The fewest free descriptors with which the proxy starts.
const MIN_FREE_DESCRIPTORS: usize = 16;

/// How much longer than `drain_timeout` workers may take to end after one of them has failed.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// The time limit for writing the remaining lines of log files at the end.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(700);

/// A running proxy.
pub struct Proxy {
    control: Control,
    workers: Vec<JoinHandle<()>>,
    threads: Threads,
    background: JoinHandle<()>,
    stop_background: CancellationToken,
    logs: Vec<Log>,
    admin: Option<admin::Server>,
    listeners: Vec<Arc<Listener>>,
}

/// What all workers share.
struct SharedState {
    plan: Arc<Plan>,
    metrics: Metrics,
    listeners: Vec<Arc<Listener>>,
    clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    /// Each listener's limits of distinct series and of distinct call sites.
    cardinality_limits: Vec<(Arc<CardinalityLimit>, Arc<CardinalityLimit>)>,
    /// The configured policies in force.
    live: Arc<Live>,
    access_log: Option<Sink>,
    budget: Arc<ConnectionBudget>,
    /// Open cursors and findings, for listeners that count query shapes.
    shapes: Arc<SharedShapes>,
}

impl Proxy {
    /// Opens every listener and starts the workers.
    ///
    /// # Errors
    /// A listener, the admin interface or a log can't be opened, or a thread can't start.
    pub fn start(plan: Plan) -> anyhow::Result<Self> {
        let plan = Arc::new(plan);
        raise_descriptor_limit();
        let metrics = Metrics::new();
        panics::count_with(metrics.counter(names::PANICS_TOTAL, &[]));
        metrics.gauge(names::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        for listener in &plan.listeners {
            metrics.declare(listener.protocol.describe());
        }
        let mut inherited = handover::Sockets::inherit(&plan);
        let (sockets, listeners) = open_listeners(&plan, &mut inherited)?;
        let (operations, events) = open_logs(&plan, &metrics)?;
        let sink = |log: &Option<Log>| log.as_ref().map(|log| log.sink().clone());
        let clusters = make_clusters(&plan, &metrics, sink(&events));
        let (threads, stop_background) = (Threads::default(), CancellationToken::new());
        let all_clusters = clusters.values().cloned().collect();
        let live = Live::new(plan.policies.clone());
        let certificates = Certificates::of(&plan, &live, &metrics);
        let background =
            start_discovery(all_clusters, certificates, stop_background.clone(), &threads)?;
        let cardinality_limits =
            plan.listeners.iter().map(|listener| cardinality_limits(&plan, &metrics, listener));
        let shared = Arc::new(SharedState {
            cardinality_limits: cardinality_limits.collect(),
            live,
            budget: connection_budget(&plan),
            shapes: SharedShapes::new(plan.workers, &metrics),
            plan: Arc::clone(&plan),
            metrics: metrics.clone(),
            listeners: listeners.clone(),
            clusters,
            access_log: sink(&operations),
        });
        let (inboxes, workers) = start_workers(&shared, &threads)?;
        notify_workers_of_changes(&shared, &inboxes);
        let logs: Vec<Log> = operations.into_iter().chain(events).collect();
        let sinks = logs.iter().map(|log| log.sink().clone()).collect();
        let control = Control::new(inboxes, Arc::clone(&plan), sinks, inherited.offer());
        for (index, socket) in sockets.into_iter().enumerate() {
            let _ = control.inboxes()[index % plan.workers].send(Message::Listen(socket));
        }
        let open = |plan| open_admin(plan, &shared, &control, &threads, inherited);
        check_descriptors()?;
        let admin = plan.admin.as_ref().map(open).transpose()?;
        Ok(Self { control, workers, threads, background, stop_background, logs, admin, listeners })
    }

    /// A handle to drain the proxy.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The address of the admin interface.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(admin::Server::local_addr)
    }

    /// The address of the listener with this name.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|l| &*l.plan.name == name).map(|l| l.address)
    }

    /// Waits until the proxy has drained, and releases everything.
    ///
    /// # Errors
    /// An essential thread has failed; the proxy was drained then.
    pub fn wait(self) -> anyhow::Result<()> {
        let ended = self.threads.wait_ended(self.workers.len());
        if let Err(error) = &ended {
            let error = format!("{error:#}");
            tracing::error!(error, "an essential thread has failed: the proxy exits");
            self.control.drain_now();
            let timeout = self.control.plan().drain_timeout + EXIT_GRACE;
            self.threads.wait_ended_within(self.workers.len(), timeout);
        } else {
            self.workers.into_iter().for_each(|worker| drop(worker.join()));
            self.stop_background.cancel();
            let _ = self.background.join();
            drop(self.admin);
        }
        let deadline = Instant::now() + LOG_FLUSH_TIMEOUT;
        self.logs.iter().for_each(|log| log.close(deadline));
        ended
    }
}

/// Raises the soft limit of file descriptors to the hard limit: each connection needs two, and the
/// usual soft limit of 1024 is for programs that `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // If the limit can't be raised it stays; running out of descriptors is logged.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// Fails if too few descriptors are free: a connection takes two, the admin interface six.
fn check_descriptors() -> anyhow::Result<()> {
    let left = listener::descriptors_left();
    if left < MIN_FREE_DESCRIPTORS {
        bail!(
            "{left} file descriptors are left, too few to serve connections: raise their limit \
             (ulimit -n, LimitNOFILE=)"
        );
    }
    Ok(())
}

/// Opens the access log and the event log, if they are configured.
fn open_logs(plan: &Plan, metrics: &Metrics) -> anyhow::Result<(Option<Log>, Option<Log>)> {
    own_log::count_with(metrics.counter(names::LOG_DROPPED_TOTAL, &[]));
    let open = |path: Option<&Path>, name, waiting, lost| {
        let Some(path) = path else { return Ok(None) };
        let log = log_file::open(path, name, waiting, metrics.counter(lost, &[]));
        log.map(Some).with_context(|| format!("can't open the {name} {}", path.display()))
    };
    let operations = plan.access_log.as_ref().map(|log| &*log.path);
    let lost = names::ACCESS_LOG_DROPPED_TOTAL;
    let operations = open(operations, "access log", log_file::BATCHES, lost)?;
    let lost = names::EVENT_LOG_DROPPED_TOTAL;
    let events = open(plan.event_log.as_deref(), "event log", log_file::LINES, lost)?;
    Ok((operations, events))
}

/// Opens a listener's socket, or takes over the previous process's.
fn open_listener(
    plan: &ListenerPlan,
    inherited: &mut handover::Sockets,
) -> io::Result<std::net::TcpListener> {
    let user_timeout = plan.tcp_user_timeout;
    let socket = inherited.listener(plan.address, |at| listener::bind(at, user_timeout))?;
    listener::prepare((&socket).into(), user_timeout)?;
    Ok(socket)
}

fn open_listeners(
    plan: &Plan,
    inherited: &mut handover::Sockets,
) -> anyhow::Result<(Vec<ListenSocket>, Vec<Arc<Listener>>)> {
    let mut sockets = Vec::new();
    let mut listeners = Vec::new();
    for (index, listener) in plan.listeners.iter().enumerate() {
        let socket = open_listener(listener, inherited).with_context(|| {
            format!("listener `{}` can't listen on {}", listener.name, listener.address)
        })?;
        let address = socket.local_addr()?;
        listeners.push(Listener::new(Arc::clone(listener), address, index, plan.workers));
        sockets.push(ListenSocket { listener: index, socket });
        tracing::info!(
            listener = &*listener.name,
            protocol = listener.protocol.name(),
            clusters = listener.clusters().join(","),
            %address,
            "listening"
        );
    }
    Ok((sockets, listeners))
}

fn connection_budget(plan: &Plan) -> Arc<ConnectionBudget> {
    let reserved: Vec<_> =
        plan.listeners.iter().map(|listener| listener.reserved_connections).collect();
    let fit = listener::connections_that_fit(plan.workers);
    let listeners = plan.listeners.iter().map(|listener| listener.max_connections);
    let wanted = plan.max_connections.min(listeners.fold(0, usize::saturating_add));
    if fit < wanted {
        tracing::warn!(
            max_connections = wanted,
            fit,
            descriptors = getrlimit(Resource::Nofile).current,
            "file descriptors suffice for fewer connections than max_connections, since each takes \
             two: raise their limit (ulimit -n, LimitNOFILE=) or lower max_connections"
        );
    }
    ConnectionBudget::with_reserved(plan.max_connections, fit, &reserved)
}

/// Limits of distinct series and of distinct call sites for one listener.
fn cardinality_limits(
    plan: &Plan,
    metrics: &Metrics,
    listener: &ListenerPlan,
) -> (Arc<CardinalityLimit>, Arc<CardinalityLimit>) {
    let limit = || {
        let capped = metrics.counter(names::SERIES_CAPPED_TOTAL, &[("listener", &listener.name)]);
        Arc::new(CardinalityLimit::new(plan.max_series, capped))
    };
    (limit(), limit())
}

type Inboxes = Arc<[UnboundedSender<Message>]>;

fn start_workers(
    shared: &Arc<SharedState>,
    threads: &Threads,
) -> anyhow::Result<(Inboxes, Vec<JoinHandle<()>>)> {
    let (inboxes, outboxes): (Vec<_>, Vec<_>) =
        (0..shared.plan.workers).map(|_| unbounded_channel()).unzip();
    let mut workers = Vec::new();
    for (index, outbox) in outboxes.into_iter().enumerate() {
        let (shared, inboxes) = (Arc::clone(shared), inboxes.clone());
        let run = move |started| run_worker(index, &shared, inboxes, outbox, started);
        let worker = threads.starter().start(&format!("worker-{index}"), run);
        workers.push(worker.context("can't start a worker thread")?);
    }
    threads.wait_started(workers.len())?;
    Ok((inboxes.into(), workers))
}

/// Makes every worker check its connections whenever a cluster or the policies change.
fn notify_workers_of_changes(shared: &SharedState, inboxes: &Inboxes) {
    let notifier = || {
        let inboxes = Arc::clone(inboxes);
        move || {
            for inbox in inboxes.iter() {
                // A worker that has ended has no connections.
                let _ = inbox.send(Message::EndpointsChanged);
            }
        }
    };
    shared.clusters.values().for_each(|cluster| cluster.on_close_request(notifier()));
    shared.live.on_change(notifier());
    for tls in shared.plan.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        let (inboxes, server) = (Arc::clone(inboxes), Arc::downgrade(tls));
        tls.on_rules_change(move || {
            let Some(server) = server.upgrade() else { return };
            for inbox in inboxes.iter() {
                // A worker that has ended has no connections.
                let _ = inbox.send(Message::ClientRulesChanged(Arc::clone(&server)));
            }
        });
    }
}

fn run_worker(
    index: usize,
    shared: &SharedState,
    inboxes: Vec<UnboundedSender<Message>>,
    outbox: UnboundedReceiver<Message>,
    started: Started,
) -> anyhow::Result<()> {
    metrics::enter_worker(index);
    let runtime = worker::runtime().context(NO_RUNTIME)?;
    let number = index.to_string();
    let open = shared.metrics.gauge(names::WORKER_CONNECTIONS_ACTIVE, &[("worker", &number)]);
    let lines = shared.access_log.clone().map(LineBuffer::new);
    let dispatcher = Dispatcher { inboxes: inboxes.into(), budget: Arc::clone(&shared.budget) };
    runtime.block_on(async {
        let listeners = listeners(shared, index, lines.as_ref());
        started.report();
        worker::work(Worker::with_gauge(index, open), listeners, dispatcher, lines, outbox).await
    })?;
    Ok(())
}

/// One worker's part of every listener.
fn listeners(
    shared: &SharedState,
    worker: usize,
    lines: Option<&Rc<LineBuffer>>,
) -> Vec<Rc<WorkerListener>> {
    let preconnect = |(name, cluster): (&Arc<str>, &Arc<Cluster>)| {
        (Arc::clone(name), PreconnectPool::start(Arc::clone(cluster)))
    };
    let upstreams: BTreeMap<_, _> = shared.clusters.iter().map(preconnect).collect();
    let (pools, mut shared_pools) = (Pools::default(), BTreeMap::new());
    let shapes = WorkerShapes::new(Arc::clone(&shared.shapes));
    let listener = |(listener, limits): (&Arc<Listener>, _)| {
        let plan = &listener.plan;
        let server = plan.protocol.server(&upstreams, &shared.plan.pooling, &pools);
        let cluster = plan.cluster.as_ref().filter(|_| server.is_none());
        let preconnects = cluster.and_then(|name| upstreams.get(name));
        let only = preconnects.filter(|_| plan.sni.is_empty());
        let cluster = only.map(|pool| pool.cluster());
        let gate = gate(shared, listener, cluster, limits, (lines, &shapes));
        let pool = cluster.and_then(|it| pool(shared, plan, it, worker, &mut shared_pools));
        let mirror =
            pool.as_ref().and_then(|_| mirror(shared, plan, &gate, worker, &mut shared_pools));
        let upstreams = match (server, pool) {
            (Some(server), _) => Upstreams::Server(server),
            (None, Some(pool)) => Upstreams::Pool { pool, mirror },
            (None, None) if plan.sni.is_empty() => Upstreams::Cluster(Rc::clone(preconnects?)),
            (None, None) => {
                let named = plan.sni.iter();
                let named = named.filter_map(|(sni, name)| Some((&**sni, upstreams.get(name)?)));
                let named = named.map(|(sni, cluster)| (sni, Rc::clone(cluster)));
                Upstreams::ByServerName(ServerNames::new(named, preconnects.cloned()))
            }
        };
        Some(WorkerListener::new(Arc::clone(listener), gate, upstreams, shared.metrics.clone()))
    };
    shared.listeners.iter().zip(&shared.cardinality_limits).filter_map(listener).collect()
}

fn open_admin(
    plan: &AdminPlan,
    shared: &Arc<SharedState>,
    control: &Control,
    threads: &Threads,
    inherited: handover::Sockets,
) -> anyhow::Result<admin::Server> {
    let (ready, drain) = (control.clone(), control.clone());
    let [for_listeners, for_clusters, for_config] = [shared; 3].map(Arc::clone);
    let view = admin::View {
        metrics: shared.metrics.clone(),
        config: Arc::new(move || for_config.plan.to_json()),
        ready: Arc::new(move || ready.is_ready()),
        listeners: Arc::new(move || for_listeners.listeners.iter().map(|l| l.report()).collect()),
        clusters: Arc::new(move || for_clusters.clusters.values().cloned().collect()),
        certificates: Certificates::of(&shared.plan, &shared.live, &shared.metrics),
        policies: Arc::clone(&shared.live),
        scope: Scope::of(&shared.plan),
        sessions: Sessions::new(control.inboxes()),
        shapes: QueryShapes::new(control.inboxes(), Arc::clone(&shared.shapes)),
        drain: Arc::new(move || drain.drain()),
    };
    admin::serve(plan, view, &threads.starter(), inherited)
}

#[cfg(test)]
mod tests;
