//! How a connection ends: the states of its close, and the close itself.
//!
//! | state | the server takes nothing more | close after replies | close now | the close is due |
//! |---|---|---|---|---|
//! | `Open` | `ServerRefused` | `AfterReplies` | `Now` | the end, or `Lingering` |
//! | `ServerRefused` | – | `AfterReplies` | `Now` | the end |
//! | `AfterReplies` | `ServerRefused` | `AfterReplies` | `Now` | the end, or `Lingering` |
//! | `Now` | `Now` | `Now` | `Now` | the end, or `Lingering` |
//! | `Lingering` | – | – | – | the end |
//!
//! A later close replaces the reason of an earlier one, and a reset stays a reset.

use super::{Relay, Side};
use cluster::CloseRequest;
use operation::{Close, Codec};
use session::{LINGER_TIMEOUT, Phase, REST, poll_discard};
use std::task::{Context, Poll};

/// The state of a connection's close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Closing {
    /// No close is scheduled.
    #[default]
    Open,
    /// The server accepts no further bytes. What it sent before is still delivered to the client.
    ServerRefused(Close),
    /// No further request is accepted. Replies that are due are written first.
    AfterReplies(ScheduledClose),
    /// Nothing further passes. What may pass already is written first.
    Now(ScheduledClose),
    /// The write side is closed, and the client is given time to close too.
    Lingering(Close),
}

/// Why a connection closes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScheduledClose {
    close: Close,
    /// The client's connection ends with a reset.
    reset: bool,
}

impl Closing {
    /// The state after a close is scheduled in this one.
    fn schedule(self, close: Close, reset: bool, after_replies: bool) -> Self {
        let (was_reset, was_now) = match self {
            Closing::AfterReplies(earlier) => (earlier.reset, false),
            Closing::Now(earlier) => (earlier.reset, true),
            Closing::Open | Closing::ServerRefused(_) | Closing::Lingering(_) => (false, false),
        };
        let scheduled = ScheduledClose { close, reset: reset || was_reset };
        if after_replies && !was_now {
            Closing::AfterReplies(scheduled)
        } else {
            Closing::Now(scheduled)
        }
    }

    /// The state after the server has refused bytes in this one.
    fn refuse(self, close: Close) -> Self {
        match self {
            Closing::Now(_) => self,
            _ => Closing::ServerRefused(close),
        }
    }

    /// Whether the client's connection ends with a reset.
    fn resets_client(self) -> bool {
        match self {
            Closing::AfterReplies(scheduled) | Closing::Now(scheduled) => scheduled.reset,
            Closing::Open | Closing::ServerRefused(_) | Closing::Lingering(_) => false,
        }
    }
}

impl<C: Codec> Relay<C> {
    /// Closes the connection once the pending bytes are written and, with `after_replies`, the
    /// replies to in-flight operations too.
    pub(super) fn schedule_close(&mut self, close: Close, reset: bool, after_replies: bool) {
        self.closing = self.closing.schedule(close, reset, after_replies);
    }

    /// Records that the server accepts no further bytes.
    pub(super) fn server_refused(&mut self, close: Close) {
        self.closing = self.closing.refuse(close);
    }

