//! Reloads of the config while operations go on: read, check, compare, prepare, and commit.
//!
//! Preparing does all that can fail, and changes nothing that runs: it opens sockets and logs. Committing can't
//! fail. Objects that both configs have alike are not touched: see docs/reloading.md.

use super::{
    clusters::{Clusters, make_clusters, missing},
    control::Control,
    discovery::Discovery,
    listeners::{
        log_listening, make_listeners, notifier, open_new_sockets, set_connection_limits,
        warn_of_descriptors, watch_client_rules,
    },
    logs::OpenLogs,
    shared::{Running, RunningListener, SharedState},
    tracer::{NewTracer, prepare_tracer, replace_tracer},
};
use crate::{
    listener::DrainOptions,
    reload::{
        ReloadError, ReloadReport, ReloadRequest, ReloadRequests, ReloadSource, ReloadTrigger,
        Reloaded,
    },
    service_manager,
    worker::{ConfigChange, Message},
};
use cluster::Cluster;
use config::{
    Access, Sources,
    changes::{Changes, ConfigObject},
    plan::{OnReload, Plan},
};
use process::panics::{Panic, tells_itself};
use std::{
    path::PathBuf,
    sync::{Arc, mpsc::RecvTimeoutError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio_util::sync::CancellationToken;
use tollgate_metrics::table as names;

/// How often files are compared, with `watch`. Two looks have to agree: a file is not read while it is written.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The config file of the proxy, and what it had in it when it was read last.
pub(super) struct ConfigFile {
    /// `None`: the config came from elsewhere, and can't be read again.
    pub(super) path: Option<PathBuf>,
    pub(super) sources: Sources,
}

/// Serves requests for reloads, one after the other.
pub(super) struct ReloadThread {
    pub(super) control: Control,
    pub(super) discovery: Discovery,
    pub(super) file: ConfigFile,
    /// Cancelled when the proxy ends.
    pub(super) stop: CancellationToken,
}

/// What a new config needs and nothing uses yet.
struct Prepared {
    running: Running,
    changes: Changes,
    new_clusters: Vec<Arc<Cluster>>,
    logs: OpenLogs,
    /// If tracing changes.
    tracer: Option<NewTracer>,
}

impl ReloadThread {
    /// Serves requests until the proxy ends.
    pub(super) fn run(mut self, requests: &ReloadRequests) {
        let mut changed = None;
        loop {
            match requests.recv_timeout(WATCH_INTERVAL) {
                Ok(request) => {
                    changed = None;
                    self.serve(request);
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if self.stop.is_cancelled() => return,
                Err(RecvTimeoutError::Timeout) if self.shared().running().plan.watch => {
                    let now = self.file.sources.fingerprint();
                    let differs = now != *self.file.sources.read();
                    if differs && changed.as_ref() == Some(&now) {
                        let (by, source) = (ReloadTrigger::Watch, ReloadSource::File);
                        self.serve(ReloadRequest { by, source, dry_run: false, reply: None });
                    }
                    changed = differs.then_some(now);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn shared(&self) -> &Arc<SharedState> {
        self.control.shared()
    }

    fn serve(&mut self, request: ReloadRequest) {
        let began = Instant::now();
        let ReloadRequest { by, source, dry_run, reply } = request;
        let from_text = source != ReloadSource::File;
        if !dry_run {
            service_manager::reloading();
        }
        let result = tells_itself(|| self.reload(source, dry_run)).unwrap_or_else(|panic| {
            let Panic { message, place } = panic;
            let bug = format!("a panic, which is a bug in Tollgate: {message} ({place})");
            Err(ReloadError::Failed(bug))
        });
        let (at, took) = (SystemTime::now(), began.elapsed());
        let report = ReloadReport { at, by, dry_run, from_text, took, result };
        if !dry_run {
            // Also after a mistake: the service manager waits for it.
            service_manager::ready();
            self.log(&report);
            self.count(&report);
            self.control.reloader().record(report.clone());
        }
        // The requester may have left.
        let _ = reply.map(|reply| reply.send(report));
    }

    fn reload(&mut self, source: ReloadSource, dry_run: bool) -> Result<Reloaded, ReloadError> {
        if !self.control.is_ready() {
            return Err(ReloadError::Failed("the proxy drains".to_owned()));
        }
        let plan = self.read(source)?;
        let shared = Arc::clone(self.shared());
        let running = shared.running();
        let (plan, mut changes) = plan.succeeding(&running.plan);
        changes.count_connections(|object, name| open_connections(&running, object, name));
        if dry_run || changes.need_only_restart() {
            return Ok(Reloaded { changes, ..Reloaded::default() });
        }
        let prepared = self.prepare(plan, changes, &running).map_err(|error| {
            ReloadError::Failed(values::hide(&format!("{error:#}")).into_owned())
        })?;
        Ok(self.commit(prepared, &running))
    }

    /// Reads and checks the new config.
    fn read(&mut self, source: ReloadSource) -> Result<Plan, ReloadError> {
        match source {
            ReloadSource::Text(text) => {
                let access = Access::default();
                config::parse_with("the request", &text, &access).map_err(ReloadError::Wrong)
            }
            ReloadSource::File => {
                let Some(path) = &self.file.path else {
                    let error = "the config did not come from a file that can be read again: \
                                 start with `tollgate run -c FILE`, or POST a config to /config";
                    return Err(ReloadError::Failed(error.to_owned()));
                };
                let (plan, sources) = config::load_with_sources(path);
                self.file.sources = sources;
                plan.map_err(ReloadError::Wrong)
            }
        }
    }

    /// Does all that can fail.
    fn prepare(&self, plan: Plan, changes: Changes, running: &Running) -> anyhow::Result<Prepared> {
        let (shared, plan) = (self.shared(), Arc::new(plan));
        let sockets = open_new_sockets(&plan, running)?;
        let logs = self.control.logs().prepare(&plan, &shared.metrics)?;
        let tracer = prepare_tracer(&plan, &running.plan, &shared.metrics)?;
        let clusters = make_clusters(&plan, Some(running), &shared.metrics);
        let new_clusters = missing(&clusters, &running.clusters);
        let listeners = make_listeners(&plan, &sockets, &clusters, Some(running), &shared.metrics)?;
        // Names that can't be looked up do not hold up the others: they are looked up again.
        self.discovery.follow(new_clusters.clone());
        let running = Running { plan, listeners, clusters };
        Ok(Prepared { running, changes, new_clusters, logs, tracer })
    }

    /// Makes the new config the one that runs. Can't fail.
    fn commit(&self, prepared: Prepared, before: &Running) -> Reloaded {
        let Prepared { running, changes, new_clusters, logs, tracer } = prepared;
        let (shared, inboxes) = (self.shared(), self.control.inboxes());
        let plan = Arc::clone(&running.plan);
        for cluster in &new_clusters {
            cluster.on_close_request(notifier(inboxes));
        }
        reconfigure_clusters(&running.clusters, &plan, before);
        let gone = gone_listeners(before, &running);
        set_connection_limits(shared, &running, &gone);
        if before.plan.max_connections != plan.max_connections {
            warn_of_descriptors(&plan, shared.fit);
        }
        for it in &running.listeners {
            it.listener.state().cardinality.iter().for_each(|it| it.set_max(plan.max_series));
            shared.metrics.declare(it.listener.plan.protocol.describe());
        }
        let change = ConfigChange { drains: drains(&plan, before, &running) };
        let changed = changed_listeners(before, &running);
        self.control.logs().replace(logs, &running, &shared.access_log);
        tracer.into_iter().for_each(|tracer| replace_tracer(&shared.tracer, tracer));
        shared.running.store(Arc::new(running));
        let lost = shared.live.reload(plan.policies.clone(), Instant::now());
        let message = || Message::ConfigChanged(Arc::new(change.clone()));
        // Every worker knows the listeners before one of them accepts for these.
        inboxes.iter().for_each(|inbox| _ = inbox.send(message()));
        for it in &changed {
            watch_client_rules(&it.listener.plan, inboxes);
            log_listening(&it.listener);
            it.socket.listen(it.listener.state().id, inboxes);
        }
        self.stop_listening(before);
        for cluster in missing(&before.clusters, &shared.running().clusters) {
            cluster.retire();
            self.discovery.leave(cluster);
        }
        self.control.offer_listeners();
        Reloaded { changes, lost_policy_changes: lost }
    }

    /// Closes the sockets that nothing listens on any more.
    fn stop_listening(&self, before: &Running) {
        let running = self.shared().running();
        let is_used = |it: &&RunningListener| {
            running.listeners.iter().any(|now| now.socket.number == it.socket.number)
        };
        for it in before.listeners.iter().filter(|it| !is_used(it)) {
            it.socket.stop_listening(self.control.inboxes());
        }
    }

    fn log(&self, report: &ReloadReport) {
        let (by, took) = (report.by.as_str(), report.took);
        match &report.result {
            Err(error) => {
                tracing::error!(
                    by,
                    "the config can't be reloaded: the one from before stays\n{error}"
                );
            }
            Ok(_) if report.result_word() == "unchanged" => {
                tracing::info!(by, "the config was read again: nothing has changed");
            }
            Ok(Reloaded { changes, lost_policy_changes: lost }) => {
                tracing::info!(
                    by,
                    ?took,
                    "the config was reloaded\n{}",
                    changes.to_string().trim_end()
                );
                if !lost.is_empty() {
                    let policies = lost.join(", ");
                    tracing::warn!(
                        policies,
                        "changes of policies through the admin interface are lost"
                    );
                }
            }
        }
    }

    fn count(&self, report: &ReloadReport) {
        let metrics = &self.shared().metrics;
        let labels = [("result", report.result_word())];
        metrics.counter(names::CONFIG_RELOADS_TOTAL, &labels).increment(1);
        if report.result.is_ok() {
            let at = report.at.duration_since(UNIX_EPOCH).unwrap_or_default();
            metrics.gauge(names::CONFIG_LAST_RELOAD_SECONDS, &[]).set(at.as_secs_f64());
            self.control.export_config();
        }
    }
}

/// How many connections an object has.
fn open_connections(running: &Running, object: ConfigObject, name: &str) -> Option<usize> {
    match object {
        ConfigObject::Listener => Some(running.listener(name)?.listener.state().share.open()),
        ConfigObject::Cluster => {
            let endpoints = running.clusters.get(name)?.endpoints();
            Some(endpoints.iter().map(|it| it.active_connections()).sum())
        }
        ConfigObject::Policy | ConfigObject::Setting => None,
    }
}

/// Replaces the plans of clusters that both configs have, where they differ.
fn reconfigure_clusters(clusters: &Clusters, plan: &Plan, before: &Running) {
    for plan in &plan.clusters {
        let is_same = before.plan.cluster(&plan.name).is_some_and(|it| Arc::ptr_eq(it, plan));
        let known = before.clusters.contains_key(&plan.name) && !is_same;
        let cluster = clusters.get(&plan.name).filter(|_| known);
        cluster.into_iter().for_each(|cluster| cluster.reconfigure(Arc::clone(plan)));
    }
}

/// The listeners that a config does not have any more.
fn gone_listeners(before: &Running, now: &Running) -> Vec<RunningListener> {
    let is_gone = |it: &&RunningListener| now.listener(&it.listener.plan.name).is_none();
    before.listeners.iter().filter(is_gone).cloned().collect()
}

/// The listeners that are new, or have changed.
fn changed_listeners(before: &Running, now: &Running) -> Vec<RunningListener> {
    let is_same = |it: &&RunningListener| {
        let known = before.listener(&it.listener.plan.name);
        known.is_some_and(|known| Arc::ptr_eq(&known.listener, &it.listener))
    };
    now.listeners.iter().filter(|it| !is_same(it)).cloned().collect()
}

/// The listeners whose connections end: they are gone or have moved, or their config says so.
fn drains(
    plan: &Plan,
    before: &Running,
    now: &Running,
) -> std::collections::BTreeMap<u64, DrainOptions> {
    let options = DrainOptions { timeout: plan.drain_timeout, spread: Some(plan.drain_spread) };
    let ends = |it: &&RunningListener| match now.listener(&it.listener.plan.name) {
        None => true,
        Some(now) if Arc::ptr_eq(&now.listener, &it.listener) => false,
        Some(now) => {
            let rests = now.listener.plan.on_reload == OnReload::Rest;
            rests || now.socket.number != it.socket.number
        }
    };
    let ended = before.listeners.iter().filter(ends);
    ended.map(|it| (it.listener.state().id, options)).collect()
}
