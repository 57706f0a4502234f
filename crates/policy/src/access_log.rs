//! Writes a JSON line for every operation, or for every slow one.

mod json;
mod line_buffer;
mod live;

use super::{PolicyEffect, PolicyEnv, SeriesPolicy, Settled, WorkerPolicy};
use crate::series::SeriesKey;
pub(crate) use json::truncate;
use json::{write_decimal, write_millis, write_quoted, write_text, write_unquoted};
pub use line_buffer::LineBuffer;
pub use live::{AccessLogPlan, LiveAccessLog};
use operation::{Protocol, ResolvedAttribute};
use std::{borrow::Cow, rc::Rc, sync::Arc, time::Duration};

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

/// The access log of one listener on one worker.
pub struct AccessLog {
    plan: AccessLogPlan,
    listener: Arc<str>,
    has_preface: bool,
    lines: Rc<LineBuffer>,
}

impl AccessLog {
    /// The log of a listener; `None` if no access log is configured.
    pub fn new(env: &PolicyEnv) -> Option<Self> {
        let lines = Rc::clone(env.lines.as_ref()?);
        let plan = lines.log().plan()?;
        let (listener, has_preface) = (Arc::clone(&env.listener), env.has_preface);
        Some(Self { plan, listener, has_preface, lines })
    }
}

impl WorkerPolicy for AccessLog {
    fn bind(&self, key: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(self.series(key)))
    }
}

impl AccessLog {
    /// How the operations of a series are logged.
    fn series(&self, key: &SeriesKey) -> AccessLogSeries {
        let mut head = Vec::new();
        for (field, value) in [
            ("listener", &*self.listener),
            ("protocol", key.protocol.name),
            ("operation", &key.name),
            ("resource", &key.resource),
        ] {
            if !value.is_empty() {
                write_text(&mut head, &field_prefix(field, "\""), value, MAX_TEXT);
            }
        }
        // One field: items of the request and of the reply are the same things.
        let items = key.protocol.items.map(|_| field_prefix(key.protocol.item_name, ""));
        AccessLogSeries {
            head,
            slower_than: self.plan.slower_than,
            items,
            attributes: self.attributes(key.protocol),
            lines: Rc::clone(&self.lines),
        }
    }

    /// The attributes in the lines of a protocol, in order.
    fn attributes(&self, protocol: &Protocol) -> Box<[LoggedAttribute]> {
        let none: &[&str] = &[];
        let slow = self.plan.slower_than.map_or(none, |_| protocol.logged_when_slow);
        let values = if self.plan.values { protocol.logged_with_values } else { none };
        let preface = if self.has_preface { &PREFACE[..] } else { &[] };
        let shared = IF_PROTOCOL_HAS.iter().filter(|name| protocol.attributes.contains(name));
        let short = ALWAYS.iter().chain(shared).chain(protocol.logged);
        let logged =
            |name, field, max_bytes| LoggedAttribute::new(protocol, name, field, max_bytes);
        let short = short.map(|name| logged(name, name, MAX_TEXT));
        let queries = slow.iter().chain(values).map(|name| logged(name, name, MAX_QUERY_TEXT));
        let preface = preface.iter().map(|(name, field)| logged(name, field, MAX_TEXT));
        short.chain(queries).chain(preface).collect()
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
    attribute: ResolvedAttribute,
    /// The beginning of its field, up to the value.
    key: Box<[u8]>,
    number: bool,
    /// The longest value that is not truncated, in bytes.
    max_bytes: usize,
}

impl LoggedAttribute {
    fn new(protocol: &Protocol, name: &'static str, field: &str, max_bytes: usize) -> Self {
        let number = NUMBERS.contains(&name);
        let key = field_prefix(field, if number { "" } else { "\"" });
        Self { attribute: ResolvedAttribute::new(protocol, name), key, number, max_bytes }
    }

    /// Writes the field, unless the operation does not have the attribute.
    fn write(&self, out: &mut Vec<u8>, done: &Settled<'_>) {
        let Some(value) = done.logged(self.attribute) else { return };
        out.extend_from_slice(&self.key);
        if self.number {
            write_unquoted(out, value);
        } else {
            write_quoted(out, value, self.max_bytes);
            out.push(b'"');
        }
    }
}

impl SeriesPolicy for AccessLogSeries {
    fn settle(&self, done: &Settled<'_>, _: u64) {
        let took = done.took();
        // A long poll is never slow. With `0s` every operation is logged.
        let is_wait = |limit: Duration| done.long_poll && !limit.is_zero();
        if self.slower_than.is_some_and(|limit| took < limit || is_wait(limit)) {
            return;
        }
        self.lines.write(|out| self.line(out, done, took));
    }
}

impl AccessLogSeries {
    /// Writes a line after its time.
    fn line(&self, out: &mut Vec<u8>, done: &Settled<'_>, took: Duration) {
        let how = done.how;
        out.extend_from_slice(&self.head);
        write_text(out, br#","outcome":""#, how.outcome.as_str(), MAX_TEXT);
        if let Some(reason) = how.reason {
            write_text(out, br#","reason":""#, reason.as_str(), MAX_TEXT);
        }
        if let Some(code) = how.code {
            write_text(out, br#","code":""#, code, MAX_TEXT);
        }
        for (key, dry) in [(&br#","policy":""#[..], false), (br#","dry_run":""#, true)] {
            let effects = done.policy_effects.iter().filter(|effect| effect.dry_run == dry);
            write_policies(out, key, effects);
        }
        out.extend_from_slice(br#","duration_ms":"#);
        write_millis(out, took);
        if let Some(first) = how.first_byte {
            out.extend_from_slice(br#","ttfb_ms":"#);
            write_millis(out, first.saturating_duration_since(done.began));
        }
        out.extend_from_slice(br#","request_bytes":"#);
        write_decimal(out, how.request_bytes);
        out.extend_from_slice(br#","reply_bytes":"#);
        write_decimal(out, how.reply_bytes);
        if let Some(key) = &self.items {
            out.extend_from_slice(key);
            write_decimal(out, how.request_items.max(how.reply_items));
        }
        if let Some(shape) = how.shape {
            write_text(out, br#","shape":""#, shape, MAX_TEXT);
        }
        for attribute in &self.attributes {
            attribute.write(out, done);
        }
        out.extend_from_slice(b"}\n");
    }
}

/// The beginning of a field, up to its value; `quote` is the opening quote of a text, or empty.
fn field_prefix(name: &str, quote: &str) -> Box<[u8]> {
    format!(",\"{name}\":{quote}").into_bytes().into()
}

/// Writes the names of policies, if there are any.
fn write_policies<'a>(
    out: &mut Vec<u8>,
    key: &[u8],
    effects: impl Iterator<Item = &'a PolicyEffect>,
) {
    let mut names = effects.map(|effect| &*effect.policy);
    if let Some(first) = names.next() {
        let join = |all: Cow<'a, str>, name: &str| Cow::Owned([&*all, name].join(", "));
        write_text(out, key, &names.fold(first.into(), join), usize::MAX);
    }
}

#[cfg(test)]
mod tests;
