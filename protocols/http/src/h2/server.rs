//! A client's HTTP/2 connection: its frames and all of its requests are one task.

use super::{
    client_socket::ClientSocket,
    request,
    turn::{FRAMES, REQUESTS, Turn},
};
use crate::{client_connection::ClientConnection, server::ServerPlan};
use ::h2::{
    Reason,
    server::{Builder, Connection},
};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

/// Receive windows: of a stream and of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Most bytes of a stream that are written and not sent yet.
const SEND_BUFFER: usize = 400 * 1024;

/// Largest frame that is received.
const FRAME_SIZE: u32 = 16 * 1024;

/// Most streams that a client may reset before they are served, and that it may have the proxy
/// reset for protocol errors, before its connection is closed (CVE-2023-44487, CVE-2025-8671).
const MAX_RESETS: usize = 100;

/// How often frames and requests take turns before other tasks of the worker do.
const MAX_TURNS: usize = 8;

/// Serves a client's connection.
pub(crate) struct ServerConnection {
    serving: Pin<Box<dyn Future<Output = Result<(), ::h2::Error>>>>,
    draining: Rc<Cell<bool>>,
}

impl ServerConnection {
    pub(crate) fn begin(socket: ClientSocket, connection: &Rc<ClientConnection>) -> Self {
        let draining = Rc::default();
        let serving = Box::pin(serve(socket, Rc::clone(connection), Rc::clone(&draining)));
        Self { serving, draining }
    }

    /// Ready when the connection has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ::h2::Error>> {
        self.serving.as_mut().poll(cx)
    }

    /// Makes the next poll announce that the connection accepts no further requests.
    pub(crate) fn drain(&mut self) {
        self.draining.set(true);
    }
}

fn builder(plan: &ServerPlan) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_concurrent_streams(plan.max_streams)
        .max_header_list_size(super::list_size(plan.max_head))
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(Some(MAX_RESETS));
    builder
}

async fn serve(
    socket: ClientSocket,
    connection: Rc<ClientConnection>,
    draining: Rc<Cell<bool>>,
) -> Result<(), ::h2::Error> {
    let frames = builder(&connection.server.plan).handshake(socket).await?;
    let turn = Turn::new();
    let mut parts = Parts {
        frames,
        requests: FuturesUnordered::new(),
        frames_waker: turn.waker(FRAMES),
        requests_waker: turn.waker(REQUESTS),
        drains: false,
        flooded: false,
    };
    poll_fn(|cx| {
        let mut work = turn.begin(cx.waker());
        for _ in 0..MAX_TURNS {
            if work & REQUESTS != 0 {
                parts.poll_requests();
                work = work & !REQUESTS | turn.take();
            }
            if parts.starts_to_close(&connection, &draining) || work & FRAMES != 0 {
                work &= !FRAMES;
                if let Poll::Ready(end) = parts.poll_frames(&connection) {
                    return Poll::Ready(end);
                }
            }
            if work == 0 && turn.end() {
                return Poll::Pending;
            }
            work |= turn.take();
        }
        turn.pause(work);
        Poll::Pending
    })
    .await
}

/// A request that is being served. Boxed, since an idle connection would keep room for one.
type ServedRequest = Pin<Box<dyn Future<Output = ()>>>;

/// The parts of a connection.
struct Parts {
    frames: Connection<ClientSocket, Bytes>,
    requests: FuturesUnordered<ServedRequest>,
    frames_waker: Waker,
    requests_waker: Waker,
    drains: bool,
    flooded: bool,
}

impl Parts {
    /// Polls the requests that can go on.
    fn poll_requests(&mut self) {
        let mut cx = Context::from_waker(&self.requests_waker);
        while let Poll::Ready(Some(())) = self.requests.poll_next_unpin(&mut cx) {}
    }

    /// Reads and writes frames, and begins new requests. Ready when the connection has ended.
    fn poll_frames(&mut self, connection: &Rc<ClientConnection>) -> Poll<Result<(), ::h2::Error>> {
        let mut cx = Context::from_waker(&self.frames_waker);
        while let Some(accepted) = ready!(self.frames.poll_accept(&mut cx)) {
            let (request, respond) = accepted?;
            let serving = request::serve(Rc::clone(connection), request, respond);
            self.requests.push(Box::pin(serving));
            self.requests_waker.wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    /// Whether a GOAWAY must now be sent: the connection drains, or its client exceeds a limit.
    fn starts_to_close(&mut self, connection: &ClientConnection, draining: &Cell<bool>) -> bool {
        let drains = draining.get() && !std::mem::replace(&mut self.drains, true);
        if drains {
            self.frames.graceful_shutdown();
        }
        let floods = connection.state.header_flood.get();
        let flooded = floods && !std::mem::replace(&mut self.flooded, true);
        if flooded {
            self.frames.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        drains || flooded
    }
}
