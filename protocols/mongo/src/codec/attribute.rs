//! Attributes of the connection and of requests, read when a policy or a log line needs them.

use super::{MAX_FRONT, Mongo, request};
use crate::{
    client_state::ClientState,
    commands::ReplyKind,
    comment,
    driver_support::outdated,
    element::{Element, elements, kind},
    header::{Header, opcode},
    message_view::MessageView,
    namespaces,
    parsed_command::{CommandHead, ParsedCommand, UNREAD},
    shape, write_effect,
};
use operation::{
    AttributeSet, AttributeValue, BACKS_OFF, CLOSED_CURSORS, LateDetails, OTHER_RESOURCES,
    OUTDATED_DRIVER, SHAPE_TEXT, TRACEPARENT, TRACESTATE, WRITES,
};
use std::borrow::Cow;

/// Every attribute of operations, in the order of their numbers.
pub(super) const ATTRIBUTES: &[&str] = &[
    "app",
    "driver",
    "user",
    "callsite",
    "comment",
    "trace_id",
    "max_time_ms",
    "database",
    "collection",
    OTHER_RESOURCES,
    "query_hash",
    WRITES,
    BACKS_OFF,
];

const CALLSITE: AttributeSet = AttributeSet::of(3);
const COMMENT: AttributeSet = AttributeSet::of(4);
const TRACE_ID: AttributeSet = AttributeSet::of(5);
const MAX_TIME_MS: AttributeSet = AttributeSet::of(6);

/// The attributes that are read from a request.
pub(super) const IN_REQUEST: [&str; 15] = [
    "callsite",
    "comment",
    "trace_id",
    TRACEPARENT,
    TRACESTATE,
    "max_time_ms",
    "database",
    "collection",
    OTHER_RESOURCES,
    WRITES,
    "query",
    "query_hash",
    "query_values",
    SHAPE_TEXT,
    CLOSED_CURSORS,
];

/// How many bytes of a request its query hash is computed from: at most as many as a gate keeps, so
/// that the hash is the same at admission and in the log.
const MAX_HASHED: usize = super::KEPT_FRONT;

impl Mongo {
    pub(super) fn fact<'b>(&'b self, front: &'b [u8], name: &str) -> AttributeValue<'b> {
        let client = self.client.as_deref();
        match name {
            "app" => client.and_then(ClientState::app).into(),
            "driver" => client.and_then(ClientState::driver).into(),
            "user" => client.map_or(AttributeValue::Absent, ClientState::user),
            OUTDATED_DRIVER => client.and_then(ClientState::driver).and_then(outdated).into(),
            BACKS_OFF => client.is_some_and(ClientState::supports_backpressure).into(),
            _ if IN_REQUEST.contains(&name) => {
                self.fact_in_request(&front[..front.len().min(self.front_len.max(MAX_FRONT))], name)
            }
            _ => AttributeValue::Absent,
        }
    }

    fn fact_in_request<'b>(&'b self, front: &'b [u8], name: &str) -> AttributeValue<'b> {
        match self.uncompressed_front(front) {
            Some(Cow::Borrowed(front)) => match MessageView::read(front) {
                Some(message) => self.request_fact(&message, name),
                None => AttributeValue::Unknown,
            },
            Some(Cow::Owned(front)) => match MessageView::read(&front) {
                Some(message) => self.request_fact(&message, name).into_owned(),
                None => AttributeValue::Unknown,
            },
            None => AttributeValue::Unknown,
        }
    }

