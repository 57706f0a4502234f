//! Guards that go by the user.

use crate::{
    message_of,
    support::{
        client::RawClient,
        scripted::{Scripted, reply_to},
        tollgate::Tollgate,
        wire::op_msg,
    },
    with,
};
use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};

fn payload(user: &str) -> Bson {
    let bytes = format!("n,,n={user},r=nonce").into_bytes();
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })
}

fn start(user: &str) -> Document {
    doc! { "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": payload(user) }
}

/// A server that logs everybody in at once.
fn trusting() -> Scripted {
    Scripted::answering(|asked| {
        let document = asked.document();
        let done = document.contains_key("saslStart");
        reply_to(asked, &doc! { "done": done, "conversationId": 1, "ok": 1.0 })
    })
}

#[test]
fn the_user_attribute_has_the_name_and_the_database() {
    let server = trusting();
    let policies =
        "  - { name: exempt, match: { operation: count, not: { user: root@admin } }, deny: {} }\n";
    let tollgate = Tollgate::mongo_guarded(server.address(), "", policies);
    let log_in = |start: &[u8]| {
        let mut client = RawClient::connect(tollgate.listener("db"));
        client.round_trip(start);
        let reply = client.round_trip(&op_msg(2, &doc! { "count": "c", "$db": "shop" })).document();
        (reply.get_i32("code").unwrap_or(0), reply.get_str("errmsg").unwrap_or_default().to_owned())
    };
    let of = |document: &Document, database: &str| {
        let mut document = document.clone();
        document.insert("$db", database);
        op_msg(1, &document)
    };
    assert_eq!(log_in(&of(&start("root"), "admin")).0, 0);
    assert_eq!(log_in(&of(&start("mallory"), "admin")).0, 13);
    assert_eq!(log_in(&of(&start("root"), "tenant7")).0, 13);
    // Two logins at a time prove no user.
    let mut beside = start("mallory");
    beside.insert("speculativeAuthenticate", start("root"));
    assert_eq!(log_in(&of(&beside, "admin")).0, 13);
    let twice = with(&start("root"), &[doc! { "payload": payload("mallory"), "$db": "admin" }]);
    assert_eq!(log_in(&message_of(1, &twice)).0, 13);
    // One that can't be read makes the user unknown, which is said.
    let kerberos = doc! { "saslStart": 1, "mechanism": "GSSAPI", "payload": payload("root") };
    let (code, why) = log_in(&of(&kerberos, "$external"));
    assert!(code == 13 && why.contains("(its `user` is not known)"), "{why}");
    let lines = tollgate.logged(1, |line| line["operation"] == "count" && line["outcome"] == "ok");
    assert_eq!(lines[0]["user"], "root@admin");
}
