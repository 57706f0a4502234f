//! A whole running proxy, built from a plan.

mod clusters;
mod control;
mod discovery;
mod listeners;
mod logs;
mod reload;
mod shared;
mod tracer;
mod worker_listeners;

use crate::{
    admin,
    certificates::Certificates,
    handover,
    listener::{self, ConnectionBudget},
    own_log,
    reload::{ReloadRequests, Reloader},
    service_manager::Vitals,
    threads::{Started, Threads},
    worker::{self, ConnectionCounts, Dispatcher, Message, QueryShapes, Sessions, Worker},
};
use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use clusters::make_clusters;
use config::{
    Scope, Sources,
    plan::{AdminPlan, Plan},
};
pub use control::Control;
use discovery::start_discovery;
use listeners::{
    make_listeners, notifier, open_sockets, set_connection_limits, warn_of_descriptors,
    watch_client_rules,
};
use logs::Logs;
use policy::{Live, access_log::LineBuffer};
use process::panics;
use reload::{ConfigFile, ReloadThread};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shapes::SharedShapes;
use shared::{Inboxes, Running, SharedState};
use socket2::Socket;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tollgate_metrics as metrics;
use tollgate_metrics::{Metrics, table as names};
use tracer::{TracerSlot, close_tracer, start_tracer};
use worker_listeners::WorkerListeners;

/// The error if a thread's runtime can't start.
const NO_RUNTIME: &str =
    "can't start a runtime: if descriptors ran out, raise their limit (ulimit -n, LimitNOFILE=)";

/// The fewest free descriptors with which the proxy starts.
const MIN_FREE_DESCRIPTORS: usize = 16;

/// How much longer than `drain_timeout` workers may take to end after one of them has failed.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// How long an upgrade waits for the first health checks, and how often it looks.
const CHECKS_TIMEOUT: Duration = Duration::from_secs(10);
const CHECKS_INTERVAL: Duration = Duration::from_millis(20);

/// A running proxy.
pub struct Proxy {
    control: Control,
    workers: Vec<JoinHandle<()>>,
    threads: Threads,
    background: JoinHandle<()>,
    stop_background: CancellationToken,
    admin: Option<admin::Server>,
}

/// A config to start with, and where it came from.
pub struct StartConfig {
    /// The config.
    pub plan: Plan,
    /// The file that a reload reads again; `None`: there is none.
    pub file: Option<PathBuf>,
    /// The files that the config was read from.
    pub sources: Sources,
    /// Whether a process that serves these addresses drains once this one has started.
    pub upgrades: bool,
    /// Sockets that the service manager has opened.
    pub activated: Vec<Socket>,
}

/// A config that came from no file.
impl From<Plan> for StartConfig {
    fn from(plan: Plan) -> Self {
        let (sources, activated) = (Sources::default(), Vec::new());
        Self { plan, file: None, sources, upgrades: false, activated }
    }
}

