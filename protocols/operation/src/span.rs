//! Spans: what an operation's trace needs of the protocols.
//!
//! Sources: W3C Trace Context (level 1), and OpenTelemetry's semantic conventions.

use crate::Outcome;
use std::{fmt, rc::Rc, sync::Arc, time::Instant};

/// The attribute with the `traceparent` that came with an operation.
pub const TRACEPARENT: &str = "traceparent";

/// The attribute with the `tracestate` that came with an operation.
pub const TRACESTATE: &str = "tracestate";

/// A span as its `traceparent` names it (W3C Trace Context, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace's id; never 0. Shown as 32 hexadecimal digits.
    pub trace_id: u128,
    /// The span's id; never 0. Shown as 16 hexadecimal digits.
    pub span_id: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl SpanContext {
    /// Parses a `traceparent`. Of later versions only the fields of version 00 are read.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (version, rest) = hex(value, 2)?;
        let (trace_id, rest) = hex(rest.strip_prefix(b"-")?, 32)?;
        let (span_id, rest) = hex(rest.strip_prefix(b"-")?, 16)?;
        let (flags, rest) = hex(rest.strip_prefix(b"-")?, 2)?;
        let ends = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let span_id = u64::try_from(span_id).ok()?;
        let sampled = flags & 1 == 1;
        (ends && trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled })
    }
}

/// The `traceparent`, of version 00.
impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, sampled } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(*sampled))
    }
}

/// A number of `len` lower-case hexadecimal digits, and the bytes after it.
fn hex(bytes: &[u8], len: usize) -> Option<(u128, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(len)?;
    let number = digits.iter().try_fold(0_u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })?;
    Some((number, rest))
}

/// The span of an operation that has begun. The protocol passes its context on to the service.
#[derive(Clone)]
pub struct OpenSpan {
    /// Its ids, and whether the trace is recorded.
    pub context: SpanContext,
    /// The span that the request came from; `None`: the trace begins here.
    pub parent: Option<u64>,
    /// The trace's `tracestate`: as received, or of the decision if the trace begins here.
    pub tracestate: Option<Arc<str>>,
    /// Attempts are recorded: the span is sampled, or may be kept because of how it ends.
    pub records_attempts: bool,
    /// Gets attempts that end after the operation.
    pub sink: Rc<dyn AttemptSink>,
}

impl fmt::Debug for OpenSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenSpan").field(&self.context).finish()
    }
}

/// Gets attempts that end after their operation has settled.
pub trait AttemptSink {
    /// Records an attempt of the operation with this span. `name` is the operation's.
    fn record_late(&self, span: &OpenSpan, name: &str, attempt: &Attempt);
}

/// One attempt to have an operation served by an endpoint, which is a span of its own.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The id of its span, which the endpoint got in `traceparent`.
    pub span_id: u64,
    /// When the proxy began to look for an endpoint.
    pub began: Instant,
    /// When its response had ended, or it was given up.
    pub ended: Instant,
    /// How many attempts of the operation came before it.
    pub resends: u32,
    /// The cluster.
    pub cluster: Option<Arc<str>>,
    /// The endpoint; `None` if none could be reached.
    pub endpoint: Option<Arc<str>>,
    /// The status of its response, if the protocol has statuses.
    pub status: Option<u16>,
    /// The version of the protocol to the endpoint.
    pub version: Option<&'static str>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it is beside the attempt that it is linked to; `None` if it is not linked.
    pub link: Option<AttemptLink>,
}

/// Why an attempt is linked to another one of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptLink {
    /// It ran at the same time as another one, whose response was taken: that of the last attempt.
    Hedge,
    /// It sent a copy of the attempt with this span id.
    Mirror(u64),
}

