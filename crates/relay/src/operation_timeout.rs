//! Operation time-outs: a policy limits how long the service may take.

use super::{Relay, in_flight::Completion};
use operation::{Close, Codec, EndReason, Outcome, RejectReason, RejectionRef, Tag};
use std::time::Instant;

impl<C: Codec> Relay<C> {
    /// The operation whose time-out comes first.
    ///
    /// `None` while a reply passes, since it may be that operation's. Operations whose request has
    /// not passed completely are left out.
    pub(super) fn next_timeout(&self) -> Option<(Option<Tag>, Instant)> {
        let replying = self.is_inside_reply() && !self.replies.unsolicited;
        if !self.timers.has_timeouts || replying {
            return None;
        }
        let stream = self.is_stream();
        // While its verdict is pending the request at the front is not in the table.
        let passes =
            self.requests.inside && !self.requests.dropping && self.front.verdict.is_none();
        let passing = self.front.delayed_until.is_some() || (passes && !stream);
        self.in_flight.next_deadline(passing, stream)
    }

    /// Answers operations that took too long. Returns whether a client was answered.
    pub(super) fn expire_operations(&mut self) -> Result<bool, Close> {
        let (now, mut answered) = (self.now(), false);
        while let Some((tag, _)) = self.next_timeout().filter(|(_, due)| *due <= now) {
            // Without a request id a late reply cannot be distinguished from the next reply, so the
            // connection must close.
            let Some(mut open) = tag.and_then(|tag| self.in_flight.take(tag)) else {
                return Err(Close::OperationTimeout);
            };
            let limit = open.ticket.effects().and_then(|terms| terms.reply_timeout.as_ref());
            let message = limit.map_or("the service took too long", |limit| &limit.message);
            let why = RejectionRef::new(RejectReason::TimedOut, message);
            let can = tag.is_some_and(|tag| give_up(self, tag, &why));
            self.release_rejections(&mut open);
            let reason = if can {
                EndReason::Rejected(RejectReason::TimedOut)
            } else {
                EndReason::Closed(Close::OperationTimeout)
            };
            open.settle(Completion::bare(Outcome::Lost, Some(reason)), now, &self.attributes());
            if !can {
                return Err(Close::OperationTimeout);
            }
            // The connection was waiting, not idle.
            self.timers.last_byte = now;
            answered = true;
        }
        self.in_flight.shrink();
        Ok(answered)
    }
}

/// Answers an operation that the service has not answered in time. Returns `false` if the protocol
/// can't.
///
/// A late reply on a pooled connection would be the next client's, so that connection closes. Most
/// services then stop the work, too.
fn give_up<C: Codec>(relay: &mut Relay<C>, tag: Tag, why: &RejectionRef<'_>) -> bool {
    let Relay { codec, local_replies, upstream, .. } = relay;
    if !upstream.is_pooled() {
        return codec.give_up(tag, why, &mut local_replies.due);
    }
    let closes = codec.prefers_close(tag, why.reason, true);
    // The rest of a message that the client has got in part would never come.
    if closes || relay.is_inside_reply() {
        return false;
    }
    relay.drop_upstream();
    relay.codec.reject(tag, why, &mut relay.local_replies.due)
}
