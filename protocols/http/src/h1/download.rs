//! A response on its way to the client.

use super::{
    attributes::HeadAttributes,
    buffer::Buffer,
    chunks::{ChunkPart, ChunkReader, write_chunk},
    compose,
    composed_head::ComposedHead,
    field::Field,
    link::{Ending, Flow},
    matched_route::MatchedRoute,
    operation::ActiveRequest,
    request::ClientRequest,
    response_head::{ResponseHead, ResponseLength},
    upload::{AwaitedResponse, Upload},
};
use crate::{
    active_operation::OperationEnd,
    earliest::Earliest,
    pool::Pool,
    request_attributes::RequestFlags,
    upstream_conn::{H1Connection, UpstreamConn},
};
use http::Response;
use operation::{Close, EndReason, Outcome, RejectReason};
use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// How long a half-closed client may read nothing before it is considered gone.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(5);

/// Bodies up to this size are sent together with a composed head.
const COPIED: usize = 4 * 1024;

/// A response that is being sent to the client.
pub(super) struct Download<'e, 'c, 'a> {
    request: &'e mut ClientRequest<'c>,
    matched: &'e MatchedRoute,
    pool: &'e Rc<Pool>,
    attributes: &'e HeadAttributes<'a>,
    operation: ActiveRequest<'a>,
    conn: Box<H1Connection>,
    upload: Upload,
    /// What was read from the service.
    reply: Buffer,
    /// How many bytes at its front go to the client as they are.
    direct: usize,
    /// How much of the composed bytes was sent.
    sent: usize,
    body: BodyState,
    /// The connection closes after the response.
    last: bool,
    /// The service keeps the connection.
    keeps: bool,
    /// Since when the client accepts nothing.
    stalled_since: Option<Instant>,
    /// Since when the client has closed its half.
    half_closed_since: Option<Instant>,
    last_read: usize,
}

/// What is left of a body.
enum BodyState {
    Length(u64),
    Chunked(ChunkReader),
    UntilClose,
    Ended,
}

/// How a response ends before its end.
enum Cut {
    /// The client's connection closes.
    Close(Close),
    /// The service, or a time limit, ends the response.
    Ended(OperationEnd),
}

impl<'e, 'c, 'a> Download<'e, 'c, 'a> {
    pub(super) fn new(
        request: &'e mut ClientRequest<'c>,
        (matched, pool): (&'e MatchedRoute, &'e Rc<Pool>),
        attributes: &'e HeadAttributes<'a>,
        operation: ActiveRequest<'a>,
        response: AwaitedResponse,
        upload: Upload,
    ) -> Self {
        let AwaitedResponse { conn, reply, head } = response;
        let early = upload.is_incomplete(&[], &request.incoming);
        if early {
            attributes.progress.add_flag(RequestFlags::EARLY_ANSWER);
        }
        let body = match head.length {
            ResponseLength::Length(0) => BodyState::Ended,
            ResponseLength::Length(length) => BodyState::Length(length),
            ResponseLength::Chunked => BodyState::Chunked(ChunkReader::default()),
            ResponseLength::UntilClose => BodyState::UntilClose,
        };
        Self {
            last: request.is_last() || early && head.last,
            keeps: !head.last,
            request,
            matched,
            pool,
            attributes,
            operation,
            conn,
            upload,
            last_read: reply.len(),
            reply,
            direct: 0,
            sent: 0,
            body,
            stalled_since: None,
            half_closed_since: None,
        }
    }

