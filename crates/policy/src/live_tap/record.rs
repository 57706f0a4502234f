//! A recorded operation: what it was, how it ended, and the client.

use crate::{PolicyEffect, Settled, access_log::truncate};
use operation::Outcome;
use serde::Serialize;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The longest text that is kept, in bytes: clients choose most of them.
const MAX_TEXT: usize = 160;

/// An operation that ended while there was a watcher.
#[derive(Clone, Debug, Serialize)]
pub struct TappedOperation {
    /// Its number, in the order in which operations were recorded.
    pub id: u64,
    /// When it ended, in milliseconds since 1970.
    time_ms: u64,
    pub(super) listener: Arc<str>,
    protocol: &'static str,
    pub(super) operation: String,
    pub(super) resource: String,
    outcome: &'static str,
    /// Why the proxy rejected it, or why its connection ended.
    reason: Option<&'static str>,
    code: Option<&'static str>,
    /// The policies that had an effect on it.
    policies: Vec<String>,
    /// The same of policies with `dry_run`.
    dry_run: Vec<String>,
    duration_ms: f64,
    request_bytes: u64,
    reply_bytes: u64,
    /// The service waited by design.
    pub(super) long_poll: bool,
    /// A handshake, a log-in, a ping, or the release of a resource.
    pub(super) housekeeping: bool,
    peer: Option<String>,
    app: Option<String>,
    user: Option<String>,
    callsite: Option<String>,
    trace_id: Option<String>,
    cluster: Option<String>,
    endpoint: Option<String>,
    #[serde(skip)]
    pub(super) ended: Outcome,
    #[serde(skip)]
    pub(super) took: Duration,
}

impl TappedOperation {
    /// The record of an operation, without its number.
    pub(super) fn new(listener: &Arc<str>, done: &Settled<'_>, housekeeping: bool) -> Self {
        let (how, took) = (done.how, done.took());
        let has = |name: &str| done.key.protocol.attributes.contains(&name);
        let always = |name| done.attribute(name).map(|value| cut(&value));
        let text = |name| if has(name) { always(name) } else { None };
        let policies = |dry_run: bool| {
            let effects = done.policy_effects.iter().filter(|it| it.dry_run == dry_run);
            effects.map(|PolicyEffect { policy, .. }| cut(policy)).collect()
        };
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            id: 0,
            time_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            listener: Arc::clone(listener),
            protocol: done.key.protocol.name,
            operation: cut(&done.key.name),
            resource: cut(&done.key.resource),
            outcome: how.outcome.as_str(),
            reason: how.reason.map(|reason| reason.as_str()),
            code: how.code,
            policies: policies(false),
            dry_run: policies(true),
            duration_ms: (took.as_nanos() as f64 / 1e3).round() / 1e3,
            request_bytes: how.request_bytes,
            reply_bytes: how.reply_bytes,
            long_poll: done.long_poll,
            housekeeping,
            peer: always("peer"),
            app: text("app"),
            user: text("user"),
            callsite: text("callsite"),
            trace_id: text("trace_id"),
            cluster: always("cluster"),
            endpoint: always("endpoint"),
            ended: how.outcome,
            took,
        }
    }
}

fn cut(text: &str) -> String {
    truncate(text, MAX_TEXT).into_owned()
}
