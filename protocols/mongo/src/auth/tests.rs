use super::*;
use crate::{
    header::HEADER_LEN,
    sasl::{ClientFirst, ServerExchange},
};
use bson::{Binary, Document, doc, spec::BinarySubtype};
use bytes::BytesMut;
use operation::HandshakeStep;

const SECOND: Duration = Duration::from_secs(1);

/// One that asks the server for users, as the user `viewer`.
fn authenticator() -> (Arc<Authenticator>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let password_file = directory.path().join("viewer");
    std::fs::write(&password_file, "viewing\n").unwrap();
    let (user, db) = ("viewer".to_owned(), "admin".to_owned());
    let lookup = Some(crate::LookupAccount { user, db, password_file });
    let settings = AuthSettings { lookup, ..AuthSettings::default() };
    (Arc::new(Authenticator::new(&settings, Arc::default()).unwrap()), directory)
}

fn ann() -> UserName {
    UserName::new("ann", "admin")
}

fn verifier(password: &str) -> Arc<Verifier> {
    let password = Password::new(Zeroizing::new(password.to_owned()));
    let salt = Verifier::new_salt(Mechanism::ScramSha256).unwrap();
    Arc::new(Verifier::of_password(Mechanism::ScramSha256, "ann", &password, salt))
}

fn secret(password: &str) -> ClientSecret {
    Password::new(Zeroizing::new(password.to_owned())).into()
}

/// Logs ann in with a key that a proof has yielded.
fn log_in(authenticator: &Authenticator, verifier: &Arc<Verifier>) -> Arc<UserLogin> {
    authenticator.learn(&ann(), UserAnswer::Known(vec![Arc::clone(verifier)]));
    authenticator.log_in(&ann(), verifier, secret("s3cret"))
}

fn notice(authenticator: &Authenticator) -> String {
    authenticator.notices.pop().unwrap_or_default()
}

#[test]
fn log_ins_with_one_verifier_are_one() {
    let (authenticator, _directory) = authenticator();
    let stored = verifier("s3cret");
    let (first, second) = (log_in(&authenticator, &stored), log_in(&authenticator, &stored));
    assert!(Arc::ptr_eq(&first, &second));
    let pool_user = &first.upstream.pool_user;
    assert_eq!(&*pool_user.name, "ann@admin");
    assert!(authenticator.upstream_user(pool_user).is_some());
}

#[test]
fn a_changed_password_ends_the_log_in() {
    let (authenticator, _directory) = authenticator();
    let before = log_in(&authenticator, &verifier("s3cret"));
    let after = log_in(&authenticator, &verifier("other"));
    assert_eq!(before.revocation(), Some(Revocation::PasswordChanged));
    assert!(authenticator.upstream_user(&before.upstream.pool_user).is_none());
    assert_eq!(after.revocation(), None);
    assert_ne!(before.upstream.pool_user, after.upstream.pool_user);
    assert!(notice(&authenticator).contains("`ann@admin`"));
}

#[test]
fn a_dropped_user_s_log_in_ends() {
    let (authenticator, _directory) = authenticator();
    let login = log_in(&authenticator, &verifier("s3cret"));
    authenticator.lookup_failed(&ann(), "error 13 Unauthorized");
    assert_eq!(login.revocation(), None, "that says nothing about the user");
    authenticator.learn(&ann(), UserAnswer::Unknown);
    assert_eq!(login.revocation(), Some(Revocation::Dropped));
}

#[test]
fn a_refused_key_ends_the_log_in() {
    let (authenticator, _directory) = authenticator();
    let stored = verifier("s3cret");
    let login = log_in(&authenticator, &stored);
    authenticator.refused(&login.upstream);
    assert_eq!(login.revocation(), Some(Revocation::Refused));
    let search = authenticator.verifier(&ann(), Mechanism::ScramSha256);
    assert_eq!(search, VerifierSearch::NotAsked, "the server is asked again");
    // The account of look-ups is not a client's.
    let viewer = authenticator.lookup.clone().unwrap();
    authenticator.refused(&viewer);
    assert!(authenticator.upstream_user(&viewer.pool_user).is_some());
}

#[test]
fn users_with_clients_are_asked_about_again() {
    let (authenticator, _directory) = authenticator();
    let start = Instant::now();
    assert!(authenticator.due_queries(start).is_empty());
    let login = log_in(&authenticator, &verifier("s3cret"));
    assert!(authenticator.due_queries(start + SECOND * 299).is_empty());
    assert_eq!(authenticator.due_queries(start + SECOND * 301).len(), 1);
    assert!(authenticator.due_queries(start + SECOND * 302).is_empty(), "it was asked");
    assert_eq!(authenticator.due_queries(start + SECOND * 312).len(), 1, "and not answered");
    drop(login);
}

#[test]
fn keys_without_clients_are_forgotten() {
    let (authenticator, _directory) = authenticator();
    let start = Instant::now();
    authenticator.due_queries(start);
    let login = log_in(&authenticator, &verifier("s3cret"));
    let user = login.upstream.pool_user.clone();
    authenticator.due_queries(start + SECOND * 100);
    drop(login);
    authenticator.due_queries(start + SECOND * 399);
    assert!(authenticator.upstream_user(&user).is_some(), "its connections may be used again");
    authenticator.due_queries(start + SECOND * 400);
    assert!(authenticator.upstream_user(&user).is_none());
}

