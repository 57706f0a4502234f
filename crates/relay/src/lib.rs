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
//! - `requests`, `replies`: what the codec finds in the bytes
//! - `admission`, `in_flight`: operations, from the gate's verdict to settlement
//! - `front_request`, `front_action`, `held_request`: a request that may not be forwarded yet
//! - `local_replies`: rejections, written between the server's replies
//! - `answers`: requests that the codec answers itself
//! - `relay_upstream`, `upstream`: what is handed in, and the connection to the endpoint
//! - `pooled_request`: a request that takes a connection of a pool
//! - `mirrored_reads`: reads that a second cluster gets too
//! - `shaping`, `impaired`, `operation_timeout`: effects of policies on an admitted operation
//! - `deadlines`: the timer of a connection
//! - `closing`: the states of a connection's close
//! - `reject`: a client that is not served

mod admission;
mod answers;
mod buffers;
mod closing;
mod deadlines;
mod failover;
mod flow;
mod front_action;
mod front_request;
mod held_request;
mod impaired;
mod in_flight;
mod local_replies;
mod mirrored_reads;
mod operation_timeout;
mod pooled_request;
mod reject;
mod relay_upstream;
mod replies;
mod requests;
mod shaping;
mod splice;
mod upstream;

pub use buffers::Buffers;
pub use reject::reject;
pub use relay_upstream::RelayUpstream;
pub use splice::MAX_PIPES;

use closing::Closing;
use cluster::{Lease, is_local};
use deadlines::Timers;
use flow::Flow;
use front_request::FrontRequest;
use in_flight::{Completion, InFlightRequests, OperationAttributes};
use local_replies::LocalReplies;
use net::Stream;
use operation::{Close, Codec, Direction, EndReason, Outcome, Reply, Violation};
use session::Session;
use shaping::Shaping;
use std::{
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};
use upstream::Upstream;

/// The state of one connection.
struct Relay<C> {
    codec: C,
    session: Rc<dyn Session>,
    /// Lent by the worker.
    buffers: Rc<Buffers>,
    client: Stream,
    upstream: Upstream,
    /// From the client to the server.
    requests: Flow,
    /// From the server to the client.
    replies: Flow,
    front: FrontRequest,
    in_flight: InFlightRequests,
    /// The reply that ends with the bytes being passed now.
    ending_reply: Option<Reply>,
    local_replies: LocalReplies,
    /// What policies ask of the connection's bytes; `None` until they ask something.
    shaping: Option<Box<Shaping>>,
    progress: Progress,
    closing: Closing,
    timers: Timers,
    wake_up: WakeUp,
}

/// What has happened on the connection.
#[derive(Debug)]
struct Progress {
    /// Neither peer has sent a byte yet.
    no_bytes_yet: bool,
    /// At least one request was parsed.
    request_parsed: bool,
    /// At least one reply was parsed.
    reply_parsed: bool,
    /// Framing was lost: all bytes are forwarded unread.
    pass_through: bool,
    /// The peer that ended its stream first.
    closed_first: Option<Side>,
}

/// What belongs to one poll of the connection's task.
#[derive(Debug)]
struct WakeUp {
    /// What is left of its budget, in codec steps.
    budget: u32,
    /// The clock, read at most once.
    now: Option<Instant>,
    /// The worker's change counter when it was last read.
    seen_generation: u64,
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

/// Moves bytes both ways until the connection ends. Returns why it ended.
///
/// Built in its heap slot at once: an idle connection consists of little else.
pub fn relay<C: Codec>(
    shared: &Arc<C::Shared>,
    session: Rc<dyn Session>,
    buffers: &Rc<Buffers>,
    client: Stream,
    upstream: impl Into<RelayUpstream>,
) -> Pin<Box<dyn Future<Output = Close>>> {
    let now = Instant::now();
    let upstream = upstream.into();
    let limited = session.is_limited();
    let copies = client.plain().is_none() || upstream.is_encrypted();
    let mut relay = Box::pin(Relay::<C> {
        codec: C::new(shared, session.info()),
        session,
        buffers: Rc::clone(buffers),
        client,
        upstream: upstream.into(),
        requests: Flow::new(copies),
        replies: Flow::new(copies),
        front: FrontRequest::default(),
        in_flight: InFlightRequests::default(),
        ending_reply: None,
        local_replies: LocalReplies::default(),
        shaping: limited.then(Box::default),
        progress: Progress {
            no_bytes_yet: true,
            request_parsed: false,
            reply_parsed: false,
            pass_through: false,
            closed_first: None,
        },
        closing: Closing::Open,
        timers: Timers::new(now),
        wake_up: WakeUp { budget: POLL_BUDGET, now: None, seen_generation: 0 },
    });
    relay.identify_client();
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
        if let Closing::Lingering(close) = self.closing {
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
        self.wake_up.now = None;
        self.wake_up.budget = POLL_BUDGET;
        self.session.set_waker(cx.waker());
        let timer_fired = self.handle_timer();
        let generation = self.session.generation();
        if std::mem::replace(&mut self.wake_up.seen_generation, generation) != generation
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
            let was_blocked = self.blocks_requests();
            let down = self.poll_replies(cx);
            if let Poll::Ready(Err(close)) = down {
                return Poll::Ready(close);
            }
            self.release_upstream();
            // Requests that were held back by pending rejections or by the operation before have no other
            // wake-up.
            if !was_blocked || self.blocks_requests() {
                break (up, down);
            }
        };
        if self.upstream.is_pooled()
            && let Some(close) = self.upstream.close_request().close_now()
        {
            // Another endpoint may get the request.
            if let Err(close) = self.lose_upstream(close) {
                return Poll::Ready(close);
            }
            cx.waker().wake_by_ref();
        }
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
        self.timers.last_byte = self.now();
        self.session.record_read(way, bytes, self.timers.last_byte);
        if self.shaping.is_some() {
            self.schedule_read(way, bytes);
        }
        self.progress.no_bytes_yet = false;
        self.wake_up.budget = self.wake_up.budget.saturating_sub(READ_COST);
    }

