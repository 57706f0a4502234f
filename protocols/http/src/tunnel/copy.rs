//! Copies bytes in both directions, and reports which side ended.

use bytes::Bytes;
use operation::Close;
use operation::Direction;
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

/// Bytes copied at once.
const READ_SIZE: usize = 16 * 1024;

/// How often bytes are reported while they pass.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// One side of a tunnel.
pub(super) struct TunnelSide<R, W> {
    /// Bytes already read from it.
    pub(super) buffered: Bytes,
    pub(super) from: R,
    pub(super) to: W,
}

/// The side that failed, as the reason to close.
#[derive(Clone, Copy)]
struct SideError(Close);

/// Copies bytes until both directions have ended. `most` is how many bytes may pass at once;
/// `count` records bytes, and returns the earliest time at which further bytes should pass. Returns
/// which side ended or failed first.
pub(super) async fn copy(
    client: TunnelSide<impl AsyncRead + Unpin, impl AsyncWrite + Unpin>,
    service: TunnelSide<impl AsyncRead + Unpin, impl AsyncWrite + Unpin>,
    most: impl Fn(Direction) -> usize,
    count: impl Fn(Direction, usize) -> Option<Instant>,
) -> Close {
    let (near, far) = (SideError(Close::ClientReset), SideError(Close::UpstreamReset));
    let refused = Cell::new(false);
    let up = pump(
        (client.buffered, client.from, near),
        (service.to, far, &refused),
        || most(Direction::Up),
        |n| count(Direction::Up, n),
    );
    let down = pump(
        (service.buffered, service.from, far),
        (client.to, near, &refused),
        || most(Direction::Down),
        |n| count(Direction::Down, n),
    );
    let (mut up, mut down) = (pin!(up), pin!(down));
    let (first, rest) = select! {
        ended = &mut up => match ended {
            Ok(()) => (Close::Client, down.await),
            Err(SideError(Close::UpstreamReset)) => {
                // The service reads nothing more; what it sent before still goes to the client,
                // followed by a reset.
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

/// Copies one direction to its end, which is passed on unless the service has `refused` bytes.
/// `count` is called with 0 at the end.
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
        to.flush().await.map_err(untaken)?;
        passed(said.len()).await;
    }
    let mut chunk = vec![0; READ_SIZE];
    loop {
        let room = most().clamp(1, READ_SIZE);
        let n = from.read(&mut chunk[..room]).await.map_err(|_| broken_from)?;
        if n == 0 {
            let _ = count(0);
            if refused.get() {
                return Ok(());
            }
            return to.shutdown().await.map_err(untaken);
        }
        to.write_all(&chunk[..n]).await.map_err(untaken)?;
        to.flush().await.map_err(untaken)?;
        passed(n).await;
    }
}

/// Timeouts of a tunnel.
pub(super) struct IdleWatch {
    /// When bytes last moved.
    pub(super) last_activity: Cell<Instant>,
    /// One side has ended.
    pub(super) half_closed: Cell<bool>,
    /// Longest time without a byte.
    pub(super) idle: Option<Duration>,
    /// The same once one side has ended.
    pub(super) half_close: Option<Duration>,
}

impl IdleWatch {
    /// Ends when a timeout expires. While bytes move, `count` is called periodically.
    pub(super) async fn run(&self, count: impl Fn()) -> Close {
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        let mut counted = self.last_activity.get();
        let mut count_at = None;
        poll_fn(|cx| {
            loop {
                let now = Instant::now();
                if count_at.is_some_and(|at| at <= now) {
                    (count_at, counted) = (None, self.last_activity.get());
                    count();
                }
                if count_at.is_none() && counted != self.last_activity.get() {
                    count_at = Some(now + REPORT_INTERVAL);
                }
                let closes = self.due();
                if let Some((_, close)) = closes.filter(|(due, _)| *due <= now) {
                    return Poll::Ready(close);
                }
                let due = closes.map(|(due, _)| due).into_iter().chain(count_at).min();
                let Some(due) = due else { return Poll::Pending };
                let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
                // A timer that fires too early is reset then.
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
        Some((self.last_activity.get() + limit, close))
    }
}
