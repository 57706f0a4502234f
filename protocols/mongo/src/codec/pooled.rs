//! A client whose operations share connections: the proxy answers its `hello`, and a connection that it
//! logs in on is its own.

use super::{Mongo, reply_format};
use crate::{
    auth::ClientLogin,
    cluster_time,
    commands::ReplyKind,
    element::elements,
    error_reply::{ReplyFormat, hello_reply},
    header::{Header, opcode},
    hello,
    in_flight_requests::InFlightRequest,
    message_view::MessageView,
    mirror::ReadExchange,
    open_state::{ClientProcess, OpenState, OpenStates, Owners, TransactionId},
    parsed_command::ParsedCommand,
    placement::{RequestPlace, cursor_key, with_read_preference},
    presentation::HelloRequest,
    recovery::{RequestKind, ServerFailure},
    retryable_write::BorrowedSession,
    scan::MessageFacts,
    settings::ClusterTime,
    shape,
};
use bytes::{Bytes, BytesMut};
use operation::{
    LocalAnswer, MirroredRead, Next, Orphan, PinChange, Placement, ReadPreference, ReadRoute,
    Recovery, ReplayConfig, Request, Tag, TakenUpstream, UpstreamUse,
};
use std::{net::IpAddr, rc::Rc, sync::Arc};

/// The longest reply that is read whole because it may be a state-change error, in bytes.
pub(super) const MAX_ERROR_REPLY: usize = 2048;

/// The state of a client without a connection of its own.
#[derive(Debug, Default)]
pub(super) struct PooledClient {
    /// Its number, which `hello` shows.
    connection: u32,
    /// Its last `hello`.
    hello: HelloRequest,
    /// The request, or the reply, that the next reply to it names.
    answers: u32,
    /// The time for which it is to be awaited has begun.
    awaited: bool,
    /// The upstream connection has a state that other clients must not meet.
    needs_own: bool,
    /// Where the last request goes.
    placement: Placement,
    /// What the last request continues at one server.
    pinned: Option<PinnedState>,
    /// The last request is a read that may go elsewhere.
    is_routable: bool,
    /// The last request continues what is open at a server.
    continues: bool,
    /// A policy has chosen where the last request goes.
    is_routed: bool,
    /// What is open at servers, once anything was.
    open: Option<Box<OpenStates>>,
    /// The client's process, once its `hello` has described it.
    process: Option<ClientProcess>,
    /// The client's address.
    pub(super) peer: Option<IpAddr>,
    /// The client's log-in, where clients log in at the proxy.
    pub(super) login: Option<Box<ClientLogin>>,
    /// The endpoint of the last request has others beside it that were not asked.
    pub(super) has_untried: bool,
    /// The last request may be sent again.
    pub(super) may_resend: bool,
    /// The last request is short enough for a copy.
    is_short: bool,
    /// What the last request is, as far as a failure of its server matters.
    pub(super) kind: RequestKind,
    /// The session of the proxy that the last request uses.
    pub(super) session: Option<BorrowedSession>,
    /// The copy of the reply to the last request, if one is kept for a mirror; empty until it has ended.
    pub(super) answer: Option<Vec<u8>>,
}

/// State that one server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PinnedState {
    /// A cursor.
    Cursor,
    /// A transaction of the session with this key.
    Transaction {
        session: u64,
        /// The request ends it.
        ends: bool,
    },
}

impl PooledClient {
    /// A client with this number, at this address.
    pub(super) fn new(connection: u32, peer: IpAddr) -> Self {
        Self { connection, peer: Some(peer), ..Self::default() }
    }

    /// What the upstream connection may be used for.
    pub(super) fn upstream_use(&self) -> UpstreamUse {
        if self.needs_own { UpstreamUse::Own } else { UpstreamUse::Free }
    }

    /// Where the last request may go.
    pub(super) fn placement(&self) -> Placement {
        self.placement.clone()
    }

    /// Whether the last request is a read that only some members may serve.
    pub(super) fn prefers_members(&self) -> bool {
        self.is_routed || matches!(self.placement, Placement::Read(_))
    }

    /// Whether the last request can be sent to another server if this one does not know its cursor, or, with
    /// `replays`, if it fails.
    pub(super) fn keeps_request(&self, replays: bool) -> bool {
        let is_resent = replays && self.kind.is_resent_after(ServerFailure::Refused);
        (is_resent && self.is_short) || self.pinned == Some(PinnedState::Cursor)
    }

