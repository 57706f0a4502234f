//! A request before a pool: it takes a connection, and may be sent to several endpoints.

use super::{Relay, in_flight::Completion};
use cluster::{Lease, TakeError};
use foldhash::fast::FixedState;
use operation::{Attributes, Close, Codec, EndReason, Placement, Rejection, UpstreamUse};
use std::{
    hash::BuildHasher,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// The attribute with the time limit of an operation, in milliseconds.
const TIME_LIMIT: &str = "max_time_ms";

/// The attribute with the client's application.
const APPLICATION: &str = "app";

/// The attribute with the subject of the client's certificate.
const CERTIFICATE: &str = "tls.subject";

impl<C: Codec> Relay<C> {
    /// Has the operation that was just admitted take a connection, if it has none. Returns whether
    /// it has to wait.
    pub(super) fn want_upstream(&mut self, long_poll: bool, placement: Placement) -> bool {
        let waits_when_unreachable = self.codec.recovery().waits_when_unreachable;
        if self.upstream.want(long_poll, placement, waits_when_unreachable) {
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
        if self.upstream.try_take() {
            let limit = self.time_limit();
            self.upstream.begin_to_wait(limit);
        }
        match self.upstream.poll_take(cx) {
            Poll::Ready(Ok(())) => {
                self.copy_if_encrypted();
                self.upstream_taken();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(self.reject_unsent(&error)),
            Poll::Pending if self.poll_client_gone(cx) => Poll::Ready(Err(Close::Client)),
            Poll::Pending => Poll::Pending,
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

    /// The operation at the front has its connection.
    fn upstream_taken(&mut self) {
        if self.front.is_answered() {
            // The handshake was what the answer needs.
            self.upstream.give_back();
            return;
        }
        let is_first = !self.upstream.has_copy();
        self.keep_request();
        self.keep_for_mirror(is_first);
        if let Some(taken) = self.upstream.taken() {
            self.codec.upstream_taken(taken);
        }
        let waited = self.upstream.waited();
        let mut counts = false;
        if let Some(open) = self.in_flight.newest() {
            open.record_wait(waited);
            counts = !open.long_poll;
        }
        if counts {
            self.upstream.lease().into_iter().for_each(Lease::operation_started);
        }
    }

    /// How long the operation at the front may still take, if the client has limited it.
    fn time_limit(&mut self) -> Option<Duration> {
        // A request that waits for news limits only how long the service waits for them.
        let started = self.in_flight.newest().filter(|open| !open.long_poll)?.started;
        let passed = self.now().saturating_duration_since(started);
        let attributes = self.attributes();
        let written = attributes.get(self.requests.buffered(), TIME_LIMIT).text();
        let limit = written?.parse().ok().filter(|limit| *limit > 0)?;
        Some(Duration::from_millis(limit).saturating_sub(passed))
    }

    /// Passes the name in the client's certificate to the codec.
    pub(super) fn identify_client(&mut self) {
        if self.upstream.is_pooled()
            && let Some(subject) = self.session.attribute(CERTIFICATE).text()
        {
            self.codec.client_certificate(&subject);
        }
    }

    /// Says who the client is, as far as the pool asks for it.
    fn prepare_take(&mut self) {
        if let Some(attribute) = self.upstream.fair_by() {
            let attributes = self.attributes();
            let value = attributes.get(self.requests.unread(), &attribute).text();
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

    /// Keeps a copy of the request at the front, if it may have to be sent to several endpoints.
    fn keep_request(&mut self) {
        if self.upstream.has_copy() || self.front.action.is_some() || !self.codec.keeps_request() {
            return;
        }
        if let Some(request) = self.requests.whole_front() {
            self.upstream.keep(request);
        }
    }

    /// Rejects the operation at the front, of which nothing was sent, or which could not be sent again.
    fn reject_unsent(&mut self, error: &TakeError) -> Result<(), Close> {
        // Its log-in was for the endpoints of before: the client logs in again on another connection.
        if error.is_refusal() && self.upstream.was_switched() {
            return Err(Close::EndpointDrained);
        }
        let Some(mut open) = self.in_flight.take_newest() else { return Ok(()) };
        let now = self.now();
        if let Some(key) = self.codec.recovery().unpins {
            self.upstream.unpin(key);
        }
        let (reason, message) = error.client_error();
        let (tag, close) = (open.tag, error.close_reason());
        let end = Completion::bare(close.outcome(false), Some(EndReason::Closed(close)));
        open.sends = self.upstream.count_replay(end.outcome);
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

    /// Whether the next request waits for the reply to the one before, which uses the connection.
    pub(super) fn awaits_turn(&self) -> bool {
        self.upstream.is_pooled() && !self.requests.inside && !self.in_flight.is_empty()
    }

    /// Gives the connection back to the pool if no operation uses it any more.
    pub(super) fn release_upstream(&mut self) {
        if !self.upstream.is_taken() {
            return;
        }
        let is_used = !self.in_flight.is_empty()
            || self.requests.inside
            || self.requests.is_ready()
            || self.replies.inside;
        if is_used {
            return;
        }
        if self.answers_nothing() {
            self.drop_upstream();
            return;
        }
        match self.codec.upstream_use() {
            UpstreamUse::Free => self.upstream.give_back(),
            UpstreamUse::Held => {}
            UpstreamUse::Own => self.upstream.detach(),
        }
    }

    /// Whether a pooled connection has sent bytes that answer no request. The client that uses it
    /// next must not get them.
    pub(super) fn answers_nothing(&self) -> bool {
        self.upstream.is_pooled()
            && self.in_flight.is_empty()
            && !self.replies.inside
            && !self.replies.unread().is_empty()
    }

    /// Closes the pooled connection that the operation uses: its next reply belongs to nothing.
    pub(super) fn drop_upstream(&mut self) {
        if self.upstream.is_pooled() {
            self.upstream.close();
            self.replies.drop_unread(&self.buffers);
        }
    }
}