/// The body of a message.
fn body_of(message: &[u8]) -> Document {
    Document::from_reader(&message[HEADER_LEN + 5..]).unwrap()
}

fn reply_to(request: u32, reply: &Document) -> Vec<u8> {
    crate::testing::answer(request, reply.clone())
}

/// What the server answers in the second and third step.
enum Server {
    Honest,
    /// It does not know the user's keys.
    Impostor,
    /// It refuses the proof with this code.
    Refuses(i32),
}

/// Runs the log-in of a pooled connection, at a server that has this verifier.
fn upstream_log_in(
    authenticator: &Arc<Authenticator>,
    user: Arc<UpstreamUser>,
    stored: &Arc<Verifier>,
    server: &Server,
) -> HandshakeStep {
    let mut login = UpstreamLogin::new(Arc::clone(authenticator), user);
    let hello = doc! { "saslSupportedMechs": ["SCRAM-SHA-256"], "ok": 1 }.to_vec().unwrap();
    assert_eq!(login.begin(&hello), HandshakeStep::Continue);
    let payload = |bytes: &[u8]| {
        doc! { "conversationId": 7, "done": false, "ok": 1,
        "payload": Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() } }
    };
    let mut out = BytesMut::new();
    login.write_request(2, &mut out);
    let start = body_of(&out);
    assert_eq!(start.get_str("mechanism").unwrap(), "SCRAM-SHA-256");
    let first = ClientFirst::parse(start.get_binary_generic("payload").unwrap()).unwrap();
    let exchange = ServerExchange::begin(&first, Arc::clone(stored), "server-nonce");
    let step = login.read_reply(2, &reply_to(2, &payload(exchange.server_first())));
    if step != HandshakeStep::Continue {
        return step;
    }
    out.clear();
    login.write_request(3, &mut out);
    let proof = body_of(&out);
    assert_eq!(proof.get_i32("conversationId").unwrap(), 7);
    let last = match server {
        Server::Refuses(code) => doc! { "ok": 0.0, "code": *code, "errmsg": "no" },
        Server::Impostor => payload(b"v=AAAA"),
        Server::Honest => {
            let proof = proof.get_binary_generic("payload").unwrap();
            let mut last = payload(&exchange.finish(proof).unwrap().server_final);
            last.insert("done", true);
            last
        }
    };
    login.read_reply(3, &reply_to(3, &last))
}

#[test]
fn the_proxy_logs_in_as_its_users() {
    let (authenticator, _directory) = authenticator();
    let stored = verifier("s3cret");
    let user = log_in(&authenticator, &stored).upstream.clone();
    let end = |server| upstream_log_in(&authenticator, Arc::clone(&user), &stored, &server);
    assert_eq!(end(Server::Honest), HandshakeStep::Done);
    assert!(matches!(end(Server::Impostor), HandshakeStep::Refused(_)));
    assert!(matches!(end(Server::Refuses(11600)), HandshakeStep::Failed(_)), "it shuts down");
    assert!(authenticator.upstream_user(&user.pool_user).is_some());
    let HandshakeStep::Refused(words) = end(Server::Refuses(18)) else { panic!("not refused") };
    assert!(words.contains("`ann@admin`") && words.contains("AuthenticationFailed"), "{words}");
    assert!(authenticator.upstream_user(&user.pool_user).is_none());
}

#[test]
fn a_question_names_the_user_alone() {
    let (authenticator, _directory) = authenticator();
    let mut query = authenticator.query(ann()).unwrap();
    assert_eq!(&*query.identity.user.as_ref().unwrap().name, "viewer@admin");
    let mut out = BytesMut::new();
    query.exchange.write_request(&mut out);
    let asked = body_of(&out);
    let user = doc! { "user": "ann", "db": "admin" };
    assert_eq!(asked.get_document("usersInfo").unwrap(), &user);
    let refusal = reply_to(1, &doc! { "ok": 0.0, "code": 13, "errmsg": "not authorized" });
    assert_eq!(query.exchange.read_reply(&refusal[..20]), HandshakeStep::NeedMore);
    assert_eq!(query.exchange.read_reply(&refusal), HandshakeStep::Done);
    let search = authenticator.verifier(&ann(), Mechanism::ScramSha256);
    assert_eq!(search, VerifierSearch::Unavailable);
    assert!(notice(&authenticator).contains("viewUser"));
    let unknown_user = reply_to(1, &doc! { "users": [], "ok": 1.0 });
    assert_eq!(query.exchange.read_reply(&unknown_user), HandshakeStep::Done);
    let search = authenticator.verifier(&ann(), Mechanism::ScramSha256);
    assert_eq!(search, VerifierSearch::Absent);
}

#[test]
fn an_authenticator_shows_no_secret() {
    let (authenticator, _directory) = authenticator();
    log_in(&authenticator, &verifier("s3cret"));
    let shown = format!("{authenticator:?}");
    assert!(shown.contains("ann") && !shown.contains("viewing") && !shown.contains("s3cret"));
}