    /// Yields to the worker's other connections and continues afterwards.
    fn yield_now(&self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        // Unlike a plain wake-up, this also lets the runtime poll the sockets.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }

    /// Whether requests wait for the client to read, or for the reply to the one before.
    fn blocks_requests(&self) -> bool {
        self.is_rejection_backlogged() || self.awaits_turn()
    }

    /// Whether closing now would interrupt nothing.
    fn is_idle(&self) -> bool {
        !self.progress.pass_through
            && self.in_flight.is_idle()
            && !self.requests.inside
            && !self.requests.is_ready()
            && self.requests.unread().is_empty()
            && self.is_flushed()
    }

    /// Whether the client has been sent everything that it is due.
    fn is_flushed(&self) -> bool {
        !self.is_inside_reply() && !self.replies.is_ready() && self.local_replies.len() == 0
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
        // A pooled connection has proved by its handshake that the server speaks the protocol.
        if side == Side::Server
            && !self.upstream.is_pooled()
            && !self.progress.reply_parsed
            && self.reject_wrong_protocol(violation)
        {
            self.session.log_violation(violation, "closed");
            return Err(Close::UpstreamViolation);
        }
        // Without framing the end of a rejected request is unknown, and its rest would be
        // forwarded.
        let unrecoverable =
            !self.progress.request_parsed || self.requests.dropping || C::is_hostile(violation);
        // What can't be read can't be given back to a pool.
        let strict = self.session.closes_on_violation()
            || self.session.is_guarded()
            || self.upstream.is_pooled();
        if unrecoverable || strict {
            self.session.log_violation(violation, "closed");
            return Err(match side {
                Side::Client => Close::ClientViolation,
                Side::Server => Close::UpstreamViolation,
            });
        }
        self.session.log_violation(violation, "passed on unread");
        self.progress.pass_through = true;
        self.front.hold = None;
        self.requests.pass_everything();
        self.replies.pass_everything();
        self.settle_all(Completion::bare(Outcome::Lost, Some(EndReason::Unreadable)));
        Ok(())
    }

    /// Settles the operations that the end of the connection interrupts.
    fn settle_on_close(&mut self, close: Close) {
        self.wake_up.now = None;
        if self.lacks_first_answer(close) {
            self.upstream.lease().into_iter().for_each(Lease::record_no_answer);
        }
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
        let recovery = self.codec.recovery();
        let goes_on = recovery.outlives_client
            && matches!(close, Close::Client | Close::ClientReset)
            && !self.in_flight.is_idle();
        self.settle_all(Completion { session: stream, ..end });
        if goes_on {
            self.upstream.finish_without_client();
        }
        self.upstream.end_orphans(|| self.codec.left_behind());
    }

    /// Whether the server's side ends the connection instead of answering its first request.
    fn lacks_first_answer(&mut self, close: Close) -> bool {
        let by_server =
            matches!(close, Close::Upstream | Close::UpstreamReset | Close::UpstreamViolation);
        by_server
            && !self.upstream.is_pooled()
            && !self.progress.reply_parsed
            && self.in_flight.oldest().is_some_and(|it| it.request_bytes > 0 && it.reply_bytes == 0)
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
        OperationAttributes::new(&self.codec, &*self.session, self.upstream.lease())
    }
}
