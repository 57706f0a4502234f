//! State of a client's connection that its requests share.

use crate::{
    active_operation::ActiveOperation,
    buffer_account::BufferAccount,
    client_io::{ClientIo, ConnectionState},
    header_policy::{PeerAddress, lookalikes},
    hpack_budget::{self, HpackBudget},
    request_attributes,
    server::Server,
    upstream_conn::H1Connection,
};
use cluster::Lease;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use net::Stream;
use operation::{Close, OpenSpan, Rejection, Ticket, Violation};
use session::{Phase, Session};
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

/// A client's connection.
pub(crate) struct ClientConnection {
    pub(crate) server: Rc<Server>,
    pub(crate) session: Rc<dyn Session>,
    pub(crate) state: Rc<ConnectionState>,
    /// The client's address for headers.
    pub(crate) peer: PeerAddress,
    /// Headers with the client's certificate.
    pub(crate) certificate: Box<[(HeaderName, HeaderValue)]>,
    /// The client's address and port for logs.
    pub(crate) peer_text: Rc<str>,
    pub(crate) rng: RefCell<fastrand::Rng>,
    /// Memory held for bodies.
    pub(crate) buffers: BufferAccount,
    /// Number of responses with a frame that the client has not taken, and when a frame was last
    /// taken.
    pub(crate) pending_responses: Cell<usize>,
    pub(crate) last_taken: Cell<Instant>,
    /// Number of requests so far.
    pub(crate) requests: Cell<u64>,
    /// Bounds HPACK amplification.
    hpack_budget: HpackBudget,
    /// The rejection of the whole connection, sent to every request.
    pub(crate) rejection: Option<Rejection>,
    /// Why the connection ends.
    pub(crate) close_reason: Cell<Close>,
    /// It closes after the current response.
    pub(crate) close_after_response: Cell<bool>,
    /// Tasks of HTTP/2 streams, woken when endpoints change their close requests.
    stream_wakers: RefCell<Slab<Waker>>,
    /// The last change that they were woken for.
    seen_changes: Cell<u64>,
    /// The tunnel that this connection becomes.
    pub(crate) tunnel: RefCell<Option<Tunnel>>,
    /// The next request, if policies have admitted it already.
    pub(crate) admitted: Cell<Option<Admitted>>,
}

/// A request that policies have admitted.
pub(crate) struct Admitted {
    pub(crate) ticket: Ticket,
    pub(crate) span: Option<OpenSpan>,
}

/// The service's side of a tunnel.
pub(crate) struct Tunnel {
    pub(crate) upstream: TunnelUpstream,
    pub(crate) operation: Rc<ActiveOperation>,
}

/// How the service is connected.
pub(crate) enum TunnelUpstream {
    /// A connection whose HTTP ended with `101 Switching Protocols`.
    Switched(Box<H1Connection>),
    /// A connection without HTTP.
    Connected(Stream, Rc<Lease>),
}

/// Polls whether the endpoint wants the connection of an operation closed.
#[derive(Default)]
pub(crate) struct CloseWatcher(Option<(Rc<ClientConnection>, usize)>);

