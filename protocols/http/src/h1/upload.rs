//! A request on its way to the service, until the head of the response.

use super::{
    buffer::Buffer,
    compose,
    field::Field,
    operation::ActiveRequest,
    request::{ClientRequest, Failure, Way},
    response_head::ResponseHead,
};
use crate::{
    admitted_request::RequestTimeout, earliest::Earliest, upstream_conn::H1Connection,
    upstream_error::UpstreamError, upstream_request::AttemptError,
};
use net::Stream;
use operation::{Close, ReplyTimeout};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::io::AsyncWrite;

/// A response whose head was received, and the connection that brings its body.
pub(super) struct AwaitedResponse {
    pub(super) conn: Box<H1Connection>,
    pub(super) upload: Upload,
    /// The head, and what came with it.
    pub(super) reply: Buffer,
    pub(super) head: ResponseHead,
}

/// What a request needs until its response.
pub(super) struct Awaiting<'w> {
    pub(super) way: &'w Way,
    /// The policies' limit for the response.
    pub(super) limit: Option<ReplyTimeout>,
    pub(super) response_fields: &'w mut Vec<Field>,
    /// The request as it is sent.
    pub(super) out: &'w mut Vec<u8>,
    /// 1xx heads that the client has not got yet.
    pub(super) hints: Vec<u8>,
}

/// A request on its way.
pub(super) struct Upload {
    /// How much of the head, and of the body that came with it, was sent.
    sent: usize,
    /// The rest of the body: bytes that were read, and how many have not come yet.
    chunk: Buffer,
    rest: u64,
    /// More of the body than came with the head was read.
    has_read_more: bool,
    /// The service reads nothing more.
    is_refused: bool,
    /// When all of it was sent.
    pub(super) sent_at: Option<Instant>,
    /// Since when the client owes the next bytes.
    waiting_since: Option<Instant>,
    began: Instant,
}

impl Upload {
    /// `rest`: the bytes of the body that have not come yet. A request without such is sent at the time `began`.
    pub(super) fn new(rest: u64, began: Instant) -> Self {
        Self {
            sent: 0,
            chunk: Buffer::default(),
            rest,
            has_read_more: false,
            is_refused: false,
            sent_at: (rest == 0).then_some(began),
            waiting_since: None,
            began,
        }
    }

    /// Keeps what was not sent of `front`, whose memory is needed for the response: it is sent before all that is
    /// read from now on.
    fn keep(&mut self, front: &[u8]) {
        let unsent = front.get(self.sent..).unwrap_or_default();
        if !unsent.is_empty() {
            // Nothing is read while a byte of the front is left.
            self.chunk = Buffer::holding(unsent);
            self.sent = front.len();
        }
    }

    /// Whether a byte of it was not sent to the service.
    pub(super) fn is_incomplete(&self) -> bool {
        self.rest > 0 || !self.chunk.is_empty()
    }

    pub(super) fn has_read_more(&self) -> bool {
        self.has_read_more
    }

    /// Whether any byte was sent.
    pub(super) fn has_sent(&self) -> bool {
        self.sent > 0
    }

    /// Sends the bytes that were read, and reads more of the body. Ready when all of it was sent, or the service
    /// has closed its half.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (request, operation): (&mut ClientRequest<'_>, &mut ActiveRequest<'_>),
        (service, front): (&mut Stream, &[u8]),
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
                    Ok(count) if self.sent < front.len() => self.sent += count,
                    Ok(count) => {
                        self.chunk.consume(count);
                        operation.last_activity = Instant::now();
                    }
                    // Its response may still be read; if there is none, reading ends too.
                    Err(_) => self.is_refused = true,
                }
                continue;
            }
            if self.rest == 0 {
                self.sent_at.get_or_insert_with(Instant::now);
                return Poll::Ready(Ok(()));
            }
            let most = usize::try_from(self.rest).unwrap_or(usize::MAX);
            let Poll::Ready(read) = request.link.poll_read(cx, &mut self.chunk, most) else {
                self.waiting_since.get_or_insert_with(Instant::now);
                return Poll::Pending;
            };
            match read {
                Ok(count @ 1..) => {
                    self.rest -= count as u64;
                    operation.request_bytes += count as u64;
                    (self.has_read_more, self.waiting_since) = (true, None);
                }
                Ok(0) | Err(_) => {
                    return Poll::Ready(Err(Failure::Attempt(AttemptError::ClientAborted)));
                }
            }
        }
    }

    /// Adds the deadlines for the next byte of the request, and for its end.
    fn add_deadlines(&self, request: &ClientRequest<'_>, next: &mut Earliest<RequestTimeout>) {
        if self.rest == 0 {
            return;
        }
        let link = &request.link;
        next.add(self.waiting_since, link.session.timeouts().message, RequestTimeout::Pause);
        next.add(Some(self.began), link.server.plan.request_timeout, RequestTimeout::Request);
    }
}

