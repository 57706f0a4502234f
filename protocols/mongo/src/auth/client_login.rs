//! The log-in of one client at the proxy, by `saslStart` and `saslContinue`, or begun in `hello`
//! (driver specification `auth`).

use super::{
    Authenticator, VerifierSearch,
    user_login::{Revocation, UserLogin, UserName},
};
use crate::{
    bson_writer::{BsonWriter, string_array},
    element::{Element, elements, kind},
    sasl::{ClientFirst, Mechanism, SaslError, ServerExchange, new_nonce},
    settings::DEFAULT_DATABASE,
};
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use operation::{PoolUser, ServiceQuery};
use std::{fmt, net::IpAddr, sync::Arc};

/// Identifies the only exchange that a client has at a time.
const CONVERSATION: i32 = 1;

/// The mechanism of log-ins by certificate.
const X509: &str = "MONGODB-X509";

/// Whether and how a client has logged in.
#[derive(Debug, Default)]
pub(crate) struct ClientLogin {
    user: Option<Arc<UserLogin>>,
    /// The subject of the client's certificate, if that may log it in.
    pub(crate) certificate: Option<Box<str>>,
    exchange: Option<Exchange>,
    /// The user once the client has sent an empty message, as it has asked for.
    proven: Option<Arc<UserLogin>>,
    /// The request that is to be answered.
    request: Option<LoginRequest>,
    /// What the last `hello` asks.
    hello: HelloRequests,
    /// The user that the server must be asked for.
    wanted: Option<UserName>,
    /// The server was asked, for this request.
    has_asked: bool,
    /// The server itself logs the client in, on a connection of its own.
    pub(crate) passes_through: bool,
    /// The proxy answers the log-in request that is being read.
    pub(crate) is_here: bool,
    /// The request marked last needs a user.
    pub(crate) needs_login: bool,
}

/// An exchange that waits for a proof.
#[derive(Debug)]
struct Exchange {
    user: UserName,
    server: ServerExchange,
    /// The proof ends the exchange, without an empty message.
    skips_empty: bool,
}

/// A request of a log-in.
#[derive(Debug)]
enum LoginRequest {
    Start(Start),
    Continue(Vec<u8>),
    LogOut,
    /// By the client's certificate.
    Certificate(CertificateName),
    /// A wrong proof, after which the server was asked.
    Wrong,
}

/// What begins an exchange.
#[derive(Debug)]
struct Start {
    mechanism: Mechanism,
    db: String,
    first: Result<ClientFirst, SaslError>,
    skips_empty: bool,
}

/// The name that a client gives with its certificate, if any.
type CertificateName = Option<String>;

/// What a `hello` asks about log-ins.
#[derive(Debug, Default)]
struct HelloRequests {
    start: Option<Start>,
    certificate: Option<CertificateName>,
    /// The user whose mechanisms are asked for.
    mechanisms_of: Option<UserName>,
}

/// Where a `hello` begins a log-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HelloLogin {
    /// At the proxy, or not at all.
    Here,
    /// At the server, by a mechanism that the proxy can't do.
    AtServer,
}

/// The answer to a request of a log-in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LoginStep {
    /// The server must be asked: see [`ClientLogin::query`].
    Ask,
    /// The body of the reply, without an end; `done`: the client is logged in or out.
    Reply { elements: Vec<u8>, done: bool },
    /// The request fails.
    Failed(LoginFailure),
}

/// Why a log-in fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginFailure {
    /// The proof is wrong, or the user does not exist: clients do not learn which.
    Denied,
    /// The exchange breaks the rules.
    Sasl(SaslError),
    /// The client has failed too often.
    TooManyFailures,
    /// The server does not let the proxy view users.
    NoLookup,
    /// Another user is logged in on this connection.
    OtherUser,
    /// The system has no random bytes.
    NoRandomness,
}

impl fmt::Display for LoginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("Authentication failed."),
            Self::Sasl(error) => write!(f, "Authentication failed: {error}"),
            Self::TooManyFailures => {
                f.write_str("too many log-ins from this address have failed: try again later")
            }
            Self::NoLookup => f.write_str("the proxy can't look users up: see its log"),
            Self::OtherUser => f.write_str(
                "a connection has one user at a time: log out first, or open another one",
            ),
            Self::NoRandomness => f.write_str("the proxy has no random numbers for a log-in"),
        }
    }
}

