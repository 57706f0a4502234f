//! A codec fed by hand, with everything that it says written down.

use super::{Breach, ConformanceRule, Fixture, Side, Stream};
use crate::{
    Codec, ConnectionInfo, Next, RejectReason, RejectionRef, Reply, Request, Tag, Violation,
};
use bytes::BytesMut;
use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

/// Attributes that are asked for beside those that the protocol logs.
const COMMON: [&str; 6] = ["app", "user", "comment", "callsite", "trace_id", "no_such_attribute"];

/// A request that a codec found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The operation's name, as it is known when its request has passed.
    pub name: String,
    /// What it is about, likewise.
    pub resource: String,
    /// The mark itself.
    pub request: Request,
    /// How many items it carried; `None` until it has ended.
    pub sent: Option<u64>,
    /// The attributes it was found to have.
    pub attributes: Vec<(&'static str, String)>,
    /// How it ended.
    pub reply: Option<Reply>,
    /// Whether the proxy answered: it was refused, or given up.
    pub refused: bool,
}

/// A codec at work on one connection, in the relay's place.
///
/// As in a relay, nothing is asked of a codec that has lost the framing, a refused message is
/// dropped as it comes, and a refusal is spoken between replies, when its turn has come.
pub struct Run<C> {
    codec: C,
    client: Stream,
    upstream: Stream,
    asked: Vec<Asked>,
    /// Operations whose reply is due, oldest first: tag, place in `asked`, and the refusal if
    /// the proxy is to answer.
    open: VecDeque<(Tag, usize, Option<RejectReason>)>,
    /// The operation of the message that the client is sending.
    sending: Option<usize>,
    /// The operation that the reply under way settled.
    settled: Option<usize>,
    /// How many requests were given up.
    given_up: usize,
    /// What is to be sent instead of their replies, once the reply under way has ended.
    unsaid: BytesMut,
    /// Replies that settled nothing.
    stray: Vec<Reply>,
    lost: Option<Violation>,
    closed: bool,
    eager: bool,
    rereads: bool,
    /// The request that is read again: its tag, and how many bytes were here then.
    reread: Option<(Option<Tag>, usize)>,
    curious: bool,
    refuse: Box<dyn Fn(usize) -> Option<RejectReason>>,
    give_up: Box<dyn Fn(usize) -> bool>,
    /// Answers the codec may still give before it must be going round in circles.
    steps: usize,
}

impl<C: Codec> Run<C> {
    /// A new connection.
    pub fn new(shared: &Arc<C::Shared>) -> Self {
        let link = ConnectionInfo {
            peer: SocketAddr::from(([127, 0, 0, 1], 50_000)),
            local: SocketAddr::from(([127, 0, 0, 1], 27_018)),
        };
        Self {
            codec: C::new(shared, link),
            client: Stream::default(),
            upstream: Stream::default(),
            asked: Vec::new(),
            open: VecDeque::new(),
            sending: None,
            settled: None,
            given_up: 0,
            unsaid: BytesMut::new(),
            stray: Vec::new(),
            lost: None,
            closed: false,
            eager: false,
            rereads: false,
            reread: None,
            curious: true,
            refuse: Box::new(|_| None),
            give_up: Box::new(|_| false),
            steps: 0,
        }
    }

    /// Asks the codec again with every byte, though it said how many it needs.
    pub fn eager(mut self) -> Self {
        self.eager = true;
        self
    }

    /// Reads every request to its end before it goes on, as for a policy that needs that.
    pub fn rereading(mut self) -> Self {
        self.rereads = true;
        self
    }

    /// Asks for no attributes, which takes most of the time.
    pub fn without_attributes(mut self) -> Self {
        self.curious = false;
        self
    }

    /// Refuses the requests for whose place (the first is 0) `which` gives a reason.
    pub fn refusing(mut self, which: impl Fn(usize) -> Option<RejectReason> + 'static) -> Self {
        self.refuse = Box::new(which);
        self
    }

    /// Gives up the requests at these places (the first is 0) as soon as they have gone on.
    pub fn giving_up(mut self, which: impl Fn(usize) -> bool + 'static) -> Self {
        self.give_up = Box::new(which);
        self
    }

    /// Gives up the request at this place, if it still waits for its reply and the codec can.
    /// Returns whether it did.
    pub fn give_up(&mut self, place: usize) -> Result<bool, Breach> {
        let waits = |(_, other, refusal): &(Tag, usize, Option<RejectReason>)| {
            *other == place && refusal.is_none()
        };
        let Some(at) = self.open.iter().position(waits) else { return Ok(false) };
        if self.lost.is_some() || self.closed || self.sending == Some(place) {
            return Ok(false);
        }
        let (tag, ..) = self.open[at];
        let mut words = BytesMut::new();
        let why = RejectionRef::new(RejectReason::TimedOut, "the suite waits no longer");
        let gives_up = self.codec.give_up(tag, &why, &mut words);
        if gives_up == words.is_empty() {
            let detail = "who gives up has words and says `true`, or has none and says `false`";
            return Err(Breach::new(ConformanceRule::Late, detail));
        }
        if gives_up {
            self.open.remove(at);
            self.given_up += 1;
            self.asked[place].refused = true;
            self.say(&words);
        }
        Ok(gives_up)
    }

