//! Ids that follow a request through all services: `x-request-id`, and `traceparent` of W3C Trace
//! Context.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest accepted request id, in bytes.
const MAX_REQUEST_ID: usize = 128;
/// Length of a version 00 `traceparent`.
const TRACEPARENT_LEN: usize = 55;

/// The trace of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace id; never 0. Shown as 32 hexadecimal digits.
    pub id: u128,
    /// The span that sent the request; never 0.
    pub parent: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl fmt::Display for Trace {
    /// The trace id as logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex_digits(self.id.to_be_bytes());
        f.write_str(str::from_utf8(digits.as_flattened()).unwrap_or_default())
    }
}

impl Trace {
    /// Parses a `traceparent`. Of later versions only the fields of version 00 are read.
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

    /// A new trace. It is sampled: services that follow their parent's decision would otherwise
    /// record none.
    fn begin(rng: &mut fastrand::Rng) -> Self {
        Self { id: rng.u128(1..), parent: rng.u64(1..), sampled: true }
    }

    fn value(self) -> HeaderValue {
        let mut text = Vec::with_capacity(TRACEPARENT_LEN);
        text.extend_from_slice(b"00-");
        text.extend_from_slice(hex_digits(self.id.to_be_bytes()).as_flattened());
        text.push(b'-');
        text.extend_from_slice(hex_digits(self.parent.to_be_bytes()).as_flattened());
        text.extend_from_slice(if self.sampled { b"-01" } else { b"-00" });
        header_value(text)
    }
}

/// The trace that the request arrived with.
pub(super) fn received(headers: &HeaderMap) -> Option<Trace> {
    let mut told = headers.get_all(&TRACEPARENT).iter();
    let first = told.next().filter(|_| told.next().is_none());
    first.and_then(|value| Trace::read(value.as_bytes()))
}

/// The request's trace; a new one if it has none. An invalid one is replaced, and its `tracestate`
/// is removed.
pub(super) fn trace(headers: &mut HeaderMap, rng: &mut fastrand::Rng) -> Trace {
    if let Some(trace) = received(headers) {
        return trace;
    }
    headers.remove(&TRACESTATE);
    let trace = Trace::begin(rng);
    headers.insert(TRACEPARENT, trace.value());
    trace
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
    let fine =
        |id: &[u8]| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    first.filter(|id| fine(id.as_bytes())).cloned()
}

/// A new unique id.
pub(super) fn new_request_id(rng: &mut fastrand::Rng) -> HeaderValue {
    uuid(rng.u128(..))
}

/// The id that the request arrived with, valid or not.
pub(super) fn received_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(&REQUEST_ID)
}

/// A UUID of version 4 (RFC 9562 §5.4).
fn uuid(random: u128) -> HeaderValue {
    let random = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let digits = hex_digits(random.to_be_bytes());
    let groups = [&digits[..4], &digits[4..6], &digits[6..8], &digits[8..10], &digits[10..]];
    header_value(groups.map(<[_]>::as_flattened).join(&b'-'))
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

/// A number of `len` lower-case hex digits, and what follows it.
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
