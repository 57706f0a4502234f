//! The client of a connection: its application, its driver, and its authenticated users.

use crate::{
    commands::ReplyKind,
    comment::printable,
    decompressor::SUPPORTED,
    element::{Element, elements, kind},
};
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use operation::AttributeValue;
use std::borrow::Cow;

/// The longest user name, application name or driver that is kept, in bytes.
const MAX_NAME_LEN: usize = 128;

/// How many users may be logged in at once: one for each database, as in servers before MongoDB 7.
const MAX_USERS: usize = 8;

/// The state of a client, from its handshake (specifications, mongodb-handshake) and its logins.
#[derive(Debug, Default)]
pub(crate) struct ClientState {
    app: Option<Box<str>>,
    driver: Option<Box<str>>,
    users: AuthenticatedUsers,
    login: LoginAttempt,
    supports_backpressure: bool,
    offers_compression: bool,
}

/// The users that are logged in.
#[derive(Debug, Default)]
struct AuthenticatedUsers {
    /// `name@database`, each of another database.
    names: Vec<Box<str>>,
    /// A user is logged in whose name could not be read.
    unknown: bool,
}

/// A login or logout that the server has not confirmed yet.
#[derive(Debug, Default)]
struct LoginAttempt {
    /// Numbers the attempts, so that a reply to one is not applied to another.
    number: u32,
    change: UserChange,
    /// A single step proves it, so the reply has no `done`.
    single_step: bool,
    /// The client's certificate is to prove it (MONGODB-X509).
    by_certificate: bool,
}

/// What changes if the server confirms the attempt.
#[derive(Debug, Default)]
enum UserChange {
    #[default]
    Nothing,
    /// This `name@database` is logged in.
    LogIn(Box<str>),
    /// A user is logged in whose name cannot be read.
    LogInUnknown,
    /// The users of this database are logged out.
    LogOut(Box<str>),
}

impl ClientState {
    /// The name of the application.
    pub(crate) fn app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// The driver and its version: `PyMongo 4.20.0`.
    pub(crate) fn driver(&self) -> Option<&str> {
        self.driver.as_deref()
    }

