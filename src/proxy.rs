//! A whole running proxy, built from a plan.

mod control;

use crate::{
    admin, handover,
    listener::{self, ConnectionBudget, ListenSocket, Listener, Upstreams, WorkerListener},
    own_log,
    threads::{Started, Threads},
    worker::{self, Dispatcher, Message, Sessions, Worker},
};
use anyhow::{Context, bail};
use cluster::{Cluster, ClusterPlan, PreconnectPool};
use config::{
    Scope,
    plan::{AdminPlan, ListenerPlan, Plan},
};
pub use control::Control;
use policy::gate::Gate;
use policy::series::CardinalityLimit;
use policy::{Live, PolicyEnv, access_log::LineBuffer};
use process::{
    log_file::{self, Log, Sink},
    panics::{self, Panic, caught},
};
use protocols::Pools;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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
use tokio::{
    runtime::LocalRuntime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::spawn_local,
};
use tokio_util::sync::CancellationToken;
use tollgate_metrics as metrics;
use tollgate_metrics::{Metrics, table as names};

/// The error of a thread whose runtime can't start.
const NO_RUNTIME: &str =
    "can't start a runtime: if descriptors ran out, raise their limit (ulimit -n, LimitNOFILE=)";

/// The fewest descriptors that are left for the admin interface and connections.
const FEWEST: usize = 16;

/// How long a task of a cluster rests after a panic.
const PAUSE: Duration = Duration::from_secs(1);

/// How much longer than a drain workers may take to end, where one has ended by itself.
const GRACE: Duration = Duration::from_secs(5);

/// How long it may take, at the end, to write what log files have yet to write.
const LAST_LINES: Duration = Duration::from_millis(700);

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

/// The shared parts that every worker is built from.
struct Parts {
    plan: Arc<Plan>,
    metrics: Metrics,
    listeners: Vec<Arc<Listener>>,
    clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    censuses: Vec<(Arc<CardinalityLimit>, Arc<CardinalityLimit>)>,
    /// The configured policies that are in force.
    live: Arc<Live>,
    sink: Option<Sink>,
    total: Arc<ConnectionBudget>,
}

impl Proxy {
    /// Opens every listener and starts the workers.
    ///
    /// # Errors
    /// When a listener, the admin interface or the access log can't be opened, and when a thread can't
    /// start.
    pub fn start(plan: Plan) -> anyhow::Result<Self> {
        let plan = Arc::new(plan);
        raise_descriptor_limit();
        let metrics = Metrics::new();
        panics::count_with(metrics.counter(names::PANICS_TOTAL, &[]));
        metrics.gauge(names::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        for listener in &plan.listeners {
            metrics.declare(listener.protocol.describe());
        }
        let mut handed = handover::Sockets::begin(&plan);
        let (sockets, listeners) = open_listeners(&plan, &mut handed)?;
        let (operations, events) = open_logs(&plan, &metrics)?;
        let sink = |log: &Option<Log>| log.as_ref().map(|log| log.sink().clone());
        let clusters = make_clusters(&plan, &metrics, sink(&events));
        let (threads, stop_background) = (Threads::default(), CancellationToken::new());
        let known = clusters.values().cloned().collect();
        let background = discover(known, stop_background.clone(), &threads)?;
        let censuses = plan.listeners.iter().map(|listener| censuses(&plan, &metrics, listener));
        let parts = Arc::new(Parts {
            censuses: censuses.collect(),
            live: Live::new(plan.policies.clone()),
            total: all_connections(&plan),
            plan: Arc::clone(&plan),
            metrics: metrics.clone(),
            listeners: listeners.clone(),
            clusters,
            sink: sink(&operations),
        });
        let (inboxes, workers) = start_workers(&parts, &threads)?;
        connect_nudges(&parts, &inboxes);
        let logs: Vec<Log> = operations.into_iter().chain(events).collect();
        let sinks = logs.iter().map(|log| log.sink().clone()).collect();
        let control = Control::new(inboxes, Arc::clone(&plan), sinks, handed.offer());
        for (index, socket) in sockets.into_iter().enumerate() {
            let _ = control.inboxes()[index % plan.workers].send(Message::Listen(socket));
        }
        let open = |plan| open_admin(plan, &parts, &control, &threads, handed);
        enough_descriptors()?;
        let admin = plan.admin.as_ref().map(open).transpose()?;
        Ok(Self { control, workers, threads, background, stop_background, logs, admin, listeners })
    }

    /// A handle to drain it by.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Where the admin interface listens.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(admin::Server::local_addr)
    }

