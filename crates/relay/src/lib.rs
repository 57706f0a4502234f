//! Cut-through relay for any codec: bytes are forwarded unchanged as soon as their operation is
//! admitted.
//!
//! One connection is one task and one `Relay`: two flows over the same state, polled together,
//! without a lock, a channel or an allocation per operation. The codec judges bytes, the gate
//! judges operations, and the relay only moves bytes and enforces time-outs.
//!
//! The crate knows no protocol, listener or worker: a codec, a session and an upstream are handed
//! in. Its modules:
//!
//! - `flow`, `buffers`, `splice`: bytes of one direction, in buffers that the worker lends, or pipes
//! - `requests`, `replies`, `in_flight`: what the codec finds in the bytes, from admission to settlement
//! - `held_request`: requests of which policies need more
//! - `shaping`, `impaired`, `operation_timeout`: effects of policies on an admitted operation
//! - `deadlines`: the timer of a connection
//! - `reject`, `linger`: how a connection ends that is not served, or not any more

mod buffers;
mod deadlines;
mod flow;
mod held_request;
mod impaired;
mod in_flight;
mod linger;
mod operation_timeout;
mod reject;
mod replies;
mod requests;
mod shaping;
mod splice;

pub use buffers::Buffers;
pub use reject::reject;
pub use splice::MAX_PIPES;