    /// The logged-in users as `name@database`: those that the server has confirmed.
    pub(crate) fn user(&self) -> AttributeValue<'_> {
        match self.users.names.as_slice() {
            _ if self.users.unknown => AttributeValue::Unknown,
            [] => AttributeValue::Absent,
            [one] => AttributeValue::known(one),
            several => {
                AttributeValue::Multiple(several.iter().map(|it| Cow::Borrowed(&**it)).collect())
            }
        }
    }

    /// Whether its `hello` offered compression.
    pub(crate) fn offers_compression(&self) -> bool {
        self.offers_compression
    }

    /// Whether its driver backs off and retries on overload (specifications, client-backpressure).
    pub(crate) fn supports_backpressure(&self) -> bool {
        self.supports_backpressure
    }

    /// Whether its driver takes any error in reply to `hello` for a failed login: libmongoc does
    /// (CDRIVER-3696), and with it the PHP and C++ drivers.
    pub(crate) fn takes_errors_for_failed_login(&self) -> bool {
        self.driver().is_some_and(|driver| driver.starts_with("mongoc"))
    }

    /// Reads a `hello`. Only the first one of a connection has the `client` document.
    pub(crate) fn read_hello(&mut self, hello: &[u8]) {
        // A version, `"2"`; the first drivers with this field sent `true`.
        let knows =
            |field: Element<'_>| field.truthy() || field.text().is_some_and(|it| !it.is_empty());
        self.supports_backpressure |= field(hello, b"backpressure").is_some_and(knows);
        let offered = field(hello, b"compression").and_then(|offered| offered.elements());
        self.offers_compression |= offered.is_some_and(|mut offered| {
            offered.any(|name| name.text().is_some_and(|name| SUPPORTED.contains(&name)))
        });
        let Some(client) = field(hello, b"client").and_then(|client| document(&client)) else {
            return;
        };
        let text = |outer: &[u8], inner: &[u8]| {
            let outer = field(client, outer)?;
            field(document(&outer)?, inner)?.text()
        };
        if let Some(app) = text(b"application", b"name") {
            self.app = Some(printable(app, MAX_NAME_LEN).into());
        }
        if let Some(driver) = text(b"driver", b"name") {
            // Wrapping libraries append their version after a `|`; an empty one leaves a trailing
            // `|`.
            let driver = match text(b"driver", b"version") {
                Some(version) => format!("{driver} {}", version.trim_end_matches('|')),
                None => driver.to_owned(),
            };
            self.driver = Some(printable(&driver, MAX_NAME_LEN).into());
        }
    }

    /// Starts a login of a user of `database`: `saslStart`, `authenticate`, or a `hello` that
    /// contains one of them. Returns its number.
    pub(crate) fn begin_login(&mut self, role: ReplyKind, body: &[u8], database: &str) -> u32 {
        // Only `hello` can contain a login.
        let speculative = match role {
            ReplyKind::Hello => {
                unique_field(body, b"speculativeAuthenticate").and_then(|it| document(&it))
            }
            _ => None,
        };
        let step = speculative.unwrap_or(body);
        let one_step = field(step, b"saslStart").is_none();
        let name = if one_step {
            unique_field(step, b"user").and_then(|user| user.text()).map(str::to_owned)
        } else {
            sasl_user(step)
        };
        let database = match speculative {
            Some(step) => unique_field(step, b"db").and_then(|database| database.text()),
            None => Some(database),
        };
        let readable =
            |name: &String| name.len() <= MAX_NAME_LEN && !name.chars().any(char::is_control);
        let known = name.filter(|name| !name.is_empty() && readable(name));
        let change = match (known, database) {
            (Some(name), Some(database)) => UserChange::LogIn(format!("{name}@{database}").into()),
            _ => UserChange::LogInUnknown,
        };
        let number = self.begin(change, one_step);
        let mechanism = field(step, b"mechanism");
        let mechanism = mechanism.as_ref().and_then(|it| it.text());
        self.login.by_certificate = mechanism == Some("MONGODB-X509");
        number
    }

    /// Whether the current login is by the client's certificate.
    pub(crate) fn logs_in_by_certificate(&self) -> bool {
        self.login.by_certificate
    }

    /// Starts an unreadable request that may be a login. Returns its number.
    pub(crate) fn begin_unreadable_login(&mut self) -> u32 {
        self.begin(UserChange::LogInUnknown, true)
    }

    /// The current login or logout has no reply, so its result is never known.
    pub(crate) fn login_unacknowledged(&mut self) {
        self.login.change = UserChange::Nothing;
        self.users.unknown = true;
    }

    /// Starts to log out the users of `database`. Returns the attempt's number.
    pub(crate) fn begin_logout(&mut self, database: &str) -> u32 {
        self.begin(UserChange::LogOut(database.into()), true)
    }

    /// Replaces the current attempt. Returns the new number.
    fn begin(&mut self, step: UserChange, one_step: bool) -> u32 {
        let number = self.login.number.wrapping_add(1).max(1);
        self.login =
            LoginAttempt { number, change: step, single_step: one_step, by_certificate: false };
        number
    }

    /// Names the user of the login with this number, if that is the current one.
    pub(crate) fn name_login(&mut self, number: u32, user: &str) {
        let logs_in = matches!(self.login.change, UserChange::LogIn(_) | UserChange::LogInUnknown);
        if number == self.login.number && logs_in {
            self.login.change = UserChange::LogIn(user.into());
        }
    }

    /// The number of the current login; 0 if there is none.
    pub(crate) fn pending_login(&self) -> u32 {
        match self.login.change {
            UserChange::LogIn(_) | UserChange::LogInUnknown => self.login.number,
            UserChange::Nothing | UserChange::LogOut(_) => 0,
        }
    }

    /// Applies the server's reply to a step of the login with this number.
    ///
    /// Requests may be pipelined, so a reply counts only for the attempt that was current when its
    /// request was sent, and still is. If two were in progress, the user is unknown.
    pub(crate) fn login_reply(&mut self, number: u32, ok: bool, done: bool) {
        if number != self.login.number {
            self.users.unknown |= ok && number != 0;
            return;
        }
        if ok && (done || self.login.single_step) {
            match std::mem::take(&mut self.login.change) {
                UserChange::Nothing => {}
                UserChange::LogIn(name) => self.users.log_in(name),
                UserChange::LogInUnknown => self.users.unknown = true,
                UserChange::LogOut(database) => self.users.log_out(&database),
            }
        } else if !ok {
            self.login.change = UserChange::Nothing;
        }
    }
}

