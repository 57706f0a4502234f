//! One client's connection, as its requests see it.

use crate::{
    buffered::BufferAccount,
    expansion::{self, HpackBudget},
    facts,
    hygiene::{PeerAddress, folded},
    line::ConnectionState,
    proxy::{Door, Lease, Phase, Wish},
    record::ActiveOperation,
    server::Server,
    wire::H1Connection,
};
use http::{HeaderMap, Version};
use operation::{Close, No, Violation};
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};
use tokio::net::TcpStream;

/// One client's connection.
pub(crate) struct ClientConnection {
    pub(crate) server: Rc<Server>,
    pub(crate) door: Rc<dyn Door>,
    pub(crate) notes: Rc<ConnectionState>,
    /// The client's address, as headers tell it.
    pub(crate) peer: PeerAddress,
    /// …and with its port, as logs tell it.
    pub(crate) address: Rc<str>,
    pub(crate) rng: RefCell<fastrand::Rng>,
    /// What is held of bodies on their way.
    pub(crate) buffered: BufferAccount,
    /// How many answers have more to say than their clients take; and when one of them, or
    /// another, was taken from last.
    pub(crate) offered: Cell<usize>,
    pub(crate) taken: Cell<Instant>,
    /// How many there were.
    pub(crate) served: Cell<u64>,
    /// What HTTP/2's compression may make of the client's bytes.
    expansion: HpackBudget,
    /// What every request is told, where the connection may not be.
    pub(crate) turned_away: Option<No>,
    /// Why the connection ends.
    pub(crate) close: Cell<Close>,
    /// It ends after the answer that is under way.
    pub(crate) last: Cell<bool>,
    /// The tasks of streams, which have to be told when endpoints wish something else.
    streams: RefCell<Slab<Waker>>,
    /// How often they were told.
    nudges: Cell<u64>,
    /// What the connection becomes that changes to another protocol.
    pub(crate) tunnel: RefCell<Option<Tunnel>>,
}

/// The service's side of a connection that carries another protocol than HTTP.
pub(crate) struct Tunnel {
    pub(crate) end: TunnelUpstream,
    pub(crate) record: Rc<ActiveOperation>,
}

/// What a tunnel leads to.
pub(crate) enum TunnelUpstream {
    /// A connection whose HTTP ended with `101 Switching Protocols`.
    Switched(Box<H1Connection>),
    /// A connection that never spoke any.
    Plain(TcpStream, Rc<dyn crate::proxy::Lease>),
}

/// Heeds what an endpoint wishes of the connection that serves an operation.
#[derive(Default)]
pub(crate) struct CloseWatcher(Option<(Rc<ClientConnection>, usize)>);

impl CloseWatcher {
    /// Ready when the connection is to be closed.
    pub(crate) fn poll(
        &mut self,
        cx: &Context<'_>,
        visit: &Rc<ClientConnection>,
        version: Version,
        lease: &dyn Lease,
    ) -> Poll<Close> {
        // All else is one task, which the worker wakes by itself.
        if version >= Version::HTTP_2 && self.0.is_none() {
            let place = visit.streams.borrow_mut().insert(cx.waker().clone());
            self.0 = Some((Rc::clone(visit), place));
        }
        match lease.wish() {
            Wish::Close(close) => Poll::Ready(close),
            Wish::Stay | Wish::Rest => Poll::Pending,
        }
    }
}

impl Drop for CloseWatcher {
    fn drop(&mut self) {
        if let Some((visit, place)) = self.0.take() {
            visit.streams.borrow_mut().try_remove(place);
        }
    }
}

impl ClientConnection {
    pub(crate) fn new(
        server: Rc<Server>,
        door: Rc<dyn Door>,
        notes: Rc<ConnectionState>,
        turned_away: Option<No>,
    ) -> Rc<Self> {
        Rc::new(Self {
            buffered: server.buffered.of_connection(),
            server,
            notes,
            address: door.link().peer.to_string().into(),
            peer: PeerAddress::new(door.link().peer.ip()),
            rng: RefCell::default(),
            door,
            offered: Cell::new(0),
            taken: Cell::new(Instant::now()),
            served: Cell::new(0),
            expansion: HpackBudget::new(Instant::now()),
            close: Cell::new(Close::ClientReset),
            last: Cell::new(turned_away.is_some()),
            turned_away,
            tunnel: RefCell::new(None),
            streams: RefCell::default(),
            nudges: Cell::new(0),
        })
    }

