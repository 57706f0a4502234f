//! What policies ask of a connection's bytes: how fast they pass, and where they end.

use super::{
    Relay,
    impaired::Impaired,
    open::{End, Facts, Open},
};
use crate::{
    gate::Revised,
    policy::{Direction, bandwidth_limit::Bucket},
};
use operation::{Close, Codec, Cut, Manner, Outcome, Place, Request, Terms};
use std::{num::NonZeroU64, time::Instant};

/// What is asked of a connection's bytes; of most connections nothing ever is.
#[derive(Debug, Default)]
pub(super) struct Bent {
    /// Before when nothing passes, by way.
    held: [Option<Instant>; 2],
    /// How fast the bytes of an operation pass that has a pace.
    pace: Option<Pace>,
    /// The request at the front is cut as soon as it may go on.
    cut: Option<Cut>,
    pub(super) parting: Option<Parting>,
    /// What the connection's end is called if the request that was refused last is all of it.
    pub(super) refused: Option<Close>,
    /// The client's connection ends with a reset.
    pub(super) reset: bool,
    /// The client has been told of the end.
    pub(super) goodbye: Option<Close>,
    /// When a stream is cut, and how.
    cut_at: Option<(Instant, Cut)>,
    /// What is done to a stream's bytes, by way.
    pub(super) impaired: [Option<Box<Impaired>>; 2],
    /// What holds of a stream since policies changed while it was open.
    revised: Option<Changed>,
}

/// The terms of a stream in the place of those of its ticket.
#[derive(Debug)]
struct Changed {
    terms: Terms,
    /// How many bytes of the reply had passed before.
    reply_bytes: u64,
}

/// The pace of an operation, each way.
#[derive(Debug)]
struct Pace {
    rate: NonZeroU64,
    buckets: [Bucket; 2],
}

/// The connection ends as soon as it may.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parting {
    close: Close,
    /// But replies that are due go out first.
    owes: bool,
}

impl Bent {
    /// Lets bytes pass whose moment has come.
    pub(super) fn release(&mut self, now: Instant) -> bool {
        let due = |held: &&mut Option<Instant>| held.is_some_and(|until| until <= now);
        self.held.iter_mut().filter(due).map(Option::take).count() > 0
    }

    /// Until when bytes are held, by way.
    pub(super) fn held(&self) -> [Option<Instant>; 2] {
        self.held
    }
}

impl<C: Codec> Relay<C> {
    /// Keeps in mind what an operation's terms ask of its bytes.
    pub(super) fn accept(&mut self, terms: &Terms) {
        self.limited |= terms.limit.is_some();
        if !terms.is_only_limit() {
            self.bend(terms);
        }
    }

    fn bend(&mut self, terms: &Terms) {
        let now = self.now();
        let bent = self.bent.get_or_insert_default();
        bent.cut = terms.cut.filter(|cut| cut.place == Place::Request);
        if let Some(rate) = terms.pace
            && bent.pace.as_ref().is_none_or(|pace| pace.rate != rate)
        {
            let bucket = || Bucket::even(rate.get(), now);
            bent.pace = Some(Pace { rate, buckets: [bucket(), bucket()] });
        }
        let after = terms.cut.and_then(|cut| match cut.place {
            Place::After(time) => Some((now + time, cut)),
            _ => None,
        });
        // One that counts already goes on to.
        if bent.cut_at.map(|(_, cut)| cut) != after.map(|(_, cut)| cut) {
            bent.cut_at = after;
        }
        self.impair(&terms.impairments);
    }

    /// When a stream is cut that is to be.
    pub(super) fn cut_at(&self) -> Option<Instant> {
        Some(self.bent.as_ref()?.cut_at?.0)
    }

    /// Why a stream ends now whose time is over.
    pub(super) fn cut_after(&mut self) -> Option<Close> {
        let at = self.cut_at()?;
        if at > self.now() {
            return None;
        }
        let bent = self.bent.as_mut()?;
        bent.reset |= bent.cut_at?.1.reset;
        Some(Close::Injected)
    }

