//! Replies: never held, save for small `hello` replies that are rewritten.

use super::{FRONT, Mongo, request::COMPRESSED_HEAD};
use crate::{
    commands::ReplyKind,
    cursor_table::CursorInfo,
    decompressor::Decompressor,
    header::{HEADER_LEN, Header, MAX_MESSAGE_LEN, flag, opcode},
    hello,
    in_flight_requests::InFlightRequest,
    scan::{MessageFacts, Scan},
};
use operation::{Next, Outcome, Reply, Tag, Violation};

/// A reply on its way through.
pub(super) struct StreamedReply {
    header: Header,
    left: usize,
    /// Nobody waits for it any more: nothing of it goes on.
    late: bool,
    scan: Scan,
    facts: MessageFacts,
    inflate: Option<Box<Decompressor>>,
    violation: Option<Violation>,
}

impl Mongo {
    pub(super) fn next_reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation> {
        if let Some(mut receiving) = self.receiving.take() {
            let here = &bytes[..bytes.len().min(receiving.left)];
            if here.is_empty() {
                self.receiving = Some(receiving);
                return Ok(Next::Hold(1));
            }
            receiving.feed(here);
            if receiving.left > 0 {
                return Ok(self.goes_on(receiving, here.len()));
            }
            return Ok(self.end(*receiving, here.len()));
        }
        let Some(header) = Header::read(bytes)? else {
            if self.opens.is_empty() {
                // Everything is answered: what the last request said is of no more use.
                self.inflated = None;
            }
            return Ok(Next::Hold(HEADER_LEN));
        };
        let len = header.len as usize;
        let open = self.opens.answered(header.response_to).map(|open| (open.role, open.given_up));
        let (role, late) = open.map_or((None, false), |(role, late)| (Some(role), late));
        let hello = role == Some(ReplyKind::Hello) && !late && self.listener.settings.rewrite_hello;
        let wanted = match header.opcode {
            _ if hello && len <= FRONT => len,
            opcode::COMPRESSED => len.min(COMPRESSED_HEAD),
            _ => HEADER_LEN,
        };
        if bytes.len() < wanted {
            return Ok(Next::Hold(wanted));
        }
        let here = &bytes[..bytes.len().min(len)];
        let mut receiving = StreamedReply::new(header, here, role == Some(ReplyKind::Bulk));
        receiving.feed(&here[receiving.head().min(here.len())..]);
        (receiving.left, receiving.late) = (len - here.len(), late);
        if receiving.left > 0 {
            return Ok(self.goes_on(Box::new(receiving), here.len()));
        }
        let with = hello.then(|| self.rewrite(header, here)).flatten();
        match (self.end(receiving, len), with) {
            (Next::Pass { mark, .. }, Some(with)) => {
                Ok(Next::Swap { len, with: with.into(), mark })
            }
            (next, _) => Ok(next),
        }
    }

    /// The reply to a `hello` as the client is to see it; `None` if it can stay as it is.
    fn rewrite(&self, header: Header, message: &[u8]) -> Option<Vec<u8>> {
        let settings = &self.listener.settings;
        if message.len() > FRONT {
            return None;
        }
        if header.opcode != opcode::COMPRESSED {
            hello::note(message, settings, &self.listener.members);
            return hello::rewrite_reply(message, settings, self.local);
        }
        let head = message.get(HEADER_LEN..)?;
        let (mut inflate, original) =
            Decompressor::begin(head, (FRONT - HEADER_LEN) as u32).ok()?;
        let mut plain = header.of_inner(original.opcode, original.size).to_bytes();
        let rest = message.get(COMPRESSED_HEAD..)?;
        inflate.feed(rest, &mut |piece| plain.extend_from_slice(piece)).ok()?;
        inflate.finish().ok()?;
        hello::note(&plain, settings, &self.listener.members);
        hello::rewrite_reply(&plain, settings, self.local)
    }

    /// Lets the `here` bytes through that are here of a reply, and those that need not be seen, or
    /// drops them; more are to come.
    fn goes_on(&mut self, mut receiving: Box<StreamedReply>, here: usize) -> Next<Reply> {
        let (len, late) = ((here + receiving.step_over()) as u64, receiving.late);
        self.receiving = Some(receiving);
        if late { Next::Drop { len, ends: false } } else { Next::more(len) }
    }

    /// Ends a reply with the `len` bytes that are here.
    fn end(&mut self, receiving: StreamedReply, len: usize) -> Next<Reply> {
        let StreamedReply { header, late, scan, mut facts, inflate, mut violation, .. } = receiving;
        scan.finish(&mut facts);
        violation = violation
            .or_else(|| inflate.and_then(|inflate| inflate.finish().err()))
            .or_else(|| facts.broken.then_some(Violation("bad_document")));
        let open = self.opens.answered(header.response_to).copied();
        let mark = match open {
            Some(open) => self.settle(open, header, &facts, violation),
            None => {
                let (outcome, code) = outcome(None, &facts, violation);
                let tag = Tag(header.response_to.into());
                let items = facts.items;
                let (confirms, greeting) = (false, false);
                Some(Reply { tag, outcome, code, items, confirms, greeting, violation })
            }
        };
        let len = len as u64;
        if late { Next::Drop { len, ends: true } } else { Next::Pass { len, mark, ends: true } }
    }

