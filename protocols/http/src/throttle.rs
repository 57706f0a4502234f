//! Limits the rate of bytes.

use crate::clock::now;
use operation::ByteBucket;
use std::{
    num::NonZeroU64,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::time::{Sleep, sleep_until};

/// A pause before more bytes pass; none by default.
#[derive(Default)]
pub(crate) struct Pause(Option<Pin<Box<Sleep>>>);

impl Pause {
    /// A pause until this time, if there is one.
    pub(crate) fn until(time: Option<Instant>) -> Self {
        Self(time.map(|time| Box::pin(sleep_until(time.into()))))
    }

    /// Ready when more bytes may pass.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.0 {
            ready!(sleep.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

/// The rate of one operation's bytes.
pub(crate) struct Throttle {
    bucket: ByteBucket,
    pause: Pause,
}

impl Throttle {
    /// Starts now, with this number of bytes per second.
    pub(crate) fn new(rate: NonZeroU64) -> Self {
        Self { bucket: ByteBucket::smooth(rate.get(), now()), pause: Pause::default() }
    }

    /// Ready when more bytes may pass.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.pause.poll(cx)
    }

    /// Records passed bytes.
    pub(crate) fn record(&mut self, bytes: usize) {
        self.pause = Pause::until(self.bucket.record(bytes, now()));
    }
}