impl AuthenticatedUsers {
    fn log_in(&mut self, name: Box<str>) {
        self.log_out(database_of(&name));
        if self.names.len() < MAX_USERS {
            self.names.push(name);
        } else {
            self.unknown = true;
        }
    }

    fn log_out(&mut self, database: &str) {
        self.names.retain(|name| database_of(name) != database);
    }
}

/// The database of a `name@database`. Names may contain `@`, databases may not.
fn database_of(user: &str) -> &str {
    user.rsplit_once('@').map_or("", |(_, database)| database)
}

/// The user's name in the first message of a SASL conversation; `None` if that does not determine
/// which user the server logs in.
fn sasl_user(start: &[u8]) -> Option<String> {
    let payload = payload(&unique_field(start, b"payload")?)?;
    let payload = std::str::from_utf8(&payload).ok()?;
    unique_field(start, b"saslStart")?;
    match unique_field(start, b"mechanism")?.text()? {
        // RFC 4616: authorization identity, user, password, between NULs.
        "PLAIN" => match payload.split('\0').collect::<Vec<_>>().as_slice() {
            [identity, user, _] if identity.is_empty() || identity == user => {
                Some((*user).to_owned())
            }
            _ => None,
        },
        // RFC 5802: `n,,n=user,r=nonce`, with commas and equal signs written `=2C` and `=3D`.
        // Text between the first two commas would request another authorization identity.
        mechanism if mechanism.starts_with("SCRAM-") => {
            let mut parts = payload.split(',');
            let (_, identity, user) = (parts.next()?, parts.next()?, parts.next()?);
            let user = user.strip_prefix("n=").filter(|_| identity.is_empty())?;
            Some(user.replace("=2C", ",").replace("=3D", "="))
        }
        _ => None,
    }
}

/// The bytes of a payload: binary, or base64 in a string, which servers accept as well.
fn payload<'b>(payload: &Element<'b>) -> Option<Cow<'b, [u8]>> {
    match payload.text() {
        Some(text) => BASE64.decode(text).ok().map(Cow::Owned),
        None => payload.binary().map(Cow::Borrowed),
    }
}

/// The field with this name, if it occurs once: servers differ in which of two they use.
fn unique_field<'b>(body: &'b [u8], key: &[u8]) -> Option<Element<'b>> {
    let mut found = elements(body).filter(|field| field.name == key);
    found.next().filter(|_| found.next().is_none())
}

fn field<'b>(body: &'b [u8], key: &[u8]) -> Option<Element<'b>> {
    elements(body).find(|field| field.name == key)
}

