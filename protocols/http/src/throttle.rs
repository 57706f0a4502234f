//! Limits the rate of an operation's bytes.

use std::{
    num::NonZeroU64,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// A constant number of bytes per second.
pub(crate) struct Throttle {
    rate: NonZeroU64,
    /// When the next byte is due.
    due: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Throttle {
    /// Starts now.
    pub(crate) fn new(rate: NonZeroU64) -> Self {
        Self { rate, due: Instant::now(), sleep: None }
    }

    /// Ready when more bytes may pass.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Ready(())
    }

    /// Records passed bytes.
    pub(crate) fn record(&mut self, bytes: usize) {
        let takes = Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
        self.due = self.due.max(Instant::now()) + takes;
        self.sleep = Some(Box::pin(sleep_until(self.due)));
    }
}
