//! Replies: they are never held, except short ones that may be rewritten.

use super::{MAX_FRONT, Mongo, pooled::MAX_ERROR_REPLY};
use crate::{
    cluster_time,
    commands::ReplyKind,
    cursor_table::CursorInfo,
    decompressor::Decompressor,
    header::{COMPRESSED_PREFIX_LEN, HEADER_LEN, Header, MAX_MESSAGE_LEN, flag, opcode},
    hello,
    in_flight_requests::InFlightRequest,
    mirror::MAX_ANSWER,
    scan::{MessageFacts, Scan},
    violations::{BAD_DOCUMENT, UNEXPECTED_REPLY},
};
use operation::{Codec, CursorChange, Next, Outcome, Reply, Tag, UpstreamUse, Violation};

/// A reply that is passing.
pub(super) struct StreamedReply {
    header: Header,
    left: usize,
    /// The request was given up: the reply is dropped.
    abandoned: bool,
    scan: Scan,
    facts: MessageFacts,
    decompressor: Option<Box<Decompressor>>,
    violation: Option<Violation>,
    /// How many bytes at the end are changed, once they are all here.
    tail: usize,
    /// What has passed of it, if a copy is kept for a mirror.
    copy: Option<Vec<u8>>,
}

impl Mongo {
    pub(super) fn next_reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation> {
        if let Some(receiving) = self.streamed_reply.take() {
            return Ok(self.continue_reply(receiving, bytes));
        }
        let Some(header) = Header::read(bytes)? else {
            if self.in_flight.is_empty() {
                // Every request is answered: the decompressed front is not needed any longer.
                self.decompressed = None;
            }
            return Ok(Next::Hold(HEADER_LEN));
        };
        let len = header.len as usize;
        let open = self
            .in_flight
            .by_response_to(header.response_to)
            .map(|open| (open.reply_kind, open.abandoned));
        let shares = self.upstream_use() == UpstreamUse::Free && self.pooled.is_some();
        if open.is_none() && shares {
            return Err(UNEXPECTED_REPLY);
        }
        let (role, late) = open.map_or((None, false), |(role, late)| (Some(role), late));
        let hello = role == Some(ReplyKind::Hello) && !late && self.listener.settings.rewrite_hello;
        let strips = self.strips_time() && header.opcode == opcode::MSG;
        let wanted = match header.opcode {
            _ if (hello || strips) && len <= MAX_FRONT => len,
            opcode::COMPRESSED => len.min(COMPRESSED_PREFIX_LEN),
            _ if self.pooled.is_some() && len <= MAX_ERROR_REPLY => len,
            _ => HEADER_LEN,
        };
        if bytes.len() < wanted {
            return Ok(Next::Hold(wanted));
        }
        let tail = if strips && len > MAX_FRONT { cluster_time::TAIL } else { 0 };
        let here = &bytes[..bytes.len().min(len - tail)];
        let mut receiving = StreamedReply::new(header, here, role == Some(ReplyKind::Bulk));
        receiving.copy = self.pooled.as_deref().filter(|_| !late).and_then(|it| it.answer.clone());
        receiving.feed(&here[receiving.prefix_len().min(here.len())..]);
        (receiving.left, receiving.abandoned, receiving.tail) = (len - here.len(), late, tail);
        if receiving.left > 0 {
            return Ok(self.pass_part(Box::new(receiving), here.len()));
        }
        let with = match role {
            _ if hello => self.rewrite_hello(header, here),
            Some(_) if self.pooled.is_some() && !late => {
                receiving.scan.finish(&mut receiving.facts);
                if let Some(reason) = self.resend_reason(&receiving.facts) {
                    return Ok(Next::Resend { len, reason });
                }
                self.hide_state_change(&receiving.facts, here)
            }
            _ => None,
        };
        let with = if strips { without_time(with, here) } else { with };
        match (self.finish_reply(receiving, len), with) {
            (Next::Pass { mark, .. }, Some(with)) => {
                Ok(Next::Swap { len, with: with.into(), mark })
            }
            (next, _) => Ok(next),
        }
    }

    /// Reads on in a reply whose front has passed.
    fn continue_reply(&mut self, mut receiving: Box<StreamedReply>, bytes: &[u8]) -> Next<Reply> {
        if receiving.tail > 0 && receiving.left <= receiving.tail {
            return self.finish_tail(receiving, bytes);
        }
        let here = &bytes[..bytes.len().min(receiving.left - receiving.tail)];
        if here.is_empty() {
            self.streamed_reply = Some(receiving);
            return Next::Hold(1);
        }
        receiving.feed(here);
        if receiving.left > 0 {
            return self.pass_part(receiving, here.len());
        }
        self.finish_reply(*receiving, here.len())
    }

