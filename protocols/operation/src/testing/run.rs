//! Drives a codec without I/O, and records its results.

use super::{
    ConformanceRule, Fixture, RuleBreach, Side, Stream,
    open_requests::OpenRequests,
    stream::{ends, mark},
};
use crate::{
    Codec, ConnectionInfo, Next, RejectReason, RejectionRef, Reply, Request, ResolvedAttribute,
    Tag, Violation,
};
use bytes::BytesMut;
use std::{net::SocketAddr, sync::Arc};

/// Attributes that are read besides those that the protocol logs.
const COMMON: [&str; 6] = ["app", "user", "comment", "callsite", "trace_id", "no_such_attribute"];

/// A request that a codec found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRequest {
    /// The operation's name, as known after its request has passed.
    pub name: String,
    /// The operation's target, as known then.
    pub resource: String,
    /// The codec's mark.
    pub request: Request,
    /// The number of its items; `None` until it has ended.
    pub sent: Option<u64>,
    /// The attributes that the codec returned.
    pub attributes: Vec<(&'static str, String)>,
    /// The last reply.
    pub reply: Option<Reply>,
    /// Whether the proxy replied: it was rejected, or given up.
    pub refused: bool,
    /// Whether the upstream got a request in its place (see [`Codec::replace_rejected`]).
    pub replaced: bool,
}

/// Drives a codec on one connection, in the relay's place.
///
/// As in a relay, a codec that has lost the framing is not called again, and a rejected message is
/// dropped as it arrives. The codec writes its error as soon as the request is marked; the error is sent
/// between replies, after those of older requests.
pub struct CodecRun<C> {
    codec: C,
    client: Stream,
    upstream: Stream,
    requests: Vec<FoundRequest>,
    open: OpenRequests,
    /// The operation of the message that the client is sending.
    sending: Option<usize>,
    /// The operation that the current reply settled.
    settled: Option<usize>,
    /// The number of requests that were given up.
    given_up: usize,
    /// Errors to send once the current reply has ended.
    pending_errors: BytesMut,
    /// Replies that settled no request.
    stray: Vec<Reply>,
    lost: Option<Violation>,
    closed: bool,
    eager: bool,
    rereads: bool,
    /// The request that is read again: its tag, and the number of buffered bytes then.
    reread: Option<(Option<Tag>, usize)>,
    reads_attributes: bool,
    refuse: Box<dyn Fn(usize) -> Option<RejectReason>>,
    give_up: Box<dyn Fn(usize) -> bool>,
    /// The number of calls left before the codec counts as stuck.
    steps: usize,
}