impl ClientLogin {
    /// Reads what a `hello` asks.
    pub(crate) fn read_hello(&mut self, body: &[u8]) -> HelloLogin {
        self.begin_request();
        let mechanisms_of = field(body, b"saslSupportedMechs").and_then(|user| user.text());
        let mechanisms_of = mechanisms_of.and_then(|user| user.split_once('.'));
        self.hello.mechanisms_of = mechanisms_of.map(|(db, name)| UserName::new(name, db));
        let Some(speculative) = field(body, b"speculativeAuthenticate") else {
            return HelloLogin::Here;
        };
        let step = if speculative.kind == kind::DOCUMENT { speculative.value } else { &[] };
        let db = field(step, b"db").and_then(|db| db.text()).unwrap_or(DEFAULT_DATABASE);
        self.hello.start = read_start(step, db);
        self.hello.certificate = self.read_certificate(step);
        let is_here = self.hello.start.is_some() || self.hello.certificate.is_some();
        if is_here { HelloLogin::Here } else { HelloLogin::AtServer }
    }

    /// Reads a `saslStart`; `false` if the proxy can't do its mechanism.
    pub(crate) fn read_start(&mut self, body: &[u8], db: &str) -> bool {
        self.begin_request();
        self.request = read_start(body, db).map(LoginRequest::Start);
        self.request.is_some()
    }

    /// Reads an `authenticate`; `false` if the proxy can't do its mechanism.
    pub(crate) fn read_authenticate(&mut self, body: &[u8]) -> bool {
        self.begin_request();
        self.request = self.read_certificate(body).map(LoginRequest::Certificate);
        self.request.is_some()
    }

    /// The name in a log-in by certificate; `None`: it is no such log-in, or not at the proxy.
    fn read_certificate(&self, step: &[u8]) -> Option<CertificateName> {
        self.certificate.as_ref()?;
        let mechanism = field(step, b"mechanism")?.text()?;
        let is_it = mechanism == X509 && field(step, b"authenticate").is_some();
        is_it.then(|| field(step, b"user").and_then(|user| user.text()).map(str::to_owned))
    }

    /// Logs the client in by its certificate.
    fn log_in_by_certificate(
        &mut self,
        name: &CertificateName,
        authenticator: &Authenticator,
    ) -> LoginStep {
        let subject = self.certificate.as_deref().unwrap_or_default();
        let is_own = name.as_ref().is_none_or(|name| name == subject);
        let login = authenticator.certificate_login(subject).filter(|_| is_own);
        let Some(login) = login else { return LoginStep::Failed(LoginFailure::Denied) };
        if self.user.as_ref().is_some_and(|user| user.name != login.name) {
            return LoginStep::Failed(LoginFailure::OtherUser);
        }
        let mut body = BsonWriter::new();
        body.string("dbname", "$external");
        body.string("user", subject);
        self.user = Some(login);
        LoginStep::Reply { elements: body.into_elements(), done: true }
    }

    /// The user that is logged in, as policies and logs name it.
    pub(crate) fn user_name(&self) -> Option<String> {
        self.user.as_ref().map(|user| user.name.to_string())
    }

    /// Reads a `saslContinue`.
    pub(crate) fn read_continue(&mut self, body: &[u8]) {
        self.begin_request();
        let payload = field(body, b"payload").and_then(|payload| read_payload(&payload));
        self.request = Some(LoginRequest::Continue(payload.unwrap_or_default()));
    }

    /// Begins to log out.
    pub(crate) fn read_logout(&mut self) {
        self.begin_request();
        self.request = Some(LoginRequest::LogOut);
    }

    fn begin_request(&mut self) {
        (self.request, self.wanted, self.has_asked) = (None, None, false);
        self.hello = HelloRequests::default();
    }

    /// Whether a request of a log-in waits for its answer.
    pub(crate) fn has_request(&self) -> bool {
        self.request.is_some()
    }

    /// The user that the client's operations are done as.
    pub(crate) fn upstream_user(&self) -> Option<&PoolUser> {
        self.user.as_ref().map(|user| &user.upstream.pool_user)
    }

    /// Whether a user is logged in.
    pub(crate) fn is_logged_in(&self) -> bool {
        self.user.is_some()
    }

    /// Why the log-in is not valid any more, and whose it is.
    pub(crate) fn revocation(&self) -> Option<(String, Revocation)> {
        let user = self.user.as_ref()?;
        Some((user.name.to_string(), user.revocation()?))
    }

