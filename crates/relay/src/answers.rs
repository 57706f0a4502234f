//! Requests that the codec answers itself, at once or later.

use super::{Relay, front_action::FrontAction};
use operation::{Close, Codec, Direction, LocalAnswer, Outcome, Placement, Reply, Tag, Violation};
use std::time::Instant;

/// The codec's own answer that is due later.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaterAnswer {
    tag: Tag,
    pub(super) due: Instant,
}

impl<C: Codec> Relay<C> {
    /// Has the codec answer the request at the front, which has `len` bytes and is dropped.
    /// `has_upstream`: a connection was opened because the answer needs one.
    pub(super) fn answer_request(&mut self, len: usize, has_upstream: bool) -> Result<(), Close> {
        let Some(open) = self.in_flight.newest() else { return Ok(()) };
        let Some(tag) = open.tag else { return Err(Close::ClientViolation) };
        if !has_upstream {
            open.request_bytes += len as u64;
            self.record_passed(Direction::Up, len);
        }
        let step = self.write_answer(tag);
        if matches!(step, LocalAnswer::NeedsUpstream | LocalAnswer::NeedsQuery) {
            if has_upstream || !self.seek_answer(step) {
                self.session.log_violation(Violation("no_answer"), "closed");
                return Err(Close::UpstreamViolation);
            }
            self.front.action = Some(FrontAction::Answer { len, has_upstream: true });
            return Ok(());
        }
        self.requests.dropping = true;
        self.requests.pass(len as u64, true);
        Ok(())
    }

    /// Takes a connection because the answer depends on the service. Returns whether one can be taken.
    fn seek_answer(&mut self, step: LocalAnswer) -> bool {
        match step {
            LocalAnswer::NeedsQuery => {
                self.codec.query().is_some_and(|query| self.upstream.ask(query))
            }
            _ => self.upstream.want(false, Placement::Primary, true),
        }
    }

    /// Whether an answer is due that was not when its request came.
    pub(super) fn answer_is_due(&mut self) -> bool {
        let Some(answer) = self.local_replies.later else { return false };
        answer.due <= self.now()
    }

    /// Writes the answer that is due, if there is one.
    pub(super) fn write_due_answer(&mut self) {
        if self.answer_is_due()
            && let Some(answer) = self.local_replies.later.take()
        {
            self.write_answer(answer.tag);
        }
    }

    /// Has the codec write the next reply to a request. The last one settles the operation.
    fn write_answer(&mut self, tag: Tag) -> LocalAnswer {
        let before = self.local_replies.due.len();
        let step = self.codec.answer(tag, &mut self.local_replies.due);
        let written = self.local_replies.due.len() - before;
        let now = self.now();
        if written > 0 {
            // The client was waiting, not idle.
            self.timers.last_byte = now;
            self.record_passed(Direction::Down, written);
        }
        if let Some(open) = self.in_flight.get(tag).filter(|_| written > 0) {
            open.first_byte.get_or_insert(now);
            open.reply_bytes += written as u64;
        }
        match step {
            LocalAnswer::Done => {
                self.settle_reply(Reply { is_control: true, ..Reply::new(tag, Outcome::Ok) });
            }
            LocalAnswer::Later(after) => {
                self.local_replies.later = Some(LaterAnswer { tag, due: now + after });
            }
            LocalAnswer::Failed(code) => {
                let failed = Reply::new(tag, Outcome::Failed);
                self.settle_reply(Reply { is_control: true, code: Some(code), ..failed });
            }
            LocalAnswer::NeedsUpstream | LocalAnswer::NeedsQuery => {}
        }
        step
    }
}