impl<C: Codec> CodecRun<C> {
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
            requests: Vec::new(),
            open: OpenRequests::default(),
            sending: None,
            settled: None,
            given_up: 0,
            pending_errors: BytesMut::new(),
            stray: Vec::new(),
            lost: None,
            closed: false,
            eager: false,
            rereads: false,
            reread: None,
            reads_attributes: true,
            refuse: Box::new(|_| None),
            give_up: Box::new(|_| false),
            steps: 0,
        }
    }

    /// Calls the codec with every byte, although it returned how many it needs.
    pub fn eager(mut self) -> Self {
        self.eager = true;
        self
    }

    /// Reads every request to its end before it is forwarded, as for a policy that needs that.
    pub fn rereading(mut self) -> Self {
        self.rereads = true;
        self
    }

    /// Reads no attributes, which takes most of the time.
    pub fn without_attributes(mut self) -> Self {
        self.reads_attributes = false;
        self
    }

    /// Rejects the requests for whose index `which` returns a reason.
    pub fn rejecting(mut self, which: impl Fn(usize) -> Option<RejectReason> + 'static) -> Self {
        self.refuse = Box::new(which);
        self
    }

    /// Gives up the requests with these indices as soon as they are forwarded.
    pub fn giving_up(mut self, which: impl Fn(usize) -> bool + 'static) -> Self {
        self.give_up = Box::new(which);
        self
    }

    /// Gives up the request with this index, if it still waits for its reply and the codec can. Returns
    /// whether it did.
    pub fn give_up(&mut self, place: usize) -> Result<bool, RuleBreach> {
        let Some(tag) = self.open.forwarded(place) else { return Ok(false) };
        if self.lost.is_some() || self.closed || self.sending == Some(place) {
            return Ok(false);
        }
        let mut words = BytesMut::new();
        let why = RejectionRef::new(RejectReason::TimedOut, "the suite waits no longer");
        let gives_up = self.codec.give_up(tag, &why, &mut words);
        if gives_up == words.is_empty() {
            let detail =
                "give_up writes an error and returns `true`, or writes none and returns `false`";
            return Err(RuleBreach::new(ConformanceRule::LateReply, detail));
        }
        if gives_up {
            self.open.remove(place);
            self.given_up += 1;
            self.requests[place].refused = true;
            self.send_error(&words);
        }
        Ok(gives_up)
    }

    /// Plays a whole recording, each turn in slices of at most `slice` bytes.
    pub fn play(mut self, fixture: &Fixture, slice: usize) -> Result<Self, RuleBreach> {
        self.feed(Side::Client, &[])?;
        for turn in &fixture.turns {
            for bytes in turn.bytes.chunks(slice.max(1)) {
                self.feed(turn.from, bytes)?;
            }
        }
        Ok(self)
    }

    /// Feeds bytes from one side.
    pub fn feed(&mut self, from: Side, bytes: &[u8]) -> Result<(), RuleBreach> {
        self.stream(from).arrive(bytes);
        self.steps += 4 * bytes.len() + 16;
        loop {
            if self.stream(from).advance() {
                self.end(from)?;
            }
            self.send_rejections();
            let eager = self.eager;
            let ended = self.lost.is_some() || self.closed;
            let closing = from == Side::Client && self.open.is_closing();
            if ended || closing || !self.stream(from).is_codec_due(eager) {
                return Ok(());
            }
            let stuck = "never stops returning results without progress";
            self.steps = self
                .steps
                .checked_sub(1)
                .ok_or_else(|| RuleBreach::new(ConformanceRule::Progress, stuck))?;
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
    pub fn requests(&self) -> &[FoundRequest] {
        &self.requests
    }

    /// Replies that belong to no request in flight.
    pub fn stray(&self) -> &[Reply] {
        &self.stray
    }

    /// The violation with which the codec lost the framing.
    pub fn lost(&self) -> Option<Violation> {
        self.lost
    }

    /// Whether a rejection had no error reply, so that the connection must be closed.
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

    fn request(&mut self) -> Result<bool, RuleBreach> {
        let next = match self.codec.request(self.client.here()) {
            Ok(next) => next,
            Err(violation) => {
                self.lost = Some(violation);
                return Ok(false);
            }
        };
        self.client.check(&next)?;
        if let Next::Drop { .. } = next {
            return Err(RuleBreach::new(ConformanceRule::LateReply, "drops what a client says"));
        }
        if let Next::PassUnsolicited { .. } = next {
            return Err(RuleBreach::new(
                ConformanceRule::MarkPosition,
                "returns for a request what is for replies only",
            ));
        }
        if let Next::Violates(violation) = next {
            let Some(asked) = self.sending.and_then(|place| self.requests.get_mut(place)) else {
                return Err(RuleBreach::new(
                    ConformanceRule::MarkPosition,
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
                return Err(RuleBreach::new(
                    ConformanceRule::MarkPosition,
                    "marks a request within a message",
                ));
            }
            if self.reads_again(request)? {
                return Ok(true);
            }
            self.begin(request)?;
        }
        if let Next::Answer { mark: Request { tag: Some(tag), .. }, .. } = next
            && self.sending.is_some_and(|place| !self.requests[place].refused)
        {
            self.answer(tag);
        }
        if self.sending.is_some() && ends(&next) {
            let (sent, details) = (self.codec.request_items(), self.codec.late_details());
            if let Some(asked) = self.requests.last_mut() {
                asked.sent = Some(sent);
                if let Some(details) = details {
                    (asked.name, asked.resource) = (details.name.into(), details.resource.into());
                }
            }
        }
        Ok(self.client.apply(next))
    }

    /// Whether a request is held because more of it must be read.
    fn reads_again(&mut self, request: Request) -> Result<bool, RuleBreach> {
        let here = self.client.here().len();
        let breach = |detail: String| Err(RuleBreach::new(ConformanceRule::Reread, detail));
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

    /// Records a request, and queues it for its reply.
    fn begin(&mut self, request: Request) -> Result<(), RuleBreach> {
        let front = self.client.here();
        let named = self.codec.names(front);
        let (name, resource) = (named.name.to_owned(), named.resource.to_owned());
        let protocol = &C::PROTOCOL;
        let logged = [protocol.logged, protocol.logged_when_slow, protocol.logged_with_values];
        let attributes: Vec<_> = COMMON
            .iter()
            .chain(logged.into_iter().flatten())
            .filter(|_| self.reads_attributes)
            .filter_map(|name| {
                Some((*name, self.codec.attribute(front, name).text()?.into_owned()))
            })
            .collect();
        // A message with a violation need not have correct flags.
        let has_none = !request.may_have_callsite && request.violation.is_none();
        if has_none && attributes.iter().any(|(name, _)| *name == "callsite") {
            return Err(RuleBreach::new(
                ConformanceRule::Callsite,
                "a request without may_have_callsite has a call site",
            ));
        }
        let is_absent = |name: &'static str| {
            let number = ResolvedAttribute::new(&C::PROTOCOL, name).number;
            number.is_some_and(|number| request.absent.contains(number))
        };
        if let Some((name, value)) = attributes.iter().find(|(name, _)| is_absent(name)) {
            let detail = format!("a request without `{name}` has {value:?}");
            return Err(RuleBreach::new(ConformanceRule::Absent, detail));
        }
        let place = self.requests.len();
        let reason = (self.refuse)(place);
        if reason.is_some() {
            self.client.discard();
        }
        self.sending = Some(place);
        let (refused, mut replaced) = (reason.is_some(), false);
        if let Some(tag) = request.tag {
            replaced = reason.is_some_and(|reason| self.replace_rejected(tag, reason));
            let reason = reason.filter(|_| !replaced);
            let rejection = reason.map(|reason| self.write_rejection(tag, reason)).transpose()?;
            self.open.push(tag, place, rejection);
        }
        let (sent, reply) = (None, None);
        self.requests.push(FoundRequest {
            name,
            resource,
            request,
            sent,
            attributes,
            reply,
            refused,
            replaced,
        });
        Ok(())
    }

    /// Sends the codec's own answer to the client. Only the first one of an answer in parts.
    fn answer(&mut self, tag: Tag) {
        let mut words = BytesMut::new();
        let _ = self.codec.answer(tag, &mut words);
        self.open.take(tag);
        self.send_error(&words);
    }

    fn reply(&mut self) -> Result<bool, RuleBreach> {
        let next = match self.codec.reply(self.upstream.here()) {
            Ok(next) => next,
            Err(violation) => {
                self.lost = Some(violation);
                return Ok(false);
            }
        };
        self.upstream.check(&next)?;
        if let (Next::Drop { .. }, 0) = (&next, self.given_up) {
            return Err(RuleBreach::new(
                ConformanceRule::LateReply,
                "drops a reply, and no request was given up",
            ));
        }
        // The suite has one endpoint, so nothing can be sent to another one.
        if let Next::Violates(_) | Next::Answer { .. } | Next::Resend { .. } = next {
            return Err(RuleBreach::new(
                ConformanceRule::MarkPosition,
                "returns for a reply what can't be done with it",
            ));
        }
        if let Some(reply) = mark(&next) {
            match self.open.take(reply.tag) {
                Some(place) => {
                    self.settled = Some(place);
                    self.requests[place].reply = Some(reply);
                }
                None => self.stray.push(reply),
            }
        }
        Ok(self.upstream.apply(next))
    }

    /// A message has ended.
    fn end(&mut self, from: Side) -> Result<(), RuleBreach> {
        let operation = match (from, self.settled.take()) {
            (Side::Client, settled) => {
                self.settled = settled;
                self.sending.take()
            }
            (Side::Upstream, None) if self.upstream.drops() || self.upstream.is_unsolicited() => {
                None
            }
            (Side::Upstream, None) => self.open.only(),
            (Side::Upstream, settled) => settled,
        };
        self.stream(from).end(operation);
        if from == Side::Upstream && !self.pending_errors.is_empty() {
            let words = self.pending_errors.split();
            self.upstream.inject(&words);
        }
        match operation {
            Some(place) if from == Side::Client && (self.give_up)(place) => {
                self.give_up(place).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Sends an error to the client, after the current reply.
    fn send_error(&mut self, words: &[u8]) {
        if self.upstream.at_boundary() {
            self.upstream.inject(words);
        } else {
            self.pending_errors.extend_from_slice(words);
        }
    }

    /// If the codec has another request for the service instead of the rejected one, forwards it and returns
    /// true.
    fn replace_rejected(&mut self, tag: Tag, reason: RejectReason) -> bool {
        let why = RejectionRef::new(reason, "the suite says no");
        let Some(bytes) = self.codec.replace_rejected(tag, &why) else { return false };
        self.client.inject(&bytes);
        true
    }

    /// Has the codec write the error of the request that it marked last.
    fn write_rejection(&mut self, tag: Tag, reason: RejectReason) -> Result<BytesMut, RuleBreach> {
        let mut words = BytesMut::new();
        let why = RejectionRef::new(reason, "the suite says no");
        if self.codec.reject(tag, &why, &mut words) == words.is_empty() {
            let detail =
                "reject writes an error and returns `true`, or writes none and returns `false`";
            return Err(RuleBreach::new(ConformanceRule::Rejection, detail));
        }
        Ok(words)
    }

    /// Sends the errors whose older requests all have their replies.
    fn send_rejections(&mut self) {
        while self.upstream.at_boundary() && !self.closed && self.lost.is_none() {
            let Some(words) = self.open.next_rejection() else { break };
            self.closed = words.is_empty();
            self.upstream.inject(&words);
        }
    }
}
