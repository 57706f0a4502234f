//! A request on its way to the service, until the head of the response.

use super::{
    buffer::Buffer,
    compose,
    field::Field,
    incoming_body::IncomingBody,
    matched_route::MatchedRoute,
    operation::ActiveRequest,
    request::{ClientRequest, Failure},
    response_head::ResponseHead,
};
use crate::{
    admitted_request::RequestTimeout, earliest::Earliest, pool::Pool, upstream_conn::H1Connection,
    upstream_error::UpstreamError, upstream_request::AttemptError,
};
use net::Stream;
use operation::{Close, ReplyTimeout};
use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::io::AsyncWrite;

/// Most bytes of 1xx heads that wait for the client.
const MAX_HINTS: usize = 16 * 1024;

/// A response whose head was received, and the connection that brings its body.
pub(super) struct AwaitedResponse {
    pub(super) conn: Box<H1Connection>,
    /// The head, and what came with it.
    pub(super) reply: Buffer,
    pub(super) head: ResponseHead,
}

/// What a request needs until its response.
pub(super) struct Awaiting<'w> {
    pub(super) matched: &'w MatchedRoute,
    pub(super) pool: &'w Rc<Pool>,
    /// The policies' limit for the response.
    pub(super) limit: Option<ReplyTimeout>,
    /// When the attempt has taken too long.
    pub(super) attempt_due: Option<Instant>,
    pub(super) upload: Upload,
    pub(super) response_fields: &'w mut Vec<Field>,
    /// The request as it is sent.
    pub(super) out: &'w mut Vec<u8>,
    /// 1xx heads that the client has not got yet.
    pub(super) hints: Vec<u8>,
}

/// A request on its way.
///
/// Its front is in memory that the caller lends: the head, the part of the body that came with it, and what was read
/// since, as long as that is kept for another attempt.
pub(super) struct Upload {
    /// How much of the front was sent.
    sent: usize,
    /// Bytes of data of the body that the front has, and how many it may have.
    kept: u64,
    max_kept: u64,
    /// Bytes of the body that were read and not kept.
    chunk: Buffer,
    /// More was read than the front has.
    has_forgotten: bool,
    /// Nothing is left in the socket's own buffers, as TLS has them.
    is_flushed: bool,
    /// The service reads nothing more.
    is_refused: bool,
    /// When a byte was last sent.
    last_sent: Instant,
    /// When all of it was sent.
    pub(super) sent_at: Option<Instant>,
    /// Since when the client owes the next bytes.
    waiting_since: Option<Instant>,
    began: Instant,
}

impl Upload {
    /// `is_read`: all of the body is in its front, and counts as sent at the time `began`. `kept`: the bytes of data
    /// that the front has, `max_kept`: those that it may have.
    pub(super) fn new(is_read: bool, began: Instant, (kept, max_kept): (u64, u64)) -> Self {
        Self {
            sent: 0,
            kept,
            max_kept,
            chunk: Buffer::default(),
            has_forgotten: false,
            is_flushed: true,
            is_refused: false,
            last_sent: began,
            sent_at: is_read.then_some(began),
            waiting_since: None,
            began,
        }
    }

    /// Starts again from the front, for another attempt.
    pub(super) fn restart(&mut self) {
        (self.sent, self.is_flushed, self.is_refused) = (0, true, false);
        // The client is not read before the next attempt begins.
        self.waiting_since = None;
        self.chunk.release();
    }

    /// There is no further attempt, and the memory of `front` is needed for the response: what was not sent of it is
    /// sent before all that is read from now on.
    pub(super) fn release_front(&mut self, front: &[u8]) {
        self.has_forgotten = true;
        let unsent = front.get(self.sent..).unwrap_or_default();
        if !unsent.is_empty() {
            // Nothing is read while a byte of the front is left.
            self.chunk = Buffer::holding(unsent);
            self.sent = front.len();
        }
    }

