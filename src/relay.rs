//! Cut-through for any codec: bytes go on as they came, as soon as their operation is admitted.
//!
//! One connection is one task, and this is all of it: two flows over the same state, polled
//! together, with no lock, no channel and no allocation for an operation. The codec judges
//! bytes, the gate judges operations, and the relay only moves bytes and watches the clock.

mod buffers;
mod down;
mod flow;
mod open;
mod up;

pub use buffers::Buffers;

use crate::{
    config::plan::{ListenerPlan, OnViolation},
    connection::Door,
    worker::{Phase, Worker},
};
use bytes::BytesMut;
use flow::Flow;
use open::{End, Facts, Table};
use operation::{Close, Codec, Link, Outcome, Reply, Violation};
use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::Sleep};

/// One connection under way.
struct Relay<C> {
    codec: C,
    door: Door,
    worker: Rc<Worker>,
    plan: Arc<ListenerPlan>,
    client: TcpStream,
    server: TcpStream,
    /// From the client to the server.
    up: Flow,
    /// From the server to the client.
    down: Flow,
    open: Table,
    /// The reply that ends with the bytes passing down now.
    answered: Option<Reply>,
    /// Refusals written, waiting for the reply stream to reach the end of a message.
    refusals: BytesMut,
    /// When the operation that waits at the front of `up` may go on.
    wait_until: Option<Instant>,
    /// Reading was given up: everything passes.
    verbatim: bool,
    /// At least one request was understood.
    understood: bool,
    began: Instant,
    last_byte: Instant,
    ended_first: Option<Side>,
    /// This wake-up's one reading of the clock.
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

/// A year: for whoever waits for ever, and a timer that can't.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Moves bytes both ways until the connection ends, and tells why it did.
///
/// Made in its own place in memory: an idle connection is nearly all this.
pub fn relay<C: Codec>(
    shared: &Arc<C::Shared>,
    door: Door,
    client: TcpStream,
    server: TcpStream,
) -> Pin<Box<dyn Future<Output = Close>>> {
    let now = Instant::now();
    let worker = Rc::clone(door.worker());
    let plan = Arc::clone(door.plan());
    let mut relay = Box::pin(Relay::<C> {
        codec: C::new(shared, door.link()),
        door,
        worker,
        plan,
        client,
        server,
        up: Flow::default(),
        down: Flow::default(),
        open: Table::default(),
        answered: None,
        refusals: BytesMut::new(),
        wait_until: None,
        verbatim: false,
        understood: false,
        began: now,
        last_byte: now,
        ended_first: None,
        now: None,
        timer: Box::pin(tokio::time::sleep(FOR_EVER)),
        timer_armed: false,
    });
    match relay.begin() {
        Ok(()) => relay,
        Err(close) => {
            relay.settle_open(close);
            Box::pin(std::future::ready(close))
        }
    }
}

/// Nothing in it minds being moved.
impl<C> Unpin for Relay<C> {}

impl<C: Codec> Future for Relay<C> {
    type Output = Close;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Close> {
        let close = ready!(self.work(cx));
        self.settle_open(close);
        Poll::Ready(close)
    }
}

/// Accounts for a connection that never came to be, for a protocol whose operation is the
/// connection itself.
pub fn never_connected<C: Codec>(shared: &Arc<C::Shared>, link: Link, door: &Door, close: Close) {
    use operation::Gate;
    let mut codec = C::new(shared, link);
    let Ok(operation::Next::Pass { mark: Some(request), .. }) = codec.request(&[]) else { return };
    let named = codec.named(&[]);
    let facts = Facts { codec: &codec, door };
    let operation = operation::Operation {
        protocol: const { &C::PROTOCOL },
        name: named.name,
        resource: named.resource,
        front: &[],
        attributes: &facts,
        awaits: request.awaits,
    };
    let now = Instant::now();
    if let operation::Verdict::Go(ticket) | operation::Verdict::Wait(_, ticket) =
        door.admit(&operation, door.accepted())
    {
        let mut how = operation::Settlement::bare(close.outcome(true), now);
        how.reason = Some(close.as_str());
        how.attributes = &facts;
        ticket.settle(&how);
    }
}

impl<C: Codec> Relay<C> {
    /// Does what can be done now; ready when the connection is over.
    fn work(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        self.now = None;
        self.door.wakes(cx.waker());
        if let Some(close) = self.timed_out() {
            return Poll::Ready(close);
        }
        let up = self.poll_up(cx);
        if let Poll::Ready(Err(close)) = up {
            return Poll::Ready(close);
        }
        let down = self.poll_down(cx);
        if let Poll::Ready(Err(close)) = down {
            return Poll::Ready(close);
        }
        if let Some(close) = self.over(up.is_ready(), down.is_ready()) {
            return Poll::Ready(close);
        }
        self.arm(cx);
        Poll::Pending
    }

