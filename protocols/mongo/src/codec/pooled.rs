//! A client whose operations share connections: the proxy answers its `hello`, and a connection that it
//! logs in on is its own.

use super::{Mongo, reply_format};
use crate::{
    commands::ReplyKind,
    error_reply::{ReplyFormat, hello_reply},
    header::{Header, opcode},
    hello,
    message_view::MessageView,
    parsed_command::ParsedCommand,
    presentation::HelloRequest,
};
use bytes::BytesMut;
use operation::{LocalAnswer, Next, Request, Tag, UpstreamUse};
use std::sync::Arc;

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
}

impl PooledClient {
    /// A client with this number.
    pub(super) fn new(connection: u32) -> Self {
        Self { connection, ..Self::default() }
    }

    /// What the upstream connection may be used for.
    pub(super) fn upstream_use(&self) -> UpstreamUse {
        if self.needs_own { UpstreamUse::Own } else { UpstreamUse::Free }
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
        let mark = self.register(message, asked);
        self.documents_sent = 0;
        let client = self.pooled.as_deref_mut()?;
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
        let Some(client) = self.pooled.as_deref_mut() else { return LocalAnswer::Done };
        if !presentation.is_known() {
            return LocalAnswer::NeedsUpstream;
        }
        if let Some(wait) = client.hello.awaits()
            && !std::mem::replace(&mut client.awaited, true)
        {
            return LocalAnswer::Later(wait);
        }
        let body = presentation.describe(&client.hello, self.local, client.connection).finish();
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

    /// Records that a request leaves a state on the upstream connection: a user, or what
    /// `getLastError` reports.
    pub(super) fn note_connection_state(&mut self, header: Header, asked: &ParsedCommand) {
        let Some(client) = self.pooled.as_deref_mut().filter(|client| !client.needs_own) else {
            return;
        };
        let logs_in = match asked.reply_kind {
            ReplyKind::Hello => asked.sensitive,
            ReplyKind::SaslStart | ReplyKind::Authenticate | ReplyKind::Logout => true,
            _ => false,
        };
        let legacy = matches!(header.opcode, opcode::INSERT | opcode::UPDATE | opcode::DELETE);
        client.needs_own = logs_in || legacy;
        if logs_in {
            self.listener.notices.record_login();
        }
    }
}