    /// Whether a byte of it was not sent to the service. `front` is empty once it was released.
    pub(super) fn is_incomplete(&self, front: &[u8], incoming: &IncomingBody<'_>) -> bool {
        let unsent = self.sent < front.len() || !self.chunk.is_empty();
        unsent || !self.is_flushed || !incoming.is_ended()
    }

    /// Whether all that was read of it can be sent again, as after a stale connection.
    pub(super) fn is_repeatable(&self) -> bool {
        !self.has_forgotten
    }

    /// Whether a retry may send it again: all of it is kept, and is no longer than the route allows.
    pub(super) fn is_replayable(&self) -> bool {
        !self.has_forgotten && self.kept <= self.max_kept
    }

    /// Whether any byte was sent.
    pub(super) fn has_sent(&self) -> bool {
        self.sent > 0
    }

    /// Sends the bytes that were read, and reads more of the body. Ready when all of it was sent, or the service
    /// has closed its half.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (request, operation): (&mut ClientRequest<'_>, &mut ActiveRequest<'_>),
        (service, front): (&mut Stream, &mut Vec<u8>),
    ) -> Poll<Result<(), Failure>> {
        loop {
            if self.is_refused {
                return Poll::Ready(Ok(()));
            }
            let unsent = match front.get(self.sent..).unwrap_or_default() {
                [] => self.chunk.bytes(),
                rest => rest,
            };
            if !unsent.is_empty() {
                match ready!(Pin::new(&mut *service).poll_write(cx, unsent)) {
                    Ok(count) => self.note_sent(count, front.len(), operation),
                    // Its response may still be read; if there is none, reading ends too.
                    Err(_) => self.is_refused = true,
                }
                continue;
            }
            match Pin::new(&mut *service).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.is_flushed = true,
                Poll::Ready(Err(_)) => self.is_refused = true,
                Poll::Pending => return Poll::Pending,
            }
            if request.incoming.is_ended() {
                self.sent_at.get_or_insert_with(Instant::now);
                return Poll::Ready(Ok(()));
            }
            let ClientRequest { incoming, link, .. } = &mut *request;
            let Poll::Ready(read) = incoming.poll_read(cx, link, &mut self.chunk) else {
                self.waiting_since.get_or_insert_with(Instant::now);
                return Poll::Pending;
            };
            if let Err(fault) = &read {
                // Nothing more is read.
                self.is_refused = true;
                fault.count(&*link.session);
            }
            let data = read?;
            operation.request_bytes += data;
            self.waiting_since = None;
            if incoming.is_ended() {
                // The service's time begins, whether it reads on or not.
                self.sent_at.get_or_insert_with(Instant::now);
            }
            self.keep_for_repeats(front, data);
        }
    }

    /// The same once the front was released.
    pub(super) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        exchange: (&mut ClientRequest<'_>, &mut ActiveRequest<'_>),
        service: &mut Stream,
    ) -> Poll<Result<(), Failure>> {
        self.poll(cx, exchange, (service, &mut Vec::new()))
    }

    fn note_sent(&mut self, count: usize, front: usize, operation: &mut ActiveRequest<'_>) {
        if self.sent < front {
            self.sent += count;
        } else {
            self.chunk.consume(count);
        }
        self.is_flushed = false;
        self.last_sent = Instant::now();
        operation.last_activity = self.last_sent;
    }

    /// Adds what was read to the front, if there is room for another attempt.
    fn keep_for_repeats(&mut self, front: &mut Vec<u8>, data: u64) {
        if self.has_forgotten || self.kept + data > self.max_kept {
            self.has_forgotten = true;
            return;
        }
        self.kept += data;
        front.extend_from_slice(self.chunk.bytes());
        self.chunk.release();
    }

    /// Adds the deadlines for the next byte of the request, and for its end.
    fn add_deadlines(&self, request: &ClientRequest<'_>, next: &mut Earliest<Failure>) {
        if request.incoming.is_ended() {
            return;
        }
        let (link, late) = (&request.link, Failure::Late);
        let message = link.session.timeouts().message;
        next.add(self.waiting_since, message, |time| late(RequestTimeout::Pause(time)));
        let most = link.server.plan.request_timeout;
        next.add(Some(self.began), most, |time| late(RequestTimeout::Request(time)));
    }
}

