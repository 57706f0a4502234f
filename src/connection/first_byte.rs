//! Waits for a client's first byte, before an upstream connection is opened.

use net::Stream;
use operation::Close;
use session::{Phase, Session, Timeouts};
use socket2::SockRef;
use std::{
    future::{pending, poll_fn},
    io::{self, ErrorKind},
    mem::MaybeUninit,
    task::Poll,
    time::Duration,
};
use tokio::{io::Interest, net::TcpStream, time::sleep};

/// Waits until the client has sent something, and reads none of it.
///
/// # Errors
/// Why the connection is to be closed: the client has gone, the time is over, or the worker
/// drains.
pub(super) async fn wait_for_first_byte(
    client: &mut Stream,
    session: &dyn Session,
) -> Result<(), Close> {
    let (patience, late) = soonest_timeout(session.timeouts());
    let too_late = async {
        match patience {
            Some(patience) => sleep(patience).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        heard = first_byte(client) => heard,
        // Bytes may have arrived that the runtime has not noticed yet.
        close = closing(session) => match peek(client.tcp()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(close),
            peeked => classify(&peeked),
        },
        () = too_late => Err(late),
    }
}

/// The shortest time-out of a connection without any bytes, and its close reason.
fn soonest_timeout(timeouts: &Timeouts) -> (Option<Duration>, Close) {
    let limits = [
        (timeouts.first_byte, Close::FirstByteTimeout),
        (timeouts.idle, Close::IdleTimeout),
        (timeouts.max_duration, Close::MaxDuration),
    ];
    let limits = limits.into_iter().filter(|(limit, _)| limit.is_some());
    limits.min_by_key(|(limit, _)| *limit).unwrap_or((None, Close::FirstByteTimeout))
}

/// Waits until there is a byte of the connection's own.
async fn first_byte(client: &mut Stream) -> Result<(), Close> {
    if let Some(socket) = client.plain() {
        return readable(socket).await;
    }
    classify(&poll_fn(|cx| client.poll_peek(cx)).await)
}

/// Waits until the socket is readable, and distinguishes bytes from the end of the stream.
///
/// The runtime assumes that a new socket is readable until a read returns nothing, so the first check
/// peeks. After that, only a half-closed socket needs a peek, to distinguish bytes from the end.
async fn readable(client: &TcpStream) -> Result<(), Close> {
    let mut known = false;
    loop {
        let ready = client.ready(Interest::READABLE).await.map_err(|_| Close::ClientReset)?;
        if known && ready.is_readable() && !ready.is_read_closed() {
            return Ok(());
        }
        match client.try_io(Interest::READABLE, || peek(client)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => known = true,
            peeked => return classify(&peeked),
        }
    }
}

/// Returns the number of readable bytes, at most 1, without consuming them.
fn peek(client: &TcpStream) -> io::Result<usize> {
    SockRef::from(client).peek(&mut [MaybeUninit::uninit()])
}

fn classify(peeked: &io::Result<usize>) -> Result<(), Close> {
    match peeked {
        Ok(0) => Err(Close::Client),
        Ok(_) => Ok(()),
        Err(_) => Err(Close::ClientReset),
    }
}

/// Ready when the worker drains: the idle connection closes at once.
async fn closing(session: &dyn Session) -> Close {
    poll_fn(|cx| {
        session.set_waker(cx.waker());
        if let Some(close) = session.kill_reason() {
            return Poll::Ready(close);
        }
        match session.phase() {
            Phase::Running | Phase::SoftDraining => Poll::Pending,
            Phase::Draining => Poll::Ready(Close::Drain),
            Phase::Closing => Poll::Ready(Close::DrainTimeout),
        }
    })
    .await
}
