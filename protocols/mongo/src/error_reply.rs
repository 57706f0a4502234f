//! The messages that the proxy writes itself: error replies, `hello` and replies to it.

use crate::{
    bson_writer::{BsonWriter, string_array},
    comment::truncate,
    element::kind,
    error_codes,
    header::{HEADER_LEN, REPLY_PREFIX_LEN, flag, opcode},
};
use bytes::{BufMut, BytesMut};
use operation::{RejectReason, RejectionRef};
use std::{borrow::Cow, time::Duration};

/// The longest error message that is sent, in bytes.
const MAX_MESSAGE_TEXT: usize = 1024;

/// The format of an error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyFormat {
    /// `OP_MSG`.
    Message,
    /// `OP_REPLY` to a command.
    LegacyCommand,
    /// `OP_REPLY` to a query for documents.
    LegacyQuery,
}

/// The label that asks drivers to back off (specifications, client-backpressure).
const OVERLOADED: &str = "SystemOverloadedError";
/// The label that allows drivers to retry: nothing was done.
const RETRYABLE: &str = "RetryableError";

/// The error code, its name and its labels for a reason.
///
/// Permanent reasons have no labels, so that drivers do not retry. None of these codes make drivers
/// close their connections.
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

/// The name of a configured code; an unknown one is named as servers do.
fn code_name(code: i32) -> Cow<'static, str> {
    error_codes::name(code).map_or_else(|| format!("Location{code}").into(), Cow::Borrowed)
}

/// Writes the error reply to the request with this id. `label`: another label than those of the reason, if
/// the server could not be reached or was lost.
pub(crate) fn write(
    request: u32,
    family: ReplyFormat,
    why: &RejectionRef<'_>,
    label: Option<&str>,
    out: &mut BytesMut,
) {
    let (usual, name, labels) = code_and_labels(why.reason);
    let code = why.code.unwrap_or(usual);
    let name = if code == usual { Cow::Borrowed(name) } else { code_name(code) };
    let labels: Vec<&str> = match why.labels {
        [] if matches!(why.reason, RejectReason::NoEndpoint | RejectReason::Lost) => {
            label.into_iter().collect()
        }
        [] => labels.to_vec(),
        given => given.iter().map(|label| &**label).collect(),
    };
    let words = truncate(why.message, MAX_MESSAGE_TEXT);
    let mut body = BsonWriter::new();
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
        body.array("errorLabels", string_array(labels.iter().copied()));
    }
    if let Some(wait) = why.retry_after.filter(|_| labels.contains(&OVERLOADED)) {
        body.int64("baseBackoffMS", millis(wait));
    }
    match family {
        ReplyFormat::Message => message(0, request, &body.finish(), out),
        ReplyFormat::LegacyCommand => reply(8, request, &body.finish(), out),
        ReplyFormat::LegacyQuery => reply(2, request, &body.finish(), out),
    }
}

/// Whole milliseconds as an `int64`, as servers send it. Drivers ignore 0.
fn millis(wait: Duration) -> i64 {
    i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX).max(1)
}

/// Writes a request that every server answers with its state, also before authentication.
pub(crate) fn hello(id: u32, out: &mut BytesMut) {
    let mut body = BsonWriter::new();
    body.int32("hello", 1);
    body.string("$db", "admin");
    message(id, 0, &body.finish(), out);
}

/// Writes the `hello` of a new pooled connection, which names the proxy as the driver of the client.
/// `mechanisms_of`: the user, `db.name`, whose mechanisms of log-ins the reply is to list.
pub(crate) fn client_hello(
    id: u32,
    application: Option<&str>,
    mechanisms_of: Option<&str>,
    out: &mut BytesMut,
) {
    let (mut driver, mut os) = (BsonWriter::new(), BsonWriter::new());
    driver.string("name", "tollgate");
    driver.string("version", env!("CARGO_PKG_VERSION"));
    os.string("type", std::env::consts::OS);
    let mut client = BsonWriter::new();
    if let Some(name) = application {
        let mut application = BsonWriter::new();
        application.string("name", name);
        client.element(kind::DOCUMENT, b"application", &application.finish());
    }
    client.element(kind::DOCUMENT, b"driver", &driver.finish());
    client.element(kind::DOCUMENT, b"os", &os.finish());
    let mut body = BsonWriter::new();
    body.int32("hello", 1);
    body.boolean("helloOk", true);
    body.element(kind::DOCUMENT, b"client", &client.finish());
    if let Some(user) = mechanisms_of {
        body.string("saslSupportedMechs", user);
    }
    body.string("$db", "admin");
    message(id, 0, &body.finish(), out);
}

/// Writes a reply to a `hello`. `number` identifies the reply; `answers` is the request, or the reply
/// that this one follows. `more`: another one follows without a request.
pub(crate) fn hello_reply(
    format: ReplyFormat,
    (number, answers): (u32, u32),
    more: bool,
    body: &[u8],
    out: &mut BytesMut,
) {
    match format {
        ReplyFormat::Message => {
            let flags = if more { flag::MORE_TO_COME } else { 0 };
            flagged_message(flags, number, answers, body, out);
        }
        ReplyFormat::LegacyCommand | ReplyFormat::LegacyQuery => reply(8, answers, body, out),
    }
}

/// Writes an `OP_MSG`; `answers` is 0 for a request.
pub(crate) fn message(id: u32, answers: u32, body: &[u8], out: &mut BytesMut) {
    flagged_message(0, id, answers, body, out);
}

fn flagged_message(flags: u32, id: u32, answers: u32, body: &[u8], out: &mut BytesMut) {
    put_header(HEADER_LEN + 5 + body.len(), id, answers, opcode::MSG, out);
    out.put_u32_le(flags);
    out.put_u8(0);
    out.put_slice(body);
}

fn reply(flags: u32, answers: u32, body: &[u8], out: &mut BytesMut) {
    put_header(HEADER_LEN + REPLY_PREFIX_LEN + body.len(), 0, answers, opcode::REPLY, out);
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

#[cfg(test)]
mod tests;
