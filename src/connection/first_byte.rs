//! Waits for a client's first byte: until it comes, the client has cost the service nothing.

use super::Door;
use crate::{config::plan::ListenerPlan, worker::Phase};
use operation::Close;
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
pub(super) async fn wait_for_first_byte(client: &TcpStream, door: &Door) -> Result<(), Close> {
    let (patience, late) = soonest_timeout(door.plan());
    let too_late = async {
        match patience {
            Some(patience) => sleep(patience).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        heard = readable(client) => heard,
        // What the runtime has yet to hear of may be there all the same.
        close = closing(door) => match peek(client) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(close),
            peeked => classify(&peeked),
        },
        () = too_late => Err(late),
    }
}

/// The time-out that ends a connection on which nothing was ever said: the soonest.
fn soonest_timeout(plan: &ListenerPlan) -> (Option<Duration>, Close) {
    let limits = [
        (plan.first_byte_timeout, Close::FirstByteTimeout),
        (plan.idle_timeout, Close::IdleTimeout),
        (plan.max_connection_duration, Close::MaxDuration),
    ];
    let limits = limits.into_iter().filter(|(limit, _)| limit.is_some());
    limits.min_by_key(|(limit, _)| *limit).unwrap_or((None, Close::FirstByteTimeout))
}

/// Waits until there is something to read, and tells bytes from the end.
///
/// The runtime takes a new socket for readable until a read finds nothing, so the socket is asked
/// once. After that the runtime knows, and only where the client has closed its half do bytes and
/// the end look alike.
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

/// How many bytes are there, at most 1; they stay there.
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

/// Ready when the worker drains: the connection is at rest, and closes at once.
async fn closing(door: &Door) -> Close {
    poll_fn(|cx| {
        door.wakes(cx.waker());
        if door.session().is_killed() {
            return Poll::Ready(Close::Killed);
        }
        match door.worker().phase() {
            Phase::Running => Poll::Pending,
            Phase::Draining => Poll::Ready(Close::Drain),
            Phase::Closing => Poll::Ready(Close::DrainTimeout),
        }
    })
    .await
}
