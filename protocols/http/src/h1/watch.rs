//! What ends a connection from outside: its time limits, operators, and the end of the process.

use crate::earliest::Earliest;
use operation::Close;
use session::{Phase, Session};
use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep};

/// Stands for no time limit.
const FAR_FUTURE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Watches over a connection; it has the connection's only timer.
pub(super) struct Watch {
    session: Rc<dyn Session>,
    /// When the connection began.
    started: Instant,
    sleep: Pin<Box<Sleep>>,
    /// When the timer fires.
    timer_due: Option<Instant>,
}

impl Watch {
    pub(super) fn new(session: &Rc<dyn Session>, started: Instant) -> Self {
        let sleep = Box::pin(sleep(FAR_FUTURE));
        Self { session: Rc::clone(session), started, sleep, timer_due: None }
    }

    /// Ready when the connection must close, with the reason, or at the time of `due`, with its meaning.
    pub(super) fn poll<T: From<Close>>(
        &mut self,
        cx: &mut Context<'_>,
        due: Option<(Instant, T)>,
    ) -> Poll<T> {
        self.session.set_waker(cx.waker());
        if let Some(close) = self.session.kill_reason() {
            return Poll::Ready(close.into());
        }
        if self.session.phase() == Phase::Closing {
            return Poll::Ready(Close::DrainTimeout.into());
        }
        let mut next = Earliest::default();
        let most = self.session.timeouts().max_duration;
        next.add(Some(self.started), most, |_| Close::MaxDuration.into());
        if let Some((due, meaning)) = due {
            next.add_at(due, meaning);
        }
        let Some((next, meaning)) = next.take() else { return Poll::Pending };
        loop {
            // A timer that fires too early is reset then: cheaper than to reset it with each request.
            if self.timer_due.is_none_or(|set| next < set) {
                self.timer_due = Some(next);
                self.sleep.as_mut().reset(next.into());
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer_due = None;
            if Instant::now() >= next {
                return Poll::Ready(meaning);
            }
        }
    }
}