    /// How the last request goes on if its server or its client fails. Without replays a lost
    /// connection is shown as what it is.
    pub(super) fn recovery(&self, replay: ReplayConfig) -> Recovery {
        let replays = replay.max_request > 0;
        Recovery {
            waits_when_unreachable: self.kind.waits_when_unreachable(),
            resends_when_lost: self.kind.is_resent_after(ServerFailure::Lost),
            reports_loss: (replays || replay.reports_lost)
                && self.kind.reports_loss(replay.reports_lost),
            unpins: match self.placement {
                Placement::Pinned(key) => Some(key),
                _ => None,
            },
            outlives_client: self.kind.outlives_client(),
        }
    }

    /// Whether the last request continues what is open at a server.
    pub(super) fn continues_state(&self) -> bool {
        self.continues
    }

    /// Records how the last request can be sent again, and that the transaction that it begins is open.
    pub(super) fn upstream_taken(&mut self, upstream: TakenUpstream, owners: &Owners) {
        if let Some(open) = &mut self.open {
            open.begin(self.connection, owners);
        }
        (self.has_untried, self.may_resend) = (upstream.has_untried, upstream.may_resend);
    }

    /// Records where a request may go. `pins_transactions`: the servers are routers, each of which knows
    /// only the transactions that it began.
    fn place(&mut self, place: RequestPlace, pins_transactions: bool) {
        (self.pinned, self.is_routable, self.is_routed) = (None, false, false);
        (self.has_untried, self.may_resend) = (false, false);
        (self.session, self.answer) = (None, None);
        self.continues = match place {
            RequestPlace::Cursor(_) => true,
            RequestPlace::Transaction { begins, .. } => !begins,
            RequestPlace::Write | RequestPlace::Read(_) => false,
        };
        self.placement = match place {
            RequestPlace::Write => Placement::Primary,
            RequestPlace::Read(written) => {
                self.is_routable = true;
                written.map_or(Placement::Primary, |preference| {
                    // Most clients use one preference for all reads.
                    match &self.placement {
                        Placement::Read(last) if **last == preference => {
                            Placement::Read(Rc::clone(last))
                        }
                        _ => Placement::Read(Rc::new(preference)),
                    }
                })
            }
            RequestPlace::Cursor(id) => {
                self.pinned = Some(PinnedState::Cursor);
                Placement::Pinned(cursor_key(id))
            }
            RequestPlace::Transaction { session, ends, .. } if pins_transactions => {
                self.pinned = Some(PinnedState::Transaction { session, ends });
                Placement::Pinned(session)
            }
            RequestPlace::Transaction { .. } => Placement::Primary,
        };
    }

    /// What the reply to the last request changes about the server that holds its state.
    pub(super) fn pin_change(
        &self,
        open: &InFlightRequest,
        facts: &MessageFacts,
    ) -> Option<PinChange> {
        if let Some(PinnedState::Transaction { session, ends }) = self.pinned {
            // A router that stops has lost it too.
            let over = (ends && facts.ok()) || facts.is_state_change();
            return Some(if over { PinChange::Unpin(session) } else { PinChange::Pin(session) });
        }
        match (open.reply_kind, facts.cursor_id) {
            (ReplyKind::Cursor | ReplyKind::Query, Some(id)) if id != 0 => {
                Some(PinChange::Pin(cursor_key(id)))
            }
            (ReplyKind::GetMore, Some(0)) => Some(PinChange::Unpin(cursor_key(open.cursor_id))),
            (ReplyKind::GetMore, Some(id)) => Some(PinChange::Pin(cursor_key(id))),
            _ => None,
        }
    }
}

impl Mongo {
    /// Answers or changes a `hello`; `None` if it passes like any other command. `message` is whole, and
    /// `bytes` are what it was read from.
    pub(super) fn pooled_hello(
        &mut self,
        message: &MessageView<'_>,
        asked: &ParsedCommand,
        bytes: &[u8],
    ) -> Option<Next<Request>> {
        let listener = Arc::clone(&self.listener);
        let presentation = listener.presentation.as_ref()?;
        if asked.unacknowledged {
            return None;
        }
        let mut hello = presentation.read_request(message);
        hello.needs_server &= self.hello_needs_server(message);
        let mark = self.register(message, asked);
        self.note_answered_login();
        self.documents_sent = 0;
        let client = self.pooled.as_deref_mut()?;
        if client.process.is_none()
            && let Some(peer) = client.peer
            && let Some(metadata) = elements(message.body).find(|field| field.name == b"client")
        {
            client.process = Some(ClientProcess::new(&listener.owners, peer, metadata.value));
        }
        hello.load_balanced |= client.hello.load_balanced;
        client.answers = message.header.request_id;
        client.awaited = false;
        let needs_server = hello.needs_server;
        client.hello = hello;
        let len = bytes.len();
        if !needs_server {
            return Some(Next::Answer { len, mark });
        }
        let with = hello::rewrite_pooled_request(bytes).unwrap_or_else(|| bytes.to_vec());
        let mark = Some(Request { long_poll: false, ..mark });
        Some(Next::Swap { len, with: with.into(), mark })
    }

