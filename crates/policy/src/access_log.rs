//! Writes a JSON line for every operation, or for every slow one.

use super::{PolicyEffect, PolicyEnv, SeriesPolicy, Settled, WorkerPolicy};
use crate::series::SeriesKey;
use arc_swap::ArcSwapOption;
use process::log_file::Sink;
use serde::Serialize;
use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    io::Write,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Attributes in the lines of every protocol…
const ALWAYS: [&str; 3] = ["peer", "endpoint", "cluster"];
/// …and in those of every protocol that has them.
const IF_PROTOCOL_HAS: [&str; 5] = ["app", "user", "comment", "callsite", "trace_id"];

/// Attributes of TLS and of PROXY headers, and their fields.
const PREFACE: [(&str, &str); 5] = [
    ("via", "via"),
    ("sni", "sni"),
    ("tls.version", "tls_version"),
    ("tls.cipher", "tls_cipher"),
    ("tls.name", "client_certificate"),
];

/// Attributes that are numbers.
const NUMBERS: [&str; 4] = ["queue_ms", "connect_ms", "pool_wait_ms", "held_ms"];

/// The longest text in a line, in bytes before escaping. Clients choose most texts, and an HTTP/2
/// client can repeat a long header with a few bytes.
pub(crate) const MAX_TEXT: usize = 256;
/// The same for attributes that show a query, which the protocol may have truncated already.
pub(crate) const MAX_QUERY_TEXT: usize = 1024;
/// The end of a truncated text.
const ELLIPSIS: &str = "…";

/// How long a line may be buffered before it is written.
const FLUSH_DELAY: Duration = Duration::from_millis(20);

/// How many bytes are buffered before they are written. Each batch wakes the file's thread.
const FLUSH_BYTES: usize = 64 * 1024;

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

/// The access log of one listener on one worker.
pub struct AccessLog {
    plan: AccessLogPlan,
    listener: Arc<str>,
    has_preface: bool,
    lines: Rc<LineBuffer>,
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
}

impl AccessLog {
    /// The log of a listener; `None` if no access log is configured.
    pub fn new(env: &PolicyEnv) -> Option<Self> {
        let lines = Rc::clone(env.lines.as_ref()?);
        let plan = lines.log.0.load().as_ref()?.plan.clone();
        let (listener, has_preface) = (Arc::clone(&env.listener), env.has_preface);
        Some(Self { plan, listener, has_preface, lines })
    }
}

impl WorkerPolicy for AccessLog {
    fn bind(&self, key: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        let mut head = Vec::new();
        for (field, value) in [
            ("listener", &*self.listener),
            ("protocol", key.protocol.name),
            ("operation", &key.name),
            ("resource", &key.resource),
        ] {
            if !value.is_empty() {
                write_text(&mut head, &field_prefix(field, "\""), &truncate(value, MAX_TEXT));
            }
        }
        let slower_than = self.plan.slower_than;
        let (protocol, none): (_, &[&str]) = (key.protocol, &[]);
        let slow = slower_than.map_or(none, |_| protocol.logged_when_slow);
        let values = if self.plan.values { protocol.logged_with_values } else { none };
        let shared = IF_PROTOCOL_HAS.iter().filter(|name| protocol.attributes.contains(name));
        let short = ALWAYS.iter().chain(shared).chain(protocol.logged);
        let queries = slow.iter().chain(values);
        let logged = |max_bytes| {
            move |name: &&'static str| {
                let number = NUMBERS.contains(name);
                let key = field_prefix(name, if number { "" } else { "\"" });
                LoggedAttribute { name, key, number, max_bytes }
            }
        };
        let preface = PREFACE.iter().filter(|_| self.has_preface).map(|(name, field)| {
            let key = field_prefix(field, "\"");
            LoggedAttribute { name, key, number: false, max_bytes: MAX_TEXT }
        });
        let attributes = short.map(logged(MAX_TEXT)).chain(queries.map(logged(MAX_QUERY_TEXT)));
        let attributes = attributes.chain(preface).collect();
        // One field: items of the request and of the reply are the same things.
        let items = protocol.items.map(|_| field_prefix(protocol.item_name, ""));
        let lines = Rc::clone(&self.lines);
        Some(Box::new(AccessLogSeries { head, slower_than, items, attributes, lines }))
    }
}

