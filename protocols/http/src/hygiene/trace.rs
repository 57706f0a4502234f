//! Ids that follow a request through all services: `x-request-id`, and the `traceparent` of W3C's
//! Trace Context.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest id of a request that is kept, in bytes.
const LONGEST: usize = 128;
/// How long a `traceparent` of version 00 is.
const TRACEPARENT_LEN: usize = 55;

/// The trace that a request is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace's id; never 0. It is shown as 32 hexadecimal digits.
    pub id: u128,
    /// The span that the request was sent from; never 0.
    pub parent: u64,
    /// Whether whoever began the trace records it.
    pub sampled: bool,
}

impl fmt::Display for Trace {
    /// The trace's id, as logs have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.id)
    }
}

impl Trace {
    /// Reads a `traceparent`. Of a version to come only what version 00 has is read.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (version, rest) = hex(value, 2)?;
        let (id, rest) = hex(rest.strip_prefix(b"-")?, 32)?;
        let (parent, rest) = hex(rest.strip_prefix(b"-")?, 16)?;
        let (flags, rest) = hex(rest.strip_prefix(b"-")?, 2)?;
        let ends = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let parent = u64::try_from(parent).ok()?;
        (ends && id != 0 && parent != 0).then_some(Self { id, parent, sampled: flags & 1 == 1 })
    }

    /// A new one. It is sampled: services that decide by their parent would record none otherwise.
    fn begin(rng: &mut fastrand::Rng) -> Self {
        Self { id: rng.u128(1..), parent: rng.u64(1..), sampled: true }
    }

    fn value(self) -> HeaderValue {
        let mut text = Vec::with_capacity(TRACEPARENT_LEN);
        text.extend_from_slice(b"00-");
        push_hex(&mut text, &self.id.to_be_bytes());
        text.push(b'-');
        push_hex(&mut text, &self.parent.to_be_bytes());
        text.extend_from_slice(if self.sampled { b"-01" } else { b"-00" });
        made(text)
    }
}

/// The trace that a request came with.
pub(super) fn told(headers: &HeaderMap) -> Option<Trace> {
    let mut told = headers.get_all(&TRACEPARENT).iter();
    let first = told.next().filter(|_| told.next().is_none());
    first.and_then(|value| Trace::read(value.as_bytes()))
}

/// The trace that a request is part of, which begins here if there is none yet. What can't be read
/// is replaced, and its `tracestate` goes too.
pub(super) fn trace(headers: &mut HeaderMap, rng: &mut fastrand::Rng) -> Trace {
    if let Some(trace) = told(headers) {
        return trace;
    }
    headers.remove(&TRACESTATE);
    let trace = Trace::begin(rng);
    headers.insert(TRACEPARENT, trace.value());
    trace
}

/// A request's id, which it gets here if it has none that can be kept: one, of at most 128 visible
/// characters.
pub(super) fn request_id(headers: &mut HeaderMap, rng: &mut fastrand::Rng) -> HeaderValue {
    if let Some(id) = kept_request_id(headers) {
        return id;
    }
    let id = new_request_id(rng);
    headers.insert(REQUEST_ID, id.clone());
    id
}

/// The id that a request came with, if it can be kept.
pub(super) fn kept_request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut told = headers.get_all(&REQUEST_ID).iter();
    let first = told.next().filter(|_| told.next().is_none());
    let fine = |id: &[u8]| (1..=LONGEST).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    first.filter(|id| fine(id.as_bytes())).cloned()
}

/// An id that no other request has.
pub(super) fn new_request_id(rng: &mut fastrand::Rng) -> HeaderValue {
    uuid(rng.u128(..))
}

/// The id that a request came with, whatever it is.
pub(super) fn told_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(&REQUEST_ID)
}

/// A UUID of version 4 (RFC 9562 §5.4).
fn uuid(random: u128) -> HeaderValue {
    let random = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let bytes = random.to_be_bytes();
    let mut text = Vec::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        push_hex(&mut text, std::slice::from_ref(byte));
    }
    made(text)
}

/// A header's value of text that can be one.
fn made(text: Vec<u8>) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn push_hex(text: &mut Vec<u8>, bytes: &[u8]) {
    let digit = |n: u8| n + if n < 10 { b'0' } else { b'a' - 10 };
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]));
}

/// A number of `len` lower-case digits, and what comes after it.
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

#[cfg(test)]
mod tests;