    /// Plays a whole recording, each turn in slices of at most `slice` bytes.
    pub fn play(mut self, fixture: &Fixture, slice: usize) -> Result<Self, Breach> {
        self.feed(Side::Client, &[])?;
        for turn in &fixture.turns {
            for bytes in turn.bytes.chunks(slice.max(1)) {
                self.feed(turn.from, bytes)?;
            }
        }
        Ok(self)
    }

    /// Some bytes arrive.
    pub fn feed(&mut self, from: Side, bytes: &[u8]) -> Result<(), Breach> {
        self.stream(from).arrive(bytes);
        self.steps += 4 * bytes.len() + 16;
        loop {
            if self.stream(from).advance() {
                self.end(from)?;
            }
            self.speak()?;
            let eager = self.eager;
            if self.lost.is_some() || self.closed || !self.stream(from).asks(eager) {
                return Ok(());
            }
            let stuck = "never stops answering, and gets nowhere";
            self.steps = self
                .steps
                .checked_sub(1)
                .ok_or_else(|| Breach::new(ConformanceRule::Progress, stuck))?;
            let more = match from {
                Side::Client => self.request()?,
                Side::Upstream => self.reply()?,
            };
            if !more {
                return Ok(());
            }
        }
    }

    /// The requests found so far.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// Replies that answered no request that was open.
    pub fn stray(&self) -> &[Reply] {
        &self.stray
    }

    /// What the codec said when it could not read on.
    pub fn lost(&self) -> Option<Violation> {
        self.lost
    }

    /// Whether a refusal had no words, so that only closing was left.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// What came from the client, and what of it went on to the upstream.
    pub fn from_client(&self) -> &Stream {
        &self.client
    }

    /// What came from the upstream, and what went on to the client, refusals included.
    pub fn from_upstream(&self) -> &Stream {
        &self.upstream
    }

    fn stream(&mut self, from: Side) -> &mut Stream {
        match from {
            Side::Client => &mut self.client,
            Side::Upstream => &mut self.upstream,
        }
    }

    fn request(&mut self) -> Result<bool, Breach> {
        let next = match self.codec.request(self.client.here()) {
            Ok(next) => next,
            Err(violation) => {
                self.lost = Some(violation);
                return Ok(false);
            }
        };
        self.client.permits(&next)?;
        if let Next::Drop { .. } = next {
            return Err(Breach::new(ConformanceRule::Late, "drops what a client says"));
        }
        if let Next::Violates(violation) = next {
            let Some(asked) = self.sending.and_then(|place| self.asked.get_mut(place)) else {
                return Err(Breach::new(
                    ConformanceRule::First,
                    "breaks a request that has not begun",
                ));
            };
            // Where all of the message is here at once, its mark says so.
            asked.request.violation.get_or_insert(violation);
            return Ok(true);
        }
        let mark = mark(&next);
        if let Some(request) = mark {
            if !self.client.at_boundary() {
                return Err(Breach::new(
                    ConformanceRule::First,
                    "marks a request in the midst of a message",
                ));
            }
            if self.reads_again(request)? {
                return Ok(true);
            }
            self.begin(request)?;
        }
        if self.sending.is_some() && ends(&next) {
            let (sent, learned) = (self.codec.request_items(), self.codec.late_details());
            if let Some(asked) = self.asked.last_mut() {
                asked.sent = Some(sent);
                if let Some(learned) = learned {
                    (asked.name, asked.resource) = (learned.name.into(), learned.resource.into());
                }
            }
        }
        Ok(self.client.follow(next))
    }

    /// Whether a request does not go on yet, since more of it is to be read.
    fn reads_again(&mut self, request: Request) -> Result<bool, Breach> {
        let here = self.client.here().len();
        let breach = |detail: String| Err(Breach::new(ConformanceRule::Reread, detail));
        if let Some((tag, _)) = self.reread.filter(|(tag, _)| *tag != request.tag) {
            return breach(format!("a request that had the tag {tag:?} has {:?} now", request.tag));
        }
        let before = self.reread.take();
        if !self.rereads || !request.partial {
            return Ok(false);
        }
        let wanted = self.codec.reread(request.tag, self.client.here());
        if before.is_some_and(|(_, read)| wanted <= read) || wanted == 0 {
            return breach(format!("wants {wanted} bytes of a request that is read again"));
        }
        self.reread = Some((request.tag, here));
        self.client.wait_for(wanted);
        Ok(true)
    }