    /// Whether the connection accepts no further requests.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.closing, Closing::AfterReplies(_) | Closing::Now(_))
    }

    /// Whether even due replies are not forwarded.
    pub(super) fn is_closing_now(&self) -> bool {
        matches!(self.closing, Closing::Now(_))
    }

    /// The close reason if the scheduled close is due, now that nothing is left to write to the
    /// client.
    pub(super) fn due_close(&self) -> Option<Close> {
        match self.closing {
            Closing::Now(scheduled) => Some(scheduled.close),
            Closing::AfterReplies(scheduled) => {
                let waits =
                    self.is_inside_reply() || !self.in_flight.is_idle() || self.requests.is_ready();
                (!waits).then_some(scheduled.close)
            }
            Closing::Open | Closing::ServerRefused(_) | Closing::Lingering(_) => None,
        }
    }

    /// Returns why the connection is to close now, if it is.
    pub(super) fn close_reason(&mut self, up_done: bool, down_done: bool) -> Option<Close> {
        if let Closing::ServerRefused(close) = self.closing {
            let leaving =
                self.session.phase() == Phase::Closing || self.session.kill_reason().is_some();
            return (down_done || leaving).then_some(close);
        }
        if up_done && down_done {
            return Some(match self.progress.closed_first {
                Some(Side::Server) => Close::Upstream,
                _ => Close::Client,
            });
        }
        // Where the connection is the operation, a half-closed connection is still useful.
        let stream = self.is_stream();
        if up_done && !stream && self.in_flight.is_idle() && self.is_flushed() {
            return Some(Close::Client);
        }
        if down_done && !stream {
            return Some(Close::Upstream);
        }
        if let Some(close) = self.session.kill_reason() {
            return Some(close);
        }
        match (self.session.phase(), self.close_request()) {
            (Phase::Closing, _) => Some(Close::DrainTimeout),
            (_, CloseRequest::Unhealthy) => Some(Close::EndpointUnhealthy),
            (_, CloseRequest::Removed) => Some(Close::EndpointRemoved),
            (_, CloseRequest::Expired) => Some(Close::CertificateExpired),
            (Phase::Draining, _) => self.is_idle().then_some(Close::Drain),
            (Phase::SoftDraining, _) if self.is_idle() && self.has_rested() => Some(Close::Drain),
            (_, CloseRequest::WhenIdle) => self.is_idle().then_some(Close::EndpointDrained),
            (_, CloseRequest::RoleLost) => self.is_idle().then_some(Close::RoleLost),
            (_, CloseRequest::Expiring) => self.is_idle().then_some(Close::CertificateExpired),
            (Phase::Running | Phase::SoftDraining, CloseRequest::None) => None,
        }
    }

    /// Whether no byte has passed for a [`REST`].
    fn has_rested(&mut self) -> bool {
        self.now().saturating_duration_since(self.timers.last_byte) >= REST
    }

    /// What the endpoint asks of the connection, or a switch of the cluster.
    fn close_request(&self) -> CloseRequest {
        match self.upstream.close_request() {
            CloseRequest::None if self.upstream.was_switched() && !self.codec.outlives_switch() => {
                CloseRequest::WhenIdle
            }
            request => request,
        }
    }

    /// Whether this close interrupts an operation, so that an orderly end could be mistaken for a
    /// complete one. Call it while operations are still in flight.
    pub(super) fn truncates(&self, close: Close) -> bool {
        match close {
            Close::ClientReset | Close::UpstreamReset => true,
            // Both peers have ended their streams.
            Close::Client | Close::Upstream => false,
            // The policy decides how the connection ends.
            Close::RateLimited | Close::Overloaded | Close::Denied | Close::Injected => false,
            // The client speaks another protocol, and may be sent a message.
            Close::ClientViolation => false,
            // The service has not begun its reply.
            Close::OperationTimeout => !self.is_stream() && self.is_inside_reply(),
            // Only the two ends of a stream know whether it is complete.
            _ if self.is_stream() => !self.progress.no_bytes_yet,
            // Between two messages both ends know that nothing is missing.
            _ => self.is_inside_reply(),
        }
    }

    /// `true`: close with FIN and linger. `false`: drop the socket now, after RST if a reset is
    /// asked for or the close `cut` an operation short.
    pub(super) fn start_linger(&mut self, close: Close, cut: bool) -> bool {
        if cut {
            self.client.reset_on_drop();
            self.upstream.reset_on_drop();
            return false;
        }
        if self.closing.resets_client() {
            self.client.reset_on_drop();
            return false;
        }
        let ours =
            close.is_rejection() || matches!(close, Close::Injected | Close::OperationTimeout);
        if ours {
            // The service need not wait for the client.
            self.upstream.close();
            self.client.close_write();
            let until = self.now() + LINGER_TIMEOUT;
            self.closing = Closing::Lingering(close);
            self.timers.sleep.as_mut().reset(until.into());
        }
        ours
    }

    /// Ready when the client has closed its half too, or time is up.
    pub(super) fn poll_linger(&mut self, close: Close, cx: &mut Context<'_>) -> Poll<Close> {
        self.session.set_waker(cx.waker());
        let leaves = self.session.phase() == Phase::Closing;
        if leaves || self.timers.sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(close);
        }
        poll_discard(&mut self.client, cx).map(|()| close)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_replies(close: Close, reset: bool) -> Closing {
        Closing::AfterReplies(ScheduledClose { close, reset })
    }

    fn now(close: Close, reset: bool) -> Closing {
        Closing::Now(ScheduledClose { close, reset })
    }

    /// Each row: the state, the close that is scheduled in it, and the state after that.
    #[test]
    fn a_scheduled_close_is_never_postponed() {
        let (denied, injected) = (Close::Denied, Close::Injected);
        let refused = Closing::ServerRefused(Close::UpstreamReset);
        let rows = [
            (Closing::Open, (denied, false, true), after_replies(denied, false)),
            (Closing::Open, (denied, true, true), after_replies(denied, true)),
            (Closing::Open, (injected, true, false), now(injected, true)),
            (refused, (injected, false, false), now(injected, false)),
            (refused, (denied, false, true), after_replies(denied, false)),
            (after_replies(denied, true), (injected, false, false), now(injected, true)),
            (after_replies(denied, false), (injected, true, true), after_replies(injected, true)),
            (now(denied, false), (injected, false, true), now(injected, false)),
            (now(denied, true), (injected, false, true), now(injected, true)),
        ];
        for (before, (close, reset, late), after) in rows {
            assert_eq!(before.schedule(close, reset, late), after, "{before:?}");
        }
    }

    #[test]
    fn a_server_that_refuses_bytes_delays_no_close() {
        let refused = Closing::ServerRefused(Close::UpstreamReset);
        for (before, after) in [
            (Closing::Open, refused),
            (after_replies(Close::Denied, true), refused),
            (now(Close::Injected, true), now(Close::Injected, true)),
        ] {
            assert_eq!(before.refuse(Close::UpstreamReset), after, "{before:?}");
        }
    }

    #[test]
    fn only_a_scheduled_close_resets_the_client() {
        assert!(now(Close::Injected, true).resets_client());
        assert!(after_replies(Close::Denied, true).resets_client());
        for closing in [
            Closing::Open,
            Closing::ServerRefused(Close::UpstreamReset),
            Closing::Lingering(Close::Denied),
            now(Close::Injected, false),
        ] {
            assert!(!closing.resets_client(), "{closing:?}");
        }
    }
}
