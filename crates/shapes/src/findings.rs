//! Findings: what the order and the size of operations say about the programs that send them.

use crate::{
    bounded_names::BoundedNames, client_table::Client, connection_churn::Churn,
    open_cursors::OpenCursor, report::wall_clock, shape::Shape,
};
use foldhash::HashMap;
use serde::Serialize;
use std::{
    cmp::Reverse,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// How many findings are kept.
const MAX_FINDINGS: usize = 200;

/// How many lengths of runs are kept for the median.
const MAX_LENGTHS: usize = 101;

/// From how many bursts on they are a finding: a program that starts many threads sends one burst by chance.
const MIN_BURSTS: u64 = 3;

/// How often a finding is logged at most, and how many findings in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
const MAX_LOGGED: u32 = 10;

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FindingKind {
    /// One lookup for each item of a list, one after the other on one connection.
    NPlusOne,
    /// The same, sent at once on several connections.
    NPlusOneBurst,
    /// A query without a limit whose results are many or large.
    UnboundedResult,
    /// A query that compares a field with more than a thousand values.
    LongList,
    /// A cursor that is open and not used.
    IdleCursor,
    /// A client that opens a connection for each operation or two.
    ConnectionChurn,
    /// A driver that is out of support.
    OutdatedDriver,
}

impl FindingKind {
    /// Every kind.
    pub const ALL: [FindingKind; 7] = [
        FindingKind::NPlusOne,
        FindingKind::NPlusOneBurst,
        FindingKind::UnboundedResult,
        FindingKind::LongList,
        FindingKind::IdleCursor,
        FindingKind::ConnectionChurn,
        FindingKind::OutdatedDriver,
    ];

    /// The label in logs, metrics and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            FindingKind::NPlusOne => "n_plus_one",
            FindingKind::NPlusOneBurst => "n_plus_one_burst",
            FindingKind::UnboundedResult => "unbounded_result",
            FindingKind::LongList => "long_list",
            FindingKind::IdleCursor => "idle_cursor",
            FindingKind::ConnectionChurn => "connection_churn",
            FindingKind::OutdatedDriver => "outdated_driver",
        }
    }

    /// What it means, and what to do.
    pub fn advice(self) -> &'static str {
        match self {
            FindingKind::NPlusOne => {
                "a loop sends one query for each item of a list: fetch all items with one query"
            }
            FindingKind::NPlusOneBurst => {
                "one query for each item of a list, all sent at once: fetch all items with one query"
            }
            FindingKind::UnboundedResult => {
                "a query without a limit returned more than 1,000 documents or 1 MiB: add a limit, or \
                 fetch fewer fields"
            }
            FindingKind::LongList => {
                "a query compares a field with more than 1,000 values: the service plans and parses \
                 each of them; split the list, or store what the values have in common"
            }
            FindingKind::IdleCursor => {
                "a cursor is open and was not used for five minutes: read it to its end, or close it"
            }
            FindingKind::ConnectionChurn => {
                "a client opens many short connections: share one client object in each process, or \
                 give the cluster a `pool`"
            }
            FindingKind::OutdatedDriver => "a driver is out of support: update it",
        }
    }
}

/// The proof of a finding.
#[derive(Clone, Debug)]
pub(crate) enum Evidence {
    /// A run of lookups with this length has ended.
    Run(u32),
    /// These numbers of items and bytes were returned.
    Result { items: u64, bytes: u64 },
    /// A long list of values.
    List,
    /// A cursor has not been used for this time.
    Idle(Duration),
    /// The connections of a client.
    Churn(Churn),
    /// Why a driver is out of support.
    Driver(Box<str>),
}

/// Something that was found once.
#[derive(Clone, Debug)]
pub(crate) struct Observation<'a> {
    pub(crate) kind: FindingKind,
    /// Distinguishes its subject from others of the same kind.
    pub(crate) subject: u64,
    pub(crate) listener: &'a Arc<str>,
    pub(crate) shape: Option<&'a Arc<Shape>>,
    pub(crate) client: Option<&'a Client>,
    pub(crate) callsite: Option<&'a str>,
    pub(crate) evidence: Evidence,
}

/// What was found, as often as it was.
#[derive(Clone, Debug)]
struct Finding {
    listener: Arc<str>,
    shape: Option<Arc<Shape>>,
    count: u64,
    first: Instant,
    last: Instant,
    logged: Option<Instant>,
    apps: BoundedNames,
    callsites: BoundedNames,
    peers: BoundedNames,
    drivers: BoundedNames,
    lengths: VecDeque<u32>,
    documents: u64,
    bytes: u64,
    idle: Duration,
    churn: Option<Churn>,
    reason: Option<Box<str>>,
}

