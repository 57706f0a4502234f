//! The messages of OTLP, as far as spans need them.
//!
//! They are written by hand: they have few fields, and generating them from their definitions would
//! need a compiler for these at build time. Source: opentelemetry-proto, `trace/v1/trace.proto`,
//! `common/v1/common.proto`, `collector/trace/v1/trace_service.proto`.

use prost::{Message, Oneof};

/// The version of the semantic conventions that names of attributes come from.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resource_spans: Vec<ResourceSpans>,
}

/// Spans of one source.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<SpanResource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) scope_spans: Vec<ScopeSpans>,
    #[prost(string, tag = "3")]
    pub(crate) schema_url: String,
}

/// `Resource`: what the spans come from.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpanResource {
    #[prost(message, repeated, tag = "1")]
    pub(crate) attributes: Vec<KeyValue>,
}

/// Spans of one part of a source.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(crate) scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) spans: Vec<Span>,
    #[prost(string, tag = "3")]
    pub(crate) schema_url: String,
}

/// The program that makes the spans.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct InstrumentationScope {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

/// A span.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// The trace's `tracestate`.
    #[prost(string, tag = "3")]
    pub trace_state: String,
    /// 8 bytes; empty if the trace begins here.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// Its name.
    #[prost(string, tag = "5")]
    pub name: String,
    /// See the constants of this type.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// In nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// In nanoseconds since 1970.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// Its attributes.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Other spans that it has to do with.
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<Link>,
    /// Whether it failed.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
    /// The flags of its `traceparent`, and whether its parent is in another process.
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

impl Span {
    /// The kind of a server's span.
    pub const SERVER: i32 = 2;
    /// The kind of a client's span.
    pub const CLIENT: i32 = 3;
    /// The flag of a recorded trace.
    pub const SAMPLED: u32 = 1;
    /// The flag for that [`IS_REMOTE`](Self::IS_REMOTE) is known.
    pub const HAS_REMOTE: u32 = 0x100;
    /// The flag of a parent in another process.
    pub const IS_REMOTE: u32 = 0x200;

    /// The ids of its trace and its own, as numbers.
    pub fn ids(&self) -> (u128, u64) {
        let trace_id = self.trace_id.first_chunk().map_or(0, |id| u128::from_be_bytes(*id));
        (trace_id, self.span_id.first_chunk().map_or(0, |id| u64::from_be_bytes(*id)))
    }
}

/// A reference to another span.
#[derive(Clone, PartialEq, Message)]
pub struct Link {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// Its attributes.
    #[prost(message, repeated, tag = "4")]
    pub attributes: Vec<KeyValue>,
}

/// How a span ended.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Status {
    /// Why it failed.
    #[prost(string, tag = "2")]
    pub message: String,
    /// See the constant of this type; 0: not set.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

impl Status {
    /// It failed.
    pub const ERROR: i32 = 2;
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// The value of an attribute.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// The value.
    #[prost(oneof = "AttributeKind", tags = "1, 2, 3")]
    pub value: Option<AttributeKind>,
}

/// A text, a truth or a number.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum AttributeKind {
    /// A text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A truth.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// A number.
    #[prost(int64, tag = "3")]
    Int(i64),
}

impl From<String> for AttributeKind {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for AttributeKind {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for AttributeKind {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

/// An attribute with this value.
pub fn attribute(key: &str, value: impl Into<AttributeKind>) -> KeyValue {
    let value = Some(AnyValue { value: Some(value.into()) });
    KeyValue { key: key.to_owned(), value }
}

/// The ids of a trace and of a span as the messages have them.
pub fn id_bytes(trace_id: u128, span_id: u64) -> (Vec<u8>, Vec<u8>) {
    (trace_id.to_be_bytes().to_vec(), span_id.to_be_bytes().to_vec())
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) partial_success: Option<PartialSuccess>,
}

/// What the collector has not accepted.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(crate) rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub(crate) error_message: String,
}

impl ExportRequest {
    /// A request with these spans; `resource` says what they come from.
    pub(crate) fn new(resource: SpanResource, spans: Vec<Span>) -> Self {
        let scope = InstrumentationScope {
            name: "tollgate".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let scope_spans = ScopeSpans { scope: Some(scope), spans, schema_url: SCHEMA.to_owned() };
        Self {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource),
                scope_spans: vec![scope_spans],
                schema_url: SCHEMA.to_owned(),
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_encoded_with_the_numbers_of_the_protocol() {
        let (trace_id, span_id) = id_bytes(1, 2);
        let span = Span {
            trace_id: trace_id.clone(),
            span_id: span_id.clone(),
            trace_state: "a=b".to_owned(),
            parent_span_id: span_id.clone(),
            name: "GET".to_owned(),
            kind: Span::SERVER,
            start_time_unix_nano: 3,
            end_time_unix_nano: 4,
            attributes: vec![attribute("n", 5)],
            links: vec![Link { trace_id, span_id, attributes: vec![attribute("t", "x")] }],
            status: Some(Status { message: "no".to_owned(), code: Status::ERROR }),
            flags: Span::SAMPLED | Span::HAS_REMOTE,
        };
        let (trace, id) =
            (b"\x0a\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", b"\x12\x08\0\0\0\0\0\0\0\x02");
        let expected = [
            &trace[..],
            &id[..],
            b"\x1a\x03a=b",
            b"\x22\x08\0\0\0\0\0\0\0\x02",
            b"\x2a\x03GET\x30\x02",
            b"\x39\x03\0\0\0\0\0\0\0\x41\x04\0\0\0\0\0\0\0",
            b"\x4a\x07\x0a\x01n\x12\x02\x18\x05",
            b"\x6a\x26",
            &trace[..],
            &id[..],
            b"\x22\x08\x0a\x01t\x12\x03\x0a\x01x",
            b"\x7a\x06\x12\x02no\x18\x02",
            b"\x85\x01\x01\x01\0\0",
        ];
        assert_eq!(span.encode_to_vec(), expected.concat());
    }

    #[test]
    fn a_partial_success_is_read() {
        let response = ExportResponse::decode(&b"\x0a\x06\x08\x03\x12\x02no"[..]).unwrap();
        let partial = response.partial_success.unwrap();
        assert_eq!((partial.rejected_spans, &*partial.error_message), (3, "no"));
        assert_eq!(ExportResponse::decode(&b""[..]).unwrap().partial_success, None);
    }
}
