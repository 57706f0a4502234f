//! Follows a member of a replica set by `hello`: at once, and then as soon as its state changes.
//!
//! Source: the driver specification `server-discovery-and-monitoring`. A member answers a `hello` that
//! names the state which the asker knows only when that changes. Such a `hello` shows no round-trip time,
//! so it takes turns with a plain one, on the same connection.

use crate::{
    ProbeSettings,
    bson_writer::BsonWriter,
    element::{Element, elements, kind},
    error_reply,
    placement::tag_set,
    probe::{HelloReply, judge_hello, reply_body},
};
use bytes::{Bytes, BytesMut};
use operation::{MemberState, Monitor, MonitorConfig, MonitorStep, Role};
use std::time::{Duration, SystemTime};

/// How long a member waits for news before it answers.
const MAX_AWAIT: Duration = Duration::from_secs(2);

/// The pause between two questions to a server before MongoDB 4.4, which never waits.
const POLL: Duration = Duration::from_millis(500);

/// The pause after news, so that a server with news at every question is not asked without a pause.
const AFTER_NEWS: Duration = Duration::from_millis(10);

/// The wire version from which on the election decides between two primaries before the config's version
/// (MongoDB 6.0).
const ELECTION_FIRST: i64 = 17;

/// Follows the members of one replica set.
#[derive(Clone, Debug)]
pub struct MemberMonitors {
    expected: ProbeSettings,
}

impl MemberMonitors {
    /// For the set with this name.
    pub fn new(replica_set: &str) -> Self {
        let replica_set = Some(replica_set.to_owned());
        Self { expected: ProbeSettings { replica_set, writable: false } }
    }
}

impl MonitorConfig for MemberMonitors {
    fn begin(&self) -> Box<dyn Monitor> {
        Box::new(MemberMonitor {
            expected: self.expected.clone(),
            requests: 0,
            known: None,
            awaits: false,
        })
    }
}

/// Follows one member over one connection.
struct MemberMonitor {
    expected: ProbeSettings,
    /// The id of the last request.
    requests: u32,
    /// The encoded `topologyVersion` of the last reply.
    known: Option<Vec<u8>>,
    /// The last request is answered only when the state changes.
    awaits: bool,
}

impl Monitor for MemberMonitor {
    fn write_request(&mut self, out: &mut BytesMut) {
        self.requests = (self.requests + 1) & (u32::MAX >> 1);
        let mut body = BsonWriter::new();
        body.int32("hello", 1);
        body.boolean("helloOk", true);
        if let Some(known) = self.known.as_ref().filter(|_| self.awaits) {
            body.element(kind::DOCUMENT, b"topologyVersion", known);
            body.int64("maxAwaitTimeMS", MAX_AWAIT.as_millis() as i64);
        }
        body.string("$db", "admin");
        error_reply::message(self.requests, 0, &body.finish(), out);
    }

    fn read_reply(&mut self, reply: &[u8]) -> MonitorStep {
        let body = match reply_body(reply, self.requests) {
            Ok(None) => return MonitorStep::NeedMore,
            Ok(Some(body)) => body,
            Err(words) => return MonitorStep::Failed(words),
        };
        let state = match member_state(body, &self.expected) {
            Ok(state) => state,
            Err(words) => return MonitorStep::Failed(words),
        };
        let version = elements(body).find(|field| field.name == b"topologyVersion");
        let version = version.map(|version| version.value.to_vec());
        let has_news = self.awaits && version != self.known;
        let is_round_trip = !self.awaits;
        let pause = match () {
            () if version.is_none() => POLL,
            () if has_news => AFTER_NEWS,
            () => Duration::ZERO,
        };
        self.awaits = is_round_trip && version.is_some();
        self.known = version;
        MonitorStep::State { state, is_round_trip, pause }
    }

    fn max_await(&self) -> Duration {
        if self.awaits { MAX_AWAIT } else { Duration::ZERO }
    }
}

/// What a reply to `hello` says of the member; as an error if that is no member of the set.
fn member_state(body: &[u8], expected: &ProbeSettings) -> Result<MemberState, String> {
    let hello = HelloReply::read(body);
    let (role, description) = match judge_hello(body, expected) {
        Ok(words) if hello.is_primary() => (Role::Primary, words),
        Ok(words) if hello.is_readable() => (Role::Secondary, words),
        Ok(words) => (Role::Unknown, words),
        // It may be a member all the same, and know the others: an arbiter, or one that recovers.
        Err(words) if hello.is_of(expected) => (Role::Unknown, words),
        Err(words) => return Err(words),
    };
    let mut state = MemberState {
        role,
        description,
        reply: Bytes::copy_from_slice(body),
        ..MemberState::default()
    };
    let (mut election, mut version, mut wire_version) = (Vec::new(), 0_i64, 0_i64);
    let mut members: Vec<String> = Vec::new();
    for field in elements(body) {
        match field.name {
            b"hosts" | b"passives" => members.extend(texts(&field)),
            b"tags" if field.kind == kind::DOCUMENT => state.tags = tag_set(&field),
            b"lastWrite" => state.last_write = last_write(&field),
            b"electionId" => election = field.value.to_vec(),
            b"setVersion" => version = field.number().unwrap_or_default(),
            b"maxWireVersion" => wire_version = field.number().unwrap_or_default(),
            _ => {}
        }
    }
    state.members = (!members.is_empty()).then_some(members);
    if !election.is_empty() {
        let version = u64::try_from(version).unwrap_or_default().to_be_bytes();
        state.term = match wire_version >= ELECTION_FIRST {
            true => [&election[..], &version].concat(),
            false => [&version, &election[..]].concat(),
        };
    }
    Ok(state)
}

fn texts(list: &Element<'_>) -> impl Iterator<Item = String> {
    let items = list.elements().into_iter().flatten();
    items.filter_map(|item| item.text().map(str::to_ascii_lowercase))
}

fn last_write(field: &Element<'_>) -> Option<SystemTime> {
    let date = field.elements()?.find(|field| field.name == b"lastWriteDate")?;
    let millis = i64::from_le_bytes(*date.value.first_chunk()?);
    Some(SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).ok()?))
}

#[cfg(test)]
mod tests;