/// How the spans of a protocol's operations are named and described.
#[derive(Debug, PartialEq, Eq)]
pub struct SpanConventions {
    /// Whether the span is a server's or a client's.
    pub kind: SpanKind,
    /// How a span is named.
    pub name: SpanName,
    /// A resource that stands for none.
    pub no_resource: &'static str,
    /// Attributes that all spans have, with their values.
    pub fixed: &'static [(&'static str, &'static str)],
    /// Attributes of an operation's span, with the source of their values.
    pub fields: &'static [(&'static str, SpanField)],
    /// Attributes of an attempt's span, with the source of their values.
    pub attempt_fields: &'static [(&'static str, AttemptField)],
    /// The service's numbers for codes of errors, by name.
    pub codes: &'static [(i32, &'static str, Outcome)],
}

/// The source of the value of an attribute of an attempt's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptField {
    /// The operation's name.
    Operation,
    /// The status of the response.
    Status,
    /// The number of attempts before it; left out for the first.
    Resends,
    /// The version of the protocol to the endpoint.
    Version,
}

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// The proxy serves the request, and each attempt at an endpoint is a client's span below. The
    /// span begins with the request, and the endpoint gets the attempt's id.
    Server,
    /// The proxy passes the request on unchanged, so nothing is below. The span is made at its end.
    Client,
}

/// How a span is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanName {
    /// By the operation: `pkg.Service/Call`.
    Operation,
    /// By the operation and the resource: `GET api`.
    WithResource,
    /// By the operation and the part of the resource after the first dot: `find orders`.
    WithCollection,
}

/// The source of the value of a span's attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanField {
    /// The operation's name.
    Operation,
    /// The resource.
    Resource,
    /// The part of the resource before the first dot.
    Database,
    /// The part of the resource after the first dot.
    Collection,
    /// The span's name.
    SpanName,
    /// The name of the error's code, or this one if the operation succeeded.
    Code(&'static str),
    /// The service's number for the error's code, as text.
    CodeNumber,
    /// The number of items in the reply.
    ReplyItems,
    /// An attribute of the operation, as text.
    Text(&'static str),
    /// An attribute of the operation, as a number.
    Number(&'static str),
    /// An attribute with `host:port`; it becomes two, `.address` and `.port`.
    Address(&'static str),
}

impl SpanConventions {
    /// Spans with a name alone.
    pub const PLAIN: Self = Self {
        kind: SpanKind::Client,
        name: SpanName::Operation,
        no_resource: "",
        fixed: &[],
        fields: &[
            ("client", SpanField::Address("peer")),
            ("server", SpanField::Address("endpoint")),
        ],
        attempt_fields: &[],
        codes: &[],
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(text: &str) -> Option<SpanContext> {
        SpanContext::read(text.as_bytes())
    }

    #[test]
    fn a_traceparent_is_written_as_it_was_read() {
        let context = read(PARENT).unwrap();
        assert_eq!(context.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((context.span_id, context.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.to_string(), PARENT);
        let unsampled = PARENT.replace("-01", "-00");
        assert_eq!(read(&unsampled).unwrap().to_string(), unsampled);
        // Level 2 has a second flag, of random ids.
        assert!(read(&PARENT.replace("-01", "-03")).unwrap().sampled);
        assert!(!read(&PARENT.replace("-01", "-02")).unwrap().sampled);
    }

    #[test]
    fn a_later_version_may_have_more_fields() {
        let later = PARENT.replacen("00-", "cc-", 1);
        assert!(read(&later).is_some() && read(&format!("{later}-more")).is_some());
        assert_eq!(read(&format!("{later}.more")), None);
    }

    #[test]
    fn an_invalid_traceparent_is_not_read() {
        let zeros = |n| "0".repeat(n);
        for wrong in [
            String::new(),
            "00".to_owned(),
            PARENT.to_uppercase(),
            PARENT.replacen("00-", "ff-", 1),
            format!("{PARENT}-more"),
            format!("{PARENT} "),
            format!("00-{}-00f067aa0ba902b7-01", zeros(32)),
            format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", zeros(16)),
            PARENT.replace('-', "_"),
            PARENT[..54].to_owned(),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
    }
}
