//! What the requests of a client's connection share.

use super::{
    buffer::Buffer, client_fields::ClientFields, field::Field, request_head::HeadLimits,
    watch::Watch,
};
use crate::{client_connection::Admitted, server::Server};
use net::Stream;
use operation::{Close, Direction};
use session::Session;
use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::io::AsyncWrite;

/// A client's connection.
pub(super) struct Link {
    pub(super) server: Rc<Server>,
    pub(super) session: Rc<dyn Session>,
    pub(super) client: Stream,
    pub(super) watch: Watch,
    /// The client's address and port.
    pub(super) peer: Rc<str>,
    pub(super) client_fields: ClientFields,
    pub(super) limits: HeadLimits,
    pub(super) started: Instant,
    /// When a byte of the client was last read or written.
    pub(super) last_activity: Instant,
    /// Requests so far.
    pub(super) requests: u64,
}

/// Whether this server's requests can be served here. Otherwise they need more than the engine can do.
pub(crate) fn can_serve(server: &Server) -> bool {
    server.dialect.direct_routes().is_some() && !server.plan.half_close
}

impl Link {
    pub(super) fn new(server: &Rc<Server>, session: &Rc<dyn Session>, client: Stream) -> Self {
        let now = Instant::now();
        let limits = server.plan.limits();
        let peer = session.info().peer;
        let client_fields = ClientFields::new(server, &**session, &client);
        Self {
            server: Rc::clone(server),
            watch: Watch::new(session, now),
            session: Rc::clone(session),
            client,
            peer: peer.to_string().into(),
            client_fields,
            limits: HeadLimits {
                bytes: limits.head_bytes,
                target: limits.target_bytes,
                fields: limits.headers,
            },
            started: now,
            last_activity: now,
            requests: 0,
        }
    }

    /// Reads what the client has sent. Returns the number of bytes; 0: it sends nothing more.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let count = ready!(buffer.poll_read(cx, &mut self.client, most))?;
        self.last_activity = Instant::now();
        self.session.record_read(Direction::Up, count, self.last_activity);
        Poll::Ready(Ok(count))
    }

    /// Writes to the client. Returns the number of bytes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.client).poll_write(cx, bytes))?;
        self.last_activity = Instant::now();
        self.session.record_read(Direction::Down, count, self.last_activity);
        Poll::Ready(Ok(count))
    }

    /// Writes what the client's socket has buffered, as TLS does.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_flush(cx)
    }
}

/// How the client's socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// So that the client gets the last bytes.
    Linger,
    Reset,
    /// At once.
    Drop,
}

/// How the connection goes on.
pub(super) enum Flow {
    /// With the next request.
    Next,
    Close(Close, Ending),
    /// Others serve this request, which policies may have admitted, and the following ones.
    Handover(Option<Admitted>),
}

/// Memory that a request uses while it is served.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The request's fields.
    pub(super) fields: Vec<Field>,
    /// The response's fields.
    pub(super) response_fields: Vec<Field>,
    /// Bytes for the service, and then for the client.
    pub(super) out: Vec<u8>,
}

/// How many spare ones a worker keeps, and how long their bytes may be.
const MAX_SPARE: usize = 64;
const MAX_OUT: usize = 128 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Scratch>> = const { RefCell::new(Vec::new()) };
}

impl Scratch {
    pub(super) fn take() -> Self {
        SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    pub(super) fn give(mut self) {
        self.out.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MAX_SPARE && self.out.capacity() <= MAX_OUT {
                spare.push(self);
            }
        });
    }
}
