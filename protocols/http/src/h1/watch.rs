//! What ends a connection from outside: its time limits, operators, and the end of the process.

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

/// Why a wait ends without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// The connection must close now.
    Close(Close),
    /// The time of this wait is over.
    Due,
}

impl Interrupt {
    /// Why the connection closes; `due` if the time is over.
    pub(super) fn close_or(self, due: Close) -> Close {
        match self {
            Interrupt::Close(close) => close,
            Interrupt::Due => due,
        }
    }
}

impl Watch {
    pub(super) fn new(session: &Rc<dyn Session>, started: Instant) -> Self {
        let sleep = Box::pin(sleep(FAR_FUTURE));
        Self { session: Rc::clone(session), started, sleep, timer_due: None }
    }

    /// Ready when the connection must close, or at the time `due`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, due: Option<Instant>) -> Poll<Interrupt> {
        self.session.set_waker(cx.waker());
        if let Some(close) = self.session.kill_reason() {
            return Poll::Ready(Interrupt::Close(close));
        }
        if self.session.phase() == Phase::Closing {
            return Poll::Ready(Interrupt::Close(Close::DrainTimeout));
        }
        let end = self.session.timeouts().max_duration.map(|most| self.started + most);
        let (next, interrupt) = match (due, end) {
            (Some(due), Some(end)) if end <= due => (end, Interrupt::Close(Close::MaxDuration)),
            (None, Some(end)) => (end, Interrupt::Close(Close::MaxDuration)),
            (Some(due), _) => (due, Interrupt::Due),
            (None, None) => return Poll::Pending,
        };
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
                return Poll::Ready(interrupt);
            }
        }
    }
}
