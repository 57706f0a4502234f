//! A request before a pool: it takes a connection, and may be sent to several endpoints.

use super::{Relay, in_flight::Completion};
use cluster::{Lease, TakeError};
use foldhash::fast::FixedState;
use operation::{Attributes, Close, Codec, EndReason, Outcome, Placement, Rejection, ResendReason};
use std::{
    hash::BuildHasher,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// The attribute with the client's application.
const APPLICATION: &str = "app";

impl<C: Codec> Relay<C> {
    /// Has the operation that was just admitted take a connection, if it has none. Returns whether
    /// it has to wait.
    pub(super) fn want_upstream(&mut self, long_poll: bool, placement: Placement) -> bool {
        if self.upstream.want(long_poll, placement) {
            self.upstream.set_continues_state(self.codec.continues_state());
            return true;
        }
        if !long_poll {
            self.upstream.lease().into_iter().for_each(Lease::operation_started);
        }
        false
    }

    /// Ready when the operation at the front has its connection, or was rejected for want of one.
    pub(super) fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        self.prepare_take();
        match ready!(self.upstream.poll_take(cx)) {
            Ok(()) => {
                self.copy_if_encrypted();
                if self.front.is_answered() {
                    // The handshake was what the answer needs.
                    self.upstream.give_back();
                    return Poll::Ready(Ok(()));
                }
                if let Some(taken) = self.upstream.taken() {
                    self.codec.upstream_taken(taken);
                }
                let waited = self.upstream.waited();
                let mut counts = false;
                if let Some(open) = self.in_flight.newest() {
                    open.pool_wait = waited;
                    counts = !open.long_poll;
                }
                if counts {
                    self.upstream.lease().into_iter().for_each(Lease::operation_started);
                }
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(self.reject_unsent(&error)),
        }
    }

    /// Stops the use of pipes if the connection is encrypted. It may be, though those before were not: the
    /// cluster may have been switched.
    fn copy_if_encrypted(&mut self) {
        if self.upstream.stream().is_some_and(|stream| stream.plain().is_none()) {
            self.requests.copy_always();
            self.replies.copy_always();
        }
    }

    /// Says who the client is, as far as the pool asks for it.
    fn prepare_take(&mut self) {
        if let Some(attribute) = self.upstream.fair_by() {
            let attributes = self.attributes();
            let value = attributes.get(self.requests.unread(), attribute).text();
            let key = value.map_or(0, |value| FixedState::default().hash_one(&*value));
            self.upstream.set_fair_key(key);
        }
        if self.upstream.lacks_identity() {
            let attributes = self.attributes();
            let application = attributes.get(self.requests.unread(), APPLICATION).text();
            let application = application.map(|name| Arc::from(&*name));
            self.upstream.set_application(application);
        }
        self.upstream.set_user(self.codec.upstream_user());
    }

    /// Keeps a copy of the request at the front, of which `len` bytes are unread, if it may have to be sent to
    /// several endpoints. `is_whole`: the request ends with these bytes.
    pub(super) fn keep_request(&mut self, len: u64, is_whole: bool) {
        if !self.upstream.is_pooled() {
            return;
        }
        let keeps = is_whole && !self.front.is_answered() && self.codec.keeps_request();
        match self.requests.front(len).filter(|_| keeps) {
            Some(request) => self.upstream.keep(request),
            None => self.upstream.forget_request(),
        }
    }

    /// Drops a reply of `len` bytes, and sends its request to another endpoint.
    pub(super) fn resend_request(&mut self, len: usize, reason: ResendReason) -> Result<(), Close> {
        self.replies.drop_front(len);
        let now = self.now();
        if let Some(open) = self.in_flight.newest() {
            open.first_byte = None;
            if let Some(lease) = self.upstream.lease().filter(|_| !open.long_poll) {
                let took = now.saturating_duration_since(open.started);
                lease.operation_ended(Outcome::Rejected, took);
            }
        }
        let Some(request) = self.upstream.resend(reason) else {
            return Err(Close::UpstreamViolation);
        };
        self.requests.replace_front(0, &request);
        Ok(())
    }

    /// Rejects the operation at the front, of which nothing was sent, or which could not be sent again.
    fn reject_unsent(&mut self, error: &TakeError) -> Result<(), Close> {
        let Some(open) = self.in_flight.take_newest() else { return Ok(()) };
        let now = self.now();
        let (reason, message) = error.client_error();
        let (tag, close) = (open.tag, error.close_reason());
        let end = Completion::bare(close.outcome(false), Some(EndReason::Closed(close)));
        open.settle(end, now, &self.attributes());
        // Its front that was replaced, or all of it to be sent again.
        self.requests.drop_ready();
        self.upstream.forget_request();
        let has_rest = self.requests.inside || self.front.action.is_some();
        self.reject_request(tag, &Rejection::new(reason, message))?;
        self.requests.dropping &= has_rest;
        if let Some(action) = self.front.action.take() {
            self.requests.pass(action.request_len() as u64, true);
        }
        Ok(())
    }
}
