//! Facts about the connection and about requests, found when a policy or a log line asks.

use super::{FRONT, Mongo, request};
use crate::{
    asked::Asked,
    client::Client,
    commands::Role,
    comment, effect,
    element::elements,
    header::{Header, opcode},
    message::Message,
    shape,
};
use std::borrow::Cow;

/// The facts that are found in a request.
pub(super) const IN_REQUEST: [&str; 9] = [
    "callsite",
    "comment",
    "trace_id",
    "max_time_ms",
    "database",
    "collection",
    "query",
    "query_hash",
    "query_values",
];

/// The bytes of a request that its query's hash is made of: no more than a gate keeps of it, so
/// that an operation has the same hash when it comes and when it is logged.
const HASHED: usize = 4 * 1024;

impl Mongo {
    pub(super) fn fact<'b>(&'b self, front: &'b [u8], name: &str) -> Option<Cow<'b, str>> {
        let client = self.client.as_deref();
        let known = match name {
            "app" => client.and_then(Client::app),
            "driver" => client.and_then(Client::driver),
            "user" => client.and_then(Client::user),
            "backs_off" => Some(truth(client.is_some_and(Client::backs_off))),
            // What can't be read may do anything.
            "writes" => Some(truth(self.may_write(front).unwrap_or(true))),
            _ if IN_REQUEST.contains(&name) => {
                return self.in_request(&front[..front.len().min(FRONT)], name);
            }
            _ => None,
        };
        known.map(Cow::Borrowed)
    }

    fn in_request<'b>(&'b self, front: &'b [u8], name: &str) -> Option<Cow<'b, str>> {
        let wanted = if name == "query_hash" { HASHED } else { FRONT };
        let cut = |len: usize| ..len.min(wanted);
        match self.plain(front)? {
            Cow::Borrowed(front) => self.told(&Message::read(&front[cut(front.len())])?, name),
            Cow::Owned(front) => {
                let told = self.told(&Message::read(&front[cut(front.len())])?, name)?;
                Some(Cow::Owned(told.into_owned()))
            }
        }
    }

    /// Whether the request whose front this is may change data; `None` if it can't be read.
    fn may_write(&self, front: &[u8]) -> Option<bool> {
        let front = self.plain(&front[..front.len().min(FRONT)])?;
        Some(effect::writes(&Message::read(&front)?))
    }

    /// The front of a request as it is when nothing is compressed.
    fn plain<'b>(&'b self, front: &'b [u8]) -> Option<Cow<'b, [u8]>> {
        let header = Header::read(front).ok()??;
        if header.opcode != opcode::COMPRESSED {
            return Some(Cow::Borrowed(front));
        }
        let front = &front[..front.len().min(header.len as usize)];
        match self.inflated.as_deref().filter(|inflated| front.starts_with(&inflated.wire)) {
            Some(inflated) => Some(Cow::Borrowed(&inflated.message)),
            None => request::inflated_front(front).map(Cow::Owned),
        }
    }

    /// What a request itself tells.
    fn told<'b>(&'b self, message: &Message<'b>, name: &str) -> Option<Cow<'b, str>> {
        let mut resource = String::new();
        let asked = Asked::read(message, &mut resource);
        let (database, collection) = match resource.split_once('.') {
            Some((database, collection)) => (database, Some(collection)),
            None => (resource.as_str(), None),
        };
        match name {
            "database" => (!database.is_empty()).then(|| database.to_owned().into()),
            "collection" => collection.map(|collection| collection.to_owned().into()),
            "trace_id" if !asked.secret => comment::trace_id(message).map(Cow::Borrowed),
            "max_time_ms" => {
                let limit = elements(message.body).find(|field| field.name == b"maxTimeMS")?;
                Some(limit.number()?.to_string().into())
            }
            // Nothing that was said in secret may be shown.
            _ if asked.secret => None,
            "callsite" if asked.role == Role::GetMore => self.opened_at(asked.cursor),
            "callsite" => comment::callsite(&comment::find(message)?),
            "comment" => Some(comment::text(&comment::find(message)?)),
            "query_hash" => {
                Some(format!("{:016x}", shape::hash(asked.name, &message.inline())).into())
            }
            _ => {
                let mut out = String::new();
                let body = message.inline();
                shape::query(asked.name, &body, name == "query_values", &mut out);
                (!out.is_empty()).then_some(out.into())
            }
        }
    }

    /// The call site of the request that opened a cursor.
    pub(super) fn opened_at(&self, cursor: i64) -> Option<Cow<'_, str>> {
        let number = match self.closed {
            (closed, callsite) if closed == cursor => callsite,
            _ => self.listener.cursors.get(cursor).callsite,
        };
        self.listener.names.get(number).map(Cow::Borrowed)
    }
}

fn truth(holds: bool) -> &'static str {
    if holds { "true" } else { "false" }
}
