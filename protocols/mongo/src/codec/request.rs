//! Requests: held until they can be named, counted while they pass.

use super::{FRONT, Mongo};
use crate::{
    asked::{Asked, UNREAD},
    client::Client,
    commands::Role,
    comment,
    compressed::Inflate,
    cursors::Known,
    header::{HEADER, Header, LONGEST, opcode},
    hello,
    message::Message,
    open::Open,
    scan::{Facts, Scan},
    shape,
};
use operation::{Next, Request, Tag, Violation};

/// The header of a compressed message, and what stands before the compressed bytes.
pub(super) const COMPRESSED_HEAD: usize = HEADER + 9;

/// What makes a request fatal instead of unreadable: to go on would cost memory or time.
pub(super) const BOMB: Violation = Violation("decompression_bomb");

/// A request whose documents are still counted.
pub(super) struct Sending {
    left: usize,
    scan: Scan,
    facts: Facts,
    inflate: Option<Inflate>,
}

impl Sending {
    /// Steps over what need not be seen of what is left, and tells how much that is. The last
    /// byte has to be: the request ends when it comes.
    fn step_over(&mut self) -> usize {
        if self.inflate.is_some() {
            return 0;
        }
        let unseen = self.scan.step_over(self.left - 1);
        self.left -= unseen;
        unseen
    }
}

/// The front of a request that came compressed, as if it had come plain.
pub(super) struct Inflated {
    /// The first bytes on the wire, by which the request is known again.
    pub(super) wire: [u8; COMPRESSED_HEAD],
    pub(super) message: Vec<u8>,
}

impl Mongo {
    pub(super) fn next_request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        if self.sending.is_some() {
            return self.more_of_request(bytes);
        }
        let header = if self.begun { Header::read(bytes)? } else { Header::read_first(bytes)? };
        let Some(header) = header else { return Ok(Next::Hold(HEADER)) };
        let front = FRONT.min(header.len as usize);
        if bytes.len() < front {
            return Ok(Next::Hold(front));
        }
        self.begun = true;
        self.inflated = None;
        let here = &bytes[..bytes.len().min(header.len as usize)];
        if header.opcode == opcode::COMPRESSED {
            return self.compressed_request(header, here);
        }
        let front = &here[..front];
        let Some(message) = Message::read(front) else {
            let asked = Asked::unreadable(header, Some(Violation("bad_message")));
            return Ok(self.pass(header, here, &asked, None));
        };
        let asked = Asked::read(&message, &mut self.resource);
        let counted = asked.command.carries_documents().then(|| {
            let mut scan = Scan::request(header.opcode, header.len - HEADER as u32);
            let mut facts = Facts::default();
            scan.feed(&here[HEADER..], &mut facts);
            Sending { left: header.len as usize - here.len(), scan, facts, inflate: None }
        });
        if asked.role == Role::Hello
            && message.whole
            && let Some(with) = hello::rewrite_request(front)
        {
            let mark = Some(self.begin(&message, &asked));
            self.sent = 0;
            return Ok(Next::Swap { len: front.len(), with: with.into(), mark });
        }
        let shape = self.shape(&message, &asked);
        let mark = Request { shape, ..self.begin(&message, &asked) };
        Ok(self.count(header, here, mark, counted))
    }

    /// A request inside an `OP_COMPRESSED` (specifications, compression/OP_COMPRESSED).
    fn compressed_request(
        &mut self,
        header: Header,
        here: &[u8],
    ) -> Result<Next<Request>, Violation> {
        let (inflated, counted) = match inflate(header, here) {
            Ok(inflated) => inflated,
            Err(BOMB) => return Err(BOMB),
            Err(violation) => {
                let asked = Asked::unreadable(header, Some(violation));
                return Ok(self.pass(header, here, &asked, None));
            }
        };
        let Some(message) = Message::read(&inflated.message) else {
            let asked = Asked::unreadable(header, Some(Violation("bad_message")));
            return Ok(self.pass(header, here, &asked, None));
        };
        let asked = Asked::read(&message, &mut self.resource);
        let shape = self.shape(&message, &asked);
        let mark = Request { shape, ..self.begin(&message, &asked) };
        let swap = (asked.role == Role::Hello && message.whole && counted.left == 0)
            .then(|| hello::rewrite_request(&inflated.message))
            .flatten();
        self.inflated = Some(Box::new(inflated));
        if let Some(with) = swap {
            self.sent = 0;
            return Ok(Next::Swap { len: here.len(), with: with.into(), mark: Some(mark) });
        }
        let counted = asked.command.carries_documents().then_some(counted);
        Ok(self.count(header, here, mark, counted))
    }

    /// Lets a request pass that carries nothing to count.
    fn pass(
        &mut self,
        header: Header,
        here: &[u8],
        asked: &Asked,
        shape: Option<&'static str>,
    ) -> Next<Request> {
        self.resource.clear();
        self.resource.push_str(UNREAD);
        let mark = Request { shape, ..self.remember(header, asked, 0, 0) };
        self.count(header, here, mark, None)
    }

    /// Lets a request pass, and goes on counting if some of it is still to come.
    fn count(
        &mut self,
        header: Header,
        here: &[u8],
        mark: Request,
        counted: Option<Sending>,
    ) -> Next<Request> {
        self.sent = match header.opcode {
            opcode::UPDATE | opcode::DELETE => 1,
            _ => counted.as_ref().map_or(0, |sending| sending.facts.items),
        };
        match counted {
            Some(mut sending) if sending.left > 0 => {
                let unseen = sending.step_over();
                self.sending = Some(Box::new(sending));
                Next::front((here.len() + unseen) as u64, mark)
            }
            _ => Next::whole(header.len.into(), mark),
        }
    }

    fn more_of_request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        let Some(sending) = &mut self.sending else { return Ok(Next::Hold(HEADER)) };
        let here = &bytes[..bytes.len().min(sending.left)];
        if here.is_empty() {
            return Ok(Next::Hold(1));
        }
        let Sending { scan, facts, inflate, .. } = &mut **sending;
        match inflate {
            None => scan.feed(here, facts),
            Some(stream) => match stream.feed(here, &mut |piece| scan.feed(piece, facts)) {
                Err(BOMB) => return Err(BOMB),
                // What is left can't be counted.
                Err(_) => *inflate = None,
                Ok(()) => {}
            },
        }
        sending.left -= here.len();
        if sending.left > 0 {
            let unseen = sending.step_over();
            return Ok(Next::more((here.len() + unseen) as u64));
        }
        self.sent = sending.facts.items;
        self.sending = None;
        Ok(Next::Pass { len: here.len() as u64, mark: None, ends: true })
    }

    /// Notes everything about a request that its reply, or a later one, will need.
    fn begin(&mut self, message: &Message<'_>, asked: &Asked) -> Request {
        if asked.role == Role::Hello && message.whole {
            self.client.get_or_insert_default().greet(message.body);
        }
        let claim = match asked.role {
            Role::Hello if !asked.secret => 0,
            Role::Hello | Role::SaslStart | Role::Authenticate => {
                self.client.get_or_insert_default().claim(message.body)
            }
            Role::SaslContinue => self.client.as_deref().map_or(0, Client::claimed),
            _ => 0,
        };
        let opens_cursor = matches!(asked.role, Role::Cursor | Role::Query);
        let callsite = (opens_cursor && asked.commented)
            .then(|| comment::find(message).and_then(|comment| comment::callsite(&comment)))
            .flatten()
            .map_or(0, |site| self.listener.names.number(&site));
        self.remember(message.header, asked, claim, callsite)
    }

    fn remember(&mut self, header: Header, asked: &Asked, claim: u32, callsite: u16) -> Request {
        self.name = asked.name;
        let legacy = !matches!(header.opcode, opcode::MSG | opcode::COMPRESSED);
        let known = match asked.role {
            Role::GetMore => self.listener.cursors.get(asked.cursor),
            _ => Known { callsite, tails: asked.tails },
        };
        let mut violation = asked.violation;
        if !asked.silent {
            let mut open = Open::new(header.id, legacy, asked);
            (open.claim, open.callsite, open.tails) = (claim, known.callsite, known.tails);
            if !self.opens.add(open) {
                violation = Some(Violation("too_many_open"));
            }
        }
        let callsite = match asked.role {
            Role::GetMore => self.opened_at(asked.cursor).is_some(),
            _ => asked.commented,
        };
        Request {
            tag: (!asked.silent).then_some(Tag(header.id.into())),
            light: asked.command.is_light(),
            awaits: asked.awaits || (asked.role == Role::GetMore && known.tails),
            callsite,
            partial: false,
            others: false,
            shape: None,
            violation,
        }
    }

    fn shape(&self, message: &Message<'_>, asked: &Asked) -> Option<&'static str> {
        let key = self.listener.settings.shard_keys.get(&self.resource);
        let statements = match asked.name {
            "update" => message.sequence(b"updates"),
            "delete" => message.sequence(b"deletes"),
            _ => None,
        };
        shape::read_shape(asked.name, message.body, statements, key.map(Vec::as_slice))
    }
}