    /// Writes the next reply to the last `hello`.
    pub(super) fn answer_hello(&mut self, tag: Tag, out: &mut BytesMut) -> LocalAnswer {
        let listener = Arc::clone(&self.listener);
        let (Some(presentation), Ok(id)) = (&listener.presentation, u32::try_from(tag.0)) else {
            return LocalAnswer::Done;
        };
        let Some(login) = self.answer_hello_login() else { return LocalAnswer::NeedsQuery };
        let Some(client) = self.pooled.as_deref_mut() else { return LocalAnswer::Done };
        if !presentation.is_known() {
            return LocalAnswer::NeedsUpstream;
        }
        if let Some(wait) = client.hello.awaits()
            && !std::mem::replace(&mut client.awaited, true)
        {
            return LocalAnswer::Later(wait);
        }
        let mut body = presentation.describe(&client.hello, self.local, client.connection);
        body.elements(&login);
        let body = body.finish();
        let number = presentation.next_number();
        let next = client.hello.follows_after();
        let format = reply_format(self.in_flight.newest(id));
        hello_reply(format, (number, client.answers), next.is_some(), &body, out);
        client.answers = number;
        match next {
            Some(after) => LocalAnswer::Later(after),
            None => {
                self.in_flight.remove_newest(id);
                LocalAnswer::Done
            }
        }
    }

    /// The reply to a `hello` that only the server could answer, as the client sees it.
    pub(super) fn present_reply(&self, header: Header, message: &[u8]) -> Option<Vec<u8>> {
        let presentation = self.listener.presentation.as_ref()?;
        let client = self.pooled.as_deref()?;
        let login = hello::login_elements(message)?;
        let mut reply = presentation.describe(&client.hello, self.local, client.connection);
        reply.elements(&login);
        let legacy = header.opcode == opcode::REPLY;
        let format = if legacy { ReplyFormat::LegacyCommand } else { ReplyFormat::Message };
        let mut out = BytesMut::new();
        let numbers = (header.request_id, header.response_to);
        hello_reply(format, numbers, false, &reply.finish(), &mut out);
        Some(out.to_vec())
    }

    /// Records where a request of a pooled client may go.
    pub(super) fn place_request(&mut self, message: &MessageView<'_>, asked: &ParsedCommand) {
        let pins_transactions =
            self.listener.presentation.as_ref().is_some_and(|shown| shown.is_router());
        let Some(client) = self.pooled.as_deref_mut() else { return };
        let place = RequestPlace::of(message, asked);
        client.kind = RequestKind::of(message, asked, &place);
        client.is_short = message.header.len as usize <= self.listener.replay.max_request;
        if let Some(open) = &mut client.open {
            (open.ending, open.beginning) = (None, None);
        }
        match place {
            RequestPlace::Transaction { begins, ends, .. } => {
                if let Some(id) = TransactionId::of(message.body) {
                    let (open, state) =
                        (client.open.get_or_insert_default(), OpenState::Transaction(id));
                    let (connection, owners) = (client.connection, &self.listener.owners);
                    // The reply may never come: an open transaction is the client's until then, and one
                    // that it commits or aborts is no orphan, since it repeats that elsewhere.
                    if ends {
                        open.end(&state, connection, owners);
                    } else if begins {
                        // It is open once it has a connection.
                        open.beginning = Some(state);
                    } else {
                        open.touch(state, connection, owners);
                    }
                }
            }
            RequestPlace::Cursor(id) if asked.reply_kind != ReplyKind::GetMore => {
                let ending = Some(OpenState::cursor(id, &self.resource));
                client.open.get_or_insert_default().ending = ending;
            }
            _ => {}
        }
        client.place(place, pins_transactions);
    }

