//! Counts and times every operation, by series and by call site.

use super::{PolicyEnv, SeriesPolicy, Settled, WorkerPolicy};
use crate::series::{CardinalityLimit, SeriesKey};
use foldhash::HashMap;
use metrics::{Counter, Histogram};
use operation::{Outcome, Protocol};
use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
};
use tollgate_metrics::{Metrics, table as names};

/// The name of all further operations in metrics.
const OTHER: &str = "other";

/// How many names have series of their own among operations whose resource has none. Protocols with
/// a fixed list of names stay below; where clients make names up, the rest are `other` too.
const MAX_NAMES: usize = 128;

/// How many call sites of a series are remembered on a worker, those that share `other` among them.
const MAX_CALLSITES: usize = 1000;

/// The counters of one listener on one worker.
pub(crate) struct Stats {
    metrics: Metrics,
    listener: Arc<str>,
    /// Call sites come from clients too, and have their own bound.
    callsites: Arc<CardinalityLimit>,
    /// The metrics of operations without series of their own, by the operation's name.
    other_by_name: RefCell<HashMap<Box<str>, Rc<SeriesMetrics>>>,
}

impl Stats {
    /// Counts the operations of a listener.
    pub(crate) fn new(from: &PolicyEnv) -> Self {
        Self {
            metrics: from.metrics.clone(),
            listener: Arc::clone(&from.listener),
            callsites: Arc::clone(&from.callsites),
            other_by_name: RefCell::default(),
        }
    }

    fn series(&self, protocol: &'static Protocol, name: &str, resource: &str) -> Rc<SeriesMetrics> {
        let labels = [
            ("listener", &*self.listener),
            ("protocol", protocol.name),
            ("operation", name),
            ("resource", resource),
        ];
        let count =
            |name, more: &[(&str, &str)]| self.metrics.counter(name, &[&labels[..], more].concat());
        Rc::new(SeriesMetrics {
            protocol,
            labels: SeriesLabels {
                metrics: self.metrics.clone(),
                listener: Arc::clone(&self.listener),
                name: name.into(),
                resource: resource.into(),
            },
            by_outcome: Outcome::ALL
                .map(|outcome| count(names::OPERATIONS_TOTAL, &[("outcome", outcome.as_str())])),
            duration: self.metrics.histogram(names::OPERATION_DURATION_SECONDS, &labels),
            bytes: ["request", "reply"]
                .map(|direction| count(names::OPERATION_BYTES_TOTAL, &[("direction", direction)])),
            items: protocol.items.map(|extra| {
                let labels = [labels[0], labels[2], labels[3]];
                ["request", "reply"].map(|direction| {
                    let labels = [&labels[..], &[("direction", direction)]].concat();
                    self.metrics.counter(extra.metric, &labels)
                })
            }),
            by_reason: RefCell::default(),
            by_code: RefCell::default(),
            by_shape: RefCell::default(),
            callsites: RefCell::default(),
            other_callsites: OnceCell::new(),
            callsite_limit: Arc::clone(&self.callsites),
        })
    }
}

impl WorkerPolicy for Stats {
    fn bind(&self, key: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        if key.confirmed {
            return Some(Box::new(self.series(key.protocol, &key.name, &key.resource)));
        }
        let mut other_by_name = self.other_by_name.borrow_mut();
        let room = other_by_name.len() < MAX_NAMES || other_by_name.contains_key(&key.name);
        let name = if room { &*key.name } else { OTHER };
        if !other_by_name.contains_key(name) {
            other_by_name.insert(name.into(), self.series(key.protocol, name, OTHER));
        }
        other_by_name.get(name).map(|series| Box::new(Rc::clone(series)) as Box<dyn SeriesPolicy>)
    }
}

/// The handles of one series, found once.
struct SeriesMetrics {
    protocol: &'static Protocol,
    labels: SeriesLabels,
    by_outcome: [Counter; 5],
    duration: Histogram,
    bytes: [Counter; 2],
    items: Option<[Counter; 2]>,
    /// Rejected operations, by reason.
    by_reason: RefCell<HashMap<&'static str, Counter>>,
    by_code: RefCell<HashMap<&'static str, Counter>>,
    by_shape: RefCell<HashMap<&'static str, Counter>>,
    callsites: RefCell<HashMap<Box<str>, Option<CallsiteMetrics>>>,
    /// All that there is no room for.
    other_callsites: OnceCell<CallsiteMetrics>,
    callsite_limit: Arc<CardinalityLimit>,
}

/// What handles found later are labelled with.
struct SeriesLabels {
    metrics: Metrics,
    listener: Arc<str>,
    name: Box<str>,
    resource: Box<str>,
}