    /// Where the listener of this name listens.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|l| &*l.plan.name == name).map(|l| l.address)
    }

    /// Waits until it has drained, and releases everything.
    ///
    /// # Errors
    /// Why a thread ended that the proxy can't do without. It was drained then.
    pub fn wait(self) -> anyhow::Result<()> {
        let ended = self.threads.ended(self.workers.len());
        if let Err(error) = &ended {
            let error = format!("{error:#}");
            tracing::error!(error, "a thread ended that the proxy can't do without: leaving");
            self.control.drain_at_once();
            let patience = self.control.plan().drain_timeout + GRACE;
            self.threads.end_within(self.workers.len(), patience);
        } else {
            self.workers.into_iter().for_each(|worker| drop(worker.join()));
            self.stop_background.cancel();
            let _ = self.background.join();
            drop(self.admin);
        }
        let deadline = Instant::now() + LAST_LINES;
        self.logs.iter().for_each(|log| log.close(deadline));
        ended
    }
}

/// Takes as many file descriptors as the system grants without asking: each connection needs two,
/// and the usual soft limit of 1024 is for programs that `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // If the limit can't be raised it stays; running out of descriptors is logged.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// Whether the proxy can serve anyone: a connection takes two descriptors, the admin interface six.
fn enough_descriptors() -> anyhow::Result<()> {
    let left = listener::descriptors_left();
    if left < FEWEST {
        bail!(
            "{left} file descriptors are left, too few to serve connections: raise their limit \
             (ulimit -n, LimitNOFILE=)"
        );
    }
    Ok(())
}

/// Opens the log of operations and that of events, where they are wanted.
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

fn make_clusters(
    plan: &Plan,
    metrics: &Metrics,
    events: Option<Sink>,
) -> BTreeMap<Arc<str>, Arc<Cluster>> {
    let make = |plan: &Arc<ClusterPlan>| {
        let cluster = Cluster::new(Arc::clone(plan), metrics);
        if let Some(file) = &events {
            cluster.log_events(file.clone());
        }
        (Arc::clone(&plan.name), cluster)
    };
    plan.clusters.iter().map(make).collect()
}

/// The socket of a listener, which may be that of the process before.
fn open_listener(
    plan: &ListenerPlan,
    handed: &mut handover::Sockets,
) -> io::Result<std::net::TcpListener> {
    let user_timeout = plan.tcp_user_timeout;
    let socket = handed.listener(plan.address, |at| listener::bind(at, user_timeout))?;
    listener::prepare((&socket).into(), user_timeout)?;
    Ok(socket)
}