impl CloseWatcher {
    /// Ready with the reason when the connection must close.
    pub(crate) fn poll(
        &mut self,
        cx: &Context<'_>,
        connection: &Rc<ClientConnection>,
        version: Version,
        lease: &Lease,
    ) -> Poll<Close> {
        // HTTP/1 connections are a single task, which the worker wakes itself.
        if version >= Version::HTTP_2 && self.0.is_none() {
            let place = connection.stream_wakers.borrow_mut().insert(cx.waker().clone());
            self.0 = Some((Rc::clone(connection), place));
        }
        lease.close_request().close_now().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for CloseWatcher {
    fn drop(&mut self) {
        if let Some((connection, place)) = self.0.take() {
            connection.stream_wakers.borrow_mut().try_remove(place);
        }
    }
}

impl ClientConnection {
    pub(crate) fn new(
        server: Rc<Server>,
        session: Rc<dyn Session>,
        client: &ClientIo,
        rejection: Option<Rejection>,
    ) -> Rc<Self> {
        let style = server.plan.header_policy.certificate;
        let chain = client.stream().peer_certificates();
        let certificate = style.headers(|name| session.attribute(name), chain);
        Rc::new(Self {
            buffers: server.buffers.for_connection(),
            server,
            state: Rc::clone(client.state()),
            peer_text: session.info().peer.to_string().into(),
            peer: PeerAddress::new(session.info().peer.ip()),
            certificate: certificate.into(),
            rng: RefCell::default(),
            session,
            pending_responses: Cell::new(0),
            last_taken: Cell::new(Instant::now()),
            requests: Cell::new(0),
            hpack_budget: HpackBudget::new(Instant::now()),
            close_reason: Cell::new(Close::ClientReset),
            close_after_response: Cell::new(rejection.is_some()),
            rejection,
            tunnel: RefCell::new(None),
            admitted: Cell::new(None),
            stream_wakers: RefCell::default(),
            seen_changes: Cell::new(0),
        })
    }

    /// Whether the current response is the connection's last.
    pub(crate) fn is_last_response(&self) -> bool {
        let most = self.server.plan.max_requests;
        self.close_after_response.get() || most.is_some_and(|most| self.requests.get() >= most)
    }

    /// Since when the client has taken no frame although one is ready. An HTTP/2 client can block
    /// the proxy with a window of zero while its socket stays writable.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        (self.pending_responses.get() > 0).then(|| self.last_taken.get())
    }

    /// Whether headers of `size` bytes are within the client's budget; always true in HTTP/1.
    /// Otherwise the connection is closed.
    pub(crate) fn allows_headers(&self, headers: &HeaderMap, size: u64) -> bool {
        if !self.state.http2.get() {
            return true;
        }
        let received = self.state.bytes_received.get();
        let affords = self.hpack_budget.allows(headers, size, received, Instant::now());
        if !affords && !self.state.header_flood.replace(true) {
            self.session.count_violation(hpack_budget::VIOLATION);
            self.close_reason.set(Close::ClientViolation);
        }
        affords
    }

    /// Removes headers whose names services read as other, relevant ones. Returns whether a name
    /// with characters other than letters, digits and `-` is left.
    pub(crate) fn remove_lookalikes(&self, headers: &mut HeaderMap) -> bool {
        if !self.state.has_odd_names.get() {
            return false;
        }
        let (folded, odd) = lookalikes::remove(headers, self.server.dialect.matched_headers());
        if folded > 0 {
            self.session.count_violation(lookalikes::VIOLATION);
        }
        odd
    }

    /// Removes forbidden trailers. Returns `false` if the client may send none at all.
    pub(crate) fn screen_trailers(&self, trailers: &mut HeaderMap) -> bool {
        if !self.allows_headers(trailers, request_attributes::head_size(0, trailers)) {
            return false;
        }
        if trailers.len() > self.server.plan.max_headers {
            trailers.clear();
            self.session.count_violation(Violation("too_many_trailers"));
        }
        let routes = self.server.dialect.matched_headers();
        if lookalikes::remove_trailers(trailers, routes) > 0 {
            self.session.count_violation(Violation("forbidden_trailer"));
        }
        true
    }

    /// Wakes streams if endpoints have changed their close requests.
    pub(crate) fn wake_streams(&self) {
        let generation = self.session.generation();
        if self.seen_changes.replace(generation) != generation {
            self.stream_wakers.borrow().iter().for_each(|(_, waker)| waker.wake_by_ref());
        }
    }

    /// Closes the connection during an operation, by a reset or gracefully. An HTTP/2 connection
    /// stays open; only the stream is reset.
    pub(crate) fn abort(&self, version: Version, close: Close, reset: bool) {
        if version < Version::HTTP_2 {
            self.close_reason.set(close);
            self.state.reset_on_close.set(reset);
        }
    }

    /// Closes the connection after the current operation.
    pub(crate) fn close_after_operation(&self, reset: bool) {
        self.close_after_response.set(true);
        self.close_reason.set(Close::Injected);
        self.state.reset_on_close.set(reset);
    }

    /// Ready when a tunnel over this lease must close: the proxy exits, or the endpoint requests
    /// it.
    pub(crate) async fn tunnel_closed(&self, lease: &Lease) -> Close {
        poll_fn(|cx| {
            self.session.set_waker(cx.waker());
            if let Some(close) = self.session.kill_reason() {
                return Poll::Ready(close);
            }
            if self.session.phase() == Phase::Closing {
                return Poll::Ready(Close::DrainTimeout);
            }
            lease.close_request().close_now().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
