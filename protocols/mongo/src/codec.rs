//! The codec of one connection: requests are named and remembered, replies settle them.

use crate::{
    Listener,
    client_state::ClientState,
    commands::ReplyKind,
    error_reply::{self, ReplyFormat},
    in_flight_requests::{InFlightRequest, InFlightRequests},
};
use bytes::BytesMut;
use operation::{
    AttributeValue, Codec, ConnectionInfo, ExtraCounter, LateDetails, Next, OTHER_RESOURCES,
    OperationNames, Protocol, RejectReason, RejectionRef, Reply, Request, Tag, Violation,
};
use std::{net::SocketAddr, sync::Arc};

mod attribute;
mod request;
mod streamed_reply;
mod streamed_request;

use request::DecompressedFront;
use streamed_reply::StreamedReply;
use streamed_request::StreamedRequest;

/// How far into a request its name, its comment and everything else is looked for before it goes
/// on, in bytes, where no policy needs more.
pub(crate) const MAX_FRONT: usize = 64 * 1024;

/// How much of a request's front a gate keeps, in bytes, for who asks when it has ended.
const KEPT_FRONT: usize = 4 * 1024;

/// One connection that speaks MongoDB's wire protocol.
///
/// What is used now and then only is boxed, so that an idle connection stays small.
pub struct Mongo {
    listener: Arc<Listener>,
    /// The address at which the client came in.
    local: SocketAddr,
    /// A message was seen: what follows is no other protocol.
    seen_message: bool,
    /// The words for the request marked last.
    name: &'static str,
    resource: String,
    /// How many documents the request that ended last carried.
    documents_sent: u64,
    in_flight: InFlightRequests,
    client: Option<Box<ClientState>>,
    /// How many bytes of the request marked last were read: [`FRONT`], more where a policy had it
    /// held, or less where the request is shorter.
    front_len: usize,
    /// The request at hand is held: as much of it is read as is here.
    rereading: bool,
    /// The front of the request marked last, if it came compressed.
    decompressed: Option<Box<DecompressedFront>>,
    /// A request whose documents are counted while the rest of it passes.
    streamed_request: Option<Box<StreamedRequest>>,
    /// What the rest of the request told that ended last.
    learned: Option<Box<LateDetails>>,
    /// A reply on its way through.
    streamed_reply: Option<Box<StreamedReply>>,
    /// The cursor that was used up last, and its call site: its end is still to be reported.
    last_closed_cursor: (i64, u16),
}

impl Codec for Mongo {
    const PROTOCOL: Protocol = Protocol {
        stream: false,
        name: "mongo",
        items: Some(ExtraCounter {
            metric: "tollgate_mongo_documents_total",
            help: "Documents that requests carried, and that replies carried or told to be affected",
        }),
        codes: Some(ExtraCounter {
            metric: "tollgate_mongo_errors_total",
            help: "Errors that replies told, by the name of their code",
        }),
        shapes: Some(ExtraCounter {
            metric: "tollgate_mongo_reads_total",
            help: "Reads by how much of a sharded cluster they reach, judged by the shard key",
        }),
        item_name: "documents",
        attributes: &[
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
            "writes",
            "backs_off",
        ],
        log_only: &[],
        unknown_operation: "other",
        value_formats: &[(
            "user",
            "@",
            "write it with its database, `root@admin`, or `root@*` for any",
        )],
        logged: &["driver", "max_time_ms"],
        logged_when_slow: &["query", "query_hash"],
        logged_with_values: &["query_values"],
    };

    type Shared = Listener;

    fn new(shared: &Arc<Listener>, link: ConnectionInfo) -> Self {
        Self {
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
            // The server never hears of this claim: no answer of its can prove it.
            client.login_reply(open.login, false, false);
        }
        error_reply::write(id, reply_format(refused.as_ref()), why, out);
        true
    }

    /// A driver of today drops its whole pool for an error in answer to the `hello` of one new
    /// connection, and waits for a sign of life of the server. A connection that closes meanwhile says
    /// to it that the server is overloaded, and its other connections go on (specifications,
    /// client-backpressure). Another one takes any error there for a wrong password. What is for ever
    /// is told all of them.
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

    fn operator_notice(&mut self) -> Option<String> {
        self.listener.replica_set.pop()
    }

    /// The late reply is still read, to its last part where replies stream: it may log the user
    /// in, or end a cursor. A cursor that it opens is left to the server's own time-out.
    fn give_up(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        let Ok(id) = u32::try_from(tag.0) else { return false };
        if self.prefers_close(tag, why.reason, true) {
            return false;
        }
        let coming = self.streamed_reply.as_ref().map(|receiving| receiving.response_to());
        let Some(open) = self.in_flight.abandon(id, coming) else { return false };
        error_reply::write(id, reply_format(Some(&open)), why, out);
        true
    }
}

#[cfg(test)]
impl Mongo {
    /// As if its client's `hello` had offered every compressor.
    pub(crate) fn offer_to_compress(&mut self) {
        let hello = crate::testing::offers().to_vec().unwrap_or_default();
        self.client.get_or_insert_default().read_hello(&hello);
    }
}

/// Which message answers a request.
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
