//! The request at the front is judged by the gate: admitted, rejected, or held.

use super::{
    Relay,
    in_flight::{Completion, InFlightRequest},
    requests::Need,
};
use operation::{
    Close, Codec, Direction, EndReason, Outcome, PendingOperation, Placement, ReadRoute,
    RejectMode, Rejection, Request, Tag, Ticket, Verdict,
};
use std::{
    task::{Context, Poll, ready},
    time::Instant,
};

/// A request whose verdict is pending, for example on a remote rate limit.
#[derive(Debug)]
pub(super) struct PendingVerdict {
    request: Request,
    question: PendingOperation,
    started: Instant,
}

impl<C: Codec> Relay<C> {
    /// Passes the request at the front of the unread bytes to the gate.
    pub(super) fn admit(&mut self, request: Request) -> Result<Option<Need>, Close> {
        self.progress.request_parsed = true;
        if let Some(violation) = request.violation {
            self.session.count_violation(violation);
            if let Some(no) = self.session.reject_unreadable() {
                // It may have been held before the violation was seen.
                let _ = self.finish_hold();
                return self.reject_request(request.tag, &no).map(Some);
            }
        }
        let now = self.now();
        let facts = self.attributes();
        let mut operation = facts.operation(&request, self.requests.unread());
        operation.partial &= !self.front.hold.as_ref().is_some_and(|hold| hold.is_exhausted());
        let verdict = self.session.admit(&operation, now);
        if matches!(verdict, Verdict::NeedMore) {
            self.hold_request(request.tag);
            return Ok(Some(Need::More));
        }
        let began = self.finish_hold().unwrap_or(now);
        self.apply_verdict(request, verdict, began)
    }

