//! The messages that the proxy writes itself: refusals, and its own `ping` and `hello`.

use crate::{
    comment::truncate,
    error_codes,
    header::{HEADER_LEN, opcode},
};
use bytes::{BufMut, BytesMut};
use operation::{RejectReason, RejectionRef};
use std::{borrow::Cow, time::Duration};

/// The longest message of a refusal that is passed on, in bytes.
const MAX_MESSAGE_TEXT: usize = 1024;

/// Which message a refusal must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyFormat {
    /// `OP_MSG`.
    Message,
    /// `OP_REPLY` to a command.
    LegacyCommand,
    /// `OP_REPLY` to a query for documents.
    LegacyQuery,
}

/// Tells drivers that they should back off (specifications, client-backpressure).
const OVERLOADED: &str = "SystemOverloadedError";
/// Tells drivers that nothing was done, and that they may try again.
const RETRYABLE: &str = "RetryableError";

/// The error that stands for a reason, and its labels.
///
/// A standing no has none, so that nobody tries again; and none of these codes make drivers drop
/// their connections.
fn code_and_labels(reason: RejectReason) -> (i32, &'static str, &'static [&'static str]) {
    match reason {
        RejectReason::RateLimited | RejectReason::Overloaded => {
            (462, "IngressRequestRateLimitExceeded", &[OVERLOADED, RETRYABLE])
        }
        RejectReason::Denied => (13, "Unauthorized", &[]),
        RejectReason::NoEndpoint | RejectReason::Lost => (6, "HostUnreachable", &[]),
        RejectReason::TimedOut => (50, "MaxTimeMSExpired", &[]),
        RejectReason::Injected => (8000, "InjectedFault", &[]),
        RejectReason::Invalid => (9, "FailedToParse", &[]),
        RejectReason::TooLarge => (10334, "BSONObjectTooLarge", &[]),
    }
}

/// The name of a code that somebody asked for; one that is not known is called as servers do.
fn code_name(code: i32) -> Cow<'static, str> {
    error_codes::name(code).map_or_else(|| format!("Location{code}").into(), Cow::Borrowed)
}

/// Writes a refusal of the request with this number.
pub(crate) fn write(request: u32, family: ReplyFormat, why: &RejectionRef<'_>, out: &mut BytesMut) {
    let (usual, name, labels) = code_and_labels(why.reason);
    let code = why.code.unwrap_or(usual);
    let name = if code == usual { Cow::Borrowed(name) } else { code_name(code) };
    let labels: Vec<&str> = match why.labels {
        [] => labels.to_vec(),
        given => given.iter().map(|label| &**label).collect(),
    };
    let words = truncate(why.message, MAX_MESSAGE_TEXT);
    let mut body = Document::default();
    match family {
        ReplyFormat::LegacyQuery => body.string("$err", words),
        ReplyFormat::Message | ReplyFormat::LegacyCommand => {
            body.double("ok", 0.0);
            body.string("errmsg", words);
        }
    }
    body.int32("code", code);
    body.string("codeName", &name);
    if !labels.is_empty() {
        body.strings("errorLabels", &labels);
    }
    if let Some(wait) = why.retry_after.filter(|_| labels.contains(&OVERLOADED)) {
        body.int64("baseBackoffMS", millis(wait));
    }
    match family {
        ReplyFormat::Message => message(0, request, &body.end(), out),
        ReplyFormat::LegacyCommand => reply(8, request, &body.end(), out),
        ReplyFormat::LegacyQuery => reply(2, request, &body.end(), out),
    }
}

/// Whole milliseconds, an `int64` as servers send it. Drivers take 0 for nothing said.
fn millis(wait: Duration) -> i64 {
    i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX).max(1)
}

/// Writes a request that every server answers, logged in or not.
pub(crate) fn ping(out: &mut BytesMut) {
    let mut body = Document::default();
    body.int32("ping", 1);
    body.string("$db", "admin");
    message(1, 0, &body.end(), out);
}

/// Writes a request that every server answers with its state, logged in or not.
pub(crate) fn hello(id: u32, out: &mut BytesMut) {
    let mut body = Document::default();
    body.int32("hello", 1);
    body.string("$db", "admin");
    message(id, 0, &body.end(), out);
}

fn message(id: u32, answers: u32, body: &[u8], out: &mut BytesMut) {
    put_header(HEADER_LEN + 5 + body.len(), id, answers, opcode::MSG, out);
    out.put_u32_le(0);
    out.put_u8(0);
    out.put_slice(body);
}

fn reply(flags: u32, answers: u32, body: &[u8], out: &mut BytesMut) {
    put_header(HEADER_LEN + 20 + body.len(), 0, answers, opcode::REPLY, out);
    out.put_u32_le(flags);
    out.put_i64_le(0);
    out.put_u32_le(0);
    out.put_u32_le(1);
    out.put_slice(body);
}

fn put_header(len: usize, id: u32, answers: u32, opcode: i32, out: &mut BytesMut) {
    out.put_u32_le(len as u32);
    out.put_u32_le(id);
    out.put_u32_le(answers);
    out.put_i32_le(opcode);
}

/// A BSON document that is being written. Keys and texts here hold no NUL.
#[derive(Default)]
struct Document {
    fields: Vec<u8>,
}

impl Document {
    fn key(&mut self, kind: u8, key: &str) {
        self.fields.push(kind);
        self.fields.extend_from_slice(key.as_bytes());
        self.fields.push(0);
    }

    fn double(&mut self, key: &str, value: f64) {
        self.key(0x01, key);
        self.fields.put_f64_le(value);
    }

    fn int32(&mut self, key: &str, value: i32) {
        self.key(0x10, key);
        self.fields.put_i32_le(value);
    }

    fn int64(&mut self, key: &str, value: i64) {
        self.key(0x12, key);
        self.fields.put_i64_le(value);
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(0x02, key);
        self.fields.put_u32_le(value.len() as u32 + 1);
        self.fields.extend_from_slice(value.as_bytes());
        self.fields.push(0);
    }

    fn strings(&mut self, key: &str, values: &[&str]) {
        let mut array = Self::default();
        for (at, value) in values.iter().enumerate() {
            array.string(&at.to_string(), value);
        }
        self.key(0x04, key);
        self.fields.extend_from_slice(&array.end());
    }

    fn end(mut self) -> Vec<u8> {
        let len = self.fields.len() as u32 + 5;
        self.fields.splice(..0, len.to_le_bytes());
        self.fields.push(0);
        self.fields
    }
}

#[cfg(test)]
mod tests;
