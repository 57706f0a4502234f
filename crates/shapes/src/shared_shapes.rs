//! What all workers share: open cursors, ended connections, and findings.

use crate::{
    FindingKind, FindingRow,
    client_table::Client,
    connection_churn::ConnectionChurn,
    findings::{Evidence, Findings, Observation},
    open_cursors::OpenCursors,
};
use metrics::Counter;
use operation::ShapeHasher;
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tollgate_metrics::{Metrics, table as names};

/// How often idle cursors are looked for, while there are operations.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The state behind the tables of all workers, behind locks: an ordinary operation needs none of them.
#[derive(Debug)]
pub struct SharedShapes {
    pub(crate) cursors: OpenCursors,
    findings: Mutex<Findings>,
    churn: Mutex<ConnectionChurn>,
    next_sweep: Mutex<Option<Instant>>,
    /// How many workers there are.
    pub(crate) workers: usize,
    /// Counts rows that full tables have evicted.
    pub(crate) evicted: Counter,
    metrics: Metrics,
}

impl SharedShapes {
    /// Nothing counted yet, on this number of workers.
    pub fn new(workers: usize, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            cursors: OpenCursors::default(),
            findings: Mutex::default(),
            churn: Mutex::default(),
            next_sweep: Mutex::default(),
            workers: workers.max(1),
            evicted: metrics.counter(names::SHAPES_EVICTED_TOTAL, &[]),
            metrics: metrics.clone(),
        })
    }

    /// All findings with their evidence.
    pub fn findings(&self) -> Vec<FindingRow> {
        let now = Instant::now();
        self.find_idle_cursors(now);
        self.lock_findings().list(now)
    }

    /// Forgets all findings.
    pub fn reset(&self) {
        self.lock_findings().clear();
    }

    /// Records what was found, and logs it once a minute.
    pub(crate) fn report(&self, event: &Observation<'_>, now: Instant) {
        let (is_sure, logged) = self.lock_findings().record(event, now);
        if is_sure {
            let labels = [("listener", &**event.listener), ("finding", event.kind.as_str())];
            self.metrics.counter(names::FINDINGS_TOTAL, &labels).increment(1);
        }
        logged.into_iter().for_each(|finding| log(&finding));
    }

    /// Records the end of a client's connection that lived for `life`.
    pub(crate) fn connection_ended(
        &self,
        listener: &Arc<str>,
        (peer, client): (IpAddr, Option<&Client>),
        life: Duration,
        now: Instant,
    ) {
        let app = client.map_or("", |client| &client.app);
        let churn = lock(&self.churn).record(peer, app, life, now);
        let Some(churn) = churn else { return };
        let (app, driver) = (app.into(), client.map_or("", |client| &client.driver).into());
        let client = Client { peer, app, driver, outdated: None };
        let mut subject = ShapeHasher::new();
        subject.bytes(client.app.as_bytes());
        subject.bytes(peer.to_string().as_bytes());
        let event = Observation {
            kind: FindingKind::ConnectionChurn,
            subject: subject.value(),
            listener,
            shape: None,
            client: Some(&client),
            callsite: None,
            evidence: Evidence::Churn(churn),
        };
        self.report(&event, now);
    }

    /// Looks for idle cursors, if the last time was a minute ago. Returns when the next time is.
    pub(crate) fn sweep(&self, now: Instant) -> Instant {
        let next = {
            let mut next = lock(&self.next_sweep);
            match *next {
                Some(due) if now < due => return due,
                _ => *next.insert(now + SWEEP_INTERVAL),
            }
        };
        self.find_idle_cursors(now);
        next
    }

    fn find_idle_cursors(&self, now: Instant) {
        let idle = self.cursors.idle(now);
        let logged = self.lock_findings().replace_idle(&idle, now);
        logged.iter().for_each(log);
    }

    fn lock_findings(&self) -> MutexGuard<'_, Findings> {
        lock(&self.findings)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn log(finding: &FindingRow) {
    tracing::warn!(
        finding = finding.finding,
        listener = finding.listener,
        operation = finding.operation,
        resource = finding.resource,
        query = finding.query,
        count = finding.count,
        apps = finding.apps.join(", "),
        callsites = finding.callsites.join(", "),
        drivers = finding.drivers.join(", "),
        peers = finding.peers.join(", "),
        median_run = finding.median_run,
        documents = finding.max_documents,
        bytes = finding.max_bytes,
        idle_s = finding.idle_s,
        connections_per_second = finding.connections_per_second,
        reason = finding.reason,
        "{}",
        finding.advice
    );
}