    /// Records what a reply has opened or ended at the server.
    pub(super) fn note_open_state(&mut self, open: &InFlightRequest, facts: &MessageFacts) {
        let Some(client) = self.pooled.as_deref_mut() else { return };
        let (owners, connection) = (&self.listener.owners, client.connection);
        match (open.reply_kind, facts.cursor_id) {
            (ReplyKind::Cursor | ReplyKind::GetMore, Some(id)) if id != 0 => {
                let state = OpenState::cursor(id, &self.resource).tailing(open.tailable);
                client.open.get_or_insert_default().touch(state, connection, owners);
            }
            (ReplyKind::GetMore, Some(0)) => {
                if let Some(states) = &mut client.open {
                    let state = OpenState::cursor(open.cursor_id, &self.resource);
                    states.end(&state, connection, owners);
                }
            }
            _ => {
                if let Some(states) = &mut client.open
                    && facts.ok()
                    && let Some(state) = states.ending.take()
                {
                    states.end(&state, connection, owners);
                }
            }
        }
    }

    /// What the client has open and leaves behind.
    pub(super) fn leave(&mut self) -> Vec<Box<dyn Orphan>> {
        let Some(client) = self.pooled.as_deref_mut() else { return Vec::new() };
        let is_bound = client.hello.load_balanced;
        let (process, owners) = (client.process.as_ref(), &self.listener.owners);
        let Some(open) = &mut client.open else { return Vec::new() };
        open.leave(client.connection, owners, process, is_bound)
    }

    /// Changes the front of a read so that a secondary serves it.
    pub(super) fn route(&mut self, front: &[u8], preference: &ReadPreference) -> ReadRoute {
        let Some(client) = self.pooled.as_deref_mut().filter(|client| client.is_routable) else {
            return ReadRoute::NotRoutable;
        };
        // What has another preference says already that it may be served by a secondary.
        let route = match (&client.placement, with_read_preference(front, preference)) {
            (Placement::Read(_), _) => ReadRoute::Unchanged,
            (_, Some((len, with))) => ReadRoute::Rewritten { len, with: with.into() },
            (_, None) => ReadRoute::NotRoutable,
        };
        client.is_routed = route != ReadRoute::NotRoutable;
        match route {
            ReadRoute::Rewritten { len, with } if self.strips_time() => {
                let (len, with) = stripped_after(front, len, with);
                ReadRoute::Rewritten { len, with }
            }
            route => route,
        }
    }

    /// The copy of the last request for a second deployment.
    pub(super) fn copy_read(&mut self, request: &[u8], keeps_answer: bool) -> Option<MirroredRead> {
        let client = self.pooled.as_deref_mut()?;
        let exchange = ReadExchange::of(request, client.kind, &self.resource)?;
        client.answer = keeps_answer.then(Vec::new);
        let placement = client.placement();
        let message = MessageView::read(request)?;
        let counts = self.listener.settings.query_shapes;
        let shape = counts.then(|| shape::query_shape(self.name, &self.resource, &message));
        Some(MirroredRead {
            operation: self.name,
            resource: self.resource.as_str().into(),
            shape,
            placement,
            exchange: Box::new(exchange),
        })
    }

    /// Whether clients see nothing of the deployment's time.
    pub(super) fn strips_time(&self) -> bool {
        self.listener.settings.cluster_time == ClusterTime::Strip && self.pooled.is_some()
    }

    /// Records that a request leaves a state on the upstream connection: a user, or what
    /// `getLastError` reports.
    pub(super) fn note_connection_state(
        &mut self,
        message: &MessageView<'_>,
        asked: &ParsedCommand,
    ) {
        if self.pooled.as_deref().is_none_or(|client| client.needs_own) {
            return;
        }
        let logs_in = self.logs_in_at_server(asked);
        let opcode = message.header.opcode;
        let legacy = matches!(opcode, opcode::INSERT | opcode::UPDATE | opcode::DELETE);
        if let Some(client) = self.pooled.as_deref_mut() {
            client.needs_own = logs_in || legacy;
        }
        if logs_in {
            self.note_login_at_server(message);
        }
    }
}

/// A change of a front, of which `len` bytes are replaced by `with`, that also strips the time.
pub(super) fn stripped_after(front: &[u8], len: usize, with: Bytes) -> (usize, Bytes) {
    let changed = [&with[..], &front[len..]].concat();
    match cluster_time::strip_front(&changed) {
        // The time may precede what was changed.
        Some((end, out)) if end < with.len() => {
            (len, [&out[..], &changed[end..with.len()]].concat().into())
        }
        Some((end, out)) => (end - with.len() + len, out.into()),
        None => (len, with),
    }
}
