//! The operations under way on one connection.

use bytes::BytesMut;
use operation::{
    Attributes, Close, Codec, Fact, Learned, Named, Operation, Outcome, Reason, Request,
    Settlement, Tag, Ticket,
};
use std::{collections::VecDeque, net::IpAddr, rc::Rc, time::Instant};

use crate::{connection::Door, policy::Direction};

/// An operation under way.
#[derive(Debug)]
pub(super) struct Open {
    /// `None` when no reply will come.
    pub(super) tag: Option<Tag>,
    pub(super) ticket: Ticket,
    pub(super) awaits: bool,
    pub(super) began: Instant,
    /// When its reply has to have begun.
    pub(super) due: Option<Instant>,
    pub(super) shape: Option<&'static str>,
    pub(super) request_bytes: u64,
    pub(super) request_items: u64,
    pub(super) reply_bytes: u64,
    /// How many of both were counted already.
    pub(super) counted: [u64; 2],
    pub(super) first_byte: Option<Instant>,
    /// What the rest of its request told.
    pub(super) learned: Option<Box<Learned>>,
    /// What was said to later requests that were refused: they hear it after its reply.
    pub(super) refusals: Option<Box<BytesMut>>,
}

/// How an operation ended, as far as the relay was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) outcome: Outcome,
    pub(super) reason: Option<&'static str>,
    pub(super) code: Option<&'static str>,
    pub(super) items: u64,
    pub(super) confirmed: bool,
    pub(super) greeting: bool,
    /// The connection is the operation.
    pub(super) session: bool,
}

impl End {
    /// An end without details.
    pub(super) fn bare(outcome: Outcome, reason: Option<&'static str>) -> Self {
        Self {
            outcome,
            reason,
            code: None,
            items: 0,
            confirmed: false,
            greeting: false,
            session: false,
        }
    }
}

impl Open {
    /// How many bytes of it are still to be counted.
    pub(super) fn uncounted(&self) -> [u64; 2] {
        let [requested, replied] = self.counted;
        [self.request_bytes - requested, self.reply_bytes - replied]
    }

    /// Counts them.
    pub(super) fn count(&mut self) {
        self.ticket.passed(self.uncounted());
        self.counted = [self.request_bytes, self.reply_bytes];
    }

    /// Settles it.
    pub(super) fn settle<C: Codec>(self, end: End, now: Instant, facts: &Facts<'_, C>) {
        if !self.awaits {
            let took = now.saturating_duration_since(self.began);
            match (end.greeting, end.outcome) {
                (true, Outcome::Ok) => facts.door.greeted(took),
                // The service is not to blame for a fault that somebody asked for, nor for a
                // session that was idle: some services answer nothing by design.
                _ if end.reason.is_some_and(|reason| BLAMELESS.contains(&reason)) => {
                    facts.door.ended(Outcome::Cancelled, took);
                }
                _ if end.session => {
                    let reset = end.reason == Some(Close::UpstreamReset.as_str());
                    facts.door.session_ended(end.outcome, reset, took);
                }
                _ => facts.door.ended(end.outcome, took),
            }
        }
        let late = [Reason::TimedOut.as_str(), Close::OperationTimeout.as_str()];
        let limit = self.ticket.terms().and_then(|terms| terms.limit.as_ref());
        let limit = limit.filter(|_| end.reason.is_some_and(|reason| late.contains(&reason)));
        let policy = limit.map(|limit| Rc::clone(&limit.policy));
        self.ticket.settle(&Settlement {
            policy: policy.as_deref(),
            outcome: end.outcome,
            reason: end.reason,
            code: end.code,
            shape: self.shape,
            request_bytes: self.request_bytes,
            reply_bytes: self.reply_bytes,
            counted: self.counted,
            request_items: self.request_items,
            reply_items: end.items,
            confirmed: end.confirmed,
            first_byte: self.first_byte,
            now,
            attributes: &Facts { learned: self.learned.as_deref(), ..*facts },
            named: self
                .learned
                .as_deref()
                .map(|it| Named { name: &it.name, resource: &it.resource }),
        });
    }
}

/// Ends that say nothing about the service.
const BLAMELESS: [&str; 5] = [
    Close::Injected.as_str(),
    Close::LocalError.as_str(),
    Close::IdleTimeout.as_str(),
    Close::HalfCloseTimeout.as_str(),
    Close::MaxDuration.as_str(),
];

/// How many operations one connection may have under way; beyond that, the oldest is given up.
const MOST: usize = 1000;

/// The operations under way, oldest first. Nearly always none or one.
#[derive(Debug, Default)]
pub(super) struct Table {
    open: VecDeque<Open>,
}

impl Table {
    pub(super) fn push(&mut self, operation: Open) {
        if self.open.capacity() == 0 {
            // Most connections never have a second, and many connections are idle.
            self.open.reserve_exact(1);
        }
        self.open.push_back(operation);
    }

    /// Takes out the oldest if there is no room for another.
    pub(super) fn make_room(&mut self) -> Option<Open> {
        if self.open.len() < MOST { None } else { self.open.pop_front() }
    }

    /// The one whose request passes now.
    pub(super) fn newest(&mut self) -> Option<&mut Open> {
        self.open.back_mut()
    }