    /// Waits for the pending verdict on the request at the front.
    pub(super) fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        let Some(asking) = &mut self.front.verdict else { return Poll::Ready(Ok(())) };
        let answer = ready!(asking.question.decision.as_mut().poll(cx));
        let Some(asking) = self.front.verdict.take() else { return Poll::Ready(Ok(())) };
        let PendingVerdict { request, question, started: began } = *asking;
        let now = self.now();
        let facts = self.attributes();
        let operation = facts.operation(&request, self.requests.unread());
        let verdict = self.session.resume(question.ticket, answer, &operation, now);
        self.apply_verdict(request, verdict, began)?;
        if self.requests.dropping {
            if self.requests.passes_everything() {
                return Poll::Ready(Err(self.stream_rejection_close()));
            }
            if let Some(action) = self.front.action.take() {
                self.requests.pass(action.request_len() as u64, true);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Applies the gate's verdict on the request at the front. `began` is when its first byte was
    /// seen.
    fn apply_verdict(
        &mut self,
        request: Request,
        verdict: Verdict,
        began: Instant,
    ) -> Result<Option<Need>, Close> {
        let now = self.now();
        let ticket = match verdict {
            Verdict::Admit(ticket) => ticket,
            Verdict::Pending(question) => {
                self.front.verdict =
                    Some(Box::new(PendingVerdict { request, question, started: began }));
                return Ok(Some(Need::Flush));
            }
            Verdict::Reject(no) => return self.reject_request(request.tag, &no).map(Some),
            // The rest of a request is not read once its verdict was pending.
            Verdict::NeedMore => return Err(Close::ClientViolation),
        };
        if self.upstream.is_pooled()
            && let Some(no) = self.codec.refusal()
        {
            let open = InFlightRequest::new(request.tag, ticket, began);
            let end = Completion::bare(Outcome::Rejected, Some(no.reason.into()));
            open.settle(end, now, &self.attributes());
            return self.reject_request(request.tag, &no).map(Some);
        }
        let (mut delay, mut due) = (None, None);
        let (placement, replaced) = self.place(&ticket);
        if let Some(terms) = ticket.effects() {
            self.apply_terms(terms);
            let goes_on = now + terms.delay;
            delay = (goes_on > now).then_some(goes_on);
            // A long poll may take for ever by design, so the service does not owe a reply in time.
            due = terms
                .reply_timeout
                .as_ref()
                .filter(|_| !request.long_poll)
                .map(|it| goes_on + it.after);
        }
        self.evict_if_full();
        self.in_flight.push(InFlightRequest {
            long_poll: request.long_poll,
            is_answered: self.front.is_answered(),
            deadline: due,
            shape: request.shape,
            absent: request.absent,
            request_bytes: replaced as u64,
            ..InFlightRequest::new(request.tag, ticket, began)
        });
        self.front.delayed_until = delay;
        let takes = !self.front.is_answered() && self.want_upstream(request.long_poll, placement);
        let waits = takes || delay.is_some() || self.has_request_cut();
        Ok(waits.then_some(Need::Flush))
    }

    /// Makes room in the table of requests in flight.
    fn evict_if_full(&mut self) {
        let Some(mut evicted) = self.in_flight.evict_if_full() else { return };
        self.release_rejections(&mut evicted);
        // Its reply, if one comes, passes like any other.
        let (end, now) = (EndReason::TooManyInFlight, self.now());
        evicted.settle(Completion::bare(Outcome::Cancelled, Some(end)), now, &self.attributes());
    }

    /// Where the request at the front goes, for which the ticket was given. A read that a policy routes is
    /// changed so that the endpoint serves it.
    /// Returns how many bytes were replaced, too.
    fn place(&mut self, ticket: &Ticket) -> (Placement, usize) {
        if !self.upstream.is_pooled() {
            return (Placement::Primary, 0);
        }
        let route = ticket.effects().and_then(|effects| effects.route.clone());
        let Some(route) = route else { return (self.codec.placement(), self.edit_front()) };
        match self.codec.route_read(self.requests.unread(), &route) {
            ReadRoute::NotRoutable => (self.codec.placement(), self.edit_front()),
            ReadRoute::Unchanged => (Placement::Read(route), self.edit_front()),
            ReadRoute::Rewritten { len, with } => {
                self.replace_front(len, &with);
                (Placement::Read(route), len)
            }
        }
    }

    /// Lets the codec change the front of the request. Returns how many bytes were replaced.
    fn edit_front(&mut self) -> usize {
        // What is answered or rewritten whole is not forwarded.
        if self.front.action.is_some() {
            return 0;
        }
        let Some((len, with)) = self.codec.edit_front(self.requests.unread()) else { return 0 };
        self.replace_front(len, &with);
        len
    }

    fn replace_front(&mut self, len: usize, with: &[u8]) {
        if !self.requests.inside {
            // It is not known yet how the request passes.
            self.front.replaced = len;
        }
        self.requests.replace_front(len, with);
        self.record_passed(Direction::Up, with.len());
    }

    /// Drops the request at the front, and writes a rejection if a reply is expected.
    pub(super) fn reject_request(
        &mut self,
        tag: Option<Tag>,
        no: &Rejection,
    ) -> Result<Need, Close> {
        let written = match (no.mode, tag) {
            (RejectMode::Reply, Some(tag)) if self.codec.prefers_close(tag, no.reason, true) => {
                false
            }
            (RejectMode::Reply, Some(tag)) => {
                self.forward_replacement(tag, no) || self.write_rejection(tag, no)
            }
            (RejectMode::Reply, None) => {
                self.front.rejected = Some(no.reason.close());
                true
            }
            (RejectMode::Close, _) => false,
            (RejectMode::Reset, _) => {
                self.schedule_close(no.reason.close(), true, false);
                return Err(no.reason.close());
            }
        };
        if written {
            self.requests.dropping = true;
        } else {
            self.schedule_close(no.reason.close(), false, true);
        }
        Ok(Need::Flush)
    }

    /// If the codec has a request that makes the service report the rejection, forwards that one instead of
    /// the rejected one, and returns true.
    fn forward_replacement(&mut self, tag: Tag, no: &Rejection) -> bool {
        // Without a connection the service has no transaction to fail.
        if self.upstream.stream().is_none() {
            return false;
        }
        let Some(bytes) = self.codec.replace_rejected(tag, &no.as_ref()) else { return false };
        self.requests.swap(0, &bytes);
        self.evict_if_full();
        // The gate has settled the operation, with the rejection.
        let open = InFlightRequest::new(Some(tag), Ticket::settled(), self.now());
        self.in_flight.push(open);
        self.want_upstream(false, Placement::Primary);
        self.record_passed(Direction::Up, bytes.len());
        true
    }

    /// The close reason of a connection whose only operation was rejected.
    pub(super) fn stream_rejection_close(&self) -> Close {
        self.front.rejected.unwrap_or(Close::Denied)
    }
}
