//! Reloads of the config: how they are requested, and what came of the last ones.
//!
//! A thread of the proxy serves one request after the other (`src/proxy/reload.rs`).

use config::{Diagnostics, changes::Changes};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::oneshot;

/// How many reports are kept.
const MAX_REPORTS: usize = 20;

/// How many requests may wait.
const MAX_REQUESTS: usize = 16;

/// Requests reloads; cheap to clone.
#[derive(Clone)]
pub struct Reloader {
    requests: SyncSender<ReloadRequest>,
    history: Arc<Mutex<VecDeque<ReloadReport>>>,
}

/// The requests, for the thread that serves them.
pub type ReloadRequests = std::sync::mpsc::Receiver<ReloadRequest>;

/// A request to reload the config.
#[derive(Debug)]
pub struct ReloadRequest {
    /// What has requested it.
    pub by: ReloadTrigger,
    /// From where.
    pub source: ReloadSource,
    /// Only report what would change.
    pub dry_run: bool,
    /// Gets the report.
    pub reply: Option<oneshot::Sender<ReloadReport>>,
}

/// What has requested a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadTrigger {
    /// SIGHUP.
    Signal,
    /// A changed file, with `watch`.
    Watch,
    /// The admin interface.
    Admin,
}

/// Where the new config is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadSource {
    /// In the file that the proxy was started with.
    File,
    /// In this text.
    Text(Vec<u8>),
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct ReloadReport {
    /// When it was done.
    pub at: SystemTime,
    /// Who requested it.
    pub by: ReloadTrigger,
    /// Whether nothing was to change.
    pub dry_run: bool,
    /// Whether the text was a request's: a restart returns to the file.
    pub from_text: bool,
    /// How long it took.
    pub took: Duration,
    /// The result.
    pub result: Result<Reloaded, ReloadError>,
}

/// A config that is right.
#[derive(Clone, Debug, Default)]
pub struct Reloaded {
    /// What differs from before.
    pub changes: Changes,
    /// The policies whose changes through the admin interface are lost.
    pub lost_policy_changes: Vec<Arc<str>>,
}

/// Why nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReloadError {
    /// The config is wrong.
    #[error("{0}")]
    Wrong(Diagnostics),
    /// The config is right, and the machine does not allow it.
    #[error("{0}")]
    Failed(String),
}

/// Too many requests wait, or the proxy ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many reloads wait already: try again")]
pub struct TooManyReloads;

impl Reloader {
    /// A reloader, and its requests.
    pub fn new() -> (Self, ReloadRequests) {
        let (requests, inbox) = sync_channel(MAX_REQUESTS);
        (Self { requests, history: Arc::default() }, inbox)
    }

    /// Requests a reload, and does not wait for it.
    ///
    /// # Errors
    /// Too many wait.
    pub fn request(&self, request: ReloadRequest) -> Result<(), TooManyReloads> {
        self.requests.try_send(request).map_err(|_| TooManyReloads)
    }

    /// Requests a reload. Returns its report once it is done.
    ///
    /// # Errors
    /// Too many wait, or the proxy ends.
    pub async fn reload(
        &self,
        source: ReloadSource,
        dry_run: bool,
    ) -> Result<ReloadReport, TooManyReloads> {
        let (reply, report) = oneshot::channel();
        let by = ReloadTrigger::Admin;
        self.request(ReloadRequest { by, source, dry_run, reply: Some(reply) })?;
        report.await.map_err(|_| TooManyReloads)
    }

    /// Records a report.
    pub fn record(&self, report: ReloadReport) {
        let mut history = self.history();
        history.truncate(MAX_REPORTS - 1);
        history.push_front(report);
    }

    /// The last report in a few words, for the page; null if there is none.
    pub fn last(&self) -> Value {
        self.history().front().map_or(Value::Null, ReloadReport::summary)
    }

    /// The last reports as JSON, the newest first.
    pub fn report(&self) -> Value {
        self.history().iter().map(ReloadReport::to_json).collect()
    }

    fn history(&self) -> MutexGuard<'_, VecDeque<ReloadReport>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReloadTrigger {
    /// The word in reports and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            ReloadTrigger::Signal => "signal",
            ReloadTrigger::Watch => "watch",
            ReloadTrigger::Admin => "admin",
        }
    }
}

impl ReloadReport {
    /// The word for the result: `ok`, `unchanged`, `failed`.
    pub fn result_word(&self) -> &'static str {
        match &self.result {
            Ok(reloaded) if reloaded.changes.need_only_restart() => "unchanged",
            Ok(_) => "ok",
            Err(_) => "failed",
        }
    }

    /// The report in a few words.
    fn summary(&self) -> Value {
        let (summary, errors) = match &self.result {
            Ok(it) => (it.changes.to_string(), Vec::new()),
            Err(ReloadError::Wrong(problems)) => {
                let lines = problems.0.iter().map(|it| {
                    let (line, column) = (it.line(), it.column());
                    format!("line {line}, column {column}: {}", it.message)
                });
                ("the config is wrong".to_owned(), lines.collect())
            }
            Err(error) => (error.to_string(), Vec::new()),
        };
        json!({
            "at": humantime::format_rfc3339_seconds(self.at).to_string(),
            "by": self.by.as_str(),
            "result": self.result_word(),
            "summary": summary.trim_end(),
            "errors": errors,
        })
    }

    /// The report for the admin interface.
    pub fn to_json(&self) -> Value {
        let (changes, lost, error, problems) = match &self.result {
            Ok(it) => (it.changes.to_json(), it.lost_policy_changes.as_slice(), None, None),
            Err(ReloadError::Wrong(problems)) => (
                json!([]),
                [].as_slice(),
                Some("the config is wrong".to_owned()),
                Some(problems.to_json()),
            ),
            Err(error) => (json!([]), [].as_slice(), Some(error.to_string()), None),
        };
        json!({
            "at": humantime::format_rfc3339_millis(self.at).to_string(),
            "by": self.by.as_str(),
            "result": self.result_word(),
            "dry_run": self.dry_run,
            "saved": !self.from_text,
            "took_ms": self.took.as_millis(),
            "changes": changes,
            "lost_policy_changes": lost.iter().map(|name| &**name).collect::<Vec<_>>(),
            "error": error,
            "problems": problems,
        })
    }
}
