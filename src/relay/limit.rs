//! Operations whose service takes longer than a policy lets it.

use super::{Relay, open::End};
use operation::{Close, Codec, Outcome, Reason, Refusal, Tag};
use std::time::Instant;

impl<C: Codec> Relay<C> {
    /// The operation whose time is up first.
    ///
    /// None while a reply passes down, since it may be its own; and not one whose request has
    /// still to pass.
    pub(super) fn next_due(&self) -> Option<(Option<Tag>, Instant)> {
        if !self.limited || self.replying() {
            return None;
        }
        let stream = self.is_stream();
        // While an answer is awaited the request at the front is in no table yet.
        let passes = self.up.inside && !self.up.dropping && self.asking.is_none();
        let passing = self.wait_until.is_some() || (passes && !stream);
        self.open.next_due(passing, stream)
    }

    /// Answers in the place of a service that took too long. Returns whether anybody was told.
    pub(super) fn give_up_late(&mut self) -> Result<bool, Close> {
        let (now, mut told) = (self.now(), false);
        while let Some((tag, _)) = self.next_due().filter(|(_, due)| *due <= now) {
            // What is not answered by name can't be told from what comes late.
            let Some(mut open) = tag.and_then(|tag| self.open.take(tag)) else {
                return Err(Close::OperationTimeout);
            };
            let limit = open.ticket.terms().and_then(|terms| terms.limit.as_ref());
            let message = limit.map_or("the service took too long", |limit| &limit.message);
            let why = Refusal::new(Reason::TimedOut, message);
            let can = tag.is_some_and(|tag| self.codec.give_up(tag, &why, &mut self.refusals));
            self.release_refusals(&mut open);
            let word =
                if can { Reason::TimedOut.as_str() } else { Close::OperationTimeout.as_str() };
            open.settle(End::bare(Outcome::Lost, Some(word)), now, &self.facts());
            if !can {
                return Err(Close::OperationTimeout);
            }
            // The wait was no idleness.
            self.last_byte = now;
            told = true;
        }
        self.open.rest();
        Ok(told)
    }
}