/// The findings of all workers.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    all: HashMap<(FindingKind, u64), Finding>,
    /// When the current interval of logging began, and how many were logged in it.
    logging: Option<(Instant, u32)>,
}

/// A finding with its evidence.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FindingRow {
    /// What was found: `n_plus_one`, `unbounded_result`, …
    pub finding: &'static str,
    /// The listener's name.
    pub listener: String,
    /// The operation's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Its resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The query without values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The key of the shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// How often: runs, results, lists, open cursors, windows of ten seconds, clients.
    pub count: u64,
    /// Applications.
    pub apps: Vec<String>,
    /// Places in clients' programs.
    pub callsites: Vec<String>,
    /// Addresses of clients.
    pub peers: Vec<String>,
    /// Drivers with their versions, where the finding is about them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<String>,
    /// The median number of lookups in a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_run: Option<u32>,
    /// The most documents of a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_documents: Option<u64>,
    /// The most bytes of a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// For how long a cursor was not used, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_s: Option<u64>,
    /// Connections in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_second: Option<f64>,
    /// The median life of a connection, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_life_ms: Option<f64>,
    /// Why, where there is more to say than the advice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it means, and what to do.
    pub advice: &'static str,
    /// When it was found first (RFC 3339).
    pub first_seen: String,
    /// When it was found last (RFC 3339).
    pub last_seen: String,
}

impl Findings {
    /// Records what was found. Returns whether it is sure, and the finding if it is to be logged now.
    pub(crate) fn record(
        &mut self,
        event: &Observation<'_>,
        now: Instant,
    ) -> (bool, Option<FindingRow>) {
        if self.all.len() >= MAX_FINDINGS && !self.all.contains_key(&(event.kind, event.subject)) {
            let oldest = self.all.iter().min_by_key(|(_, it)| it.last).map(|(key, _)| *key);
            oldest.into_iter().for_each(|key| _ = self.all.remove(&key));
        }
        let key = (event.kind, event.subject);
        let finding = self.all.entry(key).or_insert_with(|| Finding::new(event, now));
        finding.add(event, now);
        if !finding.is_sure(event.kind) {
            return (false, None);
        }
        (true, self.log_due(key, now))
    }

    /// Replaces the findings about idle cursors by those of these cursors. Returns the findings to log.
    pub(crate) fn replace_idle(&mut self, cursors: &[OpenCursor], now: Instant) -> Vec<FindingRow> {
        let logged: HashMap<_, _> =
            self.all.iter().filter_map(|(key, finding)| Some((*key, finding.logged?))).collect();
        self.all.retain(|(kind, _), _| *kind != FindingKind::IdleCursor);
        let mut keys = Vec::new();
        for cursor in cursors {
            let key = (FindingKind::IdleCursor, cursor.shape.row_key);
            let event = Observation {
                kind: key.0,
                subject: key.1,
                listener: &cursor.shape.listener,
                shape: Some(&cursor.shape),
                client: cursor.client.as_deref(),
                callsite: cursor.callsite.as_deref(),
                evidence: Evidence::Idle(now.saturating_duration_since(cursor.used)),
            };
            let finding = self.all.entry(key).or_insert_with(|| Finding::new(&event, now));
            finding.add(&event, now);
            finding.first = finding.first.min(cursor.opened);
            finding.logged = logged.get(&key).copied();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys.into_iter().filter_map(|key| self.log_due(key, now)).collect()
    }

    /// All findings: the most recent ones of each kind first.
    pub(crate) fn list(&self, now: Instant) -> Vec<FindingRow> {
        let sure = |((kind, _), finding): &(&(FindingKind, u64), &Finding)| finding.is_sure(*kind);
        let mut all: Vec<_> = self.all.iter().filter(sure).collect();
        all.sort_by_key(|((kind, _), finding)| (*kind, Reverse(finding.last)));
        all.into_iter().map(|((kind, _), finding)| finding.report(*kind, now)).collect()
    }

    /// Forgets all findings.
    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    /// The finding with this key, if it is to be logged now.
    fn log_due(&mut self, key: (FindingKind, u64), now: Instant) -> Option<FindingRow> {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < LOG_INTERVAL;
        let finding = self.all.get_mut(&key).filter(|it| !it.logged.is_some_and(is_recent))?;
        let (began, logged) = self.logging.filter(|(at, _)| is_recent(*at)).unwrap_or((now, 0));
        if logged >= MAX_LOGGED {
            return None;
        }
        self.logging = Some((began, logged + 1));
        finding.logged = Some(now);
        Some(finding.report(key.0, now))
    }
}

impl Finding {
    fn new(event: &Observation<'_>, now: Instant) -> Self {
        Self {
            listener: Arc::clone(event.listener),
            shape: event.shape.cloned(),
            count: 0,
            first: now,
            last: now,
            logged: None,
            apps: BoundedNames::default(),
            callsites: BoundedNames::default(),
            peers: BoundedNames::default(),
            drivers: BoundedNames::default(),
            lengths: VecDeque::new(),
            documents: 0,
            bytes: 0,
            idle: Duration::ZERO,
            churn: None,
            reason: None,
        }
    }

