//! Ids that follow a request through all services: `x-request-id`, and `traceparent` of W3C Trace
//! Context.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use operation::{OpenSpan, SpanContext};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest accepted request id, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// The span that the request arrived with.
pub(super) fn received(headers: &HeaderMap) -> Option<SpanContext> {
    SpanContext::read(traceparent(headers)?.as_bytes())
}

/// The request's `traceparent`, unless there are several.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(&TRACEPARENT).iter();
    lines.next().filter(|_| lines.next().is_none())
}

/// The request's trace: that of its open span, or that which it arrived with, or a new one. An invalid
/// one is replaced, and its `tracestate` is removed.
pub(super) fn trace(
    headers: &mut HeaderMap,
    span: Option<&OpenSpan>,
    rng: &mut fastrand::Rng,
) -> SpanContext {
    if let Some(parent) = received(headers) {
        return span.map_or(parent, |span| span.context);
    }
    headers.remove(&TRACESTATE);
    let context = span.map_or_else(|| begin(rng), |span| span.context);
    headers.insert(TRACEPARENT, header(context));
    if let Some(state) = span.and_then(|span| span.tracestate.as_deref()) {
        headers.insert(TRACESTATE, header_value(state.as_bytes().to_vec()));
    }
    context
}

/// A new trace. It is sampled: services that follow their parent's decision would otherwise record
/// none.
pub(crate) fn begin(rng: &mut fastrand::Rng) -> SpanContext {
    SpanContext { trace_id: rng.u128(1..), span_id: rng.u64(1..), sampled: true }
}

/// Names this span as the sender of the request.
pub(crate) fn set_sender(headers: &mut HeaderMap, context: SpanContext) {
    headers.insert(TRACEPARENT, header(context));
}

fn header(context: SpanContext) -> HeaderValue {
    header_value(traceparent_text(context).to_vec())
}

/// The request's id; a new one unless it has exactly one valid id (at most 128 visible characters).
pub(super) fn request_id(headers: &mut HeaderMap, rng: &mut fastrand::Rng) -> HeaderValue {
    if let Some(id) = valid_request_id(headers) {
        return id;
    }
    let id = new_request_id(rng);
    headers.insert(REQUEST_ID, id.clone());
    id
}

/// The id that the request arrived with, if it is valid.
pub(super) fn valid_request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut told = headers.get_all(&REQUEST_ID).iter();
    let first = told.next().filter(|_| told.next().is_none());
    first.filter(|id| is_request_id(id.as_bytes())).cloned()
}

/// Whether it is a valid id.
pub(crate) fn is_request_id(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// A new unique id.
pub(super) fn new_request_id(rng: &mut fastrand::Rng) -> HeaderValue {
    uuid(rng.u128(..))
}

/// The id that the request arrived with, valid or not.
pub(super) fn received_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(&REQUEST_ID)
}

fn uuid(random: u128) -> HeaderValue {
    header_value(uuid_text(random).to_vec())
}

/// A UUID of version 4 (RFC 9562 §5.4).
pub(crate) fn uuid_text(random: u128) -> [u8; 36] {
    let random = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let digits = hex_digits(random.to_be_bytes());
    let mut text = [b'-'; 36];
    for (group, at) in [(0..4, 0), (4..6, 9), (6..8, 14), (8..10, 19), (10..16, 24)] {
        let group = digits[group].as_flattened();
        text[at..at + group.len()].copy_from_slice(group);
    }
    text
}

/// A `traceparent` (W3C Trace Context).
pub(crate) fn traceparent_text(context: SpanContext) -> [u8; 55] {
    let mut text = [b'-'; 55];
    text[..2].copy_from_slice(b"00");
    text[3..35].copy_from_slice(hex_digits(context.trace_id.to_be_bytes()).as_flattened());
    text[36..52].copy_from_slice(hex_digits(context.span_id.to_be_bytes()).as_flattened());
    text[53..].copy_from_slice(if context.sampled { b"01" } else { b"00" });
    text
}

/// Text that is known to be a valid header value.
fn header_value(text: Vec<u8>) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// The two digits of each byte, in lower case.
fn hex_digits<const N: usize>(bytes: [u8; N]) -> [[u8; 2]; N] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]])
}

#[cfg(test)]
mod tests;