    /// An attribute that the front did not contain, after the rest of the request was read.
    pub(super) fn learned_fact<'b>(
        &'b self,
        front: &'b [u8],
        learned: &'b LateDetails,
        name: &str,
    ) -> AttributeValue<'b> {
        if name != "query_hash" {
            return self.fact(&learned.head, name);
        }
        // The query is in the front; the namespace was found further on.
        let front = self.uncompressed_front(front);
        let hashed = front.as_deref().and_then(hashed_part);
        hashed.map_or(AttributeValue::Unknown, |part| hash(&learned.name, &learned.resource, &part))
    }

    /// The front of a request, decompressed if necessary.
    fn uncompressed_front<'b>(&'b self, front: &'b [u8]) -> Option<Cow<'b, [u8]>> {
        let header = Header::read(front).ok()??;
        if header.opcode != opcode::COMPRESSED {
            return Some(Cow::Borrowed(front));
        }
        let front = &front[..front.len().min(header.len as usize)];
        match self
            .decompressed
            .as_deref()
            .filter(|inflated| front.starts_with(&inflated.wire_prefix))
        {
            Some(inflated) => Some(Cow::Borrowed(&inflated.message)),
            None => request::decompressed_front(front).map(Cow::Owned),
        }
    }

    /// An attribute that is read from the request itself.
    fn request_fact<'b>(&'b self, message: &MessageView<'b>, name: &str) -> AttributeValue<'b> {
        let outline = CommandHead::read(message);
        match name {
            WRITES => {
                let writes = write_effect::writes(message);
                writes.map_or_else(|| unread_or_unknown(message), AttributeValue::from)
            }
            _ if outline.unread => unread_or_unknown(message),
            "trace_id" | TRACEPARENT if !outline.sensitive => match comment::parent_span(message) {
                None if message.truncated
                    && !(message.sections_located && message.has_complete_body()) =>
                {
                    unread_or_unknown(message)
                }
                parent if name == TRACEPARENT => parent.into(),
                parent => parent.map(comment::trace_id).into(),
            },
            TRACESTATE if !outline.sensitive => comment::trace_state(message).into(),
            "max_time_ms" => match field(message, |field| field.name == b"maxTimeMS") {
                Ok(limit) => {
                    limit.number().map_or(AttributeValue::Unknown, |limit| limit.to_string().into())
                }
                Err(fact) => fact,
            },
            "database" | "collection" | OTHER_RESOURCES => resources(message, name),
            // Nothing of a sensitive command may be shown.
            _ if outline.sensitive => AttributeValue::Absent,
            "query_hash" => query_hash(message),
            SHAPE_TEXT => shape_text(message),
            CLOSED_CURSORS => closed_cursors(message),
            "comment" => comment_of(message),
            "callsite" => match comment::find(message) {
                Some(comment) if comment.kind == kind::MIN_KEY => AttributeValue::Unknown,
                Some(comment) => comment::call_site(&comment)
                    .or_else(|| self.get_more_call_site(&outline))
                    .into(),
                None if outline.reply_kind == ReplyKind::GetMore => {
                    self.get_more_call_site(&outline).into()
                }
                None => {
                    field(message, comment::is_comment).err().unwrap_or(AttributeValue::Unknown)
                }
            },
            _ => query(message, name),
        }
    }

    /// The call site of the request that opened the cursor of a `getMore`.
    fn get_more_call_site(&self, outline: &CommandHead) -> Option<Cow<'_, str>> {
        (outline.reply_kind == ReplyKind::GetMore)
            .then(|| self.cursor_call_site(outline.cursor_id))
            .flatten()
    }

    /// The call site of the request that opened a cursor.
    pub(super) fn cursor_call_site(&self, cursor: i64) -> Option<Cow<'_, str>> {
        let number = match self.last_closed_cursor {
            (closed, callsite) if closed == cursor => callsite,
            _ => self.listener.cursors.get(cursor).callsite,
        };
        self.listener.call_sites.get(number).map(Cow::Borrowed)
    }
}

/// The attributes that a request is known not to have: most have no comment and no time limit.
pub(super) fn absent(message: &MessageView<'_>, asked: &ParsedCommand) -> AttributeSet {
    let mut absent = AttributeSet::default();
    // Of legacy requests, and of those that break a rule, more than one field may count. What is not read
    // yet may be anything, and the name of an unknown command may be that of a field.
    let unusual = message.header.opcode != opcode::MSG || !asked.command.is_known();
    if unusual || asked.violation.is_some() || asked.partial {
        return absent;
    }
    if !asked.has_time_limit {
        absent = absent.with(MAX_TIME_MS);
    }
    if !asked.has_comment && message.telemetry.is_empty() {
        absent = absent.with(COMMENT).with(TRACE_ID);
        // A `getMore` may have the call site of the request that opened its cursor.
        if asked.reply_kind != ReplyKind::GetMore {
            absent = absent.with(CALLSITE);
        }
    }
    absent
}

/// The value is not in the bytes that are here: unread if more bytes follow, unknown if not.
fn unread_or_unknown<'b>(message: &MessageView<'_>) -> AttributeValue<'b> {
    if message.truncated { AttributeValue::Unread } else { AttributeValue::Unknown }
}

/// A field of a command; if it is not found, whether it is absent, unread or unknown.
fn field<'b>(
    message: &MessageView<'b>,
    is: impl Fn(Element<'b>) -> bool,
) -> Result<Element<'b>, AttributeValue<'b>> {
    let mut fields = elements(message.body);
    let found = fields.by_ref().find(|field| is(*field));
    found.ok_or_else(|| match fields.is_complete() {
        true => AttributeValue::Absent,
        false => unread_or_unknown(message),
    })
}

/// The hash of a request's query: of its namespace, wherever that is, and of its front.
fn query_hash<'b>(message: &MessageView<'_>) -> AttributeValue<'b> {
    let mut resource = String::new();
    let asked = ParsedCommand::parse(message, &mut resource);
    if message.truncated && resource.starts_with(UNREAD) {
        return AttributeValue::Unread;
    }
    let part = hashed_part(message.bytes());
    part.map_or(AttributeValue::Unknown, |part| hash(asked.shape_name(), &resource, &part))
}