impl Proxy {
    /// Opens every listener and starts the workers.
    ///
    /// # Errors
    /// A listener, the admin interface or a log can't be opened, or a thread can't start.
    pub fn start(config: impl Into<StartConfig>) -> anyhow::Result<Self> {
        let StartConfig { plan, file, sources, upgrades, activated } = config.into();
        let plan = Arc::new(plan);
        raise_descriptor_limit();
        let metrics = new_metrics(&plan);
        let mut inherited = handover::Sockets::inherit(&plan, upgrades).with_activated(activated);
        let sockets = open_sockets(&plan, &mut inherited)?;
        let logs = Arc::<Logs>::default();
        let new_logs = logs.prepare(&plan, &metrics)?;
        let clusters = make_clusters(&plan, None, &metrics);
        let listeners = make_listeners(&plan, &sockets, &clusters, None, &metrics)?;
        listeners.iter().for_each(|it| listeners::log_listening(&it.listener));
        let running = Running { plan: Arc::clone(&plan), listeners, clusters };
        let tracer = TracerSlot::new(start_tracer(&plan, &metrics)?.into());
        let shared = shared_state(running, metrics, tracer);
        logs.replace(new_logs, &shared.running(), &shared.access_log);
        let (threads, stop_background) = (Threads::default(), CancellationToken::new());
        let all_clusters = shared.running().clusters.values().cloned().collect();
        let stop = stop_background.clone();
        let certificates = certificates(&shared);
        let (discovery, background) = start_discovery(all_clusters, certificates, stop, &threads)?;
        if upgrades {
            wait_for_checks(&shared.running());
        }
        let (inboxes, workers) = start_workers(&shared, &threads)?;
        notify_workers_of_changes(&shared, &inboxes);
        let (reloader, requests) = Reloader::new();
        let offer = inherited.offer();
        let control = Control::new(Arc::clone(&shared), inboxes, logs, reloader, offer);
        control.export_config();
        for it in &shared.running().listeners {
            it.socket.listen(it.listener.state().id, control.inboxes());
        }
        check_descriptors()?;
        let file = ConfigFile { path: file, sources };
        let stop = stop_background.clone();
        start_reloads(ReloadThread { control: control.clone(), discovery, file, stop }, requests)?;
        let open = |plan| open_admin(plan, &shared, &control, &threads, &mut inherited);
        let admin = plan.admin.as_ref().map(open).transpose()?;
        control.offer_sockets(inherited)?;
        Ok(Self { control, workers, threads, background, stop_background, admin })
    }

    /// What the service manager gets to know of the proxy.
    pub fn vitals(&self) -> Vitals {
        let shared = Arc::clone(self.control.shared());
        let endpoints_down = move || {
            let running = shared.running();
            let endpoints = running.clusters.values().flat_map(|cluster| cluster.endpoints());
            endpoints.filter(|endpoint| !endpoint.usable()).count()
        };
        Vitals {
            connections: ConnectionCounts::new(self.control.inboxes()),
            endpoints_down: Box::new(endpoints_down),
            draining: self.control.draining(),
        }
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
        self.control.shared().running().listener(name).map(|it| it.listener.address)
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
            let timeout = self.control.shared().running().plan.drain_timeout + EXIT_GRACE;
            self.threads.wait_ended_within(self.workers.len(), timeout);
        } else {
            self.workers.into_iter().for_each(|worker| drop(worker.join()));
            self.stop_background.cancel();
            let _ = self.background.join();
            drop(self.admin);
        }
        close_tracer(&self.control.shared().tracer);
        self.control.logs().close();
        self.control.end_offer();
        ended
    }
}