    /// Ends a long reply, whose last bytes are changed without changing their number.
    fn finish_tail(&mut self, mut receiving: Box<StreamedReply>, bytes: &[u8]) -> Next<Reply> {
        let len = receiving.left;
        let Some(tail) = bytes.get(..len) else {
            self.streamed_reply = Some(receiving);
            return Next::Hold(len);
        };
        receiving.feed(tail);
        match (self.finish_reply(*receiving, len), cluster_time::blank(tail)) {
            (Next::Pass { mark, .. }, Some(with)) => Next::Swap { len, with: with.into(), mark },
            (next, _) => next,
        }
    }

    /// The rewritten `hello` reply for the client; `None` if it needs no change.
    fn rewrite_hello(&self, header: Header, message: &[u8]) -> Option<Vec<u8>> {
        let settings = &self.listener.settings;
        if message.len() > MAX_FRONT {
            return None;
        }
        if self.pooled.is_some() {
            return self.present_reply(header, message);
        }
        if header.opcode != opcode::COMPRESSED {
            hello::record_members(message, &self.listener);
            return hello::rewrite_reply(message, settings, self.local);
        }
        let limit = (MAX_FRONT - HEADER_LEN) as u32;
        let (mut decompressor, inner) = Decompressor::of_message(header, message, limit).ok()?;
        let (plain, fed) = decompressor.plain_front(inner, message, MAX_FRONT, |_| {});
        fed.and_then(|()| decompressor.finish()).ok()?;
        hello::record_members(&plain, &self.listener);
        hello::rewrite_reply(&plain, settings, self.local)
    }

    /// Passes or drops the `here` bytes of a reply that are here, and those that need not be read;
    /// more follow.
    fn pass_part(&mut self, mut receiving: Box<StreamedReply>, here: usize) -> Next<Reply> {
        let (len, late) = ((here + receiving.skip()) as u64, receiving.abandoned);
        self.streamed_reply = Some(receiving);
        if late { Next::Drop { len, ends: false } } else { Next::more(len) }
    }

    /// Ends a reply with the `len` bytes that are here.
    fn finish_reply(&mut self, receiving: StreamedReply, len: usize) -> Next<Reply> {
        let StreamedReply {
            header,
            abandoned: late,
            scan,
            mut facts,
            decompressor: inflate,
            mut violation,
            copy,
            ..
        } = receiving;
        if !late {
            self.keep_answer(copy);
        }
        scan.finish(&mut facts);
        violation = violation
            .or_else(|| inflate.and_then(|inflate| inflate.finish().err()))
            .or_else(|| facts.broken.then_some(BAD_DOCUMENT));
        let open = self.in_flight.by_response_to(header.response_to).copied();
        let mark = match open {
            Some(open) => self.settle(open, header, &facts, violation),
            None => {
                let (outcome, code) = outcome(None, &facts, violation);
                let tag = Tag(header.response_to.into());
                let items = facts.documents;
                Some(Reply { code, items, violation, ..Reply::new(tag, outcome) })
            }
        };
        let len = len as u64;
        if late { Next::Drop { len, ends: true } } else { Next::Pass { len, mark, ends: true } }
    }

    /// Keeps the copy of a reply for a mirror, if one is wanted.
    fn keep_answer(&mut self, copy: Option<Vec<u8>>) {
        if let Some(client) = self.pooled.as_deref_mut()
            && client.answer.is_some()
        {
            client.answer = copy;
        }
    }

    /// Records what a reply contained. The last reply to a request settles it.
    fn settle(
        &mut self,
        open: InFlightRequest,
        header: Header,
        facts: &MessageFacts,
        violation: Option<Violation>,
    ) -> Option<Reply> {
        let (outcome, code) = outcome(Some(open.reply_kind), facts, violation);
        let written = matches!(open.reply_kind, ReplyKind::Write | ReplyKind::Bulk);
        let items =
            open.documents.saturating_add(if written { facts.affected } else { facts.documents });
        if violation.is_none() {
            self.record_cursor(&open, facts);
            self.note_open_state(&open, facts);
            self.record_login(&open, facts);
            if !open.legacy && facts.flags & flag::MORE_TO_COME != 0 {
                self.in_flight.expect_another_reply(open.id, header.request_id, items);
                return None;
            }
        }
        self.in_flight.remove(open.id);
        let pooled = self.pooled.as_deref();
        Some(Reply {
            tag: Tag(open.id.into()),
            outcome,
            code,
            items,
            confirms_names: open.confirms_names && violation.is_none(),
            is_control: open.pre_auth,
            pin: pooled.and_then(|client| client.pin_change(&open, facts)),
            cursor: cursor_change(&open, facts),
            lost_role: pooled.is_some() && facts.is_state_change(),
            violation,
        })
    }

    fn record_cursor(&mut self, open: &InFlightRequest, facts: &MessageFacts) {
        let cursors = &self.listener.cursors;
        match (open.reply_kind, facts.cursor_id) {
            (ReplyKind::Cursor | ReplyKind::Query, Some(cursor)) if !open.abandoned => {
                cursors.insert(
                    cursor,
                    CursorInfo { callsite: open.callsite, tailable: open.tailable },
                );
            }
            (ReplyKind::GetMore, Some(0)) => {
                cursors.remove(open.cursor_id);
                self.last_closed_cursor = (open.cursor_id, open.callsite);
            }
            _ => {}
        }
    }