    /// Whether it was found often enough.
    fn is_sure(&self, kind: FindingKind) -> bool {
        kind != FindingKind::NPlusOneBurst || self.count >= MIN_BURSTS
    }

    fn add(&mut self, event: &Observation<'_>, now: Instant) {
        self.count += 1;
        self.last = self.last.max(now);
        if let Some(client) = event.client {
            self.apps.add(&client.app);
            self.peers.add(&client.peer.to_string());
        }
        self.callsites.add(event.callsite.unwrap_or_default());
        match &event.evidence {
            Evidence::Run(length) => {
                self.lengths.truncate(MAX_LENGTHS - 1);
                self.lengths.push_front(*length);
            }
            Evidence::Result { items, bytes } => {
                self.documents = self.documents.max(*items);
                self.bytes = self.bytes.max(*bytes);
            }
            Evidence::List => {}
            Evidence::Idle(idle) => self.idle = self.idle.max(*idle),
            Evidence::Churn(churn) => self.churn = Some(*churn),
            Evidence::Driver(reason) => {
                self.drivers.add(event.client.map_or("", |client| &client.driver));
                self.reason = Some(reason.clone());
            }
        }
    }

    fn report(&self, kind: FindingKind, now: Instant) -> FindingRow {
        let shape = self.shape.as_deref();
        let mut lengths: Vec<u32> = self.lengths.iter().copied().collect();
        lengths.sort_unstable();
        let is_result = kind == FindingKind::UnboundedResult;
        FindingRow {
            finding: kind.as_str(),
            listener: self.listener.to_string(),
            operation: shape.map(|it| it.operation.to_string()),
            resource: shape.map(|it| it.resource.to_string()),
            query: shape.map(|it| it.query.to_string()),
            shape: shape.map(|it| format!("{:016x}", it.key)),
            count: self.count,
            apps: self.apps.to_vec(),
            callsites: self.callsites.to_vec(),
            peers: self.peers.to_vec(),
            drivers: self.drivers.to_vec(),
            median_run: lengths.get(lengths.len() / 2).copied(),
            max_documents: is_result.then_some(self.documents),
            max_bytes: is_result.then_some(self.bytes),
            idle_s: (kind == FindingKind::IdleCursor).then_some(self.idle.as_secs()),
            connections_per_second: self.churn.map(|churn| churn.rate.round()),
            median_life_ms: self.churn.map(|churn| churn.median_life.as_secs_f64() * 1e3),
            reason: self.reason.as_deref().map(str::to_owned),
            advice: kind.advice(),
            first_seen: wall_clock(self.first, now),
            last_seen: wall_clock(self.last, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Sent, call};

    fn run(length: u32, sent: &Sent) -> Arc<Shape> {
        let _ = length;
        Shape::of(&call(sent, "find"))
    }

    #[test]
    fn a_finding_is_logged_once_a_minute_and_counted_each_time() {
        let (mut findings, sent, began) = (Findings::default(), Sent::new("shop"), Instant::now());
        let shape = run(10, &sent);
        let mut logged = 0;
        for second in 0..130_u32 {
            let event = Observation {
                kind: FindingKind::NPlusOne,
                subject: shape.row_key,
                listener: &shape.listener,
                shape: Some(&shape),
                client: None,
                callsite: Some("orders.py:17"),
                evidence: Evidence::Run(10 + second % 21),
            };
            let now = began + Duration::from_secs(second.into());
            logged += usize::from(findings.record(&event, now).1.is_some());
        }
        assert_eq!(logged, 3);
        let all = findings.list(began);
        assert_eq!((all.len(), all[0].count, all[0].median_run), (1, 130, Some(20)));
        assert_eq!(all[0].callsites, ["orders.py:17"]);
    }

    #[test]
    fn many_findings_at_once_are_bounded_and_not_all_logged() {
        let (mut findings, now) = (Findings::default(), Instant::now());
        let listener = "db".into();
        let mut logged = 0;
        for subject in 0..1000 {
            let event = Observation {
                kind: FindingKind::LongList,
                subject,
                listener: &listener,
                shape: None,
                client: None,
                callsite: None,
                evidence: Evidence::List,
            };
            logged += u32::from(findings.record(&event, now).1.is_some());
        }
        assert_eq!((logged, findings.all.len()), (MAX_LOGGED, MAX_FINDINGS));
        findings.clear();
        assert!(findings.list(now).is_empty());
    }
}