/// The part of a request that its query hash is computed from.
fn hashed_part(front: &[u8]) -> Option<MessageView<'_>> {
    MessageView::read(&front[..front.len().min(MAX_HASHED)])
}

fn hash<'b>(command: &str, resource: &str, part: &MessageView<'_>) -> AttributeValue<'b> {
    format!("{:016x}", shape::hash(command, resource, &part.body_with_sequences())).into()
}

/// The shape of a request's query, or the query with its values.
fn query<'b>(message: &MessageView<'b>, name: &str) -> AttributeValue<'b> {
    let asked = ParsedCommand::parse(message, &mut String::new());
    let body = message.body_with_sequences();
    let mut out = String::new();
    shape::query(asked.shape_name(), &body, name == "query_values", &mut out);
    Some(out).filter(|out| !out.is_empty()).map(Cow::Owned).into()
}

/// The text of the row that the request is counted in.
fn shape_text<'b>(message: &MessageView<'b>) -> AttributeValue<'b> {
    let asked = ParsedCommand::parse(message, &mut String::new());
    let mut out = String::new();
    shape::row_text(asked.shape_name(), message, &mut out);
    Some(out).filter(|out| !out.is_empty()).map(Cow::Owned).into()
}

/// The cursors that a `killCursors` closes.
fn closed_cursors<'b>(message: &MessageView<'b>) -> AttributeValue<'b> {
    let field = elements(message.body).find(|field| field.name == b"cursors");
    let ids = field.and_then(|field| field.elements()).into_iter().flatten();
    let ids: Vec<String> = ids.filter_map(|id| Some(id.number()?.to_string())).collect();
    ids.join(",").into()
}

/// The comment of a request: several if servers may differ in which one they use.
fn comment_of<'b>(message: &MessageView<'b>) -> AttributeValue<'b> {
    let explains = elements(message.body).next().is_some_and(|first| first.name == b"explain");
    if !message.is_legacy_query() && !explains {
        // Nearly always one field or none.
        return match field(message, comment::is_comment) {
            Ok(comment) if comment.kind == kind::MIN_KEY => AttributeValue::Unknown,
            Ok(comment) if comment.name == b"comment" && !comment::has_two_comments(message) => {
                AttributeValue::Known(comment::text(&comment))
            }
            Ok(_) => comments_of(message, false),
            Err(fact) => fact,
        };
    }
    comments_of(message, explains)
}

/// The same for a request in which several fields may be the comment.
fn comments_of<'b>(message: &MessageView<'b>, explains: bool) -> AttributeValue<'b> {
    let all = comment::all(message);
    // A command has one comment of its own, or the request violates a rule.
    let own = elements(message.body).any(|field| field.name == b"comment");
    if !message.has_complete_body() && (!own || explains) {
        return unread_or_unknown(message);
    }
    if all.iter().any(|comment| comment.kind == kind::MIN_KEY) {
        return AttributeValue::Unknown;
    }
    let mut texts: Vec<_> = all.iter().map(comment::text).collect();
    texts.dedup();
    match texts.len() {
        0 => AttributeValue::Absent,
        1 => texts.pop().map_or(AttributeValue::Absent, AttributeValue::Known),
        _ => AttributeValue::Multiple(texts),
    }
}

/// The namespaces of a request: the databases or collections of its resource and of the other
/// resources that it names, or the other resources alone.
fn resources<'b>(message: &MessageView<'b>, name: &str) -> AttributeValue<'b> {
    let mut resource = String::new();
    ParsedCommand::parse(message, &mut resource);
    let resource = resource.as_str();
    let database = resource.split_once('.').map_or(resource, |(database, _)| database);
    let others = namespaces::other_namespaces(message, database).into_owned();
    let part = |namespace: &str| match (name, namespace.split_once('.')) {
        ("database", Some((database, _))) => Some(database.to_owned()),
        ("database", None) => Some(namespace.to_owned()),
        (_, found) => found.map(|(_, collection)| collection.to_owned()),
    };
    let others = match others {
        others if name == OTHER_RESOURCES || others.is_undetermined() => return others,
        AttributeValue::Multiple(others) => others,
        _ => Vec::new(),
    };
    let all = std::iter::once(resource).chain(others.iter().map(|it| &**it)).filter_map(part);
    let mut all: Vec<Cow<'static, str>> = all.map(Cow::Owned).collect();
    all.dedup();
    match all.as_slice() {
        _ if resource == UNREAD || all.iter().any(|it| *it == UNREAD) => unread_or_unknown(message),
        [] => AttributeValue::Absent,
        [one] => AttributeValue::Known(one.clone()),
        _ => AttributeValue::Multiple(all),
    }
}
