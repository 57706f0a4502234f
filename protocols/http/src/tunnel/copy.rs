//! Bytes that pass both ways, and who ended that.

use crate::proxy::Way;
use bytes::Bytes;
use operation::Close;
use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    select,
    time::{Sleep, sleep_until},
};

#[cfg(test)]
mod tests;

/// How much is moved at once.
const CHUNK: usize = 16 * 1024;

/// How often bytes are counted while they pass.
const COUNT: Duration = Duration::from_secs(1);

/// One side of a tunnel.
pub(super) struct TunnelSide<R, W> {
    /// What it has said already.
    pub(super) said: Bytes,
    pub(super) from: R,
    pub(super) to: W,
}

/// Whose end broke.
#[derive(Clone, Copy)]
struct SideError(Close);

/// Moves bytes both ways, and tells `count` of them, until both ways have ended: each does by
/// itself. `most` is how many may pass at once, and `count` tells the moment before which no more
/// should. Tells who ended first, or broke.
pub(super) async fn copy(
    client: TunnelSide<impl AsyncRead + Unpin, impl AsyncWrite + Unpin>,
    service: TunnelSide<impl AsyncRead + Unpin, impl AsyncWrite + Unpin>,
    most: impl Fn(Way) -> usize,
    count: impl Fn(Way, usize) -> Option<Instant>,
) -> Close {
    let (near, far) = (SideError(Close::ClientReset), SideError(Close::UpstreamReset));
    let refused = Cell::new(false);
    let up = pump(
        (client.said, client.from, near),
        (service.to, far, &refused),
        || most(Way::Up),
        |n| count(Way::Up, n),
    );
    let down = pump(
        (service.said, service.from, far),
        (client.to, near, &refused),
        || most(Way::Down),
        |n| count(Way::Down, n),
    );
    let (mut up, mut down) = (pin!(up), pin!(down));
    let (first, rest) = select! {
        ended = &mut up => match ended {
            Ok(()) => (Close::Client, down.await),
            Err(SideError(Close::UpstreamReset)) => {
                // The service takes nothing more; what it said before is still the client's, and its
                // end is none in good order.
                refused.set(true);
                let _ = down.await;
                return Close::UpstreamReset;
            }
            Err(SideError(close)) => return close,
        },
        ended = &mut down => match ended {
            Ok(()) => (Close::Upstream, up.await),
            Err(SideError(close)) => return close,
        },
    };
    rest.map_or_else(|SideError(close)| close, |()| first)
}

/// Moves bytes one way to their end, and passes that on, unless the service has `refused` bytes.
/// `count` is told of it as of 0 bytes.
async fn pump(
    (said, mut from, broken_from): (Bytes, impl AsyncRead + Unpin, SideError),
    (mut to, broken_to, refused): (impl AsyncWrite + Unpin, SideError, &Cell<bool>),
    most: impl Fn() -> usize,
    count: impl Fn(usize) -> Option<Instant>,
) -> Result<(), SideError> {
    let untaken = |_: io::Error| broken_to;
    let passed = async |n| {
        if let Some(until) = count(n) {
            sleep_until(until.into()).await;
        }
    };
    if !said.is_empty() {
        to.write_all(&said).await.map_err(untaken)?;
        passed(said.len()).await;
    }
    let mut chunk = vec![0; CHUNK];
    loop {
        let room = most().clamp(1, CHUNK);
        let n = from.read(&mut chunk[..room]).await.map_err(|_| broken_from)?;
        if n == 0 {
            let _ = count(0);
            if refused.get() {
                return Ok(());
            }
            return to.shutdown().await.map_err(untaken);
        }
        to.write_all(&chunk[..n]).await.map_err(untaken)?;
        passed(n).await;
    }
}

/// When a tunnel is closed on which nothing moves.
pub(super) struct IdleWatch {
    /// When bytes moved last.
    pub(super) moved: Cell<Instant>,
    /// One side has ended.
    pub(super) half_closed: Cell<bool>,
    /// How long none may move.
    pub(super) idle: Option<Duration>,
    /// …and how long once one side has ended.
    pub(super) half_close: Option<Duration>,
}

impl IdleWatch {
    /// Ends when nothing has moved for too long. While something moves, `count` is called from time
    /// to time.
    pub(super) async fn over(&self, count: impl Fn()) -> Close {
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        let mut counted = self.moved.get();
        let mut count_at = None;
        poll_fn(|cx| {
            loop {
                let now = Instant::now();
                if count_at.is_some_and(|at| at <= now) {
                    (count_at, counted) = (None, self.moved.get());
                    count();
                }
                if count_at.is_none() && counted != self.moved.get() {
                    count_at = Some(now + COUNT);
                }
                let closes = self.due();
                if let Some((_, close)) = closes.filter(|(due, _)| *due <= now) {
                    return Poll::Ready(close);
                }
                let due = closes.map(|(due, _)| due).into_iter().chain(count_at).min();
                let Some(due) = due else { return Poll::Pending };
                let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
                // A timer that rings too early is set anew then.
                if timer.is_elapsed() || timer.deadline().into_std() > due {
                    timer.as_mut().reset(due.into());
                }
                ready!(timer.as_mut().poll(cx));
            }
        })
        .await
    }

    fn due(&self) -> Option<(Instant, Close)> {
        let half_close = self.half_close.filter(|_| self.half_closed.get());
        let limits = [(self.idle, Close::IdleTimeout), (half_close, Close::HalfCloseTimeout)];
        let limits = limits.into_iter().filter_map(|(limit, close)| Some((limit?, close)));
        let (limit, close) = limits.min_by_key(|(limit, _)| *limit)?;
        Some((self.moved.get() + limit, close))
    }
}
