//! The close of a relayed connection: in order, or with a reset.

use super::Relay;
use operation::{Close, Codec};
use session::{LINGER_TIMEOUT, Phase, poll_discard};
use std::task::{Context, Poll};

impl<C: Codec> Relay<C> {
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
            // The service has sent nothing at all.
            Close::OperationTimeout => false,
            // Only the two ends of a stream know whether it is complete.
            _ if self.is_stream() => !self.no_bytes_yet,
            // Between two messages both ends know that nothing is missing.
            _ => self.is_inside_reply(),
        }
    }

    /// `true`: close with FIN and linger. `false`: drop the socket now, after RST if a reset is
    /// asked for or the close `cut` an operation short.
    pub(super) fn start_linger(&mut self, close: Close, cut: bool) -> bool {
        if cut {
            self.client.reset_on_drop();
            self.server.reset_on_drop();
            return false;
        }
        if self.shaping.as_ref().is_some_and(|shaping| shaping.reset_client) {
            self.client.reset_on_drop();
            return false;
        }
        let ours =
            close.is_rejection() || matches!(close, Close::Injected | Close::OperationTimeout);
        if ours {
            // The service need not wait for the client.
            self.lease = None;
            self.server.close();
            self.client.close_write();
            let until = self.now() + LINGER_TIMEOUT;
            self.shaping.get_or_insert_default().lingering = Some(close);
            self.timer.as_mut().reset(until.into());
        }
        ours
    }

    /// Ready when the client has closed its half too, or time is up.
    pub(super) fn poll_linger(&mut self, close: Close, cx: &mut Context<'_>) -> Poll<Close> {
        self.session.set_waker(cx.waker());
        let leaves = self.session.phase() == Phase::Closing;
        if leaves || self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(close);
        }
        poll_discard(&mut self.client, cx).map(|()| close)
    }
}