    /// A user counts as logged in once the server has confirmed it.
    fn record_login(&mut self, open: &InFlightRequest, facts: &MessageFacts) {
        let Some(client) = self.client.as_deref_mut().filter(|_| open.login != 0) else { return };
        let answered = match open.reply_kind {
            ReplyKind::Hello => facts.ok() && facts.has_speculative_auth,
            _ => facts.ok(),
        };
        client.login_reply(open.login, answered, facts.auth_done);
    }
}

impl StreamedReply {
    /// The request id that the reply names.
    pub(super) fn response_to(&self) -> u32 {
        self.header.response_to
    }

    fn new(header: Header, here: &[u8], bulk: bool) -> Self {
        let mut facts = MessageFacts::default();
        facts.bulk_write = bulk;
        let len = header.len - HEADER_LEN as u32;
        let mut receiving = Self {
            header,
            left: 0,
            abandoned: false,
            scan: Scan::reply(header.opcode, len),
            facts,
            decompressor: None,
            violation: None,
            tail: 0,
            copy: None,
        };
        if header.opcode == opcode::COMPRESSED {
            match Decompressor::of_message(header, here, MAX_MESSAGE_LEN) {
                Ok((decompressor, inner)) => {
                    receiving.scan = Scan::reply(inner.opcode, inner.len - HEADER_LEN as u32);
                    receiving.decompressor = Some(Box::new(decompressor));
                }
                Err(violation) => receiving.violation = Some(violation),
            }
        }
        receiving
    }

    /// How many bytes precede what is scanned.
    fn prefix_len(&self) -> usize {
        if self.header.opcode == opcode::COMPRESSED { COMPRESSED_PREFIX_LEN } else { HEADER_LEN }
    }

    /// Skips what need not be read of the rest. Returns its length. The last byte is never skipped:
    /// the reply ends when it arrives.
    fn skip(&mut self) -> usize {
        if self.decompressor.is_some() || self.copy.is_some() {
            return 0;
        }
        let unseen = self.scan.skip(self.left - self.tail.max(1));
        self.left -= unseen;
        unseen
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.left = self.left.saturating_sub(bytes.len());
        if self.copy.is_some() {
            self.copy(bytes);
        }
        let Self { scan, facts, decompressor: inflate, violation, .. } = self;
        match inflate {
            None => scan.feed(bytes, facts),
            Some(stream) => {
                if let Err(why) = stream.feed(bytes, &mut |piece| scan.feed(piece, facts)) {
                    // The rest passes unread; reading resumes at the next message.
                    (*violation, *inflate) = (Some(why), None);
                    *scan = Scan::reply(0, 0);
                }
            }
        }
    }
}

impl StreamedReply {
    /// Adds bytes to the copy, or gives it up: it is too long, or compressed.
    fn copy(&mut self, bytes: &[u8]) {
        let kept = self.copy.take().filter(|_| self.decompressor.is_none());
        if let Some(mut kept) = kept.filter(|kept| kept.len() + bytes.len() <= MAX_ANSWER) {
            kept.extend_from_slice(bytes);
            self.copy = Some(kept);
        }
    }
}

/// A reply, as it was changed or as it came, without the deployment's time.
fn without_time(changed: Option<Vec<u8>>, came: &[u8]) -> Option<Vec<u8>> {
    match changed {
        Some(with) => cluster_time::strip(&with).or(Some(with)),
        None => cluster_time::strip(came),
    }
}

/// What a reply says of a cursor.
fn cursor_change(open: &InFlightRequest, facts: &MessageFacts) -> Option<CursorChange> {
    match (open.reply_kind, facts.cursor_id) {
        (ReplyKind::Cursor | ReplyKind::Query | ReplyKind::Bulk, Some(id)) if id != 0 => {
            Some(CursorChange::Opened(id))
        }
        (ReplyKind::GetMore, Some(0)) => Some(CursorChange::Closed(open.cursor_id)),
        (ReplyKind::GetMore, None) if facts.is_cursor_not_found() => {
            Some(CursorChange::Closed(open.cursor_id))
        }
        (ReplyKind::GetMore, _) => Some(CursorChange::Advanced(open.cursor_id)),
        _ => None,
    }
}

/// How an operation ended. A reply that cannot be read does not count against the endpoint.
fn outcome(
    role: Option<ReplyKind>,
    facts: &MessageFacts,
    violation: Option<Violation>,
) -> (Outcome, Option<&'static str>) {
    match role {
        _ if violation.is_some() => (Outcome::Ok, None),
        Some(ReplyKind::Query) => facts.query_outcome(),
        _ => facts.command_outcome(),
    }
}
