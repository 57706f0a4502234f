//! The access log and the event log: opened, reopened, and replaced by a reload of the config.

use super::shared::Running;
use anyhow::Context;
use config::plan::Plan;
use policy::access_log::LiveAccessLog;
use process::log_file::{self, Log};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tollgate_metrics::{Metrics, table as names};

/// The time limit for writing the remaining lines of a log that is closed.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(700);

/// How long workers may send lines to a log that was replaced.
const REPLACED_FOR: Duration = Duration::from_millis(100);

/// The logs in use.
#[derive(Default)]
pub(super) struct Logs(Mutex<OpenLogs>);

/// The logs that are in use, or those that a config names and that are not in use yet.
#[derive(Default)]
pub(super) struct OpenLogs {
    access: Option<OpenLog>,
    events: Option<OpenLog>,
}

/// A log, and where it is.
struct OpenLog {
    path: PathBuf,
    log: Log,
}

impl Logs {
    /// Opens the logs that a plan names, as far as they are not open already.
    ///
    /// # Errors
    /// One can't be opened.
    pub(super) fn prepare(&self, plan: &Plan, metrics: &Metrics) -> anyhow::Result<OpenLogs> {
        let open = self.open();
        let new = |path: Option<&Path>, known: &Option<OpenLog>, name, waiting, lost| {
            let Some(path) = path else { return Ok(None) };
            if known.as_ref().is_some_and(|known| known.path == path) {
                return Ok(None);
            }
            let log = log_file::open(path, name, waiting, metrics.counter(lost, &[]));
            let log = log.with_context(|| format!("can't open the {name} {}", path.display()))?;
            anyhow::Ok(Some(OpenLog { path: path.into(), log }))
        };
        let (lost, waiting) = (names::ACCESS_LOG_DROPPED_TOTAL, log_file::BATCHES);
        let access = plan.access_log.as_ref().map(|log| &*log.path);
        let access = new(access, &open.access, "access log", waiting, lost)?;
        let (lost, waiting) = (names::EVENT_LOG_DROPPED_TOTAL, log_file::LINES);
        let events = new(plan.event_log.as_deref(), &open.events, "event log", waiting, lost)?;
        Ok(OpenLogs { access, events })
    }

    /// Uses the logs that a plan names. Those that it does not name any more are closed.
    pub(super) fn replace(&self, new: OpenLogs, running: &Running, access_log: &LiveAccessLog) {
        let plan = &running.plan;
        let mut open = self.open();
        let mut ended = Vec::new();
        exchange(&mut open.access, new.access, plan.access_log.is_some(), &mut ended);
        exchange(&mut open.events, new.events, plan.event_log.is_some(), &mut ended);
        let sink = open.access.as_ref().map(|it| it.log.sink().clone());
        access_log.set(plan.access_log.clone().zip(sink));
        let events = open.events.as_ref().map(|it| it.log.sink().clone());
        running.clusters.values().for_each(|cluster| cluster.log_events(events.clone()));
        drop(open);
        if !ended.is_empty() {
            std::thread::park_timeout(REPLACED_FOR);
            ended.iter().for_each(|it: &OpenLog| it.log.close(Instant::now() + FLUSH_TIMEOUT));
        }
    }

    /// Opens the files again by their paths, for log rotation.
    pub(super) fn reopen(&self) {
        let open = self.open();
        open.access.iter().chain(&open.events).for_each(|it| it.log.sink().reopen());
    }

    /// Writes what is left, and closes the logs.
    pub(super) fn close(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let open = self.open();
        open.access.iter().chain(&open.events).for_each(|it| it.log.close(deadline));
    }

    fn open(&self) -> MutexGuard<'_, OpenLogs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces an open log by a new one, or closes it if there is none any more.
fn exchange(
    open: &mut Option<OpenLog>,
    new: Option<OpenLog>,
    is_named: bool,
    ended: &mut Vec<OpenLog>,
) {
    match new {
        Some(new) => ended.extend(open.replace(new)),
        None if !is_named => ended.extend(open.take()),
        None => {}
    }
}
