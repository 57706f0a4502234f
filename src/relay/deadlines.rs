//! What a connection's clock says: which time-out comes next, and whether it has come.

use super::{Relay, open::Open};
use crate::policy::Direction;
use operation::{Close, Codec};
use std::{
    task::Context,
    time::{Duration, Instant},
};

/// A year: for whoever waits for ever, and a timer that can't.
pub(super) const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How often the bytes of a stream are counted while they pass.
const COUNT: Duration = Duration::from_secs(1);

impl<C: Codec> Relay<C> {
    /// This wake-up's time.
    pub(super) fn now(&mut self) -> Instant {
        // The runtime's clock is the system's, except in tests that let time fly.
        *self.now.get_or_insert_with(|| tokio::time::Instant::now().into_std())
    }

    /// Notes since when the client owes the rest of a message. While the server takes nothing, or
    /// the proxy itself makes the client wait, it owes nothing.
    pub(super) fn note_message(&mut self) {
        let begun = self.up.inside || !self.up.unread().is_empty();
        let held = self.wait_until.is_some() || self.asking.is_some() || self.is_parting();
        let waits =
            held || self.is_held(Direction::Up) || self.up.is_ready() || self.waits_for_refusals();
        if !begun || waits || self.is_stream() {
            self.message_since = None;
        } else if self.message_since.is_none() {
            self.message_since = Some(self.now());
        }
    }

    /// Sees to it that the bytes of a stream are counted soon: it may last for days.
    pub(super) fn note_stream(&mut self) {
        if self.count_at.is_none()
            && self.is_stream()
            && self.open.oldest().is_some_and(|open| open.uncounted() != [0; 2])
        {
            self.count_at = Some(self.now() + COUNT);
        }
    }

    /// Since when a writer takes nothing, now that it was tried again.
    pub(super) fn stalled(
        &mut self,
        since: Option<Instant>,
        pending: bool,
        progress: bool,
    ) -> Option<Instant> {
        match since {
            _ if !pending => None,
            Some(since) if !progress => Some(since),
            _ => Some(self.now()),
        }
    }

    /// Whether the timer went off. An operation that waited for it goes on.
    pub(super) fn timer_rang(&mut self) -> bool {
        if !self.timer_armed || !self.timer.is_elapsed() {
            return false;
        }
        self.timer_armed = false;
        let now = self.now();
        if self.wait_until.is_some_and(|until| until <= now) {
            self.wait_until = None;
        }
        if self.count_at.is_some_and(|at| at <= now) {
            self.count_at = None;
            self.open.oldest().into_iter().for_each(Open::count);
        }
        if self.bent.as_mut().is_some_and(|bent| bent.release(now)) {
            // The wait was no idleness.
            self.last_byte = now;
        }
        true
    }

    /// Whether a deadline has passed.
    pub(super) fn timed_out(&mut self) -> Option<Close> {
        let now = self.now();
        let (deadline, close) = self.deadline();
        if deadline <= now { close } else { None }
    }

    /// The next moment at which something has to be looked at, and what it would mean.
    #[expect(clippy::too_many_lines, reason = "every deadline, once")]
    fn deadline(&self) -> (Instant, Option<Close>) {
        let mut next = (self.began + FOR_EVER, None);
        let mut sooner = |at: Instant, close| {
            if at < next.0 {
                next = (at, close);
            }
        };
        if let Some(until) = self.wait_until {
            sooner(until, None);
        }
        // What is due already waits for something else.
        let now = self.now;
        let impaired = [Direction::Up, Direction::Down].map(|way| self.impaired(way)?.next());
        for at in impaired.into_iter().flatten().filter(|at| now.is_none_or(|now| *at > now)) {
            sooner(at, None);
        }
        if let Some(at) = self.cut_at() {
            sooner(at, None);
        }
        if let Some(at) = self.count_at {
            sooner(at, None);
        }
        let held = self.bent.as_ref().map_or([None; 2], |bent| bent.held());
        for until in held.into_iter().flatten() {
            sooner(until, None);
        }
        if let Some((_, due)) = self.next_due() {
            sooner(due, None);
        }
        if let Some(limit) = self.plan.max_connection_duration {
            sooner(self.door.accepted() + limit, Some(Close::MaxDuration));
        }
        if let Some(limit) = self.plan.write_timeout {
            for since in [self.up.stalled, self.down.stalled].into_iter().flatten() {
                sooner(since + limit, Some(Close::WriteTimeout));
            }
        }
        if let Some(limit) = self.plan.first_byte_timeout
            && self.silent
        {
            sooner(self.began + limit, Some(Close::FirstByteTimeout));
        }
        // However slowly it says its first words, and whatever the service has said meanwhile.
        if let Some(limit) = self.plan.handshake_timeout
            && !self.understood
            && !self.silent
        {
            // Waiting for its first byte is a part of that.
            sooner(self.door.accepted() + limit, Some(Close::HandshakeTimeout));
        }
        if let (Some(limit), Some(since)) = (self.plan.message_timeout, self.message_since) {
            sooner(since + limit, Some(Close::MessageTimeout));
        }
        if let Some(limit) = self.plan.half_close_timeout
            && self.ended_first.is_some()
            && held == [None; 2]
        {
            sooner(self.last_byte + limit, Some(Close::HalfCloseTimeout));
        }
        // Whoever waits for a reply is not idle, however long it takes.
        if let Some(limit) = self.plan.idle_timeout
            && !self.open.expects_reply()
            && held == [None; 2]
        {
            sooner(self.last_byte + limit, Some(Close::IdleTimeout));
        }
        next
    }

    /// Sees to it that the task wakes at the next deadline. A later deadline costs nothing:
    /// the timer goes off at the old one, and is set again then.
    pub(super) fn arm(&mut self, cx: &mut Context<'_>) {
        let (deadline, _) = self.deadline();
        if self.timer_armed && self.timer.deadline().into_std() <= deadline {
            return;
        }
        self.timer.as_mut().reset(deadline.into());
        self.timer_armed = true;
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
