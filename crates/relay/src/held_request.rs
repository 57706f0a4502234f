//! Held requests: a policy needs a fact that is further on in the request than the codec has read.

use super::{Relay, flow::MAX_HOLD, requests::Need};
use operation::{Codec, Tag};
use session::HeldBytesLease;
use std::time::Instant;

/// The request at the front, of which more is buffered than the codec needs to name it.
#[derive(Debug)]
pub(super) struct HeldRequest {
    /// When its first byte was read.
    started: Instant,
    /// How many bytes of it the codec has read, and how many it needs to learn more.
    read: usize,
    wanted: usize,
    /// Its share of the listener's `max_held_bytes`.
    bytes: HeldBytesLease,
    /// The bound is reached: policies decide by what is known.
    exhausted: bool,
    /// Policies have decided. Its bytes may still be buffered.
    decided: bool,
}

impl HeldRequest {
    /// Whether policies have to decide by what is known.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted && !self.decided
    }
}

impl<C: Codec> Relay<C> {
    /// Holds the request that the codec marked last, because policies need more of it.
    pub(super) fn hold_request(&mut self, tag: Option<Tag>) {
        let now = self.now();
        let here = self.requests.unread().len();
        let wanted = self.codec.reread(tag, self.requests.unread());
        let hold = self.front.hold.get_or_insert_with(|| {
            let (bytes, exhausted, decided) = (self.session.held_bytes().begin(), false, false);
            Box::new(HeldRequest { started: now, read: 0, wanted, bytes, exhausted, decided })
        });
        if hold.decided {
            (hold.started, hold.read, hold.exhausted, hold.decided) = (now, 0, false, false);
        }
        // A codec that reads no further will not learn more.
        hold.exhausted |= wanted <= hold.read;
        (hold.read, hold.wanted) = (here, wanted);
    }

    /// What the request at the front waits for, if it is held and there is room for more of it.
    pub(super) fn hold_need(&mut self) -> Option<Need> {
        let hold = self.front.hold.as_mut().filter(|hold| !hold.decided && !hold.exhausted)?;
        let here = self.requests.unread().len();
        if here >= hold.wanted {
            return None;
        }
        if here > MAX_HOLD && !hold.bytes.grow_to(here) {
            hold.exhausted = true;
            self.session.report_not_held();
            return None;
        }
        Some(Need::Bytes(hold.wanted))
    }

    /// When the request at the front started, if it was held. Marks it as decided.
    pub(super) fn finish_hold(&mut self) -> Option<Instant> {
        let hold = self.front.hold.as_mut().filter(|hold| !hold.decided)?;
        hold.decided = true;
        // Inflated bytes use memory like received ones. The bound can be exceeded by one request:
        // the codec has allocated already.
        let _ = hold
            .bytes
            .grow_to(self.requests.unread().len().saturating_add(self.codec.retained_bytes()));
        Some(hold.started)
    }

    /// Returns the held bytes to the listener's budget once they have been forwarded.
    pub(super) fn release_hold(&mut self) {
        let waits = self.front.verdict.is_some()
            || self.front.delayed_until.is_some()
            || self.requests.is_ready();
        let gone = !waits && self.requests.unread().len() <= MAX_HOLD;
        // A request that the client left incomplete is never decided.
        if gone && self.front.hold.as_ref().is_some_and(|hold| hold.decided || self.requests.eof) {
            self.front.hold = None;
        }
    }
}