fn open_listeners(
    plan: &Plan,
    handed: &mut handover::Sockets,
) -> anyhow::Result<(Vec<ListenSocket>, Vec<Arc<Listener>>)> {
    let mut sockets = Vec::new();
    let mut listeners = Vec::new();
    for (index, listener) in plan.listeners.iter().enumerate() {
        let socket = open_listener(listener, handed).with_context(|| {
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

fn all_connections(plan: &Plan) -> Arc<ConnectionBudget> {
    let reserved: Vec<_> = plan.listeners.iter().map(|it| it.reserved_connections).collect();
    let fit = listener::connections_that_fit(plan.workers);
    let listeners = plan.listeners.iter().map(|it| it.max_connections);
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

fn censuses(
    plan: &Plan,
    metrics: &Metrics,
    listener: &ListenerPlan,
) -> (Arc<CardinalityLimit>, Arc<CardinalityLimit>) {
    let census = || {
        let capped = metrics.counter(names::SERIES_CAPPED_TOTAL, &[("listener", &listener.name)]);
        Arc::new(CardinalityLimit::new(plan.max_series, capped))
    };
    (census(), census())
}

type Inboxes = Arc<[UnboundedSender<Message>]>;

fn start_workers(
    parts: &Arc<Parts>,
    threads: &Threads,
) -> anyhow::Result<(Inboxes, Vec<JoinHandle<()>>)> {
    let (inboxes, outboxes): (Vec<_>, Vec<_>) =
        (0..parts.plan.workers).map(|_| unbounded_channel()).unzip();
    let mut workers = Vec::new();
    for (index, outbox) in outboxes.into_iter().enumerate() {
        let (parts, inboxes) = (Arc::clone(parts), inboxes.clone());
        let run = move |started| run_worker(index, &parts, inboxes, outbox, started);
        let worker = threads.starter().start(&format!("worker-{index}"), run);
        workers.push(worker.context("can't start a worker thread")?);
    }
    threads.started(workers.len())?;
    Ok((inboxes.into(), workers))
}

/// Connects changes of clusters and policies to the workers, whose connections check for changes.
fn connect_nudges(parts: &Parts, inboxes: &Inboxes) {
    let nudge = || {
        let inboxes = Arc::clone(inboxes);
        move || {
            for inbox in inboxes.iter() {
                // A worker that has left has no connections.
                let _ = inbox.send(Message::EndpointsChanged);
            }
        }
    };
    parts.clusters.values().for_each(|cluster| cluster.on_close_request(nudge()));
    parts.live.on_change(nudge());
}

fn run_worker(
    index: usize,
    parts: &Parts,
    inboxes: Vec<UnboundedSender<Message>>,
    outbox: UnboundedReceiver<Message>,
    started: Started,
) -> anyhow::Result<()> {
    metrics::enter_worker(index);
    let runtime = worker::runtime().context(NO_RUNTIME)?;
    let number = index.to_string();
    let open = parts.metrics.gauge(names::WORKER_CONNECTIONS_ACTIVE, &[("worker", &number)]);
    let lines = parts.sink.clone().map(LineBuffer::new);
    let dispatcher = Dispatcher { inboxes: inboxes.into(), budget: Arc::clone(&parts.total) };
    runtime.block_on(async {
        let listeners = listeners(parts, lines.as_ref());
        started.tell();
        worker::work(Worker::with_gauge(index, open), listeners, dispatcher, lines, outbox).await
    })?;
    Ok(())
}

/// The worker listeners of one worker.
fn listeners(parts: &Parts, lines: Option<&Rc<LineBuffer>>) -> Vec<Rc<WorkerListener>> {
    let hold = |(name, cluster): (&Arc<str>, &Arc<Cluster>)| {
        (Arc::clone(name), PreconnectPool::start(Arc::clone(cluster)))
    };
    let upstreams: BTreeMap<_, _> = parts.clusters.iter().map(hold).collect();
    let pools = Pools::default();
    let listener = |(listener, censuses): (&Arc<Listener>, _)| {
        let plan = &listener.plan;
        let served = plan.protocol.server(&upstreams, &parts.plan.pooling, &pools);
        let one = plan.cluster.as_ref().filter(|_| served.is_none());
        let one = one.and_then(|name| upstreams.get(name));
        let gate = gate(parts, listener, one.map(|it| it.cluster()), censuses, lines);
        let upstreams = served.map(Upstreams::Server).or(one.cloned().map(Upstreams::Cluster))?;
        Some(WorkerListener::new(Arc::clone(listener), gate, upstreams, parts.metrics.clone()))
    };
    parts.listeners.iter().zip(&parts.censuses).filter_map(listener).collect()
}

fn gate(
    parts: &Parts,
    listener: &Listener,
    cluster: Option<&Arc<Cluster>>,
    (series, callsites): &(Arc<CardinalityLimit>, Arc<CardinalityLimit>),
    lines: Option<&Rc<LineBuffer>>,
) -> Gate {
    let name = &listener.plan.name;
    let from = PolicyEnv {
        access_log: parts.plan.access_log.clone(),
        metrics: parts.metrics.clone(),
        listener: Arc::clone(name),
        protocol: listener.plan.protocol.describe(),
        cluster: cluster.cloned(),
        callsites: Arc::clone(callsites),
        lines: lines.cloned(),
    };
    let active = parts.metrics.gauge(names::OPERATIONS_ACTIVE, &[("listener", name)]);
    Gate::live(Arc::clone(&parts.live), from, Arc::clone(series), active)
}

/// Looks clusters' names up, then keeps them resolved and their endpoints checked on a thread of
/// its own.
fn discover(
    clusters: Vec<Arc<Cluster>>,
    stop: CancellationToken,
    threads: &Threads,
) -> anyhow::Result<JoinHandle<()>> {
    let run = move |started: Started| {
        let runtime = LocalRuntime::new().context(NO_RUNTIME)?;
        runtime.block_on(async {
            for cluster in &clusters {
                cluster.resolve().await;
            }
            started.tell();
            for cluster in clusters {
                spawn_local(again_and_again(Arc::clone(&cluster), Cluster::warm_up));
                spawn_local(again_and_again(Arc::clone(&cluster), Cluster::check_health));
                spawn_local(again_and_again(Arc::clone(&cluster), Cluster::sweep));
                spawn_local(again_and_again(cluster, Cluster::discover));
            }
            stop.cancelled().await;
        });
        // A file system that hangs keeps a look at a file, and must not keep the process.
        runtime.shutdown_background();
        Ok(())
    };
    let thread = threads.starter().start("discovery", run);
    let thread = thread.context("can't start the discovery thread")?;
    // The first look-up comes before the first connection, but its failure stops nothing.
    threads.started(1)?;
    Ok(thread)
}

/// Runs a cluster's task; after a panic once more, since an endpoint's answers must not end it.
async fn again_and_again<F>(cluster: Arc<Cluster>, task: fn(Arc<Cluster>) -> F)
where
    F: Future<Output = ()>,
{
    while let Err(Panic { message, place }) = caught(Box::pin(task(Arc::clone(&cluster)))).await {
        tracing::error!(
            cluster = &**cluster.name(),
            place,
            message,
            "a panic ended a task of this cluster, which is a bug in Tollgate: it begins again"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

fn open_admin(
    plan: &AdminPlan,
    parts: &Arc<Parts>,
    control: &Control,
    threads: &Threads,
    handed: handover::Sockets,
) -> anyhow::Result<admin::Server> {
    let (ready, drain) = (control.clone(), control.clone());
    let [for_listeners, for_clusters, for_config] = [parts; 3].map(Arc::clone);
    let view = admin::View {
        metrics: parts.metrics.clone(),
        config: Arc::new(move || for_config.plan.to_json()),
        ready: Arc::new(move || ready.is_ready()),
        listeners: Arc::new(move || for_listeners.listeners.iter().map(|l| l.report()).collect()),
        clusters: Arc::new(move || for_clusters.clusters.values().cloned().collect()),
        policies: Arc::clone(&parts.live),
        scope: Scope::of(&parts.plan),
        sessions: Sessions::new(control.inboxes()),
        drain: Arc::new(move || drain.drain()),
    };
    admin::serve(plan, view, &threads.starter(), handed)
}

#[cfg(test)]
mod tests;
