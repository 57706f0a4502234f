//! How fast an operation's bytes pass, where a policy asks for that.

use std::{
    num::NonZeroU64,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// So many bytes a second, evenly.
pub(crate) struct Throttle {
    rate: NonZeroU64,
    /// When all that has passed will have been due.
    due: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Throttle {
    /// From now on.
    pub(crate) fn new(rate: NonZeroU64) -> Self {
        Self { rate, due: Instant::now(), sleep: None }
    }

    /// Ready when more may pass.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Ready(())
    }

    /// So many bytes have passed.
    pub(crate) fn passed(&mut self, bytes: usize) {
        let takes = Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
        self.due = self.due.max(Instant::now()) + takes;
        self.sleep = Some(Box::pin(sleep_until(self.due)));
    }
}
