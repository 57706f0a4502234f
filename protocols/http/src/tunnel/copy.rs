//! Bytes that pass both ways, and who ended that.

use crate::proxy::Way;
use bytes::Bytes;
use operation::Close;
use std::{
    cell::Cell,
    io,
    pin::pin,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    select,
    time::sleep_until,
};

#[cfg(test)]
mod tests;

/// How much is moved at once.
const CHUNK: usize = 16 * 1024;

/// One side of a tunnel.
pub(super) struct Side<R, W> {
    /// What it has said already.
    pub(super) said: Bytes,
    pub(super) from: R,
    pub(super) to: W,
}

/// Whose end broke.
#[derive(Clone, Copy)]
struct Broken(Close);

/// Moves bytes both ways, and tells `count` of them, until both ways have ended: each does by
/// itself. Tells who ended first, or broke.
pub(super) async fn copy(
    client: Side<impl AsyncRead + Unpin, impl AsyncWrite + Unpin>,
    service: Side<impl AsyncRead + Unpin, impl AsyncWrite + Unpin>,
    count: impl Fn(Way, usize),
) -> Close {
    let (near, far) = (Broken(Close::ClientReset), Broken(Close::UpstreamReset));
    let up = pump((client.said, client.from, near), (service.to, far), |n| count(Way::Up, n));
    let down = pump((service.said, service.from, far), (client.to, near), |n| count(Way::Down, n));
    let (mut up, mut down) = (pin!(up), pin!(down));
    let (first, rest) = select! {
        ended = &mut up => match ended {
            Ok(()) => (Close::Client, down.await),
            Err(Broken(close)) => return close,
        },
        ended = &mut down => match ended {
            Ok(()) => (Close::Upstream, up.await),
            Err(Broken(close)) => return close,
        },
    };
    rest.map_or_else(|Broken(close)| close, |()| first)
}

/// Moves bytes one way to their end.
async fn pump(
    (said, mut from, broken_from): (Bytes, impl AsyncRead + Unpin, Broken),
    (mut to, broken_to): (impl AsyncWrite + Unpin, Broken),
    count: impl Fn(usize),
) -> Result<(), Broken> {
    let untaken = |_: io::Error| broken_to;
    if !said.is_empty() {
        to.write_all(&said).await.map_err(untaken)?;
        count(said.len());
    }
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = from.read(&mut chunk).await.map_err(|_| broken_from)?;
        if n == 0 {
            return to.shutdown().await.map_err(untaken);
        }
        to.write_all(&chunk[..n]).await.map_err(untaken)?;
        count(n);
    }
}

/// Ends when nothing has moved for so long.
pub(super) async fn rested(moved: &Cell<Instant>, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    loop {
        let due = moved.get() + idle;
        if Instant::now() >= due {
            return;
        }
        sleep_until(due.into()).await;
    }
}