use bytes::{Bytes, BytesMut};
use cluster::{CloseRequest, Lease, UpstreamConnection, is_local};
use deadlines::NEVER;
use flow::Flow;
use held_request::HeldRequest;
use in_flight::{Completion, InFlightRequest, InFlightRequests, OperationAttributes};
use net::Stream;
use operation::{Close, Codec, Direction, EndReason, Outcome, Reply, Tag, Violation};
use requests::PendingVerdict;
use session::{Phase, Session};
use shaping::Shaping;
use std::{
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::time::Sleep;

/// The state of one connection.
struct Relay<C> {
    codec: C,
    session: Rc<dyn Session>,
    /// Lent by the worker.
    buffers: Rc<Buffers>,
    /// Counts the connection at its endpoint, until the server is done with.
    lease: Option<Lease>,
    client: Stream,
    server: Stream,
    /// From the client to the server.
    requests: Flow,
    /// From the server to the client.
    replies: Flow,
    in_flight: InFlightRequests,
    /// The reply that ends with the bytes being passed now.
    ending_reply: Option<Reply>,
    /// Encoded rejections that are written as soon as the reply stream is between two messages.
    rejections: BytesMut,
    /// How many bytes of rejections wait for older replies.
    deferred_rejection_bytes: usize,
    /// The request at the front of `requests`, if a policy needs more of it than the codec does.
    hold: Option<Box<HeldRequest>>,
    /// The request at the front of `requests`, if its verdict is still pending.
    pending_verdict: Option<Box<PendingVerdict>>,
    /// When the delayed operation at the front of `requests` may be forwarded.
    delayed_until: Option<Instant>,
    /// Length of the delayed request, and the bytes that replace it.
    pending_rewrite: Option<(usize, Bytes)>,
    /// What policies ask of the connection's bytes; `None` until they ask something.
    shaping: Option<Box<Shaping>>,
    /// The worker's change counter when it was last read.
    seen_generation: u64,
    /// At least one operation had a time limit.
    has_timeouts: bool,
    /// Framing was lost: all bytes are forwarded unread.
    pass_through: bool,
    /// At least one request was parsed.
    request_parsed: bool,
    /// At least one reply was parsed.
    reply_parsed: bool,
    started: Instant,
    last_byte: Instant,
    /// Neither peer has sent a byte yet.
    no_bytes_yet: bool,
    /// When the bytes of a stream are counted next.
    next_stream_count: Option<Instant>,
    /// Since when the client has left a message incomplete.
    partial_message_since: Option<Instant>,
    closed_first: Option<Side>,
    /// The server accepts no further bytes. What it sent before is still delivered to the client.
    server_write_failed: Option<Close>,
    /// What is left of this wake-up's budget.
    budget: u32,
    /// The clock, read at most once per wake-up.
    now: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    timer_armed: bool,
}

/// Which peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// How much one wake-up may do before other connections are polled, in codec steps.
const POLL_BUDGET: u32 = 512;

/// What one codec step costs, so that a million tiny messages do not delay other connections.
const MESSAGE_COST: u32 = 1;

/// What one read costs, whatever its length.
const READ_COST: u32 = 64;

/// How many bytes of rejections may wait for a client that does not read, before its requests wait
/// too.
const MAX_REJECTION_BYTES: usize = 64 * 1024;

/// Moves bytes both ways until the connection ends. Returns why it ended.
///
/// Built in its heap slot at once: an idle connection consists of little else.
pub fn relay<C: Codec>(
    shared: &Arc<C::Shared>,
    session: Rc<dyn Session>,
    buffers: &Rc<Buffers>,
    client: Stream,
    upstream: UpstreamConnection,
) -> Pin<Box<dyn Future<Output = Close>>> {
    let now = Instant::now();
    let UpstreamConnection { stream: server, lease, .. } = upstream;
    let limited = session.is_limited();
    let copies = client.plain().is_none() || server.plain().is_none();
    let mut relay = Box::pin(Relay::<C> {
        codec: C::new(shared, session.info()),
        session,
        buffers: Rc::clone(buffers),
        lease: Some(lease),
        client,
        server,
        requests: Flow::new(copies),
        replies: Flow::new(copies),
        in_flight: InFlightRequests::default(),
        ending_reply: None,
        rejections: BytesMut::new(),
        deferred_rejection_bytes: 0,
        hold: None,
        pending_verdict: None,
        delayed_until: None,
        pending_rewrite: None,
        shaping: limited.then(Box::default),
        seen_generation: 0,
        has_timeouts: false,
        pass_through: false,
        request_parsed: false,
        reply_parsed: false,
        started: now,
        last_byte: now,
        no_bytes_yet: true,
        next_stream_count: None,
        partial_message_since: None,
        closed_first: None,
        server_write_failed: None,
        budget: POLL_BUDGET,
        now: None,
        timer: Box::pin(tokio::time::sleep(NEVER)),
        timer_armed: false,
    });
    match relay.start() {
        Ok(()) => relay,
        Err(close) => {
            relay.settle_on_close(close);
            if relay.start_linger(close, false) {
                relay
            } else {
                Box::pin(std::future::ready(close))
            }
        }
    }
}

/// No field is pinned in place.
impl<C> Unpin for Relay<C> {}

impl<C: Codec> Future for Relay<C> {
    type Output = Close;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Close> {
        if let Some(close) = self.shaping.as_ref().and_then(|shaping| shaping.lingering) {
            return self.poll_linger(close, cx);
        }
        let close = ready!(self.poll_relay(cx));
        let cut = self.truncates(close);
        self.settle_on_close(close);
        if self.start_linger(close, cut) { self.poll_linger(close, cx) } else { Poll::Ready(close) }
    }
}

impl<C: Codec> Relay<C> {
    /// Does what can be done now. Ready when the connection is over.
    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        self.now = None;
        self.budget = POLL_BUDGET;
        self.session.set_waker(cx.waker());
        let timer_fired = self.handle_timer();
        let generation = self.session.generation();
        if std::mem::replace(&mut self.seen_generation, generation) != generation
            && let Err(close) = self.apply_policy_changes()
        {
            return Poll::Ready(close);
        }
        if let Some(close) = self.due_stream_cut() {
            return Poll::Ready(close);
        }
        self.release_impaired();
        let (up, down) = loop {
            let up = self.poll_requests(cx);
            if let Poll::Ready(Err(close)) = up {
                return Poll::Ready(close);
            }
            let was_backlogged = self.is_rejection_backlogged();
            let down = self.poll_replies(cx);
            if let Poll::Ready(Err(close)) = down {
                return Poll::Ready(close);
            }
            // Requests held back by pending rejections have no other wake-up.
            if !was_backlogged || self.is_rejection_backlogged() {
                break (up, down);
            }
        };
        if let Some(close) = self.close_reason(up.is_ready(), down.is_ready()) {
            return Poll::Ready(close);
        }
        self.track_partial_message();
        self.schedule_stream_count();
        self.session.set_operation(self.in_flight.gate_slot());
        // Last, because the awaited bytes may have been read in this wake-up.
        if timer_fired {
            match self.expire_operations() {
                Ok(true) => cx.waker().wake_by_ref(),
                Ok(false) => {}
                Err(close) => return Poll::Ready(close),
            }
            if let Some(close) = self.expired_close() {
                return Poll::Ready(close);
            }
        }
        self.arm_timer(cx);
        Poll::Pending
    }

    /// Records that bytes were read, and charges the budget.
    fn record_read(&mut self, way: Direction, bytes: usize) {
        self.last_byte = self.now();
        self.session.record_read(way, bytes, self.last_byte);
        if self.shaping.is_some() {
            self.schedule_read(way, bytes);
        }
        self.no_bytes_yet = false;
        self.budget = self.budget.saturating_sub(READ_COST);
    }

    /// Yields to the worker's other connections and continues afterwards.
    fn yield_now(&self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        // Unlike a plain wake-up, this also lets the runtime poll the sockets.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }

    /// Whether requests wait until the client has read more of its rejections.
    fn is_rejection_backlogged(&self) -> bool {
        self.rejections.len() + self.deferred_rejection_bytes >= MAX_REJECTION_BYTES
            && !self.pass_through
    }

    /// Removes the operation with this tag: its reply has come, or never will. Rejections that
    /// waited for it are written next.
    fn take_in_flight(&mut self, tag: Tag) -> Option<InFlightRequest> {
        let mut open = self.in_flight.take(tag)?;
        self.release_rejections(&mut open);
        Some(open)
    }

    fn release_rejections(&mut self, open: &mut InFlightRequest) {
        if let Some(words) = open.rejections.take() {
            self.deferred_rejection_bytes -= words.len();
            self.rejections.extend_from_slice(&words);
        }
    }

    /// Returns why the connection is to close now, if it is.
    fn close_reason(&mut self, up_done: bool, down_done: bool) -> Option<Close> {
        if let Some(close) = self.server_write_failed {
            let leaving = self.session.phase() == Phase::Closing || self.session.is_killed();
            return (down_done || leaving).then_some(close);
        }
        if up_done && down_done {
            return Some(match self.closed_first {
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
        if self.session.is_killed() {
            return Some(Close::Killed);
        }
        match (self.session.phase(), self.close_request()) {
            (Phase::Closing, _) => Some(Close::DrainTimeout),
            (_, CloseRequest::Unhealthy) => Some(Close::EndpointUnhealthy),
            (_, CloseRequest::Removed) => Some(Close::EndpointRemoved),
            (Phase::Draining, _) => self.is_idle().then_some(Close::Drain),
            (_, CloseRequest::WhenIdle) => self.is_idle().then_some(Close::EndpointDrained),
            (Phase::Running, CloseRequest::None) => None,
        }
    }

    /// What the endpoint asks of the connection.
    fn close_request(&self) -> CloseRequest {
        self.lease.as_ref().map_or(CloseRequest::None, Lease::close_request)
    }

    /// Whether closing now would interrupt nothing.
    fn is_idle(&self) -> bool {
        !self.pass_through
            && self.in_flight.is_idle()
            && !self.requests.inside
            && !self.requests.is_ready()
            && self.requests.unread().is_empty()
            && self.is_flushed()
    }

    /// Whether the client has been sent everything that it is due.
    fn is_flushed(&self) -> bool {
        let refusals = self.rejections.len() + self.deferred_rejection_bytes;
        !self.is_inside_reply() && !self.replies.is_ready() && refusals == 0
    }

    /// Whether the client has got a part of a reply, and not all of it.
    fn is_inside_reply(&self) -> bool {
        self.replies.inside && !self.replies.dropping
    }

    /// Whether the connection carries one endless operation.
    fn is_stream(&self) -> bool {
        self.requests.passes_everything()
    }

    /// Handles lost framing: no further message can be parsed on this connection.
    fn lose_framing(&mut self, side: Side, violation: Violation) -> Result<(), Close> {
        self.session.count_violation(violation);
        if side == Side::Server && !self.reply_parsed && self.reject_wrong_protocol(violation) {
            self.session.log_violation(violation, "closed");
            return Err(Close::UpstreamViolation);
        }
        // Without framing the end of a rejected request is unknown, and its rest would be
        // forwarded.
        let unrecoverable =
            !self.request_parsed || self.requests.dropping || C::is_hostile(violation);
        let strict = self.session.closes_on_violation() || self.session.is_guarded();
        if unrecoverable || strict {
            self.session.log_violation(violation, "closed");
            return Err(match side {
                Side::Client => Close::ClientViolation,
                Side::Server => Close::UpstreamViolation,
            });
        }
        self.session.log_violation(violation, "passed on unread");
        self.pass_through = true;
        self.hold = None;
        self.requests.pass_everything();
        self.replies.pass_everything();
        self.settle_all(Completion::bare(Outcome::Lost, Some(EndReason::Unreadable)));
        Ok(())
    }

    /// Settles the operations that the end of the connection interrupts.
    fn settle_on_close(&mut self, close: Close) {
        self.now = None;
        let stream = self.is_stream();
        let oldest = self.in_flight.oldest().filter(|open| stream && open.reply_bytes == 0);
        let asked = oldest.as_ref().is_some_and(|open| open.request_bytes > 0);
        let late =
            matches!(close, Close::IdleTimeout | Close::HalfCloseTimeout | Close::MaxDuration);
        // A service that closes the connection without a reply did not serve the operation, nor did
        // one that stayed silent until the time limit.
        let end = if oldest.is_some() && close == Close::Upstream {
            Completion::bare(Outcome::Lost, Some(EndReason::NoReply))
        } else if asked && late {
            Completion::bare(Outcome::Lost, Some(close.into()))
        } else {
            Completion::bare(close.outcome(stream), Some(close.into()))
        };
        self.settle_all(Completion { session: stream, ..end });
    }

    fn settle_all(&mut self, end: Completion) {
        let now = self.now();
        while let Some(open) = self.in_flight.pop() {
            open.settle(end, now, &self.attributes());
        }
    }

    /// The close reason for an I/O error on this side's socket.
    fn io_close_reason(&self, side: Side, error: &io::Error) -> Close {
        let (towards, reset) = match side {
            Side::Client => (&self.replies, Close::ClientReset),
            Side::Server => (&self.requests, Close::UpstreamReset),
        };
        if is_local(error) {
            return Close::LocalError;
        }
        // The kernel gave up on a peer that accepted nothing, before `write_timeout` did.
        let timed_out = error.kind() == io::ErrorKind::TimedOut && towards.stalled_since.is_some();
        if timed_out { Close::WriteTimeout } else { reset }
    }

    /// The attributes under which an operation is settled.
    fn attributes(&self) -> OperationAttributes<'_, C> {
        OperationAttributes::new(&self.codec, &*self.session, self.lease.as_ref())
    }
}