    /// Takes up policies that came into force, or went, while the connection was open. Of messages
    /// the next one meets them by itself.
    pub(super) fn follow_policies(&mut self) -> Result<(), Close> {
        if !self.door.follow() {
            return Ok(());
        }
        if !self.door.is_free() {
            self.bent.get_or_insert_default();
        }
        let stream = self.open.slot().filter(|_| self.is_stream() && self.asking.is_none());
        let Some(slot) = stream else { return Ok(()) };
        let (now, request) = (self.now(), Request::default());
        let facts = Facts::new(&self.codec, &self.door);
        let Some(revised) = self.door.revise(slot, &facts.operation(&request, &[]), now) else {
            return Ok(());
        };
        let Revised { terms, delay, no } = revised;
        if let Some(no) = no {
            let reset = no.manner == Manner::Reset;
            self.part(Close::Injected, reset, false);
            return Ok(());
        }
        self.bend(&terms);
        if terms.cut.is_some_and(|cut| cut.place == Place::Request) {
            // No more of it goes on, in either direction.
            let _ = self.goes_on();
            return Err(Close::Injected);
        }
        let reply_bytes = self.open.oldest().map_or(0, |open| open.reply_bytes);
        self.bent.get_or_insert_default().revised = Some(Changed { terms, reply_bytes });
        if !delay.is_zero() {
            self.wait_until = self.wait_until.max(Some(now + delay));
        }
        Ok(())
    }

    fn revised(&self) -> Option<&Changed> {
        self.bent.as_ref()?.revised.as_ref()
    }

    /// The terms of an operation that hold now.
    fn terms<'o>(&'o self, open: &'o Open) -> Option<&'o Terms> {
        match self.revised() {
            Some(revised) if self.is_stream() => Some(&revised.terms),
            _ => open.ticket.terms(),
        }
    }

    /// Whether the request at the front is to be cut as soon as it may go on.
    pub(super) fn cuts_request(&self) -> bool {
        self.bent.as_ref().is_some_and(|bent| bent.cut.is_some())
    }

    /// Whether requests may go on; the one at the front is cut now if it is to be.
    pub(super) fn goes_on(&mut self) -> bool {
        let Some(bent) = &mut self.bent else { return true };
        if let Some(cut) = bent.cut.take() {
            let now = self.now();
            let end = End::bare(Outcome::Lost, Some(Close::Injected.as_str()));
            if let Some(open) = self.open.take_newest() {
                open.settle(end, now, &self.facts());
            }
            self.part(Close::Injected, cut.reset, true);
        }
        !self.is_parting() && !self.is_held(Direction::Up)
    }

    /// Ends the connection once the bytes are written that wait for it, and, if it `owes` them,
    /// the replies to operations that are under way.
    pub(super) fn part(&mut self, close: Close, reset: bool, owes: bool) {
        let bent = self.bent.get_or_insert_default();
        bent.reset |= reset;
        let owes = owes && bent.parting.is_none_or(|parting| parting.owes);
        bent.parting = Some(Parting { close, owes });
    }

    /// Whether the connection takes no more requests.
    pub(super) fn is_parting(&self) -> bool {
        self.bent.as_ref().is_some_and(|bent| bent.parting.is_some())
    }

    /// Whether not even what is due goes on.
    pub(super) fn is_cut(&self) -> bool {
        let parting = self.bent.as_ref().and_then(|bent| bent.parting);
        parting.is_some_and(|parting| !parting.owes)
    }

    /// Whether it is time to part, now that nothing waits to be written to the client.
    pub(super) fn parts(&self) -> Option<Close> {
        let parting = self.bent.as_ref()?.parting?;
        let due = || self.replying() || !self.open.is_at_rest() || self.up.is_ready();
        (!parting.owes || !due()).then_some(parting.close)
    }

