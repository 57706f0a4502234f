//! Health checks: sends `hello`, and judges the reply.
//!
//! Source of the fields' meaning: the driver specification `server-discovery-and-monitoring`.

use crate::{
    checksum, element,
    error_codes::classify,
    error_reply,
    header::{Header, flag, opcode},
    message_view::MessageView,
};
use bytes::BytesMut;
use operation::{Probe, ProbeResult};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};
use values::Diagnostic;

/// The longest reply that is read, in bytes; servers send about one thousand.
const MAX_REPLY_LEN: usize = 64 << 10;
/// How many characters of a name from the server are shown.
const MAX_NAME_CHARS: usize = 64;

/// What a MongoDB server must be to be healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "keys and values, such as `{ replica_set: rs0 }`"
)]
pub struct ProbeSettings {
    /// The replica set that it must be a member of. Default: any, or none.
    pub replica_set: Option<String>,
    /// Whether it must take writes, as a primary, a mongos and a standalone server do.
    /// Default: `false`.
    pub writable: bool,
}

/// What all health checks of one cluster share.
#[derive(Debug, Default)]
pub struct MongoProbeContext {
    /// The settings as configured.
    pub settings: ProbeSettings,
    /// How many requests were numbered.
    requests: AtomicU32,
}

impl MongoProbeContext {
    /// Checks with these settings.
    ///
    /// # Errors
    /// All mistakes in the settings, each with its path of keys.
    pub fn new(settings: ProbeSettings) -> Result<Self, Vec<Diagnostic>> {
        if settings.replica_set.as_ref().is_some_and(String::is_empty) {
            let hint = "write its name, or leave it out";
            return Err(vec![Diagnostic::at(&["replica_set"], "the name is empty", hint)]);
        }
        Ok(Self { settings, requests: AtomicU32::new(0) })
    }
}

/// One health check by `hello`.
#[derive(Debug)]
pub struct MongoProbe {
    context: Arc<MongoProbeContext>,
    /// The request's id. No other check uses it, because connections are reused.
    id: u32,
}

impl MongoProbe {
    /// A new check.
    pub fn new(check: Arc<MongoProbeContext>) -> Self {
        // Request ids are signed on the wire.
        let id = check.requests.fetch_add(1, Relaxed) & (u32::MAX >> 1);
        Self { context: check, id }
    }
}

impl Probe for MongoProbe {
    fn write_request(&mut self, out: &mut BytesMut) {
        error_reply::hello(self.id, out);
    }

    fn evaluate(&mut self, answer: &[u8]) -> ProbeResult {
        match reply_body(answer, self.id) {
            Ok(None) => ProbeResult::NeedMore,
            Ok(Some(body)) => match judge_hello(body, &self.context.settings) {
                Ok(words) => ProbeResult::Healthy(words),
                Err(words) => ProbeResult::Unhealthy(words),
            },
            Err(words) => ProbeResult::Unhealthy(words),
        }
    }
}

/// The reply to the request `id`, once all of it is here, or why it is not usable.
pub(crate) fn reply_body(answer: &[u8], id: u32) -> Result<Option<&[u8]>, String> {
    if let [0x15 | 0x16, 3, 0..=4, ..] = answer {
        return Err("speaks TLS, not MongoDB's protocol".to_owned());
    }
    let Some(len) = answer.first_chunk().map(|len| u32::from_le_bytes(*len)) else {
        return Ok(None);
    };
    let header = Header::read(answer).map_err(|violation| match violation.0 {
        "looks_like_http" => "speaks HTTP, not MongoDB's protocol".to_owned(),
        _ => "does not speak MongoDB's protocol".to_owned(),
    })?;
    let len = len as usize;
    if len > MAX_REPLY_LEN {
        return Err(format!(
            "answers with a message of {len} bytes, at most {MAX_REPLY_LEN} are read"
        ));
    }
    let Some(header) = header else { return Ok(None) };
    if header.opcode != opcode::MSG {
        return Err(format!("answers with opcode {}, not with an OP_MSG", header.opcode));
    }
    if header.response_to != id {
        return Err("answers another request than was asked".to_owned());
    }
    let Some(message) = answer.get(..len) else { return Ok(None) };
    if answer.len() > len {
        return Err("sends more than one answer to one request".to_owned());
    }
    let unreadable = || "answers with a message that can't be read".to_owned();
    let message =
        MessageView::read(message).filter(|read| read.complete && checksum::valid(message));
    let message = message.filter(|message| element::is_complete(message.body));
    let message = message.ok_or_else(unreadable)?;
    if message.flags & flag::MORE_TO_COME != 0 {
        return Err("sends more than one answer to one request".to_owned());
    }
    Ok(Some(message.body))
}

