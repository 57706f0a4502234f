//! What is done with a fuzzer's bytes as messages of log-ins: those of clients, and those of servers.

use bson::{Binary, Document, doc, spec::BinarySubtype};
use bytes::BytesMut;
use mongo::{AuthSettings, AuthUser, Mongo, MongoListener, PoolHandshake, Settings};
use operation::{Codec, ConnectionInfo, HandshakeConfig, HandshakeStep, Next};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Bits of the first byte.
const SERVER: u8 = 1;
const IN_HELLO: u8 = 2;
const SHA_1: u8 = 4;
/// The bytes are the message of the log-in, not a whole reply.
const WRAPPED: u8 = 8;

/// The first byte says which side, and how; the second one how long the first message is. The rest is the
/// first message and the second one. Nothing of this may log in.
pub(crate) fn login(bytes: &[u8]) {
    let [how, len, rest @ ..] = bytes else { return };
    let (first, second) = rest.split_at(usize::from(*len).min(rest.len()));
    if how & SERVER != 0 { server(*how, first, second) } else { client(*how, first, second) }
}

/// A listener whose user `user` has a password.
fn listener() -> Arc<MongoListener> {
    static LISTENER: OnceLock<Arc<MongoListener>> = OnceLock::new();
    let listener = LISTENER.get_or_init(|| {
        let name = format!("tollgate-fuzz-{}", std::process::id());
        let password_file = std::env::temp_dir().join(name);
        std::fs::write(&password_file, "pencil").unwrap();
        let user = AuthUser {
            name: "user".to_owned(),
            db: "admin".to_owned(),
            password_file: Some(password_file.clone()),
            verifier_file: None,
            x509: None,
        };
        let log_in_as = Some("user".to_owned());
        let auth = Some(AuthSettings { users: vec![user], lookup: None, log_in_as });
        let listener = MongoListener::pooled(Settings { auth, ..Settings::default() });
        let listener = Arc::new(listener.logging_in().unwrap());
        std::fs::remove_file(password_file).unwrap();
        PoolHandshake(Arc::clone(&listener)).connected(&message(1, 1, &hello_reply()));
        listener
    });
    Arc::clone(listener)
}

/// Lets failed log-ins be forgotten, so that the next one is checked.
fn forget_failures() {
    static START: OnceLock<Instant> = OnceLock::new();
    static HOURS: AtomicU32 = AtomicU32::new(0);
    let hours = Duration::from_secs(3600) * HOURS.fetch_add(1, Relaxed);
    PoolHandshake(listener()).due_queries(*START.get_or_init(Instant::now) + hours);
}

fn client(how: u8, first: &[u8], second: &[u8]) {
    forget_failures();
    let peer = ([127, 0, 0, 1], 1).into();
    let mut codec = Mongo::new(&listener(), ConnectionInfo { peer, local: peer });
    let start = doc! {
        "saslStart": 1, "mechanism": mechanism(how), "payload": binary(first), "db": "admin",
        "$db": "admin",
    };
    let begin = match how & IN_HELLO {
        0 => start,
        _ => doc! { "hello": 1, "speculativeAuthenticate": start, "$db": "admin" },
    };
    let proof = doc! { "saslContinue": 1, "payload": binary(second), "$db": "admin" };
    let end = doc! { "saslContinue": 1, "payload": binary(b""), "$db": "admin" };
    for (id, request) in [begin, proof, end].iter().enumerate() {
        let bytes = message(id as u32, 0, request);
        let Ok(Next::Answer { len, mark }) = codec.request(&bytes) else {
            panic!("the proxy does not answer {request}")
        };
        assert_eq!((len, codec.refusal()), (bytes.len(), None));
        let mut out = BytesMut::new();
        codec.answer(mark.tag.unwrap(), &mut out);
        assert!(Document::from_reader(&out[21..]).is_ok());
        assert_eq!(codec.upstream_user(), None);
    }
}

fn server(how: u8, first: &[u8], second: &[u8]) {
    let handshake = PoolHandshake(listener());
    let identity = handshake.ready_identity().unwrap();
    let mut login = handshake.begin(&identity).unwrap();
    let mut hello = hello_reply();
    hello.insert("saslSupportedMechs", vec![mechanism(how)]);
    let mut out = BytesMut::new();
    login.write_request(&mut out);
    assert_eq!(login.read_reply(&message(9, 1, &hello)), HandshakeStep::Continue);
    for (id, bytes) in [(2, first), (3, second)] {
        out.clear();
        login.write_request(&mut out);
        let reply = match how & WRAPPED {
            0 => bytes.to_vec(),
            _ => {
                let done = id == 3;
                let reply = doc! { "payload": binary(bytes), "done": done, "ok": 1.0 };
                message(9, id, &reply)
            }
        };
        match login.read_reply(&reply) {
            HandshakeStep::Done => panic!("the server has proved nothing"),
            HandshakeStep::Continue => {}
            _ => return,
        }
    }
}

fn mechanism(how: u8) -> &'static str {
    if how & SHA_1 == 0 { "SCRAM-SHA-256" } else { "SCRAM-SHA-1" }
}

fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

fn hello_reply() -> Document {
    doc! { "isWritablePrimary": true, "maxWireVersion": 21, "ok": 1.0 }
}

/// An `OP_MSG`.
fn message(id: u32, answers: u32, body: &Document) -> Vec<u8> {
    let body = body.to_vec().unwrap();
    let mut out = Vec::new();
    for number in [21 + body.len() as u32, id, answers, 2013, 0] {
        out.extend(number.to_le_bytes());
    }
    out.push(0);
    out.extend(body);
    out
}

/// Messages that are nearly right, each with a name.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let messages = [
        (0, "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", "c=biws,r=fyko,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="),
        (IN_HELLO, "n,,n=us=2Cer,r=abc", "c=biws,r=abc,p=AAAA"),
        (SHA_1, "y,,n=user,r=abc", "c=eSws,r=abc,p="),
        (SERVER | WRAPPED, "r=abc,s=QSXCR+Q6sek8bf92,i=4096", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="),
        (SERVER | WRAPPED | SHA_1, "r=abc,s=c2FsdA==,i=1", "e=other-error"),
        (SERVER, "", ""),
    ];
    let seed = |(how, first, second): (u8, &str, &str)| {
        let name = format!("login-{how}");
        (name, [&[how, first.len() as u8], first.as_bytes(), second.as_bytes()].concat())
    };
    messages.into_iter().map(seed).collect()
}
