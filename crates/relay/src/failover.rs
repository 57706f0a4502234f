//! The operation under way when its endpoint fails, where operations share the connections of a pool.

use super::{Relay, in_flight::Completion};
use operation::{Close, Codec, EndReason, Outcome, RejectReason, Rejection, ResendReason};

impl<C: Codec> Relay<C> {
    /// The pooled connection that an operation uses was lost, for this reason. The request is sent again, or
    /// the client gets an error.
    ///
    /// # Errors
    /// The client's connection closes.
    pub(super) fn lose_upstream(&mut self, close: Close) -> Result<(), Close> {
        let recovery = self.codec.recovery();
        self.upstream.record_loss();
        if self.in_flight.is_empty() && !self.requests.inside && !self.requests.is_ready() {
            self.drop_upstream();
            return Ok(());
        }
        if let Some(key) = recovery.unpins {
            self.upstream.unpin(key);
        }
        if self.requests.inside || self.has_begun_reply() {
            return Err(close);
        }
        if recovery.resends_when_lost && self.upstream.may_resend() {
            self.replies.drop_unread(&self.buffers);
            return self.resend_request(0, ResendReason::LostConnection);
        }
        if recovery.reports_loss { self.report_loss(close) } else { Err(close) }
    }

    /// Whether a part of the reply to the operation under way has arrived.
    fn has_begun_reply(&mut self) -> bool {
        let has_bytes =
            self.replies.inside || self.replies.is_ready() || !self.replies.unread().is_empty();
        has_bytes || self.in_flight.newest().is_some_and(|open| open.first_byte.is_some())
    }

    /// Answers the operation under way, which may have been done.
    fn report_loss(&mut self, close: Close) -> Result<(), Close> {
        let Some(mut open) = self.in_flight.take_newest() else { return Ok(()) };
        let tag = open.tag;
        open.sends = self.upstream.count_replay(Outcome::Lost);
        let end = Completion::bare(Outcome::Lost, Some(EndReason::Closed(close)));
        let now = self.now();
        open.settle(end, now, &self.attributes());
        self.requests.drop_ready();
        self.drop_upstream();
        let Some(tag) = tag else { return Ok(()) };
        let message = "the connection to the service was lost before it answered: it may have done the \
                       operation";
        let no = Rejection::new(RejectReason::Lost, message);
        if self.codec.prefers_close(tag, no.reason, true) || !self.write_rejection(tag, &no) {
            return Err(close);
        }
        Ok(())
    }

    /// Drops a reply of `len` bytes, and sends its request to another endpoint.
    pub(super) fn resend_request(&mut self, len: usize, reason: ResendReason) -> Result<(), Close> {
        self.replies.drop_front(len);
        let now = self.now();
        let was_lost = reason == ResendReason::LostConnection;
        if let Some(open) = self.in_flight.newest() {
            open.first_byte = None;
            if let Some(lease) = self.upstream.lease().filter(|_| !open.long_poll) {
                let took = now.saturating_duration_since(open.started);
                let outcome = if was_lost { Outcome::Lost } else { Outcome::Rejected };
                lease.operation_ended(outcome, took);
            }
        }
        let Some(request) = self.upstream.resend(reason) else {
            return Err(Close::UpstreamViolation);
        };
        let request = self.codec.rewrite_resent(request);
        // A part of it may not have been written.
        self.requests.drop_ready();
        self.requests.replace_front(0, &request);
        self.requests.stalled_since = None;
        Ok(())
    }

    /// Whether the client has gone that waits for a reply. Asked while its operation waits for a
    /// connection: what was not sent is not sent then. A client that wants no reply may go at once.
    pub(super) fn poll_client_gone(&mut self, cx: &mut std::task::Context<'_>) -> bool {
        self.in_flight.expects_reply()
            && matches!(self.client.poll_peek(cx), std::task::Poll::Ready(Ok(0) | Err(_)))
    }
}