fn document<'b>(field: &Element<'b>) -> Option<&'b [u8]> {
    (field.kind == kind::DOCUMENT).then_some(field.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::joined;
    use bson::{Binary, Document, doc, spec::BinarySubtype};

    fn payload(text: &str) -> Binary {
        Binary { subtype: BinarySubtype::Generic, bytes: text.as_bytes().to_vec() }
    }

    fn claim(client: &mut ClientState, body: &Document) -> u32 {
        let role = if body.contains_key("hello") { ReplyKind::Hello } else { ReplyKind::SaslStart };
        client.begin_login(role, &body.to_vec().unwrap(), "admin")
    }

    fn scram(user: &str) -> Document {
        let first = format!("n,,n={user},r=abc");
        doc! {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": payload(&first)}
    }

    fn user(client: &ClientState) -> Option<String> {
        assert!(!client.user().is_undetermined());
        client.user().text().map(Cow::into_owned)
    }

    #[test]
    fn a_user_counts_when_the_last_step_is_done() {
        let mut client = ClientState::default();
        let number = claim(&mut client, &scram("a=2Cb=3Dc"));
        client.login_reply(number, true, false);
        assert_eq!(user(&client), None);
        assert_eq!(client.pending_login(), number);
        client.login_reply(number, true, true);
        assert_eq!(user(&client).as_deref(), Some("a,b=c@admin"));
    }

    #[test]
    fn a_failed_proof_proves_nothing() {
        let mut client = ClientState::default();
        let number = claim(&mut client, &scram("eve"));
        client.login_reply(number, false, true);
        assert_eq!((user(&client), client.pending_login()), (None, 0));
        client.login_reply(number, true, true);
        assert_eq!(user(&client), None);
    }

    #[test]
    fn a_second_claim_does_not_change_the_user() {
        let mut client = ClientState::default();
        let own = claim(&mut client, &scram("mallory"));
        let step = client.pending_login();
        let other = claim(&mut client, &scram("root"));
        assert_ne!(own, other);
        client.login_reply(step, true, true);
        assert_eq!(client.user(), AttributeValue::Unknown);
    }

    #[test]
    fn one_step_mechanisms_need_no_done() {
        let mut client = ClientState::default();
        let x509 = doc! {"authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=app"};
        let number =
            client.begin_login(ReplyKind::Authenticate, &x509.to_vec().unwrap(), "$external");
        client.login_reply(number, true, false);
        assert_eq!(user(&client).as_deref(), Some("CN=app@$external"));
        let plain = doc! {
            "saslStart": 1, "mechanism": "PLAIN", "payload": payload("\0bob\0secret"), "db": "hr",
        };
        let number = claim(&mut client, &doc! {"hello": 1, "speculativeAuthenticate": plain});
        client.login_reply(number, true, true);
        assert_eq!(user(&client).as_deref(), Some("CN=app@$external, bob@hr"));
        let number = client.begin_logout("$external");
        client.login_reply(number, true, false);
        assert_eq!(user(&client).as_deref(), Some("bob@hr"));
    }

    /// The user after a successful reply to this first step.
    fn logged_in(role: ReplyKind, body: &[u8]) -> AttributeValue<'static> {
        let mut client = ClientState::default();
        let number = client.begin_login(role, body, "tenant7");
        client.login_reply(number, true, true);
        client.user().into_owned()
    }

    #[test]
    fn a_user_of_one_database_is_no_user_of_another() {
        let body = scram("root").to_vec().unwrap();
        assert_eq!(logged_in(ReplyKind::SaslStart, &body), AttributeValue::known("root@tenant7"));
    }

    #[test]
    fn only_a_hello_logs_in_beside_what_it_asks_for() {
        let mut body = scram("mallory");
        body.insert("speculativeAuthenticate", scram("root"));
        let told = logged_in(ReplyKind::SaslStart, &body.to_vec().unwrap());
        assert_eq!(told, AttributeValue::known("mallory@tenant7"));
    }

    #[test]
    fn a_payload_is_read_as_text_too() {
        let mut body = scram("x");
        body.insert("payload", BASE64.encode("n,,n=mallory,r=abc"));
        let told = logged_in(ReplyKind::SaslStart, &body.to_vec().unwrap());
        assert_eq!(told, AttributeValue::known("mallory@tenant7"));
    }

    #[test]
    fn an_unreadable_log_in_makes_the_user_unknown() {
        let second = doc! {"payload": payload("n,,n=mallory,r=abc")};
        let twice = joined(&[scram("root"), second]);
        let sasl = |mechanism: &str, text: &str| {
            doc! {"saslStart": 1, "mechanism": mechanism, "payload": payload(text)}
                .to_vec()
                .unwrap()
        };
        let odd = doc! {"saslStart": 1, "mechanism": "PLAIN", "payload": "no base64!"};
        for body in [
            twice,
            sasl("GSSAPI", "ticket"),
            sasl("MONGODB-AWS", "nonce"),
            sasl("SCRAM-SHA-256", "n,a=root,n=mallory,r=x"),
            sasl("PLAIN", "root\0mallory\0secret"),
            sasl("PLAIN", "mallory"),
            sasl("SCRAM-SHA-256", &format!("n,,n={},r=x", "x".repeat(200))),
            odd.to_vec().unwrap(),
            doc! {"authenticate": 1, "mechanism": "MONGODB-X509"}.to_vec().unwrap(),
        ] {
            assert_eq!(logged_in(ReplyKind::SaslStart, &body), AttributeValue::Unknown, "{body:?}");
        }
    }

    #[test]
    fn a_hello_names_program_and_driver() {
        let hello = doc! {"hello": 1, "client": {
            "application": {"name": "shop\n"}, "driver": {"name": "PyMongo", "version": "4.20.0"}
        }};
        let mut client = ClientState::default();
        client.read_hello(&hello.to_vec().unwrap());
        assert_eq!((client.app(), client.driver()), (Some("shop\u{fffd}"), Some("PyMongo 4.20.0")));
        client.read_hello(&doc! {"hello": 1}.to_vec().unwrap());
        assert_eq!(client.app(), Some("shop\u{fffd}"));
    }
}
