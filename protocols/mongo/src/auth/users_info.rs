//! Asks a server for a user's verifiers, by `usersInfo` with `showCredentials`.

use super::{Authenticator, user_login::UserName, verifier_cache::UserAnswer};
use crate::{
    bson_writer::BsonWriter,
    element::{Element, elements, kind},
    error_reply,
    probe::{HelloReply, reply_body},
    sasl::{Mechanism, Verifier},
};
use bytes::BytesMut;
use operation::{Handshake, HandshakeStep};
use std::sync::Arc;

/// The request's id.
const REQUEST: u32 = 1;

/// A question for one user.
#[derive(Debug)]
pub(super) struct UsersInfo {
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) user: UserName,
}

impl Handshake for UsersInfo {
    fn write_request(&mut self, out: &mut BytesMut) {
        let mut user = BsonWriter::new();
        user.string("user", &self.user.name);
        user.string("db", &self.user.db);
        let mut body = BsonWriter::new();
        body.element(kind::DOCUMENT, b"usersInfo", &user.finish());
        body.boolean("showCredentials", true);
        body.string("$db", "admin");
        error_reply::message(REQUEST, 0, &body.finish(), out);
    }

    fn read_reply(&mut self, reply: &[u8]) -> HandshakeStep {
        let body = match reply_body(reply, REQUEST) {
            Ok(Some(body)) => body,
            Ok(None) => return HandshakeStep::NeedMore,
            Err(words) => return HandshakeStep::Failed(format!("the server {words}")),
        };
        let status = HelloReply::read(body);
        if status.ok {
            self.authenticator.learn(&self.user, read_users(body, &self.user));
        } else {
            self.authenticator.lookup_failed(&self.user, &status.error());
        }
        HandshakeStep::Done
    }
}

/// What a reply says about the user.
fn read_users(body: &[u8], user: &UserName) -> UserAnswer {
    let users = elements(body).find(|field| field.name == b"users" && field.kind == kind::ARRAY);
    let mut users = users.and_then(|users| users.elements()).into_iter().flatten();
    let found = users.find(|found| {
        let text = |name: &[u8]| field(found, name).and_then(|field| field.text());
        text(b"user") == Some(&*user.name) && text(b"db") == Some(&*user.db)
    });
    let Some(found) = found else { return UserAnswer::Unknown };
    let credentials = field(&found, b"credentials");
    let verifier = |mechanism: Mechanism| {
        read_verifier(&field(credentials.as_ref()?, mechanism.name().as_bytes())?, mechanism)
    };
    UserAnswer::Known(Mechanism::ALL.into_iter().filter_map(verifier).map(Arc::new).collect())
}

fn read_verifier(credential: &Element<'_>, mechanism: Mechanism) -> Option<Verifier> {
    let text = |name: &[u8]| field(credential, name)?.text();
    let iterations = field(credential, b"iterationCount")?.number()?.try_into().ok()?;
    let keys = [text(b"storedKey")?, text(b"serverKey")?];
    Verifier::of_parts(mechanism, text(b"salt")?, iterations, keys)
}

fn field<'a>(document: &Element<'a>, name: &[u8]) -> Option<Element<'a>> {
    document.elements()?.find(|field| field.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn the_verifiers_of_the_user_are_read() {
        let ann = UserName::new("ann", "shop");
        let key = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=";
        let scram = doc! {
            "iterationCount": 15000, "salt": "W22ZaJ0SNY7soEsUEjb6gQ==", "storedKey": key,
            "serverKey": key,
        };
        let of = |user: &str| {
            doc! {"user": user, "db": "shop", "credentials": {"SCRAM-SHA-256": scram.clone()}}
        };
        let read = |reply: &bson::Document| read_users(&reply.to_vec().unwrap(), &ann);
        let UserAnswer::Known(found) = read(&doc! {"users": [of("bob"), of("ann")], "ok": 1})
        else {
            panic!("the user is not found")
        };
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].mechanism, Mechanism::ScramSha256);
        assert_eq!(read(&doc! {"users": [of("bob")], "ok": 1}), UserAnswer::Unknown);
        assert_eq!(read(&doc! {"users": [], "ok": 1}), UserAnswer::Unknown);
        assert_eq!(read(&doc! {"ok": 1}), UserAnswer::Unknown);
        let external = doc! {"user": "ann", "db": "shop", "credentials": {"external": true}};
        assert_eq!(read(&doc! {"users": [external], "ok": 1}), UserAnswer::Known(Vec::new()));
    }
}
