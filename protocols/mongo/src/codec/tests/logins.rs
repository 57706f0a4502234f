//! Clients that log in at the proxy.

use super::*;
use crate::{
    AuthSettings, AuthUser, Settings,
    sasl::{ClientExchange, ClientSecret, Mechanism, Password},
};
use bson::{Binary, Document, spec::BinarySubtype};
use bytes::Bytes;
use operation::RejectMode;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// A listener with the user `user` of `admin`, whose password is `pencil` (RFC 7677).
fn listener() -> Arc<MongoListener> {
    let verifier_file = "../../fixtures/config/pencil.verifier";
    let user = AuthUser {
        name: "user".to_owned(),
        db: "admin".to_owned(),
        password_file: None,
        verifier_file: Some(PathBuf::from(verifier_file)),
        x509: None,
    };
    listener_of(AuthSettings { users: vec![user], ..AuthSettings::default() })
}

fn listener_of(auth: AuthSettings) -> Arc<MongoListener> {
    let auth = Some(auth);
    let listener = MongoListener::pooled(Settings { auth, ..Settings::default() });
    let listener = listener.logging_in().unwrap();
    let hello = doc! { "maxWireVersion": 21, "ok": 1.0 }.to_vec().unwrap();
    listener.presentation.as_ref().unwrap().record_members(&[Bytes::from(hello)]);
    Arc::new(listener)
}

/// What happens to a request.
#[derive(Debug)]
enum Sent {
    /// The proxy answers: the step, and the reply.
    Answered(LocalAnswer, Document),
    /// The server gets it.
    Passed,
    Refused(Rejection),
}

fn send(codec: &mut Mongo, request: Document) -> Sent {
    send_bytes(codec, &command(7, request))
}

fn send_bytes(codec: &mut Mongo, bytes: &[u8]) -> Sent {
    let next = codec.request(bytes).unwrap();
    if let Some(no) = codec.refusal() {
        return Sent::Refused(no);
    }
    let Next::Answer { len, mark } = next else { return Sent::Passed };
    assert_eq!(len, bytes.len());
    let mut out = BytesMut::new();
    let step = codec.answer(mark.tag.unwrap(), &mut out);
    let reply = out.get(21..).map(|body| Document::from_reader(body).unwrap());
    Sent::Answered(step, reply.unwrap_or_default())
}

