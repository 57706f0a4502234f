//! Log-ins that the proxy answers itself, and requests of clients that have not logged in.

use super::{Mongo, reply_format};
use crate::{
    auth::{ClientLogin, HelloLogin, LoginStep, foreign_mechanism},
    bson_writer::BsonWriter,
    commands::ReplyKind,
    error_codes,
    error_reply::{self, hello_reply},
    message_view::MessageView,
    parsed_command::ParsedCommand,
};
use bytes::BytesMut;
use operation::{
    LocalAnswer, Next, PoolUser, RejectMode, RejectReason, Rejection, RejectionRef, Request,
    ServiceQuery, Tag,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// The error code of a log-in that fails.
const AUTHENTICATION_FAILED: i32 = 18;

impl Mongo {
    /// The state of the client's log-in, where the proxy logs clients in.
    fn client_login(&mut self) -> Option<&mut ClientLogin> {
        self.pooled.as_deref_mut()?.login.as_deref_mut()
    }

    /// Answers a request of a log-in; `None` if it passes like any other command. `message` is whole, and
    /// `len` its length.
    pub(super) fn login_request(
        &mut self,
        message: &MessageView<'_>,
        asked: &ParsedCommand,
        len: usize,
    ) -> Option<Next<Request>> {
        let db = self.resource.clone();
        let login = self.client_login().filter(|login| !login.passes_through)?;
        login.is_here = false;
        if asked.unacknowledged || !message.complete {
            return None;
        }
        match asked.reply_kind {
            ReplyKind::SaslStart if login.read_start(message.body, &db) => {}
            ReplyKind::Authenticate if login.read_authenticate(message.body) => {}
            ReplyKind::SaslContinue => login.read_continue(message.body),
            ReplyKind::Logout => login.read_logout(),
            _ => return None,
        }
        login.is_here = true;
        let mark = self.register(message, asked);
        self.documents_sent = 0;
        self.note_answered_login();
        Some(Next::Answer { len, mark })
    }

    /// Reads the log-in in a `hello`. Returns whether only the server can answer it.
    pub(super) fn hello_needs_server(&mut self, message: &MessageView<'_>) -> bool {
        let Some(login) = self.client_login().filter(|login| !login.passes_through) else {
            return true;
        };
        login.is_here = login.read_hello(message.body) == HelloLogin::Here;
        !login.is_here
    }

    /// Records the certificate that the client has proved to have.
    pub(super) fn note_certificate(&mut self, subject: &str) {
        let accepts =
            self.listener.authenticator.as_ref().is_some_and(|it| it.accepts_certificates());
        if let Some(login) = self.client_login().filter(|_| accepts) {
            login.certificate = Some(subject.into());
        }
    }

    /// Answers the last request of a log-in.
    pub(super) fn answer_login(&mut self, tag: Tag, out: &mut BytesMut) -> LocalAnswer {
        let listener = Arc::clone(&self.listener);
        let (Some(authenticator), Some(presentation)) =
            (&listener.authenticator, &listener.presentation)
        else {
            return LocalAnswer::Done;
        };
        let Ok(id) = u32::try_from(tag.0) else { return LocalAnswer::Done };
        let peer = self.peer();
        let Some(login) = self.client_login() else { return LocalAnswer::Done };
        let step = login.answer(authenticator, peer);
        if step == LoginStep::Ask {
            return LocalAnswer::NeedsQuery;
        }
        let user = login.user_name();
        let open = self.in_flight.remove_newest(id);
        let format = reply_format(open.as_ref());
        let number = open.map_or(0, |open| open.login);
        let client = self.client.get_or_insert_default();
        user.into_iter().for_each(|user| client.name_login(number, &user));
        match step {
            LoginStep::Reply { elements, done } => {
                client.login_reply(number, true, done);
                let mut body = BsonWriter::new();
                body.elements(&elements);
                body.double("ok", 1.0);
                let numbers = (presentation.next_number(), id);
                hello_reply(format, numbers, false, &body.finish(), out);
                LocalAnswer::Done
            }
            LoginStep::Failed(why) => {
                client.login_reply(number, false, false);
                let words = why.to_string();
                let code = Some(AUTHENTICATION_FAILED);
                let why = RejectionRef { code, ..RejectionRef::new(RejectReason::Denied, &words) };
                error_reply::write(id, format, &why, None, out);
                LocalAnswer::Failed(error_codes::name(AUTHENTICATION_FAILED).unwrap_or("other"))
            }
            LoginStep::Ask => LocalAnswer::NeedsQuery,
        }
    }

    /// What a `hello` reply says about log-ins; `None`: the server must be asked.
    pub(super) fn answer_hello_login(&mut self) -> Option<Vec<u8>> {
        let (listener, peer) = (Arc::clone(&self.listener), self.peer());
        match (&listener.authenticator, self.client_login()) {
            (Some(authenticator), Some(login)) => {
                let elements = login.answer_hello(authenticator, peer)?.into_elements();
                if let Some(user) = login.user_name() {
                    // A certificate needs no second step.
                    let client = self.client.get_or_insert_default();
                    let number = client.pending_login();
                    client.name_login(number, &user);
                    client.login_reply(number, true, true);
                }
                Some(elements)
            }
            _ => Some(Vec::new()),
        }
    }

    /// Whether a request of a log-in waits for its answer.
    pub(super) fn answers_login(&mut self) -> bool {
        self.client_login().is_some_and(|login| login.has_request())
    }

    pub(super) fn login_query(&mut self) -> Option<ServiceQuery> {
        let authenticator = Arc::clone(self.listener.authenticator.as_ref()?);
        self.client_login()?.query(&authenticator)
    }

    pub(super) fn pool_user(&self) -> Option<&PoolUser> {
        self.pooled.as_deref()?.login.as_deref()?.upstream_user()
    }

    /// Records whether the request being tracked needs a user.
    pub(super) fn note_needed_login(&mut self, asked: &ParsedCommand) {
        if let Some(login) = self.client_login() {
            login.needs_login = !matches!(asked.name, "ping" | "buildInfo" | "endSessions");
        }
    }

    /// Records that the request marked last is one that clients send before they log in.
    pub(super) fn note_answered_login(&mut self) {
        if let Some(login) = self.client_login() {
            login.needs_login = false;
        }
    }

    /// Why the request marked last is refused: its client has not logged in, or not validly any more.
    pub(super) fn login_refusal(&mut self) -> Option<Rejection> {
        let name = self.name;
        let login = self.client_login().filter(|login| !login.passes_through)?;
        if let Some((user, why)) = login.revocation() {
            let words = format!("the log-in of `{user}` is not valid any more: {why}");
            let rejection = Rejection::new(RejectReason::Denied, words);
            return Some(Rejection { mode: RejectMode::Close, ..rejection });
        }
        let lacks_user = login.needs_login && !login.is_logged_in();
        lacks_user.then(|| {
            let words = format!("command {name} requires authentication");
            Rejection::new(RejectReason::Denied, words)
        })
    }

    /// Whether a request logs in or out at the server, which is left with the user of this client then.
    pub(super) fn logs_in_at_server(&mut self, asked: &ParsedCommand) -> bool {
        let logs_in = match asked.reply_kind {
            ReplyKind::Hello => asked.sensitive,
            ReplyKind::SaslStart | ReplyKind::Authenticate | ReplyKind::Logout => true,
            _ => false,
        };
        logs_in && !self.login_is_here()
    }

    /// Whether the proxy answers the log-in request that is being read.
    pub(super) fn login_is_here(&mut self) -> bool {
        self.client_login().is_some_and(|login| login.is_here)
    }

    /// Records that the server logs the client in, on a connection of the client's own.
    pub(super) fn note_login_at_server(&mut self, message: &MessageView<'_>) {
        let notices = Arc::clone(&self.listener.notices);
        let Some(login) = self.client_login() else { return notices.record_login() };
        // What the proxy could do itself is refused if it can't be read.
        if let Some(mechanism) = foreign_mechanism(message.body) {
            login.passes_through = true;
            notices.record_login_at_server(mechanism);
        }
    }

    fn peer(&self) -> IpAddr {
        let peer = self.pooled.as_deref().and_then(|client| client.peer);
        peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}