    /// Whether the answer that is under way is the connection's last.
    pub(crate) fn is_last(&self) -> bool {
        let most = self.server.plan.max_requests;
        self.last.get() || most.is_some_and(|most| self.served.get() >= most)
    }

    /// Since when the client has taken nothing of any answer, if there is one that it could take
    /// from. A client of HTTP/2 can have the proxy wait with a window of zero, and its socket open.
    pub(crate) fn offered_since(&self) -> Option<Instant> {
        (self.offered.get() > 0).then(|| self.taken.get())
    }

    /// Whether the client may send headers of so many bytes, which is always so in HTTP/1. If not,
    /// its connection ends.
    pub(crate) fn affords(&self, headers: &HeaderMap, size: u64) -> bool {
        if !self.notes.http2.get() {
            return true;
        }
        let received = self.notes.received.get();
        let affords = self.expansion.affords(headers, size, received, Instant::now());
        if !affords && !self.notes.flood.replace(true) {
            self.door.violation(expansion::VIOLATION);
            self.close.set(Close::ClientViolation);
        }
        affords
    }

    /// Takes away the headers whose names are read as others that count. Returns whether a name is
    /// left that is not of letters, digits and `-` alone.
    pub(crate) fn take_away_folded(&self, headers: &mut HeaderMap) -> bool {
        if !self.notes.odd_names.get() {
            return false;
        }
        let (folded, odd) = folded::take_away(headers, self.server.dialect.headers());
        if folded > 0 {
            self.door.violation(folded::VIOLATION);
        }
        odd
    }

    /// Takes away the trailers that may not be any; false if the client may send none at all.
    pub(crate) fn screen(&self, trailers: &mut HeaderMap) -> bool {
        if !self.affords(trailers, facts::size(0, trailers)) {
            return false;
        }
        if trailers.len() > self.server.plan.max_headers {
            trailers.clear();
            self.door.violation(Violation("too_many_trailers"));
        }
        let routes = self.server.dialect.headers();
        if folded::take_away_trailers(trailers, routes) > 0 {
            self.door.violation(Violation("forbidden_trailer"));
        }
        true
    }

    /// Tells streams if endpoints wish something else of their connections.
    pub(crate) fn nudges(&self) {
        let nudges = self.door.nudges();
        if self.nudges.replace(nudges) != nudges {
            self.streams.borrow().iter().for_each(|(_, waker)| waker.wake_by_ref());
        }
    }

    /// Ends the connection in the middle of an operation, with a reset or without. Where it
    /// carries others too, only this one's stream ends, by a reset of its own.
    pub(crate) fn cut(&self, version: Version, close: Close, reset: bool) {
        if version < Version::HTTP_2 {
            self.close.set(close);
            self.notes.reset.set(reset);
        }
    }

    /// Ends the connection after what is under way.
    pub(crate) fn cut_at_end(&self, reset: bool) {
        self.last.set(true);
        self.close.set(Close::Injected);
        self.notes.reset.set(reset);
    }

    /// Ends when a tunnel by this lease is to: the proxy leaves, or the endpoint wishes it.
    pub(crate) async fn parts(&self, lease: &dyn Lease) -> Close {
        poll_fn(|cx| {
            self.door.wakes(cx.waker());
            if self.door.is_killed() {
                return Poll::Ready(Close::Killed);
            }
            match (self.door.phase(), lease.wish()) {
                (Phase::Leaving, _) => Poll::Ready(Close::DrainTimeout),
                (_, Wish::Close(close)) => Poll::Ready(close),
                (Phase::Working | Phase::Draining, Wish::Stay | Wish::Rest) => Poll::Pending,
            }
        })
        .await
    }
}