    /// The one whose reply is most likely to pass now.
    pub(super) fn oldest(&mut self) -> Option<&mut Open> {
        self.open.front_mut()
    }

    /// The one whose bytes are most likely to pass this way now.
    pub(super) fn passing(&self, way: Direction) -> Option<&Open> {
        match way {
            Direction::Up => self.open.back(),
            Direction::Down => self.open.front(),
        }
    }

    /// The one that is due first, and when; of a `stream` the one that there is. The newest is
    /// left out while it is still `passing`.
    pub(super) fn next_due(&self, passing: bool, stream: bool) -> Option<(Option<Tag>, Instant)> {
        let known = self.open.len() - usize::from(passing && !self.open.is_empty());
        let waits = |open: &&Open| open.first_byte.is_none() && (stream || open.tag.is_some());
        let due = self.open.iter().take(known).filter(waits);
        due.filter_map(|open| Some((open.tag, open.due?))).min_by_key(|(_, due)| *due)
    }

    /// Keeps a refusal until all replies have come that are due before it. Gives it back if none is.
    pub(super) fn refuse_after_replies(&mut self, words: BytesMut) -> Option<BytesMut> {
        let newest = self.open.len();
        self.refuse_before(newest, words)
    }

    /// Keeps a refusal until the reply has come that is due last before this place.
    fn refuse_before(&mut self, place: usize, words: BytesMut) -> Option<BytesMut> {
        let mut older = self.open.iter_mut().take(place).rev();
        let Some(open) = older.find(|open| open.tag.is_some()) else { return Some(words) };
        match &mut open.refusals {
            Some(earlier) => earlier.extend_from_slice(&words),
            None => open.refusals = Some(Box::new(words)),
        }
        None
    }

    /// Takes out the one with this tag. It brings the refusals whose turn it is now.
    pub(super) fn take(&mut self, tag: Tag) -> Option<Open> {
        let at = self.open.iter().position(|open| open.tag == Some(tag))?;
        let mut open = self.open.remove(at)?;
        if let Some(words) = open.refusals.take() {
            open.refusals = self.refuse_before(at, *words).map(Box::new);
        }
        // Its reply overtook others, and was accounted to the oldest.
        if at > 0
            && open.first_byte.is_none()
            && let Some(oldest) = self.open.front_mut().filter(|oldest| !oldest.awaits)
        {
            open.first_byte = oldest.first_byte.take();
            open.reply_bytes = std::mem::take(&mut oldest.reply_bytes);
        }
        Some(open)
    }

    /// Takes out the one whose request passes now.
    pub(super) fn take_newest(&mut self) -> Option<Open> {
        self.open.pop_back()
    }

    /// Takes out the newest if no reply to it will come.
    pub(super) fn take_silent(&mut self) -> Option<Open> {
        if self.open.back()?.tag.is_some() { None } else { self.open.pop_back() }
    }

    /// Where the gate keeps the oldest.
    pub(super) fn slot(&self) -> Option<u32> {
        self.open.front().map(|open| open.ticket.slot())
    }

    /// Takes out any.
    pub(super) fn pop(&mut self) -> Option<Open> {
        self.open.pop_front()
    }

    /// Whether nobody waits for anything that should come soon.
    pub(super) fn is_at_rest(&self) -> bool {
        self.open.iter().all(|open| open.awaits)
    }

    /// Whether a reply is due, however long it may take.
    pub(super) fn expects_reply(&self) -> bool {
        self.open.iter().any(|open| open.tag.is_some())
    }

    /// Lets go of memory that a rest does not need.
    pub(super) fn rest(&mut self) {
        if self.open.is_empty() && self.open.capacity() > 4 {
            self.open = VecDeque::new();
        }
    }
}

/// What a connection and its codec know about an operation.
pub(super) struct Facts<'a, C> {
    codec: &'a C,
    door: &'a Door,
    /// What the rest of the operation's request told.
    learned: Option<&'a Learned>,
}

impl<'f, C: Codec> Facts<'f, C> {
    /// What these two know.
    pub(super) fn new(codec: &'f C, door: &'f Door) -> Self {
        Self { codec, door, learned: None }
    }

    /// The operation that the codec marked last, at the front of these bytes.
    pub(super) fn operation<'a>(&'a self, request: &Request, front: &'a [u8]) -> Operation<'a> {
        let named = self.codec.named(front);
        Operation {
            protocol: const { &C::PROTOCOL },
            name: named.name,
            resource: named.resource,
            front,
            attributes: self,
            awaits: request.awaits,
            light: request.light,
            callsite: request.callsite,
            known: false,
            partial: request.partial,
            others: request.others,
        }
    }
}

impl<C: Codec> Attributes for Facts<'_, C> {
    fn get<'a>(&'a self, front: &'a [u8], name: &str) -> Fact<'a> {
        match self.door.attribute(name) {
            Some(own) => Fact::Is(own),
            None => match (self.codec.attribute(front, name), self.learned) {
                (Fact::Unread, Some(learned)) => self.codec.learned_attribute(front, learned, name),
                (fact, _) => fact,
            },
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.door.link().peer.ip())
    }
}

#[cfg(test)]
mod tests;