/// The reply to a request that the proxy answers.
fn answered(codec: &mut Mongo, request: Document) -> Document {
    match send(codec, request) {
        Sent::Answered(_, reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// Whether the server gets a `find` of this client.
fn may_find(codec: &mut Mongo) -> bool {
    match send(codec, doc! { "find": "orders", "$db": "shop" }) {
        Sent::Passed => true,
        Sent::Refused(no) => {
            assert_eq!(&*no.message, "command find requires authentication");
            assert_eq!((no.reason, no.mode), (RejectReason::Denied, RejectMode::Reply));
            false
        }
        other @ Sent::Answered(..) => panic!("{other:?}"),
    }
}

fn payload(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

fn start(mechanism: &str, first: &[u8]) -> Document {
    doc! {
        "saslStart": 1, "mechanism": mechanism, "payload": payload(first),
        "options": { "skipEmptyExchange": true }, "$db": "admin",
    }
}

fn proceed(message: &[u8]) -> Document {
    doc! { "saslContinue": 1, "conversationId": 1, "payload": payload(message), "$db": "admin" }
}

fn secret(password: &str) -> ClientSecret {
    Password::new(Zeroizing::new(password.to_owned())).into()
}

fn exchange(user: &str) -> ClientExchange {
    ClientExchange::begin(Mechanism::ScramSha256, user, "fyko+d2lbbFgONRv9qkxdawL".to_owned())
}

/// Logs in by `saslStart` and `saslContinue`. Returns the last reply.
fn log_in(codec: &mut Mongo, user: &str, password: &str) -> Document {
    let mut client = exchange(user);
    let first = answered(codec, start("SCRAM-SHA-256", &client.client_first()));
    if first.get_f64("ok").unwrap() == 0.0 {
        return first;
    }
    let server_first = first.get_binary_generic("payload").unwrap();
    let proof = client.prove(server_first, &secret(password)).unwrap();
    let last = answered(codec, proceed(&proof));
    if let Ok(server_final) = last.get_binary_generic("payload") {
        client.finish(server_final).unwrap();
    }
    last
}

fn error(reply: &Document) -> (i32, &str) {
    (reply.get_i32("code").unwrap(), reply.get_str("errmsg").unwrap())
}

/// The error of a log-in that does not say why.
const DENIED: (i32, &str) = (18, "Authentication failed.");

#[test]
fn a_client_logs_in_and_out() {
    let mut codec = codec_of(&listener());
    assert!(!may_find(&mut codec));
    assert_eq!(codec.upstream_user(), None);
    let last = log_in(&mut codec, "user", "pencil");
    assert!(last.get_bool("done").unwrap() && last.get_f64("ok").unwrap() == 1.0, "{last}");
    assert!(may_find(&mut codec));
    assert_eq!(&*codec.upstream_user().unwrap().name, "user@admin");
    assert_eq!(codec.attribute(&[], "user"), AttributeValue::known("user@admin"));
    assert_eq!(codec.upstream_use(), UpstreamUse::Free);
    answered(&mut codec, doc! { "logout": 1, "$db": "admin" });
    assert!(!may_find(&mut codec));
    assert_eq!(codec.attribute(&[], "user"), AttributeValue::Absent);
}

#[test]
fn clients_of_a_user_are_one_user_of_the_pool() {
    let listener = listener();
    let users = [(); 2].map(|()| {
        let mut codec = codec_of(&listener);
        log_in(&mut codec, "user", "pencil");
        codec.upstream_user().unwrap().clone()
    });
    assert_eq!(users[0], users[1]);
}

#[test]
fn hello_begins_a_log_in() {
    let mut codec = codec_of(&listener());
    let mut client = exchange("user");
    let step = doc! {
        "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": payload(&client.client_first()),
        "db": "admin", "options": { "skipEmptyExchange": true },
    };
    let hello = doc! {
        "hello": 1, "saslSupportedMechs": "admin.user", "speculativeAuthenticate": step, "$db": "admin",
    };
    let reply = answered(&mut codec, hello);
    let mechanisms = reply.get_array("saslSupportedMechs").unwrap();
    assert_eq!(mechanisms, &["SCRAM-SHA-256".into()]);
    let step = reply.get_document("speculativeAuthenticate").unwrap();
    let server_first = step.get_binary_generic("payload").unwrap();
    assert!(!may_find(&mut codec));
    // The command in between has ended nothing.
    let proof = client.prove(server_first, &secret("pencil")).unwrap();
    let last = answered(&mut codec, proceed(&proof));
    client.finish(last.get_binary_generic("payload").unwrap()).unwrap();
    assert!(may_find(&mut codec));
}

#[test]
fn without_skip_empty_exchange_an_empty_message_ends_it() {
    let mut codec = codec_of(&listener());
    let mut client = exchange("user");
    let mut begin = start("SCRAM-SHA-256", &client.client_first());
    begin.remove("options");
    let first = answered(&mut codec, begin);
    let server_first = first.get_binary_generic("payload").unwrap();
    let proof = client.prove(server_first, &secret("pencil")).unwrap();
    assert!(!answered(&mut codec, proceed(&proof)).get_bool("done").unwrap());
    assert!(!may_find(&mut codec), "it is not over");
    assert!(answered(&mut codec, proceed(b"")).get_bool("done").unwrap());
    assert!(may_find(&mut codec));
}

#[test]
fn wrong_passwords_and_unknown_users_get_one_answer() {
    let mut codec = codec_of(&listener());
    assert_eq!(error(&log_in(&mut codec, "user", "pen")), DENIED);
    assert_eq!(error(&log_in(&mut codec, "eve", "pencil")), DENIED);
    let first = exchange("user").client_first();
    let mut other_database = start("SCRAM-SHA-256", &first);
    other_database.insert("$db", "shop");
    assert_eq!(error(&answered(&mut codec, other_database)), DENIED);
    // There is no verifier for it.
    let weaker = answered(&mut codec, start("SCRAM-SHA-1", &first));
    assert_eq!(error(&weaker), DENIED);
    assert!(!may_find(&mut codec));
    assert_eq!(codec.attribute(&[], "user"), AttributeValue::Absent);
}

#[test]
fn a_failed_log_in_is_counted_as_one() {
    let mut codec = codec_of(&listener());
    let eve = exchange("eve").client_first();
    let Sent::Answered(step, _) = send(&mut codec, start("SCRAM-SHA-256", &eve)) else {
        panic!("it is not answered")
    };
    assert_eq!(step, LocalAnswer::Failed("AuthenticationFailed"));
}

#[test]
fn a_proof_is_good_for_one_log_in() {
    let listener = listener();
    let mut codec = codec_of(&listener);
    let mut client = exchange("user");
    let begin = start("SCRAM-SHA-256", &client.client_first());
    let first = answered(&mut codec, begin.clone());
    let server_first = first.get_binary_generic("payload").unwrap();
    let proof = client.prove(server_first, &secret("pencil")).unwrap();
    // Recorded, and sent on another connection, and again on this one.
    let mut thief = codec_of(&listener);
    answered(&mut thief, begin.clone());
    assert_eq!(error(&answered(&mut thief, proceed(&proof))).0, 18);
    assert!(answered(&mut codec, proceed(&proof)).get_bool("done").unwrap());
    answered(&mut codec, doc! { "logout": 1, "$db": "admin" });
    assert_eq!(error(&answered(&mut codec, proceed(&proof))).0, 18);
    answered(&mut codec, begin);
    assert_eq!(error(&answered(&mut codec, proceed(&proof))).0, 18);
    assert!(!may_find(&mut codec) && !may_find(&mut thief));
}

#[test]
fn broken_log_ins_are_refused() {
    let mut codec = codec_of(&listener());
    for first in ["", "y,,n=user,r=abc", "p=tls-unique,,n=user,r=abc", "n,a=root,n=user,r=abc"] {
        let reply = answered(&mut codec, start("SCRAM-SHA-256", first.as_bytes()));
        assert_eq!(error(&reply).0, 18, "{first}");
    }
    for proof in [&b""[..], b"c=biws,r=abc,p=AAAA", &[0xff; 5000]] {
        assert_eq!(error(&answered(&mut codec, proceed(proof))).0, 18);
        answered(&mut codec, start("SCRAM-SHA-256", &exchange("user").client_first()));
    }
    let no_payload = doc! { "saslStart": 1, "mechanism": "SCRAM-SHA-256", "$db": "admin" };
    assert_eq!(error(&answered(&mut codec, no_payload)).0, 18);
    assert!(!may_find(&mut codec));
}

#[test]
fn guesses_are_limited() {
    let listener = listener();
    let mut codec = codec_of(&listener);
    let mut answers = Vec::new();
    for guess in 0..15 {
        let reply = log_in(&mut codec, "user", &format!("guess {guess}"));
        answers.push(error(&reply).1.to_owned());
    }
    let checked = answers.iter().filter(|words| **words == DENIED.1).count();
    assert_eq!(checked, 10, "{answers:?}");
    assert!(answers[14].contains("have failed"), "{answers:?}");
    let right = log_in(&mut codec_of(&listener), "user", "pencil");
    assert_eq!(error(&right).0, 18, "from this address the user can't log in now");
}

#[test]
fn guessed_names_do_not_lock_users_out() {
    let listener = listener();
    let mut codec = codec_of(&listener);
    let words: Vec<_> = (0..15)
        .map(|guess| error(&log_in(&mut codec, &format!("user{guess}"), "x")).1.to_owned())
        .collect();
    assert!(words[14].contains("have failed"), "{words:?}");
    assert!(log_in(&mut codec, "user", "pencil").get_bool("done").unwrap());
}

#[test]
fn strangers_may_ask_little() {
    let mut codec = codec_of(&listener());
    for allowed in ["ping", "buildInfo", "endSessions"] {
        let sent = send(&mut codec, doc! { allowed: 1, "$db": "admin" });
        assert!(matches!(sent, Sent::Passed), "{allowed}: {sent:?}");
    }
    for refused in [
        doc! { "insert": "orders", "documents": [{}], "$db": "shop" },
        doc! { "connectionStatus": 1, "$db": "admin" },
        doc! { "getMore": 1_i64, "collection": "orders", "$db": "shop" },
        doc! { "noSuchCommand": 1, "$db": "admin" },
    ] {
        let sent = send(&mut codec, refused.clone());
        assert!(matches!(sent, Sent::Refused(_)), "{refused}: {sent:?}");
    }
    // What has no reply, what is longer than its front, and what can't be read.
    let sent = send_bytes(&mut codec, &insert(1, 2, 1, 10));
    assert!(matches!(sent, Sent::Refused(_)), "{sent:?}");
    let long = insert(1, 0, 100, 10_000);
    assert!(matches!(codec.request(&long[..70_000]), Ok(Next::Pass { ends: false, .. })));
    assert!(codec.refusal().is_some());
    let mut codec = codec_of(&listener());
    let command = message(1, 0, 2010, &[0; 20]);
    let sent = send_bytes(&mut codec, &command);
    assert!(matches!(sent, Sent::Refused(_)), "{sent:?}");
}

#[test]
fn log_ins_without_a_reply_reach_no_server() {
    let mut codec = codec_of(&listener());
    let silent = |document: Document| msg(1, 0, 2, &[body(0, &document)]);
    for login in [
        start("SCRAM-SHA-256", &exchange("user").client_first()),
        proceed(b"x"),
        doc! { "hello": 1, "speculativeAuthenticate":
        start("SCRAM-SHA-256", b"n,,n=user,r=a"), "$db": "admin" },
    ] {
        let sent = send_bytes(&mut codec, &silent(login.clone()));
        assert!(matches!(sent, Sent::Refused(_)), "{login}: {sent:?}");
    }
}

#[test]
fn other_mechanisms_pass_to_the_server() {
    let listener = listener();
    for login in [
        start("MONGODB-AWS", b"x"),
        start("PLAIN", b"\0user\0pencil"),
        doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external" },
    ] {
        let mut codec = codec_of(&listener);
        assert!(matches!(send(&mut codec, login), Sent::Passed));
        assert_eq!(codec.upstream_use(), UpstreamUse::Own);
        // The server checks what its user may do.
        assert!(may_find(&mut codec));
        let continues = send(&mut codec, proceed(b"x"));
        assert!(matches!(continues, Sent::Passed), "{continues:?}");
    }
    let notices: Vec<_> = std::iter::from_fn(|| listener.notices.pop()).collect();
    let at_server = notices.iter().filter(|it| it.contains("which only the server can check"));
    assert_eq!(at_server.count(), 1, "{notices:?}");
}

/// A listener whose user `web` has a certificate.
fn listener_with_certificates() -> Arc<MongoListener> {
    let web = AuthUser {
        name: "web".to_owned(),
        db: "admin".to_owned(),
        password_file: Some(PathBuf::from("../../fixtures/config/lookup.password")),
        verifier_file: None,
        x509: Some("CN=web,O=Example".to_owned()),
    };
    listener_of(AuthSettings { users: vec![web], ..AuthSettings::default() })
}

fn by_certificate(user: Option<&str>) -> Document {
    let mut login = doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external" };
    user.into_iter().for_each(|user| drop(login.insert("user", user)));
    login
}

#[test]
fn a_certificate_logs_its_user_in() {
    let listener = listener_with_certificates();
    for name in [None, Some("CN=web,O=Example")] {
        let mut codec = codec_of(&listener);
        codec.client_certificate("CN=web,O=Example");
        let reply = answered(&mut codec, by_certificate(name));
        assert_eq!(reply.get_str("user").unwrap(), "CN=web,O=Example");
        assert!(may_find(&mut codec));
        assert_eq!(&*codec.upstream_user().unwrap().name, "web@admin");
        assert_eq!(codec.attribute(&[], "user"), AttributeValue::known("web@admin"));
        assert_eq!(codec.upstream_use(), UpstreamUse::Free);
    }
    assert_eq!(listener.notices.pop(), None);
}

#[test]
fn hello_logs_in_by_a_certificate_at_once() {
    let mut codec = codec_of(&listener_with_certificates());
    codec.client_certificate("CN=web,O=Example");
    let hello = doc! {
        "hello": 1, "speculativeAuthenticate": by_certificate(None), "$db": "admin",
    };
    let reply = answered(&mut codec, hello);
    let step = reply.get_document("speculativeAuthenticate").unwrap();
    assert_eq!(step.get_str("dbname").unwrap(), "$external");
    assert!(may_find(&mut codec));
    assert_eq!(codec.attribute(&[], "user"), AttributeValue::known("web@admin"));
}

#[test]
fn only_the_own_certificate_logs_in() {
    let listener = listener_with_certificates();
    for (certificate, name) in
        [("CN=other,O=Example", None), ("CN=web,O=Example", Some("CN=root,O=Example"))]
    {
        let mut codec = codec_of(&listener);
        codec.client_certificate(certificate);
        assert_eq!(error(&answered(&mut codec, by_certificate(name))), DENIED);
        assert!(!may_find(&mut codec));
        assert_eq!(codec.attribute(&[], "user"), AttributeValue::Absent);
    }
    // Without one, the server decides.
    let mut codec = codec_of(&listener);
    assert!(matches!(send(&mut codec, by_certificate(None)), Sent::Passed));
    assert_eq!(codec.upstream_use(), UpstreamUse::Own);
}

#[test]
fn a_second_user_of_a_connection_is_refused() {
    let mut codec = codec_of(&listener());
    log_in(&mut codec, "user", "pencil");
    let reply = log_in(&mut codec, "eve", "pencil");
    assert!(error(&reply).1.contains("one user at a time"), "{reply}");
    assert!(may_find(&mut codec));
    assert!(log_in(&mut codec, "user", "pencil").get_bool("done").unwrap(), "the same one may");
}

#[test]
fn without_auth_log_ins_pass() {
    let mut codec = codec_of(&Arc::new(MongoListener::pooled(Settings::default())));
    let sent = send(&mut codec, start("SCRAM-SHA-256", b"n,,n=user,r=abc"));
    assert!(matches!(sent, Sent::Passed), "{sent:?}");
    assert!(may_find(&mut codec));
    assert_eq!(codec.upstream_use(), UpstreamUse::Own);
}