    /// Whether nothing passes this way for now.
    pub(super) fn is_held(&self, way: Direction) -> bool {
        self.bent.as_ref().is_some_and(|bent| bent.held[way as usize].is_some())
    }

    /// The most bytes that may pass this way in one go.
    #[inline]
    pub(super) fn room(&self, way: Direction) -> usize {
        self.bent.as_ref().map_or(usize::MAX, |bent| self.room_of(bent, way))
    }

    #[inline(never)]
    fn room_of(&self, bent: &Bent, way: Direction) -> usize {
        let mut room = self.door.most(way);
        if let Some(pace) = bent.pace.as_ref().filter(|_| self.is_paced(way)) {
            room = room.min(pace.buckets[way as usize].most());
        }
        if let Some(impaired) = self.impaired(way) {
            room = room.min(impaired.room());
        }
        match way {
            Direction::Up => room,
            Direction::Down => self.left_of_reply().map_or(room, |(left, _)| room.min(left)),
        }
    }

    /// How much may still pass of a reply that is to be cut.
    pub(super) fn left_of_reply(&self) -> Option<(usize, Cut)> {
        self.bent.as_ref()?;
        let open = self.open.passing(Direction::Down)?;
        let cut = self.terms(open)?.cut?;
        let Place::Reply(n) = cut.place else { return None };
        let before = self.revised().map_or(0, |revised| revised.reply_bytes);
        let left = n.saturating_sub(open.reply_bytes.saturating_sub(before));
        Some((usize::try_from(left).unwrap_or(usize::MAX), cut))
    }

    /// Whether the operation whose bytes pass this way has a pace.
    fn is_paced(&self, way: Direction) -> bool {
        let terms = self.open.passing(way).and_then(|open| self.terms(open));
        terms.is_some_and(|terms| terms.pace.is_some())
    }

    /// So many bytes have passed this way.
    #[inline]
    pub(super) fn passed(&mut self, way: Direction, bytes: usize) {
        if bytes > 0 && self.bent.is_some() {
            self.pay(way, bytes);
        }
    }

    #[inline(never)]
    fn pay(&mut self, way: Direction, bytes: usize) {
        let now = self.now();
        let paced = self.is_paced(way);
        let slot = self.open.passing(way).map(|open| open.ticket.slot());
        let Some(bent) = &mut self.bent else { return };
        let mut until = self.door.passed(way, bytes, now, slot);
        if let Some(pace) = bent.pace.as_ref().filter(|_| paced) {
            until = until.max(pace.buckets[way as usize].passed(bytes, now));
        }
        if let Some(impaired) = &mut bent.impaired[way as usize] {
            until = until.max(impaired.passed(bytes, now));
        }
        bent.held[way as usize] = until;
    }

    /// Cuts the connection where the reply passing down has come to its last byte to pass.
    #[inline]
    pub(super) fn cut_reply(&mut self) {
        if self.bent.is_none() {
            return;
        }
        let left = self.left_of_reply().filter(|_| self.replying());
        // Of a stream that was open already it is the next byte whose place the end takes.
        let waits = self.revised().is_some() && self.down.unread().is_empty();
        if let Some((0, cut)) = left.filter(|_| !waits) {
            self.part(Close::Injected, cut.reset, false);
        }
    }

    /// Cuts the connection at the end of its stream, if it is one operation that was to end so.
    pub(super) fn cut_stream(&mut self) {
        if self.bent.is_some() && self.is_stream() {
            let terms = self.open.passing(Direction::Down).and_then(|open| self.terms(open));
            self.cut_end(terms.and_then(|terms| terms.cut), false);
        }
    }

    /// Cuts the connection if it was to end with what has ended now.
    pub(super) fn cut_end(&mut self, cut: Option<Cut>, owes: bool) {
        if let Some(cut) = cut.filter(|cut| cut.place == Place::End) {
            self.part(Close::Injected, cut.reset, owes);
        }
    }
}