/// How the operations of one series are logged.
struct AccessLogSeries {
    /// The fields that are the same in every line.
    head: Vec<u8>,
    slower_than: Option<Duration>,
    /// The beginning of the field with the number of items, for protocols with items.
    items: Option<Box<[u8]>>,
    /// The attributes of a line, in order.
    attributes: Box<[LoggedAttribute]>,
    lines: Rc<LineBuffer>,
}

/// An attribute in log lines.
struct LoggedAttribute {
    name: &'static str,
    /// The beginning of its field, up to the value.
    key: Box<[u8]>,
    number: bool,
    /// The longest value that is not truncated, in bytes.
    max_bytes: usize,
}

impl SeriesPolicy for AccessLogSeries {
    fn settle(&self, done: &Settled<'_>, _: u64) {
        let took = done.took();
        // A long poll is never slow. With `0s` every operation is logged.
        let is_wait = |limit: Duration| done.long_poll && !limit.is_zero();
        if self.slower_than.is_some_and(|limit| took < limit || is_wait(limit)) {
            return;
        }
        self.lines.write(|out, time| self.line(out, time, done, took));
    }
}

impl AccessLogSeries {
    fn line(&self, out: &mut Vec<u8>, time: &[u8], done: &Settled<'_>, took: Duration) {
        let how = done.how;
        out.extend_from_slice(time);
        out.extend_from_slice(&self.head);
        write_text(out, br#","outcome":""#, how.outcome.as_str());
        if let Some(reason) = how.reason {
            write_text(out, br#","reason":""#, reason.as_str());
        }
        if let Some(code) = how.code {
            write_text(out, br#","code":""#, code);
        }
        for (key, dry) in [(&br#","policy":""#[..], false), (br#","dry_run":""#, true)] {
            write_policies(
                out,
                key,
                done.policy_effects.iter().filter(|effect| effect.dry_run == dry),
            );
        }
        write_millis(out, br#","duration_ms":"#, took);
        if let Some(first) = how.first_byte {
            write_millis(out, br#","ttfb_ms":"#, first.saturating_duration_since(done.began));
        }
        write_number(out, br#","request_bytes":"#, how.request_bytes);
        write_number(out, br#","reply_bytes":"#, how.reply_bytes);
        if let Some(key) = &self.items {
            write_number(out, key, how.request_items.max(how.reply_items));
        }
        if let Some(shape) = how.shape {
            write_text(out, br#","shape":""#, shape);
        }
        for LoggedAttribute { name, key, number, max_bytes } in &self.attributes {
            let Some(value) = done.attribute(name) else { continue };
            if *number {
                out.extend_from_slice(key);
                out.extend_from_slice(value.as_bytes());
            } else {
                write_text(out, key, &truncate(&value, *max_bytes));
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

/// The beginning of a field, up to its value; `quote` is the opening quote of a text, or empty.
fn field_prefix(name: &str, quote: &str) -> Box<[u8]> {
    format!(",\"{name}\":{quote}").into_bytes().into()
}

/// Truncates a text to `max_bytes`, between two characters; a truncated text ends in `…`.
pub(crate) fn truncate(value: &str, max_bytes: usize) -> Cow<'_, str> {
    if value.len() <= max_bytes {
        return Cow::Borrowed(value);
    }
    let room = max_bytes.saturating_sub(ELLIPSIS.len());
    let end = (0..=room).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned([value.get(..end).unwrap_or_default(), ELLIPSIS].concat())
}

fn write_text(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.reserve(key.len() + value.len() + 1);
    out.extend_from_slice(key);
    // Few values need escapes. A check of all bytes is faster than one that stops early.
    let needs_escape = |b: u8| !matches!(b, b' '..=b'~') | (b == b'"') | (b == b'\\');
    if !value.bytes().fold(false, |any, b| any | needs_escape(b)) {
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
        return;
    }
    // The quote comes with the value. Writing to a Vec can't fail, and a string always has a form
    // in JSON.
    out.pop();
    let _ = serde_json::to_writer(out, value);
}

/// The names of policies, if there are any.
fn write_policies<'a>(
    out: &mut Vec<u8>,
    key: &[u8],
    touches: impl Iterator<Item = &'a PolicyEffect>,
) {
    let mut names = String::new();
    for touch in touches {
        if !names.is_empty() {
            names.push_str(", ");
        }
        names.push_str(&touch.policy);
    }
    if !names.is_empty() {
        write_text(out, key, &names);
    }
}

fn write_number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes milliseconds, rounded to the microsecond.
fn write_millis(out: &mut Vec<u8>, key: &[u8], value: Duration) {
    let micros = u64::try_from((value.as_nanos() + 500) / 1000).unwrap_or(u64::MAX);
    write_number(out, key, micros / 1000);
    // The leading 1 keeps the zeros.
    let mut digits = itoa::Buffer::new();
    let part = digits.format(1000 + micros % 1000).as_bytes();
    out.push(b'.');
    out.extend_from_slice(part.get(1..).unwrap_or_default());
}

/// A worker's lines, buffered before they go to the file's thread.
pub struct LineBuffer {
    log: Arc<LiveAccessLog>,
    buffer: RefCell<Vec<u8>>,
    count: Cell<u64>,
    flush_scheduled: Cell<bool>,
    clock: RefCell<LinePrefix>,
}

/// The beginning of a line, with the time; cached for a millisecond.
#[derive(Default)]
struct LinePrefix {
    millis: u128,
    text: Vec<u8>,
}

impl LinePrefix {
    fn now(&mut self) -> &[u8] {
        let now = SystemTime::now();
        let millis = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        if self.text.is_empty() || self.millis != millis {
            self.millis = millis;
            self.text.clear();
            let time = humantime::format_rfc3339_millis(now);
            let _ = write!(self.text, "{{\"time\":\"{time}\"");
        }
        &self.text
    }
}

impl LineBuffer {
    /// An empty buffer whose lines go to this log.
    pub fn new(log: Arc<LiveAccessLog>) -> Rc<Self> {
        Rc::new(Self {
            log,
            buffer: RefCell::default(),
            count: Cell::default(),
            flush_scheduled: Cell::default(),
            clock: RefCell::default(),
        })
    }

    fn write(self: &Rc<Self>, line: impl FnOnce(&mut Vec<u8>, &[u8])) {
        let mut buffer = self.buffer.borrow_mut();
        line(&mut buffer, self.clock.borrow_mut().now());
        self.count.set(self.count.get() + 1);
        let full = buffer.len() >= FLUSH_BYTES;
        drop(buffer);
        if full {
            self.flush();
        } else if !self.flush_scheduled.replace(true) {
            let lines = Rc::clone(self);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(FLUSH_DELAY).await;
                lines.flush_scheduled.set(false);
                lines.flush();
            });
        }
    }

    /// Sends the buffered lines to the file's thread.
    pub fn flush(&self) {
        let buffer = std::mem::take(&mut *self.buffer.borrow_mut());
        let lines = self.count.replace(0);
        if let Some(log) = self.log.0.load().as_ref().filter(|_| !buffer.is_empty()) {
            log.sink.send(buffer, lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fits_stays_as_it_is() {
        for value in ["", "curl/8.5", &"x".repeat(MAX_TEXT)] {
            assert_eq!(truncate(value, MAX_TEXT), value);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "x".repeat(MAX_TEXT + 1);
        assert_eq!(truncate(&long, MAX_TEXT), format!("{}…", "x".repeat(MAX_TEXT - 3)));
        for width in ["é", "€", "𝄞"] {
            let shown = truncate(&width.repeat(MAX_TEXT), MAX_TEXT).into_owned();
            assert!(shown.len() <= MAX_TEXT && shown.len() > MAX_TEXT - 4, "{}", shown.len());
            assert!(shown.strip_suffix('…').unwrap().chars().all(|c| width.starts_with(c)));
        }
    }
}
