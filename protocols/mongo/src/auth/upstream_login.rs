//! The proxy's own log-in on a new connection, after `hello` (driver specification `auth`).

use super::{Authenticator, UpstreamUser};
use crate::{
    bson_writer::BsonWriter,
    element::{elements, kind},
    error_reply,
    probe::{HelloReply, reply_body},
    sasl::{ClientExchange, Mechanism, SaslError, new_nonce},
};
use bytes::BytesMut;
use operation::HandshakeStep;
use std::sync::Arc;

/// The most messages of an exchange.
const MAX_STEPS: u32 = 4;

/// One log-in.
#[derive(Debug)]
pub(crate) struct UpstreamLogin {
    authenticator: Arc<Authenticator>,
    user: Arc<UpstreamUser>,
    exchange: Option<ClientExchange>,
    conversation: i32,
    /// The next message; `None`: the log-in is over.
    message: Vec<u8>,
    /// How many messages were sent.
    sent: u32,
    /// The server has proved that it knows the user.
    is_proven: bool,
}

impl UpstreamLogin {
    pub(crate) fn new(authenticator: Arc<Authenticator>, user: Arc<UpstreamUser>) -> Self {
        Self {
            authenticator,
            user,
            exchange: None,
            conversation: 0,
            message: Vec::new(),
            sent: 0,
            is_proven: false,
        }
    }

    /// The user whose mechanisms `hello` asks for, if there is a choice: `db.name`.
    pub(crate) fn asks_mechanisms(&self) -> Option<String> {
        let name = &self.user.name;
        self.user.secret.mechanism().is_none().then(|| format!("{}.{}", name.db, name.name))
    }

    /// Begins the log-in, by the best mechanism that the reply to `hello` names.
    pub(crate) fn begin(&mut self, hello: &[u8]) -> HandshakeStep {
        let offered = elements(hello).find(|it| it.name == b"saslSupportedMechs");
        let offered: Option<Vec<_>> = offered
            .and_then(|offered| offered.elements())
            .map(|all| all.filter_map(|name| name.text()).collect());
        let is_offered =
            |it: &Mechanism| offered.as_ref().is_none_or(|all| all.contains(&it.name()));
        let best = Mechanism::ALL.into_iter().find(is_offered);
        let Some(mechanism) = self.user.secret.mechanism().or(best) else {
            return self.refused("it offers neither SCRAM-SHA-256 nor SCRAM-SHA-1");
        };
        let Ok(nonce) = new_nonce() else {
            return HandshakeStep::Failed("the system has no random numbers".to_owned());
        };
        let exchange = ClientExchange::begin(mechanism, &self.user.name.name, nonce);
        self.message = exchange.client_first();
        self.exchange = Some(exchange);
        HandshakeStep::Continue
    }

    /// Appends the next message as a command with this id.
    pub(crate) fn write_request(&mut self, id: u32, out: &mut BytesMut) {
        let mut body = BsonWriter::new();
        if self.sent == 0 {
            body.int32("saslStart", 1);
            let mechanism = self.exchange.as_ref().map(ClientExchange::mechanism);
            body.string("mechanism", mechanism.map_or("", Mechanism::name));
            let mut options = BsonWriter::new();
            options.boolean("skipEmptyExchange", true);
            body.element(kind::DOCUMENT, b"options", &options.finish());
        } else {
            body.int32("saslContinue", 1);
            body.int32("conversationId", self.conversation);
        }
        body.binary("payload", &std::mem::take(&mut self.message));
        body.string("$db", &self.user.name.db);
        self.sent += 1;
        error_reply::message(id, 0, &body.finish(), out);
    }

    /// Reads the reply to the request with this id.
    pub(crate) fn read_reply(&mut self, id: u32, reply: &[u8]) -> HandshakeStep {
        let body = match reply_body(reply, id) {
            Ok(Some(body)) => body,
            Ok(None) => return HandshakeStep::NeedMore,
            Err(words) => return HandshakeStep::Failed(format!("the server {words}")),
        };
        let status = HelloReply::read(body);
        if !status.ok {
            let words = format!("the server answers with {}", status.error());
            if !status.refuses_login() {
                return HandshakeStep::Failed(words);
            }
            self.authenticator.refused(&self.user);
            return self.refused(&words);
        }
        let field = |name: &[u8]| elements(body).find(|field| field.name == name);
        let number = field(b"conversationId").and_then(|it| it.number()?.try_into().ok());
        self.conversation = number.unwrap_or_default();
        let is_done = field(b"done").is_some_and(|done| done.truthy());
        let payload = field(b"payload");
        let payload = payload.and_then(|payload| payload.binary()).unwrap_or_default();
        match self.proceed(payload) {
            Ok(()) if is_done && self.is_proven => HandshakeStep::Done,
            Ok(()) if !is_done && self.sent < MAX_STEPS => HandshakeStep::Continue,
            Ok(()) => HandshakeStep::Failed("the server ends the log-in early".to_owned()),
            Err(error) => {
                if error == SaslError::OtherPassword {
                    self.authenticator.refused(&self.user);
                }
                self.refused(&error.to_string())
            }
        }
    }

    /// Reads the server's message, and makes the next one.
    fn proceed(&mut self, payload: &[u8]) -> Result<(), SaslError> {
        let exchange = self.exchange.as_mut().ok_or(SaslError::Malformed)?;
        match self.sent {
            1 => self.message = exchange.prove(payload, &self.user.secret)?,
            2 => {
                exchange.finish(payload)?;
                self.is_proven = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn refused(&self, why: &str) -> HandshakeStep {
        HandshakeStep::Refused(format!("the log-in of `{}` fails: {why}", self.user.name))
    }
}
