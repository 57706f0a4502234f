//! Requests: held until they can be named, and read while they pass.

use super::{KEPT_FRONT, MAX_FRONT, Mongo, attribute, streamed_request::StreamedRequest};
use crate::{
    client_state::ClientState,
    commands::ReplyKind,
    comment,
    cursor_table::CursorInfo,
    decompressor::Decompressor,
    header::{COMPRESSED_PREFIX_LEN, HEADER_LEN, Header, MAX_MESSAGE_LEN, opcode},
    hello,
    in_flight_requests::InFlightRequest,
    message_view::MessageView,
    parsed_command::{ParsedCommand, UNREAD},
    recovery::RequestKind,
    request_summary::RequestSummary,
    shape,
    violations::{BAD_COMPRESSION, BAD_MESSAGE, DECOMPRESSION_BOMB, NOT_NEGOTIATED, TOO_MANY_OPEN},
};
use operation::{LateDetails, Next, QueryRole, QueryShape, Request, Tag, Violation};

/// The front of a compressed request, decompressed.
pub(super) struct DecompressedFront {
    /// The first bytes on the wire, which identify the request.
    pub(super) wire_prefix: [u8; COMPRESSED_PREFIX_LEN],
    pub(super) message: Vec<u8>,
}

impl Mongo {
    pub(super) fn next_request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        if self.streamed_request.is_some() {
            return self.continue_request(bytes);
        }
        let header =
            if self.seen_message { Header::read(bytes)? } else { Header::read_first(bytes)? };
        let Some(header) = header else { return Ok(Next::Hold(HEADER_LEN)) };
        let len = header.len as usize;
        // All bytes that are here of a held request are read.
        let held = self.rereading;
        let front = if held { bytes.len().max(HEADER_LEN) } else { MAX_FRONT }.min(len);
        // What may be sent again is copied, so all of it has to be here.
        let kept = self.pooled.is_some() && len <= self.listener.replay.max_request;
        let wanted = if kept { len } else { front };
        if bytes.len() < wanted {
            return Ok(Next::Hold(wanted));
        }
        (self.seen_message, self.rereading, self.front_len) = (true, false, front);
        (self.decompressed, self.learned) = (None, None);
        let here = &bytes[..bytes.len().min(len)];
        if header.opcode == opcode::COMPRESSED {
            // For a compressed request, the front is the decompressed front.
            let most = if held { MAX_MESSAGE_LEN as usize } else { MAX_FRONT };
            return self.compressed_request(header, here, most);
        }
        let front = &here[..front];
        let Some(message) = MessageView::read(front) else {
            return Ok(self.pass_unreadable(header, BAD_MESSAGE));
        };
        let asked = ParsedCommand::parse(&message, &mut self.resource);
        if self.pooled.is_some()
            && let Some(next) = self.login_request(&message, &asked, front.len())
        {
            return Ok(next);
        }
        let greets = asked.reply_kind == ReplyKind::Hello && message.complete;
        if greets && let Some(next) = self.pooled_hello(&message, &asked, front) {
            return Ok(next);
        }
        if greets
            && self.pooled.is_none()
            && let Some(with) = hello::rewrite_request(front)
        {
            let mark = Some(self.register(&message, &asked));
            self.documents_sent = 0;
            return Ok(Next::Swap { len: front.len(), with: with.into(), mark });
        }
        let left = len - here.len();
        let read = (asked.partial || asked.counts_documents())
            .then(|| StreamedRequest::plain(header, &here[HEADER_LEN..], left, asked.partial));
        Ok(self.pass(&message, &asked, here.len(), read))
    }

    /// A request inside an `OP_COMPRESSED` (specifications, compression/OP_COMPRESSED), of which at
    /// most `most` decompressed bytes are read.
    fn compressed_request(
        &mut self,
        header: Header,
        here: &[u8],
        most: usize,
    ) -> Result<Next<Request>, Violation> {
        let negotiated = self.client.as_deref().is_some_and(ClientState::offers_compression);
        let inflated = match negotiated {
            true => self.decompress(header, here, most),
            false => Err(NOT_NEGOTIATED),
        };
        let (inflated, read) = match inflated {
            Ok(inflated) => inflated,
            Err(DECOMPRESSION_BOMB) => return Err(DECOMPRESSION_BOMB),
            Err(violation) => return Ok(self.pass_unreadable(header, violation)),
        };
        let Some(message) = MessageView::read(&inflated.message) else {
            return Ok(self.pass_unreadable(header, BAD_MESSAGE));
        };
        let asked = ParsedCommand::parse(&message, &mut self.resource);
        let swap = (asked.reply_kind == ReplyKind::Hello && message.complete && read.is_over())
            .then(|| hello::rewrite_request(&inflated.message))
            .flatten();
        let next = match swap {
            Some(with) => {
                let mark = Some(self.register(&message, &asked));
                self.documents_sent = 0;
                Next::Swap { len: here.len(), with: with.into(), mark }
            }
            None => self.pass(&message, &asked, here.len(), Some(read)),
        };
        self.decompressed = Some(Box::new(inflated));
        Ok(next)
    }

    /// Passes a request that cannot be read.
    fn pass_unreadable(&mut self, header: Header, violation: Violation) -> Next<Request> {
        let asked = ParsedCommand::unreadable(header, Some(violation));
        self.resource.clear();
        self.resource.push_str(UNREAD);
        self.documents_sent = 0;
        let mark = self.track(header, &asked, 0, 0);
        Next::whole(header.len.into(), mark)
    }

    /// Passes a request of which `here` bytes are here. Continues to read it if its documents are
    /// counted or if its front was not enough.
    fn pass(
        &mut self,
        message: &MessageView<'_>,
        asked: &ParsedCommand,
        here: usize,
        read: Option<StreamedRequest>,
    ) -> Next<Request> {
        let (shape, query_shape) = (self.shape(message, asked), self.query_shape(message, asked));
        let mut mark = Request { shape, query_shape, ..self.register(message, asked) };
        self.documents_sent = match message.header.opcode {
            opcode::UPDATE | opcode::DELETE => 1,
            _ if !asked.counts_documents() => 0,
            _ => read.as_ref().map_or(0, StreamedRequest::documents),
        };
        let Some(mut sending) = read else {
            self.learn_from_whole(message, asked);
            return Next::whole(message.header.len.into(), mark);
        };
        if sending.keep_needed(asked) {
            mark.violation = mark.violation.or(sending.take_violation());
            let unseen = sending.skip();
            self.streamed_request = Some(Box::new(sending));
            return Next::start((here + unseen) as u64, mark);
        }
        let left = sending.left();
        if asked.partial {
            mark.violation = mark.violation.or(sending.take_violation());
            self.learn_from_rest(sending);
        } else {
            self.learn_from_whole(message, asked);
        }
        Next::whole((here + left) as u64, mark)
    }

    fn continue_request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        let Some(sending) = &mut self.streamed_request else { return Ok(Next::Hold(HEADER_LEN)) };
        let here = &bytes[..bytes.len().min(sending.left())];
        if here.is_empty() {
            return Ok(Next::Hold(1));
        }
        match sending.feed(here) {
            Ok(()) => {}
            Err(DECOMPRESSION_BOMB) => return Err(DECOMPRESSION_BOMB),
            Err(violation) => return Ok(Next::Violates(violation)),
        }
        if !sending.is_over() {
            let unseen = sending.skip();
            return Ok(Next::more((here.len() + unseen) as u64));
        }
        if let Some(sending) = self.streamed_request.take() {
            self.documents_sent = sending.documents();
            self.learn_from_rest(*sending);
        }
        Ok(Next::Pass { len: here.len() as u64, mark: None, ends: true })
    }

    /// Updates the request from what its rest contained, now that it has passed.
    fn learn_from_rest(&mut self, sending: StreamedRequest) {
        let Some(front) = sending.into_summary().and_then(RequestSummary::finish) else { return };
        let Some(message) = MessageView::read(&front) else { return };
        let asked = ParsedCommand::parse(&message, &mut self.resource);
        let (claim, callsite) = self.login_and_call_site(&message, &asked);
        self.in_flight.update(message.header.request_id, &asked, claim, callsite);
        if !asked.counts_documents() {
            self.documents_sent = 0;
        }
        self.name = asked.name;
        self.store_learned(asked.name, front);
    }

    /// The same for a request that was read whole, but is longer than the front that a gate keeps.
    fn learn_from_whole(&mut self, message: &MessageView<'_>, asked: &ParsedCommand) {
        if message.ends_within(KEPT_FRONT) {
            return;
        }
        let Some(front) = message.summary() else { return };
        self.store_learned(asked.name, front);
    }

    /// Keeps the summary of a request, `front`, until the relay asks for it.
    fn store_learned(&mut self, name: &str, front: Vec<u8>) {
        let (name, resource) = (name.into(), self.resource.as_str().into());
        self.learned = Some(Box::new(LateDetails { name, resource, head: front.into() }));
    }

    /// Untracks the request marked last, because more of it must be read before it may continue.
    /// Returns how many bytes of it are needed.
    pub(super) fn hold_request(&mut self, tag: Option<Tag>, front: &[u8]) -> usize {
        if let Some(id) = tag.and_then(|tag| u32::try_from(tag.0).ok()) {
            self.in_flight.remove_newest(id);
        }
        (self.streamed_request, self.learned, self.decompressed) = (None, None, None);
        self.rereading = true;
        let Ok(Some(header)) = Header::read(front) else { return HEADER_LEN };
        let len = header.len as usize;
        if header.opcode != opcode::MSG {
            return len;
        }
        let read = &front[..self.front_len.min(front.len())];
        let mut digest = RequestSummary::new(header);
        digest.feed(&read[HEADER_LEN..]);
        // At least a quarter more than was read, so that many small parts do not cause as many
        // reads.
        digest.bytes_needed().max(read.len() + read.len() / 4).min(len)
    }

    /// Releases the memory that decompressing a passed request took.
    pub(super) fn shrink_decompressed(&mut self) {
        let large =
            self.decompressed.as_mut().filter(|inflated| inflated.message.len() > MAX_FRONT);
        if let Some(inflated) = large {
            inflated.message.truncate(MAX_FRONT);
            inflated.message.shrink_to_fit();
        }
    }

    /// Records everything about a request that its reply or a later reply needs.
    pub(super) fn register(&mut self, message: &MessageView<'_>, asked: &ParsedCommand) -> Request {
        if asked.reply_kind == ReplyKind::Hello && message.complete {
            self.client.get_or_insert_default().read_hello(message.body);
        }
        self.note_connection_state(message, asked);
        if self.pooled.is_some() {
            self.place_request(message, asked);
        }
        let (claim, callsite) = self.login_and_call_site(message, asked);
        let mut request = self.track(message.header, asked, claim, callsite);
        request.may_have_callsite |= !message.telemetry.is_empty();
        request.absent = attribute::absent(message, asked);
        if let Some(client) = self.pooled.as_deref_mut()
            && let RequestKind::GetMore { awaits } = &mut client.kind
        {
            *awaits = request.long_poll;
        }
        request
    }

    /// The login attempt that a request starts or continues, and its call site; 0 means none.
    fn login_and_call_site(
        &mut self,
        message: &MessageView<'_>,
        asked: &ParsedCommand,
    ) -> (u32, u16) {
        let claim = match asked.reply_kind {
            ReplyKind::Hello if !asked.sensitive => 0,
            ReplyKind::Hello | ReplyKind::SaslStart | ReplyKind::Authenticate => {
                let is_here = self.login_is_here();
                let client = self.client.get_or_insert_default();
                let number = client.begin_login(asked.reply_kind, message.body, &self.resource);
                if client.logs_in_by_certificate() && !is_here {
                    self.listener.notices.record_certificate_login();
                }
                number
            }
            ReplyKind::Logout => self.client.get_or_insert_default().begin_logout(&self.resource),
            ReplyKind::SaslContinue => self.client.as_deref().map_or(0, ClientState::pending_login),
            // No summary of it will be read, unlike that of a long `OP_MSG`.
            _ if asked.name == UNREAD && message.header.opcode != opcode::MSG => {
                self.client.get_or_insert_default().begin_unreadable_login()
            }
            _ => 0,
        };
        if asked.unacknowledged
            && claim != 0
            && let Some(client) = &mut self.client
        {
            client.login_unacknowledged();
        }
        let opens_cursor = matches!(asked.reply_kind, ReplyKind::Cursor | ReplyKind::Query);
        let callsite = (opens_cursor && asked.has_comment)
            .then(|| comment::find(message).and_then(|comment| comment::call_site(&comment)))
            .flatten()
            .map_or(0, |site| self.listener.call_sites.intern(&site));
        (claim, callsite)
    }

    fn track(
        &mut self,
        header: Header,
        asked: &ParsedCommand,
        claim: u32,
        callsite: u16,
    ) -> Request {
        self.name = asked.name;
        self.note_needed_login(asked);
        let legacy = !matches!(header.opcode, opcode::MSG | opcode::COMPRESSED);
        let known = match asked.reply_kind {
            ReplyKind::GetMore => self.listener.cursors.get(asked.cursor_id),
            _ => CursorInfo { callsite, tailable: asked.tailable },
        };
        let mut violation = asked.violation;
        if !asked.unacknowledged {
            let mut open = InFlightRequest::new(header.request_id, legacy, asked);
            (open.login, open.callsite, open.tailable) = (claim, known.callsite, known.tailable);
            if !self.in_flight.add(open) {
                violation = Some(TOO_MANY_OPEN);
            }
        }
        let callsite = match asked.reply_kind {
            ReplyKind::GetMore => {
                asked.has_comment || self.cursor_call_site(asked.cursor_id).is_some()
            }
            _ => asked.has_comment,
        };
        Request {
            tag: (!asked.unacknowledged).then_some(Tag(header.request_id.into())),
            limit_exempt: asked.command.is_limit_exempt(),
            long_poll: asked.long_poll
                || (asked.reply_kind == ReplyKind::GetMore && known.tailable),
            may_have_callsite: callsite,
            partial: asked.partial,
            may_have_other_resources: asked.partial || asked.command.names_other_namespaces(),
            violation,
            ..Request::default()
        }
    }

    fn shape(&self, message: &MessageView<'_>, asked: &ParsedCommand) -> Option<&'static str> {
        let key = self.listener.settings.shard_keys.get(&self.resource);
        let statements = match asked.name {
            "update" => message.sequence(b"updates"),
            "delete" => message.sequence(b"deletes"),
            _ => None,
        };
        shape::read_shape(asked.shape_name(), message.body, statements, key.map(Vec::as_slice))
    }

    /// The shape by which the request is counted; `None` for what costs the server nothing.
    fn query_shape(&self, message: &MessageView<'_>, asked: &ParsedCommand) -> Option<QueryShape> {
        let is_counted = match asked.name {
            "killCursors" => true,
            UNREAD => return Some(QueryShape::unread(QueryRole::Other)),
            _ => !asked.command.is_limit_exempt(),
        };
        if !is_counted || !self.listener.settings.query_shapes {
            return None;
        }
        if asked.partial && self.resource.contains(UNREAD) {
            return Some(QueryShape::unread(QueryRole::Other));
        }
        Some(shape::query_shape(asked.shape_name(), &self.resource, message))
    }

    /// The first `most` bytes of the request inside an `OP_COMPRESSED`, and a reader that has read
    /// all of it that is here.
    fn decompress(
        &self,
        header: Header,
        here: &[u8],
        most: usize,
    ) -> Result<(DecompressedFront, StreamedRequest), Violation> {
        let wire = here.first_chunk().ok_or(BAD_COMPRESSION)?;
        let limit = MAX_MESSAGE_LEN - HEADER_LEN as u32;
        let (mut decompressor, inner) = Decompressor::of_message(header, here, limit)?;
        let left = header.len as usize - here.len();
        // The front is decompressed from the same bytes however many are here, so it is always the
        // same.
        let (front, rest) = here.split_at(here.len().min(most));
        // If all of the request fits into `message`, no summary is needed.
        let learns = left > 0 || !rest.is_empty() || inner.len as usize > most;
        let mut sending = StreamedRequest::new(inner, left, learns);
        let read = |piece: &[u8]| sending.read(piece);
        let (message, fed) = decompressor.plain_front(inner, front, most, read);
        fed?;
        decompressor.feed(rest, &mut |piece| sending.read(piece))?;
        if left == 0 {
            decompressor.finish()?;
        } else {
            let bound = decompressor.memory_bound(inner.len - HEADER_LEN as u32);
            sending.continue_with(decompressor, self.listener.decompression.reserve(bound));
        }
        Ok((DecompressedFront { wire_prefix: *wire, message }, sending))
    }
}

/// The front of the request inside an `OP_COMPRESSED` with these first bytes, as far as they can be
/// decompressed.
pub(super) fn decompressed_front(front: &[u8]) -> Option<Vec<u8>> {
    let header = Header::read(front).ok()??;
    let limit = MAX_MESSAGE_LEN - HEADER_LEN as u32;
    let (mut decompressor, inner) = Decompressor::of_message(header, front, limit).ok()?;
    let (message, _) = decompressor.plain_front(inner, front, MAX_FRONT, |_| {});
    Some(message)
}
