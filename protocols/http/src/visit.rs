//! One client's connection, as its requests see it.

use crate::{
    hygiene::Peer,
    line::Notes,
    proxy::{Door, Phase},
    record::Record,
    server::Server,
    wire::Own,
};
use operation::{Close, No};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Poll,
};
use tokio::net::TcpStream;

/// One client's connection.
pub(crate) struct Visit {
    pub(crate) server: Rc<Server>,
    pub(crate) door: Rc<dyn Door>,
    pub(crate) notes: Rc<Notes>,
    /// A policy does not let the connection in: every request is told so.
    pub(crate) refuses: Option<No>,
    /// The client's address, as headers tell it.
    pub(crate) peer: Peer,
    /// …and with its port, as logs tell it.
    pub(crate) address: Rc<str>,
    pub(crate) rng: RefCell<fastrand::Rng>,
    /// How many operations are under way.
    pub(crate) busy: Cell<usize>,
    /// How many there were.
    pub(crate) served: Cell<u64>,
    /// Why the connection ends.
    pub(crate) close: Cell<Close>,
    /// It ends after the answer that is under way.
    pub(crate) last: Cell<bool>,
    /// What the connection becomes that changes to another protocol.
    pub(crate) tunnel: RefCell<Option<Tunnel>>,
}

/// The service's side of a connection that carries another protocol than HTTP.
pub(crate) struct Tunnel {
    pub(crate) end: TunnelEnd,
    pub(crate) record: Rc<Record>,
}

/// What a tunnel leads to.
pub(crate) enum TunnelEnd {
    /// A connection whose HTTP ended with `101 Switching Protocols`.
    Switched(Box<Own>),
    /// A connection that never spoke any.
    Plain(TcpStream, Rc<dyn crate::proxy::Lease>),
}

impl Visit {
    pub(crate) fn new(
        server: Rc<Server>,
        door: Rc<dyn Door>,
        notes: Rc<Notes>,
        refuses: Option<No>,
    ) -> Rc<Self> {
        Rc::new(Self {
            server,
            notes,
            refuses,
            address: door.link().peer.to_string().into(),
            peer: Peer::new(door.link().peer.ip()),
            rng: RefCell::default(),
            door,
            busy: Cell::new(0),
            served: Cell::new(0),
            close: Cell::new(Close::ClientReset),
            last: Cell::new(false),
            tunnel: RefCell::new(None),
        })
    }

    /// Whether the answer that is under way is the connection's last.
    pub(crate) fn is_last(&self) -> bool {
        let most = self.server.plan.max_requests;
        self.last.get() || most.is_some_and(|most| self.served.get() >= most)
    }

    /// Ends the connection as somebody has asked for, with a reset or without.
    pub(crate) fn cut(&self, reset: bool) {
        self.close.set(Close::Injected);
        self.notes.reset.set(reset);
    }

    /// Ends when the proxy leaves.
    pub(crate) async fn left(&self) {
        std::future::poll_fn(|cx| {
            self.door.wakes(cx.waker());
            match self.door.phase() {
                Phase::Leaving => Poll::Ready(()),
                Phase::Working | Phase::Draining => Poll::Pending,
            }
        })
        .await;
    }
}