/// The metrics of the process, and of a plan's protocols.
fn new_metrics(plan: &Plan) -> Metrics {
    let metrics = Metrics::new();
    panics::count_with(metrics.counter(names::PANICS_TOTAL, &[]));
    metrics.gauge(names::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
    own_log::count_with(metrics.counter(names::LOG_DROPPED_TOTAL, &[]));
    for listener in &plan.listeners {
        metrics.declare(listener.protocol.describe());
    }
    metrics
}

/// What all workers share at the start.
fn shared_state(running: Running, metrics: Metrics, tracer: TracerSlot) -> Arc<SharedState> {
    let plan = &running.plan;
    let fit = listener::connections_that_fit(plan.workers);
    warn_of_descriptors(plan, fit);
    let shared = Arc::new(SharedState {
        workers: plan.workers,
        live: Live::new(plan.policies.clone()),
        access_log: Arc::default(),
        tap: Arc::default(),
        tracer,
        budget: ConnectionBudget::new(plan.max_connections, fit),
        fit,
        shapes: SharedShapes::new(plan.workers, &metrics),
        metrics,
        running: ArcSwap::from_pointee(running),
    });
    set_connection_limits(&shared, &shared.running(), &[]);
    shared
}

/// The certificates that are in use at any time.
fn certificates(shared: &Arc<SharedState>) -> Certificates {
    let running = Arc::clone(shared);
    let plan = Arc::new(move || Arc::clone(&running.running().plan));
    Certificates::new(plan, &shared.live, &shared.metrics)
}

/// Waits for the first health check of every endpoint, and for the primaries of replica sets, but not for long: the
/// process that serves now knows them, and this one begins with what they are.
fn wait_for_checks(running: &Running) {
    let end = Instant::now() + CHECKS_TIMEOUT;
    while Instant::now() < end && !running.clusters.values().all(|cluster| cluster.is_checked()) {
        std::thread::park_timeout(CHECKS_INTERVAL);
    }
}

/// Starts the thread that reloads the config.
fn start_reloads(reloads: ReloadThread, requests: ReloadRequests) -> anyhow::Result<()> {
    let thread = std::thread::Builder::new().name("reload".into());
    let started = thread.spawn(move || reloads.run(&requests));
    started.map(|_| ()).context("can't start the thread that reloads the config")
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

fn start_workers(
    shared: &Arc<SharedState>,
    threads: &Threads,
) -> anyhow::Result<(Inboxes, Vec<JoinHandle<()>>)> {
    let (inboxes, outboxes): (Vec<_>, Vec<_>) =
        (0..shared.workers).map(|_| unbounded_channel()).unzip();
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
    let running = shared.running();
    running.clusters.values().for_each(|cluster| cluster.on_close_request(notifier(inboxes)));
    shared.live.on_change(notifier(inboxes));
    running.listeners.iter().for_each(|it| watch_client_rules(&it.listener.plan, inboxes));
}

fn run_worker(
    index: usize,
    shared: &Arc<SharedState>,
    inboxes: Vec<UnboundedSender<Message>>,
    outbox: UnboundedReceiver<Message>,
    started: Started,
) -> anyhow::Result<()> {
    metrics::enter_worker(index);
    let runtime = worker::runtime().context(NO_RUNTIME)?;
    let number = index.to_string();
    let open = shared.metrics.gauge(names::WORKER_CONNECTIONS_ACTIVE, &[("worker", &number)]);
    let lines = LineBuffer::new(Arc::clone(&shared.access_log));
    let dispatcher = Dispatcher { inboxes: inboxes.into(), budget: Arc::clone(&shared.budget) };
    runtime.block_on(async {
        let mut listeners = WorkerListeners::new(shared, index, &lines);
        let first = listeners.make();
        started.report();
        let make = Box::new(move || listeners.make());
        let worker = Worker::with_gauge(index, open);
        worker::work(worker, first, make, dispatcher, Some(lines), outbox).await
    })?;
    Ok(())
}

fn open_admin(
    plan: &AdminPlan,
    shared: &Arc<SharedState>,
    control: &Control,
    threads: &Threads,
    inherited: &mut handover::Sockets,
) -> anyhow::Result<admin::Server> {
    let (ready, drain) = (control.clone(), control.clone());
    let [for_listeners, for_clusters, for_config, for_scope] = [shared; 4].map(Arc::clone);
    let reloader = control.reloader().clone();
    let view = admin::View {
        metrics: shared.metrics.clone(),
        config: Arc::new(move || for_config.running().plan.to_json()),
        ready: Arc::new(move || ready.is_ready()),
        last_reload: Arc::new(move || reloader.last()),
        listeners: Arc::new(move || for_listeners.listeners_report()),
        clusters: Arc::new(move || for_clusters.running().clusters.values().cloned().collect()),
        certificates: certificates(shared),
        policies: Arc::clone(&shared.live),
        scope: Arc::new(move || Scope::of(&for_scope.running().plan)),
        tap: Arc::clone(&shared.tap),
        sessions: Sessions::new(control.inboxes()),
        shapes: QueryShapes::new(control.inboxes(), Arc::clone(&shared.shapes)),
        reloader: control.reloader().clone(),
        drain: Arc::new(move || drain.drain()),
    };
    admin::serve(plan, view, &threads.starter(), inherited)
}

#[cfg(test)]
mod tests;
