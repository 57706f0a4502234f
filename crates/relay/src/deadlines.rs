//! The connection's deadlines: which comes next, and whether it has passed.

use super::{Relay, in_flight::InFlightRequest};
use operation::{Close, Codec, Direction};
use std::{
    pin::Pin,
    task::Context,
    time::{Duration, Instant},
};
use tokio::time::Sleep;

/// One year: no time limit, for a timer that needs one.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a pooled connection waits for the reply to an operation whose client has left.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// How often the bytes of a stream are counted while they pass.
const STREAM_COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The timer of a connection, and the times that its deadlines count from.
#[derive(Debug)]
pub(super) struct Timers {
    pub(super) sleep: Pin<Box<Sleep>>,
    /// `sleep` will wake the connection.
    armed: bool,
    started: Instant,
    pub(super) last_byte: Instant,
    /// Since when the client has left a message incomplete.
    pub(super) partial_message_since: Option<Instant>,
    /// When the bytes of a stream are counted next.
    next_stream_count: Option<Instant>,
    /// At least one operation had a time limit.
    pub(super) has_timeouts: bool,
}

impl Timers {
    /// Those of a connection that starts now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep(NEVER)),
            armed: false,
            started: now,
            last_byte: now,
            partial_message_since: None,
            next_stream_count: None,
            has_timeouts: false,
        }
    }
}

impl<C: Codec> Relay<C> {
    /// The time of this wake-up.
    pub(super) fn now(&mut self) -> Instant {
        // The runtime's clock is the system's, except in tests with paused time.
        *self.wake_up.now.get_or_insert_with(|| tokio::time::Instant::now().into_std())
    }

    /// Tracks since when the client has left a message incomplete. Time in which the server accepts
    /// nothing, or the proxy delays the client, does not count.
    pub(super) fn track_partial_message(&mut self) {
        let begun = self.requests.inside || !self.requests.unread().is_empty();
        let held = self.front.is_delayed() || self.is_closing();
        let waits = held
            || self.is_blocked(Direction::Up)
            || self.requests.is_ready()
            || self.is_rejection_backlogged();
        if !begun || waits || self.is_stream() {
            self.timers.partial_message_since = None;
        } else if self.timers.partial_message_since.is_none() {
            self.timers.partial_message_since = Some(self.now());
        }
    }

    /// Schedules the count of a stream's bytes, since a stream may last for days.
    pub(super) fn schedule_stream_count(&mut self) {
        if self.timers.next_stream_count.is_none()
            && self.is_stream()
            && self.in_flight.oldest().is_some_and(|open| open.uncounted() != [0; 2])
        {
            self.timers.next_stream_count = Some(self.now() + STREAM_COUNT_INTERVAL);
        }
    }

    /// Since when a write has made no progress, after another attempt.
    pub(super) fn stalled_since(
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

    /// Handles the timer. Returns whether it fired; a delayed operation continues.
    pub(super) fn handle_timer(&mut self) -> bool {
        if !self.timers.armed || !self.timers.sleep.is_elapsed() {
            return false;
        }
        self.timers.armed = false;
        let now = self.now();
        if self.front.delayed_until.is_some_and(|until| until <= now) {
            self.front.delayed_until = None;
        }
        if self.timers.next_stream_count.is_some_and(|at| at <= now) {
            self.timers.next_stream_count = None;
            self.in_flight.oldest().into_iter().for_each(InFlightRequest::count);
        }
        if self.shaping.as_mut().is_some_and(|shaping| shaping.release_due(now)) {
            // The connection was waiting, not idle.
            self.timers.last_byte = now;
        }
        true
    }

    /// The close reason of a deadline that has passed.
    pub(super) fn expired_close(&mut self) -> Option<Close> {
        let now = self.now();
        let (deadline, close) = self.next_deadline();
        if deadline <= now { close } else { None }
    }

    /// The next deadline, and the close reason if it is a time-out.
    #[expect(clippy::too_many_lines, reason = "every deadline, once")]
    fn next_deadline(&self) -> (Instant, Option<Close>) {
        let timeouts = self.session.timeouts();
        let mut next = (self.timers.started + NEVER, None);
        let mut sooner = |at: Instant, close| {
            if at < next.0 {
                next = (at, close);
            }
        };
        if let Some(until) = self.front.delayed_until {
            sooner(until, None);
        }
        if let Some(answer) = self.local_replies.later {
            sooner(answer.due, None);
        }
        // A release that is already due waits for something else.
        let now = self.wake_up.now;
        let impaired =
            [Direction::Up, Direction::Down].map(|way| self.impaired(way)?.next_release());
        for at in impaired.into_iter().flatten().filter(|at| now.is_none_or(|now| *at > now)) {
            sooner(at, None);
        }
        if let Some(at) = self.stream_cut_at() {
            sooner(at, None);
        }
        if let Some(at) = self.timers.next_stream_count {
            sooner(at, None);
        }
        let held = self.shaping.as_ref().map_or([None; 2], |shaping| shaping.blocked_until());
        for until in held.into_iter().flatten() {
            sooner(until, None);
        }
        if let Some((_, due)) = self.next_timeout() {
            sooner(due, None);
        }
        if let Some(limit) = timeouts.max_duration {
            sooner(self.session.accepted_at() + limit, Some(Close::MaxDuration));
        }
        if let Some(limit) = timeouts.write {
            for since in
                [self.requests.stalled_since, self.replies.stalled_since].into_iter().flatten()
            {
                sooner(since + limit, Some(Close::WriteTimeout));
            }
        }
        if let Some(limit) = timeouts.first_byte
            && self.progress.no_bytes_yet
        {
            sooner(self.timers.started + limit, Some(Close::FirstByteTimeout));
        }
        // Bounds a slow handshake, whatever the service has sent meanwhile.
        if let Some(limit) = timeouts.handshake
            && !self.progress.request_parsed
            && !self.progress.no_bytes_yet
        {
            // The wait for the first byte is a part of that.
            sooner(self.session.accepted_at() + limit, Some(Close::HandshakeTimeout));
        }
        if let (Some(limit), Some(since)) = (timeouts.message, self.timers.partial_message_since) {
            sooner(since + limit, Some(Close::MessageTimeout));
        }
        if let Some(limit) = timeouts.half_close
            && self.progress.closed_first.is_some()
            && held == [None; 2]
        {
            sooner(self.timers.last_byte + limit, Some(Close::HalfCloseTimeout));
        }
        if self.requests.eof && self.upstream.is_pooled() {
            sooner(self.timers.last_byte + CANCEL_GRACE, Some(Close::Client));
        }
        // A client that waits for a reply is not idle, however long that takes.
        if let Some(limit) = timeouts.idle
            && !self.in_flight.expects_reply()
            && held == [None; 2]
        {
            sooner(self.timers.last_byte + limit, Some(Close::IdleTimeout));
        }
        next
    }

    /// Sets the timer to the next deadline. A deadline that moved to a later time costs nothing:
    /// the timer fires at the old one and is set again then.
    pub(super) fn arm_timer(&mut self, cx: &mut Context<'_>) {
        let (deadline, _) = self.next_deadline();
        if self.timers.armed && self.timers.sleep.deadline().into_std() <= deadline {
            return;
        }
        self.timers.sleep.as_mut().reset(deadline.into());
        self.timers.armed = true;
        if self.timers.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
