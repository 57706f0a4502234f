//! The codec of one connection: it names and tracks requests, and replies settle them.

use crate::{
    MongoListener,
    client_state::ClientState,
    cluster_time,
    commands::ReplyKind,
    error_codes,
    error_reply::{self, ReplyFormat},
    in_flight_requests::{InFlightRequest, InFlightRequests},
    presentation::Presentation,
};
use bytes::{Bytes, BytesMut};
use operation::{
    AttributeValue, Codec, ConnectionInfo, ExtraCounter, LateDetails, LocalAnswer, MirroredRead,
    Next, OperationNames, Orphan, Placement, PoolUser, Protocol, ReadPreference, ReadRoute,
    Recovery, RejectReason, Rejection, RejectionRef, Reply, Request, SHAPE_TEXT, ServiceQuery,
    SpanConventions, SpanField, SpanKind, SpanName, Tag, TakenUpstream, UpstreamUse, Violation,
};
use std::{net::SocketAddr, sync::Arc};

mod attribute;
mod failover;
mod logins;
mod pooled;
mod request;
mod streamed_reply;
mod streamed_request;

use pooled::{PooledClient, stripped_after};
use request::DecompressedFront;
use streamed_reply::StreamedReply;
use streamed_request::StreamedRequest;

/// How many bytes of a request are read for its name, its comment and its attributes before the
/// request continues, where no policy needs more.
pub(crate) const MAX_FRONT: usize = 64 * 1024;

/// The error code of a read that no member fits.
const FAILED_TO_SATISFY_READ_PREFERENCE: i32 = 133;

/// The attributes of spans (OpenTelemetry's semantic conventions for MongoDB).
const SPAN_FIELDS: &[(&str, SpanField)] = &[
    ("db.namespace", SpanField::Database),
    ("db.collection.name", SpanField::Collection),
    ("db.operation.name", SpanField::Operation),
    ("db.query.summary", SpanField::SpanName),
    ("db.query.text", SpanField::Text(SHAPE_TEXT)),
    ("db.response.status_code", SpanField::CodeNumber),
    ("db.response.returned_rows", SpanField::ReplyItems),
    ("server", SpanField::Address("endpoint")),
    ("client", SpanField::Address("peer")),
    ("tollgate.app", SpanField::Text("app")),
    ("tollgate.callsite", SpanField::Text("callsite")),
];

/// How many bytes of a request's front a gate keeps for attributes that are read when it settles.
const KEPT_FRONT: usize = 4 * 1024;

/// One connection that speaks MongoDB's wire protocol.
///
/// Fields that are rarely used are boxed, so that an idle connection stays small.
pub struct Mongo {
    listener: Arc<MongoListener>,
    /// The local address of the client's connection.
    local: SocketAddr,
    /// A message was read: the stream cannot be another protocol.
    seen_message: bool,
    /// The command name of the request marked last.
    name: &'static str,
    resource: String,
    /// How many documents the request that ended last carried.
    documents_sent: u64,
    in_flight: InFlightRequests,
    client: Option<Box<ClientState>>,
    /// Of a client whose operations share connections.
    pooled: Option<Box<PooledClient>>,
    /// How many bytes of the request marked last were read: [`MAX_FRONT`], more if a policy held
    /// it, fewer if the request is shorter.
    front_len: usize,
    /// The current request is held: all of it that is here is read.
    rereading: bool,
    /// The decompressed front of the request marked last, if it was compressed.
    decompressed: Option<Box<DecompressedFront>>,
    /// A request that is still arriving and is read while it passes.
    streamed_request: Option<Box<StreamedRequest>>,
    /// What the rest of the request that ended last added to its front.
    learned: Option<Box<LateDetails>>,
    /// A reply that is still arriving.
    streamed_reply: Option<Box<StreamedReply>>,
    /// The cursor that was exhausted last, and its call site, which the last `getMore` still
    /// reports.
    last_closed_cursor: (i64, u16),
}

