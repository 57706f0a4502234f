//! Pings on a connection to a service while it has streams, so that one that went silent is found.

use crate::clock::now;
use ::h2::{Ping, PingPong};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep_until};

/// How long nothing may be received before a ping, and the timeout of a ping.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);

/// The pings of a connection.
pub(super) struct KeepAlive {
    pings: Option<PingPong>,
    timer: Option<Pin<Box<Sleep>>>,
    state: State,
}

enum State {
    /// Nothing is due: there are no streams.
    Resting,
    /// A ping is sent when the timer fires, unless something was received since.
    Scheduled,
    /// The service has to answer before the timer fires.
    Sent,
}

impl KeepAlive {
    pub(super) fn new(pings: Option<PingPong>) -> Self {
        Self { pings, timer: None, state: State::Resting }
    }

    /// Ready when the service has not answered in time. `received` is when its last bytes came.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, busy: bool, received: Instant) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            match self.state {
                State::Resting if !busy => return Poll::Pending,
                State::Resting => {
                    set(&mut self.timer, now() + PING);
                    self.state = State::Scheduled;
                }
                State::Scheduled => {
                    ready!(fires(&mut self.timer, cx));
                    if !busy {
                        self.state = State::Resting;
                    } else if received + PING > now() {
                        set(&mut self.timer, received + PING);
                    } else if pings.send_ping(Ping::opaque()).is_ok() {
                        set(&mut self.timer, now() + PONG);
                        self.state = State::Sent;
                    } else {
                        self.state = State::Resting;
                        return Poll::Pending;
                    }
                }
                State::Sent => {
                    if pings.poll_pong(cx).is_pending() {
                        return fires(&mut self.timer, cx);
                    }
                    self.state = State::Resting;
                }
            }
        }
    }
}

fn set(timer: &mut Option<Pin<Box<Sleep>>>, due: Instant) {
    match timer {
        Some(timer) => timer.as_mut().reset(due.into()),
        None => *timer = Some(Box::pin(sleep_until(due.into()))),
    }
}

fn fires(timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::{
        io::{AsyncReadExt, DuplexStream, duplex},
        time::{Instant, timeout},
    };

    /// Polls the pings of a connection until the service counts as gone.
    async fn pinged(socket: DuplexStream, busy: bool) {
        let (_sender, mut connection) = ::h2::client::handshake(socket).await.unwrap();
        let mut pings = KeepAlive::new(connection.ping_pong());
        let received = now();
        poll_fn(|cx| {
            let gone = pings.poll(cx, busy, received);
            let _ = Pin::new(&mut connection).poll(cx);
            gone
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_service_is_found() {
        let (near, mut far) = duplex(1 << 16);
        let begin = Instant::now();
        pinged(near, true).await;
        assert_eq!(begin.elapsed().as_secs(), (PING + PONG).as_secs());
        let mut bytes = [0; 1024];
        let read = far.read(&mut bytes).await.unwrap();
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0];
        assert!(bytes[..read].windows(9).any(|it| it == ping), "a ping was sent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_answers_pings_is_kept() {
        let (near, far) = duplex(1 << 16);
        let service = async {
            let mut service = ::h2::server::handshake(far).await.unwrap();
            while service.accept().await.is_some() {}
        };
        let both = async { tokio::join!(pinged(near, true), service) };
        assert!(timeout(10 * PING, both).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_not_pinged() {
        let (near, _far) = duplex(1 << 16);
        assert!(timeout(10 * PING, pinged(near, false)).await.is_err());
    }
}