/// The front of the request inside a compressed one, and the count of its documents so far.
fn inflate(header: Header, here: &[u8]) -> Result<(Inflated, Sending), Violation> {
    let wire = here.first_chunk().ok_or(Violation("bad_compression"))?;
    let (mut inflate, original) = Inflate::begin(&wire[HEADER..], LONGEST - HEADER as u32)?;
    let mut scan = Scan::request(original.opcode, original.size);
    let mut facts = Facts::default();
    let mut message = Vec::new();
    message.extend_from_slice(&(original.size + HEADER as u32).to_le_bytes());
    message.extend_from_slice(&wire[4..12]);
    message.extend_from_slice(&original.opcode.to_le_bytes());
    // The front is made of the same bytes however many are here, so that it is always the same.
    let (front, rest) = here.split_at(here.len().min(FRONT));
    inflate.feed(&front[COMPRESSED_HEAD..], &mut |piece| {
        let room = FRONT.saturating_sub(message.len()).min(piece.len());
        message.extend_from_slice(&piece[..room]);
        scan.feed(piece, &mut facts);
    })?;
    inflate.feed(rest, &mut |piece| scan.feed(piece, &mut facts))?;
    let left = header.len as usize - here.len();
    if left == 0 {
        inflate.finish()?;
    }
    let sending = Sending { left, scan, facts, inflate: Some(inflate) };
    Ok((Inflated { wire: *wire, message }, sending))
}

/// The front of the request inside a compressed one whose first bytes these are.
pub(super) fn inflated_front(front: &[u8]) -> Option<Vec<u8>> {
    let wire = front.get(..COMPRESSED_HEAD)?;
    let (mut inflate, original) = Inflate::begin(&wire[HEADER..], LONGEST - HEADER as u32).ok()?;
    let mut message = (original.size + HEADER as u32).to_le_bytes().to_vec();
    message.extend_from_slice(&wire[4..12]);
    message.extend_from_slice(&original.opcode.to_le_bytes());
    // What can't be inflated any further is cut, as any front may be.
    let _ = inflate.feed(&front[COMPRESSED_HEAD..], &mut |piece| {
        let room = FRONT.saturating_sub(message.len()).min(piece.len());
        message.extend_from_slice(&piece[..room]);
    });
    Some(message)
}
