//! What a connection tells about the program and the person behind it.

use crate::{
    comment::clean,
    element::{Element, elements, kind},
};

/// The longest user name, application name or driver that is kept, in bytes.
const LONGEST: usize = 128;

/// Facts about a client, learned from its handshake (specifications, mongodb-handshake).
#[derive(Debug, Default)]
pub(crate) struct Client {
    app: Option<Box<str>>,
    driver: Option<Box<str>>,
    user: Option<Box<str>>,
    claim: Claim,
    backs_off: bool,
}

/// A name that is claimed and not proved yet.
#[derive(Debug, Default)]
struct Claim {
    /// Counts the claims, so that the end of one is not taken for the end of another.
    number: u32,
    user: Option<Box<str>>,
    /// One step proves it, so its reply says nothing about `done`.
    one_step: bool,
}

impl Client {
    /// The application's own name.
    pub(crate) fn app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// The driver and its version: `PyMongo 4.20.0`.
    pub(crate) fn driver(&self) -> Option<&str> {
        self.driver.as_deref()
    }

    /// The user's name, once the server has accepted the proof.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether its driver knows how to back off and try again (specifications,
    /// client-backpressure).
    pub(crate) fn backs_off(&self) -> bool {
        self.backs_off
    }

    /// Reads a `hello`. Only a connection's first one has the `client` document.
    pub(crate) fn greet(&mut self, hello: &[u8]) {
        // A version, `"2"`; the first drivers to know of it said `true`.
        let knows =
            |field: Element<'_>| field.truthy() || field.text().is_some_and(|it| !it.is_empty());
        self.backs_off |= field(hello, b"backpressure").is_some_and(knows);
        let Some(client) = field(hello, b"client").and_then(|client| document(&client)) else {
            return;
        };
        let text = |outer: &[u8], inner: &[u8]| {
            let outer = field(client, outer)?;
            field(document(&outer)?, inner)?.text()
        };
        if let Some(app) = text(b"application", b"name") {
            self.app = Some(clean(app, LONGEST).into());
        }
        if let Some(driver) = text(b"driver", b"name") {
            // Wrapping libraries append theirs after a `|`, and an empty one leaves it behind.
            let driver = match text(b"driver", b"version") {
                Some(version) => format!("{driver} {}", version.trim_end_matches('|')),
                None => driver.to_owned(),
            };
            self.driver = Some(clean(&driver, LONGEST).into());
        }
    }

    /// Begins an authentication: `saslStart`, `authenticate`, or a `hello` that carries one of
    /// them. Returns its number.
    pub(crate) fn claim(&mut self, body: &[u8]) -> u32 {
        let speculative = field(body, b"speculativeAuthenticate");
        let body = speculative.and_then(|field| document(&field)).unwrap_or(body);
        let one_step = field(body, b"saslStart").is_none();
        let user = if one_step {
            field(body, b"user").and_then(|user| user.text()).map(str::to_owned)
        } else {
            sasl_user(body)
        };
        self.claim = Claim {
            number: self.claim.number.wrapping_add(1).max(1),
            user: user
                .filter(|user| user.len() <= LONGEST)
                .map(|user| clean(&user, LONGEST).into()),
            one_step,
        };
        self.claim.number
    }

    /// The number of the authentication under way; 0 if there is none.
    pub(crate) fn claimed(&self) -> u32 {
        self.claim.user.as_ref().map_or(0, |_| self.claim.number)
    }

    /// Takes note of the server's answer to a step of the authentication with this number.
    ///
    /// Requests may be sent without waiting for replies; so an answer counts only for the claim
    /// that was the latest when its request was sent, and still is.
    pub(crate) fn answered(&mut self, number: u32, ok: bool, done: bool) {
        if number != self.claim.number {
            return;
        }
        if ok && (done || self.claim.one_step) {
            self.user = self.claim.user.take();
        } else if !ok {
            self.claim.user = None;
        }
    }
}

/// The user's name in the first message of a SASL conversation.
fn sasl_user(start: &[u8]) -> Option<String> {
    let payload = field(start, b"payload")?.binary()?;
    let payload = std::str::from_utf8(payload).ok()?;
    match field(start, b"mechanism")?.text()? {
        // RFC 4616: authorization identity, user, password, between NULs.
        "PLAIN" => payload.split('\0').nth(1).map(str::to_owned),
        // RFC 5802: `n,,n=user,r=nonce`, with commas and equal signs written `=2C` and `=3D`.
        mechanism if mechanism.starts_with("SCRAM-") => {
            let user = payload.split(',').nth(2)?.strip_prefix("n=")?;
            Some(user.replace("=2C", ",").replace("=3D", "="))
        }
        _ => None,
    }
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
    use bson::{Binary, Document, doc, spec::BinarySubtype};

    fn payload(text: &str) -> Binary {
        Binary { subtype: BinarySubtype::Generic, bytes: text.as_bytes().to_vec() }
    }

    fn claim(client: &mut Client, body: &Document) -> u32 {
        client.claim(&body.to_vec().unwrap())
    }

    fn scram(user: &str) -> Document {
        let first = format!("n,,n={user},r=abc");
        doc! {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": payload(&first)}
    }

    #[test]
    fn a_user_counts_when_the_last_step_is_done() {
        let mut client = Client::default();
        let number = claim(&mut client, &scram("a=2Cb=3Dc"));
        client.answered(number, true, false);
        assert_eq!(client.user(), None);
        assert_eq!(client.claimed(), number);
        client.answered(number, true, true);
        assert_eq!(client.user(), Some("a,b=c"));
    }

    #[test]
    fn a_failed_proof_proves_nothing() {
        let mut client = Client::default();
        let number = claim(&mut client, &scram("eve"));
        client.answered(number, false, true);
        assert_eq!((client.user(), client.claimed()), (None, 0));
        client.answered(number, true, true);
        assert_eq!(client.user(), None);
    }

    #[test]
    fn nobody_passes_for_another_by_claiming_twice() {
        let mut client = Client::default();
        let own = claim(&mut client, &scram("mallory"));
        let step = client.claimed();
        let other = claim(&mut client, &scram("root"));
        assert_ne!(own, other);
        client.answered(step, true, true);
        assert_eq!(client.user(), None);
    }

    #[test]
    fn one_step_mechanisms_need_no_done() {
        let mut client = Client::default();
        let x509 = doc! {"authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=app"};
        let number = claim(&mut client, &x509);
        client.answered(number, true, false);
        assert_eq!(client.user(), Some("CN=app"));
        let plain =
            doc! {"saslStart": 1, "mechanism": "PLAIN", "payload": payload("\0bob\0secret")};
        let number = claim(&mut client, &doc! {"hello": 1, "speculativeAuthenticate": plain});
        client.answered(number, true, true);
        assert_eq!(client.user(), Some("bob"));
    }

    #[test]
    fn a_greeting_tells_program_and_driver() {
        let hello = doc! {"hello": 1, "client": {
            "application": {"name": "shop\n"}, "driver": {"name": "PyMongo", "version": "4.20.0"}
        }};
        let mut client = Client::default();
        client.greet(&hello.to_vec().unwrap());
        assert_eq!((client.app(), client.driver()), (Some("shop\u{fffd}"), Some("PyMongo 4.20.0")));
        client.greet(&doc! {"hello": 1}.to_vec().unwrap());
        assert_eq!(client.app(), Some("shop\u{fffd}"));
    }
}
