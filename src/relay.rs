//! Cut-through for any codec: bytes go on as they came, as soon as their operation is admitted.
//!
//! One connection is one task, and this is all of it: two flows over the same state, polled
//! together, with no lock, no channel and no allocation for an operation. The codec judges
//! bytes, the gate judges operations, and the relay only moves bytes and watches the clock.

mod bent;
mod buffers;
mod deadlines;
mod down;
mod flow;
mod goodbye;
mod hold;
mod impaired;
mod limit;
mod open;
mod splice;
mod turn_away;
mod up;

pub use buffers::Buffers;
pub use goodbye::goodbye;
pub use splice::PIPES;
pub use turn_away::turn_away;

use crate::{
    cluster::{Wish, is_local},
    config::plan::{ListenerPlan, OnViolation},
    connection::Door,
    policy::Direction,
    worker::{Phase, Worker},
};
use bent::Bent;
use bytes::{Bytes, BytesMut};
use deadlines::FOR_EVER;
use flow::Flow;
use hold::Hold;
use open::{End, Facts, Open, Table};
use operation::{Close, Codec, Outcome, Reply, Tag, Violation};
use std::{
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::{net::TcpStream, time::Sleep};
use up::Asking;

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
    /// How many bytes of refusals wait for older replies.
    refusals_kept: usize,
    /// The request at the front of `up`, if more of it is held than the codec needs to name it.
    hold: Option<Box<Hold>>,
    /// The request at the front of `up` that waits for somebody's answer.
    asking: Option<Box<Asking>>,
    /// When the operation that waits at the front of `up` may go on.
    wait_until: Option<Instant>,
    /// What then goes on in the place of how many bytes, if that operation is rewritten.
    rewritten: Option<(usize, Bytes)>,
    /// What policies ask of its bytes, if they ever asked anything.
    bent: Option<Box<Bent>>,
    /// How often the worker had connections look at what has changed, when that was looked at last.
    nudges: u64,
    /// Some operation had a limit of time.
    limited: bool,
    /// Reading was given up: everything passes.
    verbatim: bool,
    /// At least one request was understood.
    understood: bool,
    /// At least one reply was understood.
    heard: bool,
    began: Instant,
    last_byte: Instant,
    /// Neither peer has sent a byte yet.
    silent: bool,
    /// When the bytes of a stream are counted that have passed since they were last.
    count_at: Option<Instant>,
    /// Since when the client owes the rest of a message.
    message_since: Option<Instant>,
    ended_first: Option<Side>,
    /// The server takes nothing more; what it said before is still the client's.
    refused_by_server: Option<Close>,
    /// What is left of this wake-up's turn.
    turn: u32,
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

/// What a connection may do before others have their turn, in steps of the codec.
const TURN: u32 = 512;

/// What a step of the codec takes of a turn: a million tiny messages are nobody else's delay.
const MESSAGE: u32 = 1;

/// What a read takes of a turn, however much it brings.
const READ: u32 = 64;

/// How many bytes of refusals may wait for a client that doesn't read, before its requests wait
/// too.
const MOST_REFUSALS: usize = 64 * 1024;

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
    let guests = !door.is_free();
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
        refusals_kept: 0,
        hold: None,
        asking: None,
        wait_until: None,
        rewritten: None,
        bent: guests.then(Box::default),
        nudges: 0,
        limited: false,
        verbatim: false,
        understood: false,
        heard: false,
        began: now,
        last_byte: now,
        silent: true,
        count_at: None,
        message_since: None,
        ended_first: None,
        refused_by_server: None,
        turn: TURN,
        now: None,
        timer: Box::pin(tokio::time::sleep(FOR_EVER)),
        timer_armed: false,
    });
    match relay.begin() {
        Ok(()) => relay,
        Err(close) => {
            relay.settle_open(close);
            if relay.says_goodbye(close, false) {
                relay
            } else {
                Box::pin(std::future::ready(close))
            }
        }
    }
}

