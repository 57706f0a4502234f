//! A client's connection, request by request.

use super::{
    buffer::Buffer,
    link::{Ending, Flow, Link, Scratch},
    request::ClientRequest,
    request_head::{RequestHead, Unsure},
};
use crate::{client_connection::Admitted, earliest::Earliest, server::Server};
use bytes::BytesMut;
use net::Stream;
use operation::Close;
use session::{Phase, REST, Session, linger};
use std::{future::poll_fn, rc::Rc, task::Poll, time::Instant};

/// How serving a connection here has ended.
pub(crate) enum Served {
    /// It is closed.
    Closed(Close),
    /// Its next request is served by others.
    Handover(Box<Handover>),
}

/// A connection at the boundary of a request.
pub(crate) struct Handover {
    pub(crate) client: Stream,
    /// Bytes of the client that were not used.
    pub(crate) unread: BytesMut,
    /// Requests so far, without the next one.
    pub(crate) requests: u64,
    pub(crate) started: Instant,
    pub(crate) last_activity: Instant,
    /// The next request, if policies have admitted it already.
    pub(crate) admitted: Option<Admitted>,
}

/// What the client has sent.
enum Input {
    /// A complete head, which arrived at this time.
    Head(RequestHead, Instant),
    /// Something for others to read.
    Unsure,
    Closed(Close),
}

/// Serves a client's connection until it ends, or a request needs others.
pub(crate) async fn serve(
    server: &Rc<Server>,
    session: &Rc<dyn Session>,
    client: Stream,
) -> Served {
    let mut link = Link::new(server, session, client);
    let mut buffer = Buffer::default();
    let (close, ending) = loop {
        let flow = match link.wait_for_bytes(&mut buffer).await {
            // Boxed, so that an idle connection has no room for a request.
            Ok(true) => Box::pin(link.serve_next(&mut buffer)).await,
            Ok(false) => Flow::Handover(None),
            Err(close) => Flow::Close(close, Ending::Drop),
        };
        match flow {
            Flow::Next => {}
            Flow::Close(close, ending) => break (close, ending),
            Flow::Handover(admitted) => {
                return Served::Handover(Box::new(Handover {
                    unread: BytesMut::from(buffer.bytes()),
                    requests: link.requests,
                    started: link.started,
                    last_activity: link.last_activity,
                    client: link.client,
                    admitted,
                }));
            }
        }
    };
    match ending {
        Ending::Linger => linger(&mut link.client).await,
        Ending::Reset => link.client.reset_on_drop(),
        Ending::Drop => {}
    }
    Served::Closed(close)
}

impl Link {
    /// Waits until the client sends a request. Takes no memory meanwhile. Returns `false` if policies limit the
    /// connection's bandwidth, which is for others to do.
    ///
    /// # Errors
    /// Why the connection closes.
    async fn wait_for_bytes(&mut self, buffer: &mut Buffer) -> Result<bool, Close> {
        if !buffer.is_empty() {
            return Ok(true);
        }
        let read = poll_fn(|cx| {
            if self.session.is_limited_now() {
                return Poll::Ready(Ok(false));
            }
            if let Poll::Ready(read) = self.poll_read(cx, buffer, usize::MAX) {
                return Poll::Ready(match read {
                    Ok(1..) => Ok(true),
                    Ok(0) => Err(Close::Client),
                    Err(_) => Err(Close::ClientReset),
                });
            }
            if self.may_close_idle() {
                return Poll::Ready(Err(Close::Drain));
            }
            let due = self.idle_deadline();
            self.watch.poll(cx, due).map(Err)
        });
        read.await
    }

    /// Whether the worker drains, so that an idle connection closes.
    fn may_close_idle(&self) -> bool {
        match self.session.phase() {
            Phase::Running => false,
            Phase::SoftDraining => self.last_activity.elapsed() >= REST,
            Phase::Draining | Phase::Closing => true,
        }
    }

    /// When a client that sends nothing is closed.
    fn idle_deadline(&self) -> Option<(Instant, Close)> {
        let timeouts = self.session.timeouts();
        let silent = (self.requests == 0).then_some(self.started);
        let mut next = Earliest::default();
        next.add(silent, timeouts.first_byte, |_| Close::FirstByteTimeout);
        next.add(Some(self.last_activity), timeouts.idle, |_| Close::IdleTimeout);
        next.take()
    }

    /// Serves the request that begins in the buffer.
    async fn serve_next(&mut self, buffer: &mut Buffer) -> Flow {
        let mut scratch = Scratch::take();
        let flow = match self.next_head(buffer, &mut scratch).await {
            Input::Head(head, began) => {
                self.serve_request(buffer, &mut scratch, (head, began)).await
            }
            Input::Unsure => Flow::Handover(None),
            Input::Closed(close) => Flow::Close(close, Ending::Drop),
        };
        scratch.give();
        flow
    }

    /// Reads a head, of which some bytes are there.
    async fn next_head(&mut self, buffer: &mut Buffer, scratch: &mut Scratch) -> Input {
        let since = self.last_activity;
        let mut now = since;
        loop {
            match RequestHead::read(buffer.bytes(), &self.limits, &mut scratch.fields) {
                Ok(Some(head)) => return Input::Head(head, now),
                Err(Unsure) => return Input::Unsure,
                Ok(None) => {}
            }
            // The head can't be complete before another line has ended.
            loop {
                if !buffer.make_room(self.limits.bytes) {
                    return Input::Unsure;
                }
                let before = buffer.len();
                if let Err(close) = self.read_more(buffer, since).await {
                    return Input::Closed(close);
                }
                now = self.last_activity;
                if buffer.bytes()[before..].contains(&b'\n') || buffer.len() >= self.limits.bytes {
                    break;
                }
            }
        }
    }

    /// Reads more of a head that began at the time `since`.
    async fn read_more(&mut self, buffer: &mut Buffer, since: Instant) -> Result<(), Close> {
        let timeouts = self.session.timeouts();
        let due = match self.requests {
            0 => timeouts.handshake.map(|most| (self.started + most, Close::HandshakeTimeout)),
            _ => timeouts.message.map(|most| (since + most, Close::MessageTimeout)),
        };
        poll_fn(|cx| {
            if let Poll::Ready(read) = self.poll_read(cx, buffer, usize::MAX) {
                let ended = || Err(Close::ClientReset);
                return Poll::Ready(if matches!(read, Ok(1..)) { Ok(()) } else { ended() });
            }
            self.watch.poll(cx, due).map(Err)
        })
        .await
    }

    /// Serves a request whose head is complete, and removes it from the buffer.
    async fn serve_request(
        &mut self,
        buffer: &mut Buffer,
        scratch: &mut Scratch,
        (head, began): (RequestHead, Instant),
    ) -> Flow {
        if self.session.is_limited_now() {
            return Flow::Handover(None);
        }
        let mut request = ClientRequest::new(self, &head, buffer.bytes(), began);
        let flow = request.serve(scratch).await;
        let (body, surplus) = request.incoming.into_surplus();
        if !matches!(flow, Flow::Handover(_)) {
            buffer.consume(head.len + body);
            if !surplus.is_empty() {
                *buffer = surplus;
            }
        }
        flow
    }
}