impl ClientRequest<'_> {
    /// Sends the request on this connection, and waits for the head of its response.
    pub(super) async fn await_response(
        &mut self,
        mut conn: Box<H1Connection>,
        upload: &mut Upload,
        operation: &mut ActiveRequest<'_>,
        awaiting: &mut Awaiting<'_>,
    ) -> Result<(Box<H1Connection>, Buffer, ResponseHead), Failure> {
        let mut reply = Buffer::default();
        let head = poll_fn(|cx| {
            let close = conn.lease().close_request().close_now();
            let Some(service) = conn.socket() else {
                return Poll::Ready(Err(UpstreamError::ConnectionReset.into()));
            };
            if let Poll::Ready(Err(failure)) =
                upload.poll(cx, (self, operation), (service, awaiting.out))
            {
                return Poll::Ready(Err(failure));
            }
            if let Poll::Ready(head) = self.poll_head(cx, (service, &mut reply), awaiting) {
                return Poll::Ready(head.map_err(Failure::from));
            }
            while !awaiting.hints.is_empty()
                && let Poll::Ready(Ok(count)) = self.link.poll_write(cx, &awaiting.hints)
            {
                awaiting.hints.drain(..count);
            }
            if let Some(close) = close {
                return Poll::Ready(Err(Failure::Attempt(AttemptError::EndpointClosed(close))));
            }
            self.poll_interrupt(cx, upload, awaiting).map(Err)
        });
        let head = head.await?;
        upload.keep(awaiting.out);
        Ok((conn, reply, head))
    }

    /// Reads the head of the response.
    fn poll_head(
        &self,
        cx: &mut Context<'_>,
        (service, reply): (&mut Stream, &mut Buffer),
        awaiting: &mut Awaiting<'_>,
    ) -> Poll<Result<ResponseHead, UpstreamError>> {
        let most = awaiting.way.pool.max_head();
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
                        // The request had no `expect: 100-continue`.
                        if head.status != http::StatusCode::CONTINUE {
                            let (bytes, hints) = (reply.bytes(), &mut awaiting.hints);
                            compose::response(hints, bytes, &head, awaiting.response_fields, false);
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

    /// Ready when nothing more is waited for: the client is gone, or the time is over.
    pub(super) fn poll_interrupt(
        &mut self,
        cx: &mut Context<'_>,
        upload: &Upload,
        awaiting: &Awaiting<'_>,
    ) -> Poll<Failure> {
        if !upload.is_incomplete()
            && let Poll::Ready(read) = self.link.client.poll_peek(cx)
            && !matches!(read, Ok(1..))
        {
            // A half-closed client is nearly always gone.
            let gone = |_: io::Error| Close::ClientReset;
            return Poll::Ready(Failure::Close(read.map_or_else(gone, |_| Close::Client)));
        }
        let due = self.response_deadline(upload, awaiting);
        self.link.watch.poll(cx, due.map(|(due, late)| (due, Failure::Late(late))))
    }

    /// The first deadline before the response.
    fn response_deadline(
        &self,
        upload: &Upload,
        awaiting: &Awaiting<'_>,
    ) -> Option<(Instant, RequestTimeout)> {
        let route = &awaiting.way.route;
        let mut next = Earliest::default();
        next.add(upload.sent_at, route.timeout, RequestTimeout::Route);
        next.add(upload.sent_at, route.total_timeout, RequestTimeout::Route);
        if let Some(limit) = &awaiting.limit {
            let expired = |_| RequestTimeout::Policy(limit.clone());
            next.add(Some(self.began), Some(limit.after), expired);
        }
        let moved = self.link.last_activity.max(self.began);
        next.add(Some(moved), route.idle_timeout, |_| RequestTimeout::Idle);
        upload.add_deadlines(self, &mut next);
        next.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_early_response_leaves_the_unsent_bytes_to_be_sent() {
        let front = b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello";
        let mut upload = Upload::new(0, Instant::now());
        upload.sent = front.len() - 2;
        upload.keep(front);
        assert!(upload.is_incomplete());
        assert_eq!((upload.chunk.bytes(), upload.sent), (&b"lo"[..], front.len()));
        upload.chunk.consume(2);
        upload.keep(front);
        assert!(!upload.is_incomplete());
    }
}