    /// Notes what a reply told; the last one to a request settles it.
    fn settle(
        &mut self,
        open: InFlightRequest,
        header: Header,
        facts: &MessageFacts,
        violation: Option<Violation>,
    ) -> Option<Reply> {
        let (outcome, code) = outcome(Some(open.role), facts, violation);
        let written = matches!(open.role, ReplyKind::Write | ReplyKind::Bulk);
        let items = open.items.saturating_add(if written { facts.written } else { facts.items });
        if violation.is_none() {
            self.note_cursor(&open, facts);
            self.note_user(&open, facts);
            if !open.legacy && facts.flags & flag::MORE_TO_COME != 0 {
                self.opens.streams(open.id, header.request_id, items);
                return None;
            }
        }
        self.opens.remove(open.id);
        let (tag, confirms) = (Tag(open.id.into()), open.confirmable && violation.is_none());
        let greeting = open.greeting;
        Some(Reply { tag, outcome, code, items, confirms, greeting, violation })
    }

    fn note_cursor(&mut self, open: &InFlightRequest, facts: &MessageFacts) {
        let cursors = &self.listener.cursors;
        match (open.role, facts.cursor) {
            (ReplyKind::Cursor | ReplyKind::Query, Some(cursor)) if !open.given_up => {
                cursors.open(cursor, CursorInfo { callsite: open.callsite, tails: open.tails });
            }
            (ReplyKind::GetMore, Some(0)) => {
                cursors.close(open.cursor);
                self.closed = (open.cursor, open.callsite);
            }
            _ => {}
        }
    }

    /// A user's name counts once the server said that it was proved.
    fn note_user(&mut self, open: &InFlightRequest, facts: &MessageFacts) {
        let Some(client) = self.client.as_deref_mut().filter(|_| open.claim != 0) else { return };
        let answered = match open.role {
            ReplyKind::Hello => facts.ok() && facts.speculative,
            _ => facts.ok(),
        };
        client.login_reply(open.claim, answered, facts.done);
    }
}

impl StreamedReply {
    /// The number of the request that it says it answers.
    pub(super) fn answers(&self) -> u32 {
        self.header.response_to
    }

    fn new(header: Header, here: &[u8], bulk: bool) -> Self {
        let mut facts = MessageFacts::default();
        facts.bulk = bulk;
        let len = header.len - HEADER_LEN as u32;
        let mut receiving = Self {
            header,
            left: 0,
            late: false,
            scan: Scan::reply(header.opcode, len),
            facts,
            inflate: None,
            violation: None,
        };
        if header.opcode == opcode::COMPRESSED {
            match Decompressor::begin(&here[HEADER_LEN..], MAX_MESSAGE_LEN) {
                Ok((inflate, original)) => {
                    receiving.scan = Scan::reply(original.opcode, original.size);
                    receiving.inflate = Some(Box::new(inflate));
                }
                Err(violation) => receiving.violation = Some(violation),
            }
        }
        receiving
    }

    /// How many bytes stand before what is scanned.
    fn head(&self) -> usize {
        if self.header.opcode == opcode::COMPRESSED { COMPRESSED_HEAD } else { HEADER_LEN }
    }

    /// Steps over what need not be seen of what is left, and tells how much that is. The last
    /// byte has to be: the reply ends when it comes.
    fn step_over(&mut self) -> usize {
        if self.inflate.is_some() {
            return 0;
        }
        let unseen = self.scan.step_over(self.left - 1);
        self.left -= unseen;
        unseen
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.left = self.left.saturating_sub(bytes.len());
        let Self { scan, facts, inflate, violation, .. } = self;
        match inflate {
            None => scan.feed(bytes, facts),
            Some(stream) => {
                if let Err(why) = stream.feed(bytes, &mut |piece| scan.feed(piece, facts)) {
                    // The rest passes unread; reading resumes with the next message.
                    (*violation, *inflate) = (Some(why), None);
                    *scan = Scan::reply(0, 0);
                }
            }
        }
    }
}

/// How an operation ended; a reply that can't be read speaks against nobody.
fn outcome(
    role: Option<ReplyKind>,
    facts: &MessageFacts,
    violation: Option<Violation>,
) -> (Outcome, Option<&'static str>) {
    match role {
        _ if violation.is_some() => (Outcome::Ok, None),
        Some(ReplyKind::Query) => facts.query(),
        _ => facts.command(),
    }
}