/// Nothing in it minds being moved.
impl<C> Unpin for Relay<C> {}

impl<C: Codec> Future for Relay<C> {
    type Output = Close;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Close> {
        if let Some(close) = self.bent.as_ref().and_then(|bent| bent.goodbye) {
            return self.poll_goodbye(close, cx);
        }
        let close = ready!(self.work(cx));
        let cut = self.cuts_short(close);
        self.settle_open(close);
        if self.says_goodbye(close, cut) {
            self.poll_goodbye(close, cx)
        } else {
            Poll::Ready(close)
        }
    }
}

impl<C: Codec> Relay<C> {
    /// Does what can be done now; ready when the connection is over.
    fn work(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        self.now = None;
        self.turn = TURN;
        self.door.wakes(cx.waker());
        let rung = self.timer_rang();
        let nudges = self.worker.nudges();
        if std::mem::replace(&mut self.nudges, nudges) != nudges
            && let Err(close) = self.follow_policies()
        {
            return Poll::Ready(close);
        }
        if let Some(close) = self.cut_after() {
            return Poll::Ready(close);
        }
        self.ripen();
        let (up, down) = loop {
            let up = self.poll_up(cx);
            if let Poll::Ready(Err(close)) = up {
                return Poll::Ready(close);
            }
            let held_up = self.waits_for_refusals();
            let down = self.poll_down(cx);
            if let Poll::Ready(Err(close)) = down {
                return Poll::Ready(close);
            }
            // Requests that waited for refusals to be written have nothing else to wake them.
            if !held_up || self.waits_for_refusals() {
                break (up, down);
            }
        };
        if let Some(close) = self.over(up.is_ready(), down.is_ready()) {
            return Poll::Ready(close);
        }
        self.note_message();
        self.note_stream();
        self.door.session().operation.set(self.open.slot());
        // Only now: what was waiting to be read may have come in time.
        if rung {
            match self.give_up_late() {
                Ok(true) => cx.waker().wake_by_ref(),
                Ok(false) => {}
                Err(close) => return Poll::Ready(close),
            }
            if let Some(close) = self.timed_out() {
                return Poll::Ready(close);
            }
        }
        self.arm(cx);
        Poll::Pending
    }

    /// Notes that bytes were read, and what of the turn that took.
    fn took_bytes(&mut self, way: Direction, bytes: usize) {
        self.last_byte = self.now();
        self.door.session().moved(way, bytes, self.last_byte);
        if self.bent.is_some() {
            self.impair_read(way, bytes);
        }
        self.silent = false;
        self.turn = self.turn.saturating_sub(READ);
    }