    /// Whether nothing is left to do, and who said so.
    fn over(&mut self, up_done: bool, down_done: bool) -> Option<Close> {
        if up_done && down_done {
            return Some(match self.ended_first {
                Some(Side::Server) => Close::Upstream,
                _ => Close::Client,
            });
        }
        // Where the connection is the operation, half a connection is still of use.
        let stream = self.is_stream();
        if up_done && !stream && self.open.is_at_rest() && self.nothing_to_write() {
            return Some(Close::Client);
        }
        if down_done && !stream {
            return Some(Close::Upstream);
        }
        match self.worker.phase() {
            Phase::Working => None,
            Phase::Draining => self.is_at_rest().then_some(Close::Drain),
            Phase::Leaving => Some(Close::DrainTimeout),
        }
    }

    /// Whether closing now would cut nothing short.
    fn is_at_rest(&self) -> bool {
        !self.verbatim
            && self.open.is_at_rest()
            && !self.up.inside
            && !self.up.is_ready()
            && self.up.unread().is_empty()
            && self.nothing_to_write()
    }

    /// Whether the client has got all that it is due.
    fn nothing_to_write(&self) -> bool {
        !self.down.inside && !self.down.is_ready() && self.refusals.is_empty()
    }

    /// Whether the connection carries one endless operation.
    fn is_stream(&self) -> bool {
        self.up.passes_everything()
    }

    /// This wake-up's time.
    fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// Notes that bytes moved.
    fn moved(&mut self) {
        self.last_byte = self.now();
    }

    /// Since when a writer takes nothing, now that it was tried again.
    fn stalled(
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

    /// Whether a deadline has passed.
    fn timed_out(&mut self) -> Option<Close> {
        if !self.timer_armed || !self.timer.is_elapsed() {
            return None;
        }
        self.timer_armed = false;
        let now = self.now();
        if self.wait_until.is_some_and(|until| until <= now) {
            self.wait_until = None;
        }
        let (deadline, close) = self.deadline();
        if deadline <= now { close } else { None }
    }

    /// The next moment at which something has to be looked at, and what it would mean.
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
        if let Some(limit) = self.plan.max_connection_duration {
            sooner(self.began + limit, Some(Close::MaxDuration));
        }
        if let Some(limit) = self.plan.write_timeout {
            for since in [self.up.stalled, self.down.stalled].into_iter().flatten() {
                sooner(since + limit, Some(Close::WriteTimeout));
            }
        }
        // Whoever waits for a reply is not idle, however long it takes.
        if let Some(limit) = self.plan.idle_timeout
            && !self.open.expects_reply()
        {
            sooner(self.last_byte + limit, Some(Close::IdleTimeout));
        }
        next
    }

    /// Sees to it that the task wakes at the next deadline. A later deadline costs nothing:
    /// the timer goes off at the old one, and is set again then.
    fn arm(&mut self, cx: &mut Context<'_>) {
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

    /// Framing is lost: nothing more can be read on this connection.
    fn lose_framing(&mut self, side: Side, violation: Violation) -> Result<(), Close> {
        self.door.violation(violation);
        let hopeless = !self.understood || C::hostile(violation);
        if hopeless || self.plan.on_violation == OnViolation::Close {
            self.door.explain(violation, "closed");
            return Err(match side {
                Side::Client => Close::ClientViolation,
                Side::Server => Close::UpstreamViolation,
            });
        }
        self.door.explain(violation, "passed on unread");
        self.verbatim = true;
        self.up.pass_everything();
        self.down.pass_everything();
        self.settle_all(End::bare(Outcome::Lost, Some("unreadable")));
        Ok(())
    }

    /// Settles what the connection's end cuts short.
    fn settle_open(&mut self, close: Close) {
        self.now = None;
        let outcome = close.outcome(self.is_stream());
        self.settle_all(End::bare(outcome, Some(close.as_str())));
    }

    fn settle_all(&mut self, end: End) {
        let now = self.now();
        let facts = Facts { codec: &self.codec, door: &self.door };
        while let Some(open) = self.open.pop() {
            open.settle(end, now, &facts);
        }
    }
}

/// Why a connection ended whose socket failed.
fn broken(side: Side, _: &io::Error) -> Close {
    match side {
        Side::Client => Close::ClientReset,
        Side::Server => Close::UpstreamReset,
    }
}