    /// Names a request and puts it in line.
    fn begin(&mut self, request: Request) -> Result<(), Breach> {
        let front = self.client.here();
        let named = self.codec.names(front);
        let (name, resource) = (named.name.to_owned(), named.resource.to_owned());
        let protocol = &C::PROTOCOL;
        let logged = [protocol.logged, protocol.logged_when_slow, protocol.logged_with_values];
        let attributes: Vec<_> = COMMON
            .iter()
            .chain(logged.into_iter().flatten())
            .filter(|_| self.curious)
            .filter_map(|name| {
                Some((*name, self.codec.attribute(front, name).text()?.into_owned()))
            })
            .collect();
        // Of a message that can't be read nothing is promised.
        let denied = !request.may_have_callsite && request.violation.is_none();
        if denied && attributes.iter().any(|(name, _)| *name == "callsite") {
            return Err(Breach::new(
                ConformanceRule::Callsite,
                "a request has a call site that it denies",
            ));
        }
        let place = self.asked.len();
        let reason = (self.refuse)(place);
        if reason.is_some() {
            self.client.refuse();
        }
        self.sending = Some(place);
        self.open.extend(request.tag.map(|tag| (tag, place, reason)));
        let refused = reason.is_some();
        let (sent, reply) = (None, None);
        self.asked.push(Asked { name, resource, request, sent, attributes, reply, refused });
        Ok(())
    }

    fn reply(&mut self) -> Result<bool, Breach> {
        let next = match self.codec.reply(self.upstream.here()) {
            Ok(next) => next,
            Err(violation) => {
                self.lost = Some(violation);
                return Ok(false);
            }
        };
        self.upstream.permits(&next)?;
        if let (Next::Drop { .. }, 0) = (&next, self.given_up) {
            return Err(Breach::new(
                ConformanceRule::Late,
                "drops a reply, and no request was given up",
            ));
        }
        if let Next::Violates(_) = next {
            return Err(Breach::new(
                ConformanceRule::First,
                "breaks a reply, and replies are never held back",
            ));
        }
        if let Some(reply) = mark(&next) {
            let waits = |(tag, _, refusal): &(Tag, usize, Option<RejectReason>)| {
                *tag == reply.tag && refusal.is_none()
            };
            match self.open.iter().position(waits).and_then(|at| self.open.remove(at)) {
                Some((_, place, _)) => {
                    self.settled = Some(place);
                    self.asked[place].reply = Some(reply);
                }
                None => self.stray.push(reply),
            }
        }
        Ok(self.upstream.follow(next))
    }

    /// A message has ended.
    fn end(&mut self, from: Side) -> Result<(), Breach> {
        let operation = match (from, self.settled.take()) {
            (Side::Client, settled) => {
                self.settled = settled;
                self.sending.take()
            }
            (Side::Upstream, None) if self.upstream.drops() => None,
            (Side::Upstream, None) if self.open.len() == 1 => self.open.front().map(|o| o.1),
            (Side::Upstream, settled) => settled,
        };
        self.stream(from).end(operation);
        if from == Side::Upstream && !self.unsaid.is_empty() {
            let words = self.unsaid.split();
            self.upstream.inject(&words);
        }
        match operation {
            Some(place) if from == Side::Client && (self.give_up)(place) => {
                self.give_up(place).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Says something to the client, when no reply is under way any more.
    fn say(&mut self, words: &[u8]) {
        if self.upstream.at_boundary() {
            self.upstream.inject(words);
        } else {
            self.unsaid.extend_from_slice(words);
        }
    }

    /// Speaks the refusals whose turn it is.
    fn speak(&mut self) -> Result<(), Breach> {
        while self.upstream.at_boundary() && !self.closed && self.lost.is_none() {
            let Some((tag, _, Some(reason))) = self.open.front().copied() else { break };
            self.open.pop_front();
            let mut words = BytesMut::new();
            let why = RejectionRef::new(reason, "the suite says no");
            self.closed = !self.codec.reject(tag, &why, &mut words);
            if self.closed != words.is_empty() {
                let detail = "a refusal has words and says `true`, or has none and says `false`";
                return Err(Breach::new(ConformanceRule::Refusal, detail));
            }
            self.upstream.inject(&words);
        }
        Ok(())
    }
}

fn mark<M: Copy>(next: &Next<M>) -> Option<M> {
    match next {
        Next::Hold(_) => None,
        Next::Pass { mark, .. } | Next::Swap { mark, .. } => *mark,
        Next::Drop { .. } | Next::Violates(_) => None,
    }
}

fn ends<M>(next: &Next<M>) -> bool {
    matches!(
        next,
        Next::Pass { ends: true, .. } | Next::Drop { ends: true, .. } | Next::Swap { .. }
    )
}