    /// Lets the worker's other connections have their turn, and goes on after them.
    fn give_way(&self, cx: &mut Context<'_>) -> Poll<Result<(), Close>> {
        // Unlike a plain wake-up, this also lets the runtime see which sockets are ready now.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }

    /// Whether requests wait until the client has read more of the refusals that it is due.
    fn waits_for_refusals(&self) -> bool {
        self.refusals.len() + self.refusals_kept >= MOST_REFUSALS && !self.verbatim
    }

    /// Takes out the operation with this tag: its reply has come, or never will. Refusals that
    /// waited for it have their turn.
    fn take_open(&mut self, tag: Tag) -> Option<Open> {
        let mut open = self.open.take(tag)?;
        self.release_refusals(&mut open);
        Some(open)
    }

    fn release_refusals(&mut self, open: &mut Open) {
        if let Some(words) = open.refusals.take() {
            self.refusals_kept -= words.len();
            self.refusals.extend_from_slice(&words);
        }
    }

    /// Whether nothing is left to do, and who said so.
    fn over(&mut self, up_done: bool, down_done: bool) -> Option<Close> {
        if let Some(close) = self.refused_by_server {
            let leaving = self.worker.phase() == Phase::Leaving || self.door.session().is_killed();
            return (down_done || leaving).then_some(close);
        }
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
        if self.door.session().is_killed() {
            return Some(Close::Killed);
        }
        match (self.worker.phase(), self.door.wish()) {
            (Phase::Leaving, _) => Some(Close::DrainTimeout),
            (_, Wish::Unhealthy) => Some(Close::EndpointUnhealthy),
            (_, Wish::Removed) => Some(Close::EndpointRemoved),
            (Phase::Draining, _) => self.is_at_rest().then_some(Close::Drain),
            (_, Wish::Rest) => self.is_at_rest().then_some(Close::EndpointDrained),
            (Phase::Working, Wish::Stay) => None,
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
        let refusals = self.refusals.len() + self.refusals_kept;
        !self.replying() && !self.down.is_ready() && refusals == 0
    }

    /// Whether the client has got a part of a reply, and not all of it.
    fn replying(&self) -> bool {
        self.down.inside && !self.down.dropping
    }

    /// Whether the connection carries one endless operation.
    fn is_stream(&self) -> bool {
        self.up.passes_everything()
    }

    /// Framing is lost: nothing more can be read on this connection.
    fn lose_framing(&mut self, side: Side, violation: Violation) -> Result<(), Close> {
        self.door.violation(violation);
        if side == Side::Server && !self.heard && self.disown(violation) {
            self.door.explain(violation, "closed");
            return Err(Close::UpstreamViolation);
        }
        // Who can't tell where a refused request ends would pass on what is left of it.
        let hopeless = !self.understood || self.up.dropping || C::hostile(violation);
        let strict = self.plan.on_violation == OnViolation::Close || self.door.is_guarded();
        if hopeless || strict {
            self.door.explain(violation, "closed");
            return Err(match side {
                Side::Client => Close::ClientViolation,
                Side::Server => Close::UpstreamViolation,
            });
        }
        self.door.explain(violation, "passed on unread");
        self.verbatim = true;
        self.hold = None;
        self.up.pass_everything();
        self.down.pass_everything();
        self.settle_all(End::bare(Outcome::Lost, Some("unreadable")));
        Ok(())
    }

    /// Settles what the connection's end cuts short.
    fn settle_open(&mut self, close: Close) {
        self.now = None;
        let stream = self.is_stream();
        let oldest = self.open.oldest().filter(|open| stream && open.reply_bytes == 0);
        let asked = oldest.as_ref().is_some_and(|open| open.request_bytes > 0);
        let late =
            matches!(close, Close::IdleTimeout | Close::HalfCloseTimeout | Close::MaxDuration);
        // A service that hangs up on its client without a word did not serve it, and neither did one
        // that left what the client asked without a word until the time was over.
        let end = if oldest.is_some() && close == Close::Upstream {
            End::bare(Outcome::Lost, Some("no_reply"))
        } else if asked && late {
            End::bare(Outcome::Lost, Some(close.as_str()))
        } else {
            End::bare(close.outcome(stream), Some(close.as_str()))
        };
        self.settle_all(End { session: stream, ..end });
    }

    fn settle_all(&mut self, end: End) {
        let now = self.now();
        while let Some(open) = self.open.pop() {
            open.settle(end, now, &self.facts());
        }
    }

    /// Why a connection ends whose socket on this side failed.
    fn broken(&self, side: Side, error: &io::Error) -> Close {
        let (towards, reset) = match side {
            Side::Client => (&self.down, Close::ClientReset),
            Side::Server => (&self.up, Close::UpstreamReset),
        };
        if is_local(error) {
            return Close::LocalError;
        }
        // The system gave up on a peer that took nothing, before `write_timeout` did.
        let timed_out = error.kind() == io::ErrorKind::TimedOut && towards.stalled.is_some();
        if timed_out { Close::WriteTimeout } else { reset }
    }

    /// What is known of the connection, for whoever settles an operation.
    fn facts(&self) -> Facts<'_, C> {
        Facts::new(&self.codec, &self.door)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod third_protocol;