    /// Sends the response, behind the bytes that `out` begins with.
    pub(super) async fn run(
        mut self,
        head: &ResponseHead,
        fields: &[Field],
        out: &mut Vec<u8>,
    ) -> Flow {
        let now = Instant::now();
        (self.operation.first_byte, self.operation.last_activity) = (Some(now), now);
        self.operation.reply_bytes = head.len as u64;
        self.attributes.progress.status.set(Some(head.status));
        let edits = self.matched.edits_response();
        let via = self.request.link.server.plan.header_policy.via.as_ref();
        if !edits && via.is_none() && compose::is_passed_as_read(head, self.last) {
            self.direct = head.len;
        } else {
            let start = out.len();
            compose::response(out, self.reply.bytes(), head, fields, via, self.last);
            if edits {
                let mut composed = ComposedHead::new(out, start);
                self.matched.edit_response(&mut composed, self.attributes);
            }
            self.reply.consume(head.len);
        }
        if let Err(cut) = self.take_body(out) {
            return self.cut(cut);
        }
        if !out.is_empty() && self.direct <= COPIED {
            out.extend_from_slice(&self.reply.bytes()[..self.direct]);
            self.reply.consume(std::mem::take(&mut self.direct));
        }
        match poll_fn(|cx| self.poll(cx, out)).await {
            Ok(()) => self.finish(head),
            Err(cut) => self.cut(cut),
        }
    }

