//! Requests that are held: a policy needs a fact that stands further on in them.

use super::{Relay, flow::LONGEST_HOLD, up::Need};
use crate::held::Held;
use operation::{Codec, Tag};
use std::time::Instant;

/// The request at the front, of which more is read than a codec needs to name it.
#[derive(Debug)]
pub(super) struct Hold {
    /// When its first byte was seen.
    began: Instant,
    /// How many bytes of it the codec has read, and needs to know more.
    read: usize,
    wanted: usize,
    /// What it counts against the listener's bound.
    bytes: Held,
    /// No more of it can be held: policies decide by what is known.
    exhausted: bool,
    /// Policies have decided. Its bytes may still be here.
    decided: bool,
}

impl Hold {
    /// Whether policies have to decide by what is known.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted && !self.decided
    }
}

impl<C: Codec> Relay<C> {
    /// Holds the request that the codec marked last: policies can't decide about it yet.
    pub(super) fn hold(&mut self, tag: Option<Tag>) {
        let now = self.now();
        let here = self.up.unread().len();
        let wanted = self.codec.reread(tag, self.up.unread());
        let hold = self.hold.get_or_insert_with(|| {
            let (bytes, exhausted, decided) = (self.door.held_bytes().begin(), false, false);
            Box::new(Hold { began: now, read: 0, wanted, bytes, exhausted, decided })
        });
        if hold.decided {
            (hold.began, hold.read, hold.exhausted, hold.decided) = (now, 0, false, false);
        }
        // A codec that has read no further than before tells no more than it did.
        hold.exhausted |= wanted <= hold.read;
        (hold.read, hold.wanted) = (here, wanted);
    }

    /// What the request at the front waits for, if it is held and there is room for more of it.
    pub(super) fn holds(&mut self) -> Option<Need> {
        let hold = self.hold.as_mut().filter(|hold| !hold.decided && !hold.exhausted)?;
        let here = self.up.unread().len();
        if here >= hold.wanted {
            return None;
        }
        if here > LONGEST_HOLD && !hold.bytes.grow_to(here) {
            hold.exhausted = true;
            self.door.out_of_held_bytes();
            return None;
        }
        Some(Need::Bytes(hold.wanted))
    }

    /// When the request at the front began, if it was held; policies have decided about it now.
    pub(super) fn decided_on_held(&mut self) -> Option<Instant> {
        let hold = self.hold.as_mut().filter(|hold| !hold.decided)?;
        hold.decided = true;
        // What the codec inflated is no less memory than what came. There is no going back if it
        // is too much: it is there already, and one request's at most.
        let _ = hold.bytes.grow_to(self.up.unread().len().saturating_add(self.codec.kept()));
        Some(hold.began)
    }

    /// Gives back what a request held, once its bytes have gone.
    pub(super) fn let_go(&mut self) {
        let waits = self.asking.is_some() || self.wait_until.is_some() || self.up.is_ready();
        let gone = !waits && self.up.unread().len() <= LONGEST_HOLD;
        // What a client cut short is never decided about.
        if gone && self.hold.as_ref().is_some_and(|hold| hold.decided || self.up.eof) {
            self.hold = None;
        }
    }
}