struct CallsiteMetrics {
    count: Counter,
    duration: Histogram,
}

impl SeriesPolicy for Rc<SeriesMetrics> {
    fn record_bytes(&self, bytes: [u64; 2]) {
        self.bytes.iter().zip(bytes).for_each(|(counter, bytes)| counter.increment(bytes));
    }

    fn settle(&self, done: &Settled<'_>, _: u64) {
        let how = done.how;
        match how.reason {
            Some(reason) if how.outcome == Outcome::Rejected => {
                self.count_rejection(reason.as_str())
            }
            _ => self.by_outcome[how.outcome as usize].increment(1),
        }
        // Of what lasts long a part was counted as it passed.
        let [requested, replied] = how.reported_bytes;
        self.bytes[0].increment(how.request_bytes.saturating_sub(requested));
        self.bytes[1].increment(how.reply_bytes.saturating_sub(replied));
        let seconds = done.took().as_secs_f64();
        if !done.long_poll {
            self.duration.record(seconds);
        }
        if let Some([sent, answered]) = &self.items {
            sent.increment(how.request_items);
            answered.increment(how.reply_items);
        }
        if let Some(code) = how.code {
            self.count_code(code);
        }
        if let Some(shape) = how.shape {
            self.count_shape(shape);
        }
        if done.may_have_callsite
            && done.key.confirmed
            && let Some(callsite) = done.attribute("callsite")
        {
            // A call site counts by its own name only if the service accepted the operation.
            let confirmed = how.confirmed && how.outcome == Outcome::Ok;
            self.count_callsite(&callsite, seconds, confirmed);
        }
    }
}

impl SeriesMetrics {
    fn count_rejection(&self, reason: &'static str) {
        let SeriesLabels { metrics, listener, name, resource } = &self.labels;
        let mut by_reason = self.by_reason.borrow_mut();
        let counter = by_reason.entry(reason).or_insert_with(|| {
            let labels = [
                ("listener", &**listener),
                ("protocol", self.protocol.name),
                ("operation", name),
                ("resource", resource),
                ("outcome", Outcome::Rejected.as_str()),
                (names::REASON, reason),
            ];
            metrics.counter(names::OPERATIONS_TOTAL, &labels)
        });
        counter.increment(1);
    }

    fn count_code(&self, code: &'static str) {
        let Some(extra) = &self.protocol.codes else { return };
        let SeriesLabels { metrics, listener, name, .. } = &self.labels;
        let mut by_code = self.by_code.borrow_mut();
        let counter = by_code.entry(code).or_insert_with(|| {
            let labels = [("listener", &**listener), ("operation", name), ("code", code)];
            metrics.counter(extra.metric, &labels)
        });
        counter.increment(1);
    }

    fn count_shape(&self, shape: &'static str) {
        let Some(extra) = &self.protocol.shapes else { return };
        let SeriesLabels { metrics, listener, resource, .. } = &self.labels;
        let mut by_shape = self.by_shape.borrow_mut();
        let counter = by_shape.entry(shape).or_insert_with(|| {
            let labels = [("listener", &**listener), ("resource", resource), ("shape", shape)];
            metrics.counter(extra.metric, &labels)
        });
        counter.increment(1);
    }

    fn count_callsite(&self, callsite: &str, seconds: f64, confirmed: bool) {
        let mut callsites = self.callsites.borrow_mut();
        if !callsites.contains_key(callsite) {
            if !confirmed {
                return;
            }
            let found = self.find_callsite(callsite);
            if found.is_some() || callsites.len() < MAX_CALLSITES {
                callsites.insert(callsite.into(), found);
            }
        }
        let callsite = match callsites.get(callsite) {
            Some(Some(callsite)) => callsite,
            _ => self.other_callsites.get_or_init(|| self.callsite(OTHER)),
        };
        callsite.count.increment(1);
        callsite.duration.record(seconds);
    }

    fn find_callsite(&self, callsite: &str) -> Option<CallsiteMetrics> {
        let SeriesLabels { name, resource, .. } = &self.labels;
        self.callsite_limit.admits(&[callsite, name, resource]).then(|| self.callsite(callsite))
    }

    fn callsite(&self, callsite: &str) -> CallsiteMetrics {
        let SeriesLabels { metrics, listener, name, resource } = &self.labels;
        let labels = [
            ("listener", &**listener),
            ("callsite", callsite),
            ("operation", name),
            ("resource", resource),
        ];
        CallsiteMetrics {
            count: metrics.counter(names::CALLSITE_OPERATIONS_TOTAL, &labels),
            duration: metrics.histogram(names::CALLSITE_DURATION_SECONDS, &labels),
        }
    }
}
