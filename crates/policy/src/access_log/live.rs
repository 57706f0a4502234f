//! The access log in force, which a reload of the config may replace.

use arc_swap::ArcSwapOption;
use process::log_file::Sink;
use serde::Serialize;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// Where and which operations are logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessLogPlan {
    /// The file; `/dev/stdout` and `/dev/stderr` work.
    pub path: PathBuf,
    /// Only operations that took at least this long are logged, with the shape of their query.
    #[serde(serialize_with = "values::shown", skip_serializing_if = "Option::is_none")]
    pub slower_than: Option<Duration>,
    /// Log the values in queries too.
    pub values: bool,
}

/// The access log in force, which a reload of the config may replace.
#[derive(Debug, Default)]
pub struct LiveAccessLog(ArcSwapOption<OpenAccessLog>);

/// An access log that is open.
#[derive(Debug)]
struct OpenAccessLog {
    plan: AccessLogPlan,
    sink: Sink,
}

impl LiveAccessLog {
    /// Sets what is logged, and where lines go; `None`: nothing is logged. Policies follow when they are built
    /// again: see [`Live::reload`](crate::Live::reload).
    pub fn set(&self, log: Option<(AccessLogPlan, Sink)>) {
        self.0.store(log.map(|(plan, sink)| Arc::new(OpenAccessLog { plan, sink })));
    }

    /// What is logged; `None`: nothing.
    pub(super) fn plan(&self) -> Option<AccessLogPlan> {
        self.0.load().as_ref().map(|log| log.plan.clone())
    }

    /// Sends these lines to the log, if one is open.
    pub(super) fn send(&self, text: Vec<u8>, lines: u64) {
        if let Some(log) = self.0.load().as_ref().filter(|_| !text.is_empty()) {
            log.sink.send(text, lines);
        }
    }
}