/// The fields of a `hello` reply that matter here.
#[derive(Debug, Default)]
pub(crate) struct HelloReply<'a> {
    pub(crate) ok: bool,
    code: Option<i32>,
    code_name: Option<&'a str>,
    set: Option<&'a str>,
    writable: bool,
    secondary: bool,
    arbiter: bool,
    hidden: bool,
    /// Member of a replica set without a config yet.
    ghost: bool,
    mongos: bool,
}

impl<'a> HelloReply<'a> {
    pub(crate) fn read(body: &'a [u8]) -> Self {
        let mut told = Self::default();
        for element in element::elements(body) {
            match element.name {
                b"ok" => told.ok = element.truthy(),
                b"code" => told.code = element.number().and_then(|code| code.try_into().ok()),
                b"codeName" => told.code_name = element.text(),
                b"setName" => told.set = element.text(),
                b"isWritablePrimary" | b"ismaster" => told.writable |= element.truthy(),
                b"secondary" => told.secondary = element.truthy(),
                b"arbiterOnly" => told.arbiter = element.truthy(),
                b"hidden" => told.hidden = element.truthy(),
                b"isreplicaset" => told.ghost = element.truthy(),
                b"msg" => told.mongos = element.text() == Some("isdbgrid"),
                _ => {}
            }
        }
        told
    }

    /// Whether it takes the writes of a replica set.
    pub(crate) fn is_primary(&self) -> bool {
        self.set.is_some() && self.writable
    }

    /// Whether it is a secondary that serves clients.
    pub(crate) fn is_readable(&self) -> bool {
        self.secondary && !self.hidden && !self.arbiter
    }

    /// Whether it is a member of the expected replica set.
    pub(crate) fn is_of(&self, expected: &ProbeSettings) -> bool {
        self.ok && self.set.is_some() && self.set == expected.replica_set.as_deref()
    }

    /// Whether the error says that the log-in is wrong: the server works.
    pub(crate) fn refuses_login(&self) -> bool {
        // UserNotFound, AuthenticationFailed, MechanismUnavailable.
        matches!(self.code, Some(11 | 18 | 334))
    }

    /// The error's code and name: the server's name for it if the code is not known here.
    pub(crate) fn error(&self) -> String {
        let Some(code) = self.code else { return "an error without a code".to_owned() };
        match (classify(self.code).1, self.code_name) {
            ("other", Some(name)) => format!("error {code} {}", printable(name)),
            ("other", None) => format!("error {code}"),
            (name, _) => format!("error {code} {name}"),
        }
    }
}

/// A description of the server; as an error if it cannot be used.
pub(crate) fn judge_hello(body: &[u8], settings: &ProbeSettings) -> Result<String, String> {
    let told = HelloReply::read(body);
    if !told.ok {
        return Err(format!("answers hello with {}", told.error()));
    }
    let set = told.set.map(printable);
    if let Some(expected) = &settings.replica_set
        && told.set != Some(expected)
    {
        return Err(match set {
            Some(set) => format!("member of the replica set {set}, expected {expected}"),
            None => format!("member of no replica set, expected {expected}"),
        });
    }
    let role = match (set, told.mongos) {
        _ if told.ghost => return Err("member of a replica set without a config yet".to_owned()),
        (_, true) => "mongos".to_owned(),
        (None, _) => "standalone".to_owned(),
        (Some(set), _) if told.arbiter => return Err(format!("arbiter of {set}: has no data")),
        (Some(set), _) if told.writable => format!("primary of {set}"),
        (Some(set), _) if told.secondary && told.hidden => format!("hidden secondary of {set}"),
        (Some(set), _) if told.secondary => format!("secondary of {set}"),
        (Some(set), _) => {
            return Err(format!("neither primary nor secondary of {set}: starting or recovering"));
        }
    };
    if settings.writable && !told.writable {
        return Err(format!("{role}: takes no writes"));
    }
    Ok(role)
}

/// A name without control characters, and not too long.
fn printable(name: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    name.chars().take(MAX_NAME_CHARS).map(shown).collect()
}

#[cfg(test)]
mod tests;
