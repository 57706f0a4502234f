//! The first exchange on a pooled connection: a `hello` with the proxy's own name, whose reply shows what
//! the server is, and the log-in of the connection's user.

use crate::{
    MongoListener, Settings,
    auth::UpstreamLogin,
    element::elements,
    error_reply,
    probe::{HelloReply, reply_body},
};
use bytes::{Bytes, BytesMut};
use operation::{
    Handshake, HandshakeConfig, HandshakeStep, Identity, OpenStateCounts, ServiceQuery,
};
use std::{sync::Arc, time::Instant};

/// Makes pooled connections of a listener ready.
#[derive(Debug)]
pub struct PoolHandshake(pub Arc<MongoListener>);

impl PoolHandshake {
    /// The handshake of a mirror's connections: nothing that the mirror says of itself is shown to clients.
    pub fn of_mirror() -> Self {
        Self(Arc::new(MongoListener::pooled(Settings::default())))
    }
}

/// The id of the first request.
const REQUEST: u32 = 1;

#[derive(Debug)]
struct HelloAndLogin {
    /// The application that the connection serves.
    application: Option<Arc<str>>,
    /// Of the connection's user, if it has one.
    login: Option<UpstreamLogin>,
    /// How many requests were sent.
    sent: u32,
}

impl HandshakeConfig for PoolHandshake {
    fn begin(&self, identity: &Identity) -> Option<Box<dyn Handshake>> {
        let login = match &identity.user {
            None => None,
            Some(user) => {
                let authenticator = self.0.authenticator.as_ref()?;
                let user = authenticator.upstream_user(user)?;
                Some(UpstreamLogin::new(Arc::clone(authenticator), user))
            }
        };
        let application = identity.application.clone();
        Some(Box::new(HelloAndLogin { application, login, sent: 0 }))
    }

    fn serves(&self, identity: &Identity) -> bool {
        identity.user.as_ref().is_none_or(|user| {
            let authenticator = self.0.authenticator.as_ref();
            authenticator.is_some_and(|it| it.upstream_user(user).is_some())
        })
    }

    fn ready_identity(&self) -> Option<Identity> {
        match &self.0.authenticator {
            None => Some(Identity::default()),
            Some(authenticator) => authenticator.shared_identity(),
        }
    }

    fn due_queries(&self, now: Instant) -> Vec<ServiceQuery> {
        self.0.authenticator.as_ref().map(|it| it.due_queries(now)).unwrap_or_default()
    }

    fn connected(&self, reply: &[u8]) {
        if let (Some(shown), Ok(Some(body))) = (&self.0.presentation, reply_body(reply, REQUEST)) {
            shown.record(body);
            let text = |name: &[u8]| elements(body).find(|field| field.name == name)?.text();
            if let (Some(me), Some(set)) = (text(b"me"), text(b"setName")) {
                self.0.record_member(me, set);
            }
        }
    }

    fn members_changed(&self, replies: &[Bytes]) {
        self.0.presentation.iter().for_each(|shown| shown.record_members(replies));
    }

    fn open_states(&self) -> OpenStateCounts {
        self.0.owners.count()
    }

    fn check_successor(&self, reply: &[u8]) -> Result<(), String> {
        match (&self.0.presentation, reply_body(reply, REQUEST)) {
            (Some(shown), Ok(Some(body))) => shown.check_successor(body),
            _ => Ok(()),
        }
    }

    fn switched(&self, reply: &[u8]) {
        self.0.owners.forget_states();
        self.0.notices.expect_other_members();
        self.0.authenticator.iter().for_each(|it| it.forget_verifiers());
        if let (Some(shown), Ok(Some(body))) = (&self.0.presentation, reply_body(reply, REQUEST)) {
            shown.switched(body);
        }
    }
}

impl Handshake for HelloAndLogin {
    fn write_request(&mut self, out: &mut BytesMut) {
        self.sent += 1;
        match &mut self.login {
            Some(login) if self.sent > REQUEST => login.write_request(self.sent, out),
            login => {
                let asks = login.as_ref().and_then(UpstreamLogin::asks_mechanisms);
                let application = self.application.as_deref();
                error_reply::client_hello(REQUEST, application, asks.as_deref(), out);
            }
        }
    }

    fn read_reply(&mut self, reply: &[u8]) -> HandshakeStep {
        if let Some(login) = self.login.as_mut().filter(|_| self.sent > REQUEST) {
            return login.read_reply(self.sent, reply);
        }
        let body = match reply_body(reply, REQUEST) {
            Ok(Some(body)) => body,
            Ok(None) => return HandshakeStep::NeedMore,
            Err(words) => return HandshakeStep::Failed(format!("the server {words}")),
        };
        let hello = HelloReply::read(body);
        if !hello.ok {
            return HandshakeStep::Failed(format!(
                "the server answers hello with {}",
                hello.error()
            ));
        }
        self.login.as_mut().map_or(HandshakeStep::Done, |login| login.begin(body))
    }
}