impl Codec for Mongo {
    const PROTOCOL: Protocol = Protocol {
        stream: false,
        name: "mongo",
        items: Some(ExtraCounter {
            metric: "tollgate_mongo_documents_total",
            help: "Documents in requests, and documents that replies contain or report as affected",
        }),
        codes: Some(ExtraCounter {
            metric: "tollgate_mongo_errors_total",
            help: "Errors in replies, by the name of their code",
        }),
        shapes: Some(ExtraCounter {
            metric: "tollgate_mongo_reads_total",
            help: "Reads by how much of a sharded cluster they reach, judged by the shard key",
        }),
        item_name: "documents",
        attributes: attribute::ATTRIBUTES,
        log_only: &["answered", "pool_wait_ms", "held_ms", "attempts"],
        unknown_operation: "other",
        value_formats: &[(
            "user",
            "@",
            "write it with its database, `root@admin`, or `root@*` for any",
        )],
        logged: &["driver", "max_time_ms", "answered", "pool_wait_ms", "held_ms", "attempts"],
        logged_when_slow: &["query", "query_hash"],
        logged_with_values: &["query_values"],
        span: SpanConventions {
            kind: SpanKind::Client,
            name: SpanName::WithCollection,
            fixed: &[("db.system.name", "mongodb")],
            fields: SPAN_FIELDS,
            codes: error_codes::CODES,
            ..SpanConventions::PLAIN
        },
    };

    type Shared = MongoListener;