    /// The question that [`LoginStep::Ask`] needs answered.
    pub(crate) fn query(&mut self, authenticator: &Arc<Authenticator>) -> Option<ServiceQuery> {
        self.has_asked = true;
        authenticator.query(self.wanted.take()?)
    }

    /// What a `hello` reply says about log-ins; `None`: the server must be asked.
    pub(crate) fn answer_hello(
        &mut self,
        authenticator: &Authenticator,
        peer: IpAddr,
    ) -> Option<BsonWriter> {
        let mut out = BsonWriter::new();
        if let Some(user) = &self.hello.mechanisms_of {
            let searches = Mechanism::ALL.map(|it| (it, authenticator.verifier(user, it)));
            if !self.has_asked && searches.iter().any(|(_, it)| *it == VerifierSearch::NotAsked) {
                if authenticator.allows(peer, None) {
                    self.wanted = Some(user.clone());
                    return None;
                }
            } else {
                let found = searches
                    .iter()
                    .filter(|(_, search)| matches!(search, VerifierSearch::Found(_)))
                    .map(|(mechanism, _)| mechanism.name());
                let names: Vec<_> = found.collect();
                if !names.is_empty() {
                    out.array("saslSupportedMechs", string_array(names));
                }
            }
        }
        if let Some(start) = self.hello.start.take() {
            match self.start(start, authenticator, peer) {
                Err(start) => {
                    self.hello.start = Some(start);
                    return None;
                }
                Ok(LoginStep::Reply { elements, .. }) => {
                    let mut reply = BsonWriter::new();
                    reply.elements(&elements);
                    out.element(kind::DOCUMENT, b"speculativeAuthenticate", &reply.finish());
                }
                // As servers do: the client logs in by `saslStart` then, and gets the error.
                Ok(_) => {}
            }
        }
        if let Some(name) = self.hello.certificate.take()
            && let LoginStep::Reply { elements, .. } =
                self.log_in_by_certificate(&name, authenticator)
        {
            let mut reply = BsonWriter::new();
            reply.elements(&elements);
            out.element(kind::DOCUMENT, b"speculativeAuthenticate", &reply.finish());
        }
        Some(out)
    }

    /// Answers the request of a log-in.
    pub(crate) fn answer(&mut self, authenticator: &Authenticator, peer: IpAddr) -> LoginStep {
        match self.request.take() {
            Some(LoginRequest::Start(start)) => match self.start(start, authenticator, peer) {
                Ok(step) => step,
                Err(start) => {
                    self.request = Some(LoginRequest::Start(start));
                    LoginStep::Ask
                }
            },
            Some(LoginRequest::Certificate(name)) => {
                self.log_in_by_certificate(&name, authenticator)
            }
            Some(LoginRequest::Continue(payload)) => self.proceed(&payload, authenticator, peer),
            Some(LoginRequest::LogOut) => {
                (self.user, self.exchange, self.proven) = (None, None, None);
                LoginStep::Reply { elements: Vec::new(), done: true }
            }
            Some(LoginRequest::Wrong) | None => LoginStep::Failed(LoginFailure::Denied),
        }
    }

    /// Begins an exchange. Returns what begins it if the server must be asked.
    fn start(
        &mut self,
        start: Start,
        authenticator: &Authenticator,
        peer: IpAddr,
    ) -> Result<LoginStep, Start> {
        let failed = |why| Ok(LoginStep::Failed(why));
        (self.exchange, self.proven) = (None, None);
        let first = match &start.first {
            Ok(first) => first,
            Err(error) => return failed(LoginFailure::Sasl(*error)),
        };
        let user = UserName::new(&first.user, &start.db);
        if self.user.as_ref().is_some_and(|logged_in| logged_in.name != user) {
            return failed(LoginFailure::OtherUser);
        }
        if !authenticator.allows(peer, Some(&user)) {
            return failed(LoginFailure::TooManyFailures);
        }
        let verifier = match authenticator.verifier(&user, start.mechanism) {
            VerifierSearch::Found(verifier) => verifier,
            VerifierSearch::NotAsked if self.has_asked => {
                return failed(LoginFailure::NoLookup);
            }
            // Names that do not exist must not cost the server a question each.
            VerifierSearch::NotAsked | VerifierSearch::Absent
                if !authenticator.allows(peer, None) =>
            {
                return failed(LoginFailure::TooManyFailures);
            }
            VerifierSearch::NotAsked => {
                self.wanted = Some(user);
                return Err(start);
            }
            VerifierSearch::Absent => {
                authenticator.record_failure(peer, None);
                return failed(LoginFailure::Denied);
            }
            VerifierSearch::Unavailable => return failed(LoginFailure::NoLookup),
        };
        let Ok(nonce) = new_nonce() else { return failed(LoginFailure::NoRandomness) };
        let server = ServerExchange::begin(first, verifier, &nonce);
        let step = reply(server.server_first(), false);
        self.exchange = Some(Exchange { user, server, skips_empty: start.skips_empty });
        Ok(step)
    }