impl ClientRequest<'_> {
    /// Sends the request on this connection, and waits for the head of its response.
    pub(super) async fn await_response(
        &mut self,
        mut conn: Box<H1Connection>,
        operation: &mut ActiveRequest<'_>,
        awaiting: &mut Awaiting<'_>,
    ) -> Result<AwaitedResponse, Failure> {
        let mut reply = Buffer::default();
        let head = poll_fn(|cx| {
            let close = conn.lease().close_request().close_now();
            let Some(service) = conn.socket() else {
                return Poll::Ready(Err(UpstreamError::ConnectionReset.into()));
            };
            let Awaiting { upload, out, .. } = awaiting;
            if let Poll::Ready(Err(failure)) = upload.poll(cx, (self, operation), (service, out)) {
                return Poll::Ready(Err(failure));
            }
            if let Poll::Ready(head) = self.poll_head(cx, (service, &mut reply), awaiting) {
                return Poll::Ready(head.map_err(Failure::from));
            }
            self.pass_hints(cx, &mut awaiting.hints);
            if let Some(close) = close {
                return Poll::Ready(Err(Failure::Attempt(AttemptError::EndpointClosed(close))));
            }
            self.poll_interrupt(cx, awaiting).map(Err)
        });
        Ok(AwaitedResponse { head: head.await?, conn, reply })
    }

    /// Passes 1xx heads on, as far as the client accepts them.
    fn pass_hints(&mut self, cx: &mut Context<'_>, hints: &mut Vec<u8>) {
        if hints.is_empty() {
            return;
        }
        while !hints.is_empty()
            && let Poll::Ready(Ok(count)) = self.link.poll_write(cx, hints)
        {
            hints.drain(..count);
        }
        let _ = self.link.poll_flush(cx);
    }

    /// Reads the head of the response.
    fn poll_head(
        &self,
        cx: &mut Context<'_>,
        (service, reply): (&mut Stream, &mut Buffer),
        awaiting: &mut Awaiting<'_>,
    ) -> Poll<Result<ResponseHead, UpstreamError>> {
        let most = awaiting.pool.max_head();
        let bodiless = self.head.method.of(self.bytes) == b"HEAD";
        loop {
            match ready!(reply.poll_read(cx, service, usize::MAX)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Err(UpstreamError::ConnectionReset)),
            }
            loop {
                let fields = &mut *awaiting.response_fields;
                let head = ResponseHead::read(reply.bytes(), most, bodiless, fields)?;
                match head {
                    None => break,
                    Some(head) if head.status == http::StatusCode::SWITCHING_PROTOCOLS => {
                        return Poll::Ready(Err(UpstreamError::InvalidResponse));
                    }
                    Some(head) if head.status.is_informational() => {
                        // The request had no `expect: 100-continue`. A client that does not read gets few others.
                        let full = awaiting.hints.len() >= MAX_HINTS;
                        if head.status != http::StatusCode::CONTINUE && !full {
                            let (bytes, hints) = (reply.bytes(), &mut awaiting.hints);
                            let fields = &*awaiting.response_fields;
                            compose::response(hints, bytes, &head, fields, None, false);
                        }
                        reply.consume(head.len);
                    }
                    Some(head) => return Poll::Ready(Ok(head)),
                }
            }
            if !reply.make_room(most.saturating_add(1)) {
                return Poll::Ready(Err(UpstreamError::HeadTooLarge));
            }
        }
    }

    /// As `poll_interrupt`, while the client is not read: it may be gone though its body is incomplete.
    pub(super) fn poll_interrupt_unread(
        &mut self,
        cx: &mut Context<'_>,
        awaiting: &Awaiting<'_>,
    ) -> Poll<Failure> {
        match self.poll_gone(cx) {
            Poll::Ready(close) => Poll::Ready(Failure::Close(close)),
            Poll::Pending => self.poll_interrupt(cx, awaiting),
        }
    }

    /// Ready when the client is gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        match ready!(self.link.client.poll_peek(cx)) {
            Ok(1..) => Poll::Pending,
            // A half-closed client is nearly always gone.
            Ok(_) => Poll::Ready(Close::Client),
            Err(_) => Poll::Ready(Close::ClientReset),
        }
    }

    /// Ready when nothing more is waited for: the client is gone, or the time is over.
    pub(super) fn poll_interrupt(
        &mut self,
        cx: &mut Context<'_>,
        awaiting: &Awaiting<'_>,
    ) -> Poll<Failure> {
        if self.incoming.is_ended()
            && let Poll::Ready(close) = self.poll_gone(cx)
        {
            return Poll::Ready(Failure::Close(close));
        }
        let due = self.response_deadline(awaiting);
        self.link.watch.poll(cx, due)
    }

    /// The first deadline before the response.
    pub(super) fn response_deadline(&self, awaiting: &Awaiting<'_>) -> Option<(Instant, Failure)> {
        let (route, upload) = (&awaiting.matched.routed.route, &awaiting.upload);
        let late = |time| Failure::Late(RequestTimeout::Route(time));
        let mut next = Earliest::default();
        next.add(upload.sent_at, route.timeout, late);
        next.add(upload.sent_at, route.total_timeout, late);
        if let Some(limit) = &awaiting.limit {
            let expired = |_| Failure::Late(RequestTimeout::Policy(limit.clone()));
            next.add(Some(self.began), Some(limit.after), expired);
        }
        let moved = self.link.last_activity.max(self.began).max(upload.last_sent);
        next.add(Some(moved), route.idle_timeout, |_| Failure::Late(RequestTimeout::Idle));
        if let Some(due) = awaiting.attempt_due {
            next.add_at(due, Failure::Attempt(AttemptError::TimedOut));
        }
        upload.add_deadlines(self, &mut next);
        next.take()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::request_head::BodyLength, *};
    use crate::h1_validator::RequestLimits;

    #[test]
    fn an_early_response_leaves_the_unsent_bytes_to_be_sent() {
        let ended = IncomingBody::new(BodyLength::Length(0), b"", RequestLimits::default());
        let front = b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello";
        let mut upload = Upload::new(true, Instant::now(), (5, 0));
        upload.sent = front.len() - 2;
        assert!(upload.is_incomplete(front, &ended));
        upload.release_front(front);
        assert!(upload.is_incomplete(&[], &ended));
        assert_eq!((upload.chunk.bytes(), upload.sent), (&b"lo"[..], front.len()));
        upload.chunk.consume(2);
        upload.release_front(front);
        assert!(!upload.is_incomplete(&[], &ended));
    }

    #[test]
    fn what_is_read_is_kept_for_repeats_up_to_a_limit() {
        let read = |upload: &mut Upload, front: &mut Vec<u8>| {
            upload.chunk = Buffer::holding(b"read");
            upload.keep_for_repeats(front, 4);
            (upload.is_repeatable(), front.len(), upload.chunk.len())
        };
        let (mut upload, mut front) =
            (Upload::new(false, Instant::now(), (0, 5)), b"head".to_vec());
        assert_eq!(read(&mut upload, &mut front), (true, 8, 0));
        assert_eq!(read(&mut upload, &mut front), (false, 8, 4));
        let mut upload = Upload::new(false, Instant::now(), (0, 99));
        upload.release_front(&front);
        assert_eq!(read(&mut upload, &mut Vec::new()), (false, 0, 4));
    }
}