    fn new(shared: &Arc<MongoListener>, link: ConnectionInfo) -> Self {
        let numbered = shared.presentation.as_ref().map(Presentation::next_number);
        Self {
            pooled: numbered.map(|number| {
                let mut client = PooledClient::new(number, link.peer.ip());
                client.login = shared.authenticator.as_ref().map(|_| Box::default());
                Box::new(client)
            }),
            listener: Arc::clone(shared),
            local: link.local,
            seen_message: false,
            name: "other",
            resource: String::new(),
            documents_sent: 0,
            in_flight: InFlightRequests::default(),
            client: None,
            front_len: MAX_FRONT,
            rereading: false,
            decompressed: None,
            streamed_request: None,
            learned: None,
            streamed_reply: None,
            last_closed_cursor: (0, 0),
        }
    }

    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        self.next_request(bytes)
    }

    fn names<'b>(&'b self, _: &'b [u8]) -> OperationNames<'b> {
        OperationNames { name: self.name, resource: &self.resource }
    }

    fn request_items(&self) -> u64 {
        self.documents_sent
    }

    fn reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation> {
        self.next_reply(bytes)
    }

    fn attribute<'b>(&'b self, front: &'b [u8], name: &str) -> AttributeValue<'b> {
        self.fact(front, name)
    }

    fn late_attribute<'b>(
        &'b self,
        front: &'b [u8],
        learned: &'b LateDetails,
        name: &str,
    ) -> AttributeValue<'b> {
        self.learned_fact(front, learned, name)
    }

    fn reread(&mut self, tag: Option<Tag>, front: &[u8]) -> usize {
        self.hold_request(tag, front)
    }

    fn retained_bytes(&self) -> usize {
        let inflated = self.decompressed.as_ref().map_or(0, |inflated| inflated.message.len());
        inflated.saturating_sub(MAX_FRONT)
    }

    fn late_details(&mut self) -> Option<Box<LateDetails>> {
        self.shrink_decompressed();
        self.learned.take()
    }

    fn is_hostile(violation: Violation) -> bool {
        violation == crate::violations::DECOMPRESSION_BOMB
    }

    fn reject(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        let Ok(id) = u32::try_from(tag.0) else { return false };
        let refused = self.in_flight.remove_newest(id);
        if let (Some(client), Some(open)) = (&mut self.client, refused) {
            // The request is not sent, so no reply can confirm the login attempt.
            client.login_reply(open.login, false, false);
        }
        // As a router refuses a read that no member fits.
        let unfit = why.reason == RejectReason::NoEndpoint
            && why.code.is_none()
            && self.pooled.as_deref().is_some_and(PooledClient::prefers_members);
        let code = if unfit { Some(FAILED_TO_SATISFY_READ_PREFERENCE) } else { why.code };
        let why = RejectionRef { code, ..*why };
        let label = self.pooled.as_deref().and_then(|client| client.kind.error_label());
        error_reply::write(id, reply_format(refused.as_ref()), &why, label, out);
        true
    }

    /// Current drivers clear their whole pool when the `hello` of one new connection fails with an
    /// error, and then wait for a server check to succeed. If the connection closes instead, they
    /// treat the server as overloaded and keep their other connections (specifications,
    /// client-backpressure). libmongoc takes any error here for a failed login. Permanent reasons
    /// are always sent as an error.
    fn prefers_close(&self, tag: Tag, reason: RejectReason, others: bool) -> bool {
        let passes = matches!(
            reason,
            RejectReason::RateLimited
                | RejectReason::Overloaded
                | RejectReason::NoEndpoint
                | RejectReason::Lost
                | RejectReason::TimedOut
        );
        let greets =
            |id| self.in_flight.newest(id).is_some_and(|open| open.reply_kind == ReplyKind::Hello);
        let closes = |client: &ClientState| {
            client.takes_errors_for_failed_login() || (others && client.supports_backpressure())
        };
        passes
            && self.client.as_deref().is_some_and(closes)
            && u32::try_from(tag.0).is_ok_and(greets)
    }

    fn answer(&mut self, tag: Tag, out: &mut BytesMut) -> LocalAnswer {
        if self.answers_login() { self.answer_login(tag, out) } else { self.answer_hello(tag, out) }
    }

    fn client_certificate(&mut self, subject: &str) {
        self.note_certificate(subject);
    }

    fn query(&mut self) -> Option<ServiceQuery> {
        self.login_query()
    }

    fn upstream_user(&self) -> Option<&PoolUser> {
        self.pool_user()
    }

    fn refusal(&mut self) -> Option<Rejection> {
        self.login_refusal()
    }

    fn placement(&self) -> Placement {
        self.pooled.as_deref().map_or_else(Placement::default, PooledClient::placement)
    }

    fn keeps_request(&self) -> bool {
        let replays = self.listener.replay.max_request > 0;
        self.pooled.as_deref().is_some_and(|client| client.keeps_request(replays))
    }

    fn mirrored_read(&mut self, request: &[u8], keeps_answer: bool) -> Option<MirroredRead> {
        self.copy_read(request, keeps_answer)
    }

    fn mirrored_answer(&mut self) -> Option<Vec<u8>> {
        self.pooled.as_deref_mut()?.answer.take()
    }

    fn recovery(&self) -> Recovery {
        let client = self.pooled.as_deref();
        client.map_or_else(Recovery::default, |client| client.recovery(self.listener.replay))
    }

    fn rewrite_resent(&mut self, request: Box<[u8]>) -> Box<[u8]> {
        self.remove_number(request)
    }

    fn route_read(&mut self, front: &[u8], preference: &ReadPreference) -> ReadRoute {
        self.route(front, preference)
    }

    fn upstream_taken(&mut self, upstream: TakenUpstream) {
        if let Some(client) = self.pooled.as_deref_mut() {
            client.upstream_taken(upstream, &self.listener.owners);
        }
    }

    fn edit_front(&mut self, front: &[u8]) -> Option<(usize, Bytes)> {
        match (self.add_number(front), self.strips_time()) {
            (Some((len, with)), true) => Some(stripped_after(front, len, with)),
            (None, true) => cluster_time::strip_front(front).map(|(len, with)| (len, with.into())),
            (numbered, false) => numbered,
        }
    }

    fn continues_state(&self) -> bool {
        self.pooled.as_deref().is_some_and(PooledClient::continues_state)
    }

    /// A client that has never seen a cluster time of one deployment can go on at another one, unless it has
    /// logged in: the key of its log-in may be of no use there.
    fn outlives_switch(&self) -> bool {
        let login = self.pooled.as_deref().and_then(|client| client.login.as_ref());
        self.strips_time() && login.is_none_or(|login| !login.is_logged_in())
    }

    fn upstream_use(&self) -> UpstreamUse {
        self.pooled.as_deref().map_or(UpstreamUse::Free, PooledClient::upstream_use)
    }

    fn left_behind(&mut self) -> Vec<Box<dyn Orphan>> {
        self.leave()
    }

    fn operator_notice(&mut self) -> Option<String> {
        self.listener.notices.pop()
    }

    /// The late reply is still read, to its last part if replies stream: it may log the user in, or
    /// exhaust a cursor. A cursor that it opens is left to the server's time-out.
    fn give_up(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        let Ok(id) = u32::try_from(tag.0) else { return false };
        if self.prefers_close(tag, why.reason, true) {
            return false;
        }
        let coming = self.streamed_reply.as_ref().map(|receiving| receiving.response_to());
        let Some(open) = self.in_flight.abandon(id, coming) else { return false };
        error_reply::write(id, reply_format(Some(&open)), why, None, out);
        true
    }
}

#[cfg(test)]
impl Mongo {
    /// As if the client's `hello` had offered every compressor.
    pub(crate) fn offer_to_compress(&mut self) {
        let hello = crate::testing::offers().to_vec().unwrap_or_default();
        self.client.get_or_insert_default().read_hello(&hello);
    }
}

/// The message format that answers a request.
fn reply_format(open: Option<&InFlightRequest>) -> ReplyFormat {
    match open {
        Some(open) if open.legacy && open.reply_kind == ReplyKind::Query => {
            ReplyFormat::LegacyQuery
        }
        Some(open) if open.legacy => ReplyFormat::LegacyCommand,
        _ => ReplyFormat::Message,
    }
}

#[cfg(test)]
mod tests;