    /// Passes bytes on until the response has ended.
    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<(), Cut>> {
        loop {
            if self.upload.is_incomplete(&[], &self.request.incoming)
                && let Some(service) = self.conn.socket()
            {
                // A client that aborts its request is noticed when its response is written.
                let (request, operation) = (&mut *self.request, &mut self.operation);
                let _ = self.upload.poll_rest(cx, (request, operation), service);
            }
            match self.poll_write(cx, out) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(close)) => return Poll::Ready(Err(Cut::Close(close))),
                Poll::Pending => return self.poll_interrupt(cx).map(Err),
            }
            if let BodyState::Ended = self.body {
                return Poll::Ready(Ok(()));
            }
            match self.poll_read(cx, out) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(cut)) => return Poll::Ready(Err(cut)),
                Poll::Pending => return self.poll_interrupt(cx).map(Err),
            }
        }
    }

    /// Writes what there is for the client.
    fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<(), Close>> {
        loop {
            let composed = out.get(self.sent..).unwrap_or_default();
            let bytes = match composed {
                [] => &self.reply.bytes()[..self.direct],
                composed => composed,
            };
            if bytes.is_empty() {
                out.clear();
                self.sent = 0;
                return self.poll_flush(cx);
            }
            let from_out = !composed.is_empty();
            match self.request.link.poll_write(cx, bytes) {
                Poll::Ready(Ok(count)) => {
                    (self.stalled_since, self.half_closed_since) = (None, None);
                    if from_out {
                        self.sent += count;
                    } else {
                        self.direct -= count;
                        self.reply.consume(count);
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Close::ClientReset)),
                Poll::Pending => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        let flushed = self.request.link.poll_flush(cx);
        if flushed.is_pending() {
            self.stalled_since.get_or_insert_with(Instant::now);
        }
        flushed.map_err(|_| Close::ClientReset)
    }

    /// Reads more of the body.
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<(), Cut>> {
        self.reply.grow_if_filled(self.last_read);
        self.reply.make_room(usize::MAX);
        let Some(service) = self.conn.socket() else {
            return Poll::Ready(Err(Cut::lost(Close::UpstreamReset)));
        };
        let read = std::task::ready!(self.reply.poll_read(cx, service, usize::MAX));
        let whole = !service.is_truncated();
        self.operation.last_activity = Instant::now();
        Poll::Ready(match (read, &self.body) {
            (Ok(count @ 1..), _) => {
                self.last_read = count;
                self.take_body(out)
            }
            (Ok(0), BodyState::UntilClose) if whole => {
                out.extend_from_slice(b"0\r\n\r\n");
                self.body = BodyState::Ended;
                Ok(())
            }
            _ => Err(Cut::lost(Close::UpstreamReset)),
        })
    }

    /// Takes what was read of the body: either as it is, or as chunks.
    fn take_body(&mut self, out: &mut Vec<u8>) -> Result<(), Cut> {
        let head = self.direct;
        let here = self.reply.len() - head;
        match &mut self.body {
            BodyState::Ended => {}
            BodyState::Length(left) => {
                let count = (*left).min(here as u64);
                *left -= count;
                self.direct += count as usize;
                self.operation.reply_bytes += count;
                if *left == 0 {
                    self.body = BodyState::Ended;
                }
            }
            BodyState::UntilClose => {
                write_chunk(self.reply.bytes(), |bytes| out.extend_from_slice(bytes));
                self.operation.reply_bytes += here as u64;
                self.reply.consume(here);
            }
            BodyState::Chunked(_) => return self.take_chunks(out),
        }
        Ok(())
    }

    fn take_chunks(&mut self, out: &mut Vec<u8>) -> Result<(), Cut> {
        let BodyState::Chunked(reader) = &mut self.body else { return Ok(()) };
        loop {
            let bytes = self.reply.bytes();
            match reader.next(bytes) {
                Ok(ChunkPart::More) => {
                    self.reply.consume(bytes.len());
                    return Ok(());
                }
                Ok(ChunkPart::Data(skip, count)) => {
                    write_chunk(&bytes[skip..skip + count], |bytes| out.extend_from_slice(bytes));
                    self.operation.reply_bytes += count as u64;
                    self.reply.consume(skip + count);
                }
                Ok(ChunkPart::End(count)) => {
                    out.extend_from_slice(b"0\r\n\r\n");
                    self.reply.consume(count);
                    self.body = BodyState::Ended;
                    return Ok(());
                }
                Err(_) => return Err(Cut::lost(Close::UpstreamReset)),
            }
        }
    }

    /// Ready when the response ends before its end.
    fn poll_interrupt(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        if let Some(close) = self.conn.lease().close_request().close_now() {
            return Poll::Ready(Cut::Ended(OperationEnd::new(close.outcome(false), close)));
        }
        if !self.upload.is_incomplete(&[], &self.request.incoming)
            && self.half_closed_since.is_none()
            && let Poll::Ready(read) = self.request.link.client.poll_peek(cx)
        {
            match read {
                Ok(1..) => {}
                Ok(0) => self.half_closed_since = Some(Instant::now()),
                Err(_) => return Poll::Ready(Cut::Close(Close::ClientReset)),
            }
        }
        let due = self.next_deadline();
        self.request.link.watch.poll(cx, due)
    }

    fn next_deadline(&self) -> Option<(Instant, Cut)> {
        let late = |reason: EndReason| Cut::Ended(OperationEnd::new(Outcome::Lost, reason));
        let write = self.request.link.session.timeouts().write;
        let mut next = Earliest::default();
        let sent_at = self.upload.sent_at;
        next.add(sent_at, self.matched.routed.route.total_timeout, |_| {
            late(RejectReason::TimedOut.into())
        });
        let moved = Some(self.operation.last_activity);
        next.add(moved, self.matched.routed.route.idle_timeout, |_| late(EndReason::ResponseIdle));
        next.add(self.stalled_since, write, |_| Cut::Close(Close::WriteTimeout));
        let gone = |_| Cut::Close(Close::ClientReset);
        next.add(self.half_closed_since, Some(HALF_CLOSED_TIMEOUT), gone);
        next.take()
    }

    /// The response is complete.
    fn finish(mut self, head: &ResponseHead) -> Flow {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = head.status;
        if let Some(outcome) = self.request.link.server.dialect.outcome_of_head(&parts) {
            self.operation.settle(&outcome.into());
        }
        let surplus = !self.reply.is_empty();
        let sent = !self.upload.is_incomplete(&[], &self.request.incoming);
        if self.keeps && sent && !surplus {
            self.pool.put(UpstreamConn::H1(self.conn));
        }
        if self.last || !sent {
            return Flow::Close(self.request.last_close(), Ending::Linger);
        }
        Flow::Next
    }

    fn cut(mut self, cut: Cut) -> Flow {
        self.attributes.progress.add_flag(RequestFlags::ANSWER_CUT);
        match cut {
            Cut::Close(close) => {
                self.operation.settle(&OperationEnd::new(close.outcome(false), close));
                Flow::Close(close, Ending::Drop)
            }
            Cut::Ended(end) => {
                self.operation.settle(&end);
                Flow::Close(Close::UpstreamReset, Ending::Linger)
            }
        }
    }
}

impl From<Close> for Cut {
    fn from(close: Close) -> Self {
        Cut::Close(close)
    }
}

impl Cut {
    fn lost(close: Close) -> Self {
        Cut::Ended(OperationEnd::new(Outcome::Lost, close))
    }
}