    /// Checks a proof, or ends an exchange by its empty message.
    fn proceed(
        &mut self,
        payload: &[u8],
        authenticator: &Authenticator,
        peer: IpAddr,
    ) -> LoginStep {
        if let Some(proven) = self.proven.take()
            && payload.is_empty()
        {
            self.user = Some(proven);
            return reply(&[], true);
        }
        let Some(Exchange { user, server, skips_empty }) = self.exchange.take() else {
            return LoginStep::Failed(LoginFailure::Sasl(SaslError::Malformed));
        };
        if !authenticator.allows(peer, Some(&user)) {
            return LoginStep::Failed(LoginFailure::TooManyFailures);
        }
        let verifier = Arc::clone(server.verifier());
        match server.finish(payload) {
            Ok(proof) => {
                let login = authenticator.log_in(&user, &verifier, proof.secret);
                let logged_in = if skips_empty { &mut self.user } else { &mut self.proven };
                *logged_in = Some(login);
                reply(&proof.server_final, skips_empty)
            }
            Err(SaslError::WrongProof) => {
                let may_have_changed = authenticator.may_have_changed(&user);
                authenticator.record_failure(peer, Some(user.clone()));
                if !may_have_changed {
                    return LoginStep::Failed(LoginFailure::Denied);
                }
                // The exchange used the old salt, so it fails in any case; the next one uses the new one.
                (self.wanted, self.request) = (Some(user), Some(LoginRequest::Wrong));
                LoginStep::Ask
            }
            Err(error) => LoginStep::Failed(LoginFailure::Sasl(error)),
        }
    }
}

/// The reply to a step of an exchange.
fn reply(payload: &[u8], done: bool) -> LoginStep {
    let mut body = BsonWriter::new();
    body.int32("conversationId", CONVERSATION);
    body.boolean("done", done);
    body.binary("payload", payload);
    LoginStep::Reply { elements: body.into_elements(), done }
}

/// What begins an exchange; `None` if the proxy can't do the mechanism.
fn read_start(step: &[u8], db: &str) -> Option<Start> {
    field(step, b"saslStart")?;
    let mechanism = Mechanism::from_name(field(step, b"mechanism")?.text()?)?;
    let payload = field(step, b"payload").and_then(|payload| read_payload(&payload));
    let first = ClientFirst::parse(&payload.unwrap_or_default());
    let options = field(step, b"options").and_then(|options| options.elements());
    let mut options = options.into_iter().flatten();
    let skips_empty = options.any(|it| it.name == b"skipEmptyExchange" && it.truthy());
    Some(Start { mechanism, db: db.to_owned(), first, skips_empty })
}

/// The mechanism of a log-in that the proxy can't do, from a `hello`, `saslStart` or `authenticate`.
pub(crate) fn foreign_mechanism(body: &[u8]) -> Option<&str> {
    let speculative = field(body, b"speculativeAuthenticate");
    let step = speculative.filter(|it| it.kind == kind::DOCUMENT).map_or(body, |it| it.value);
    let is_sasl = field(step, b"saslStart").is_some();
    let mechanism = field(step, b"mechanism").and_then(|mechanism| mechanism.text());
    let is_legacy = !is_sasl && field(step, b"authenticate").is_some();
    let mechanism = mechanism.or(is_legacy.then_some("MONGODB-CR"));
    mechanism.filter(|name| Mechanism::from_name(name).is_none())
}

/// The bytes of a payload: binary, or base64 in a string, which servers accept as well.
fn read_payload(payload: &Element<'_>) -> Option<Vec<u8>> {
    match payload.text() {
        Some(text) => BASE64.decode(text).ok(),
        None => payload.binary().map(<[u8]>::to_vec),
    }
}

fn field<'b>(body: &'b [u8], name: &[u8]) -> Option<Element<'b>> {
    elements(body).find(|field| field.name == name)
}
