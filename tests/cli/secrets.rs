//! What is never said.

use crate::support::{
    client::RawClient,
    scripted::{Scripted, reply_to},
    tollgate::{self, Tollgate, mongo_config, output_of, tcp_config},
    wire::{op_msg, op_query},
};
use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};

const PASSWORD: &str = "hunter-two";
const PLAIN: &str = "\0alice\0hunter-two";
const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";
const FIRST: &str = "n,,n=alice,r=fyko+d2lbbFgONRv9qkxdawL";
const CHALLENGE: &str =
    "r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l,s=QSXCR+Q6sek8bf92,i=15000";
const PROOF: &str =
    "c=biws,r=fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
const VERIFIER: &str = "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=";

fn binary(text: &str) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: text.into() })
}

/// The ways in which this text might be written.
fn forms(secret: &str) -> [String; 4] {
    let bytes = secret.as_bytes();
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers = format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
    [secret.to_owned(), base64(bytes), hex, numbers]
}

/// Base64 of all the whole triples: the last characters would depend on what follows.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let triples = bytes.chunks_exact(3).map(|b| u32::from_be_bytes([0, b[0], b[1], b[2]]));
    let sextets = triples.flat_map(|t| [t >> 18, t >> 12, t >> 6, t]);
    sextets.map(|sextet| char::from(ALPHABET[sextet as usize % 64])).collect()
}

/// A whole login with SCRAM, and commands with passwords in them.
fn login() -> Vec<Vec<u8>> {
    let start = doc! { "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": binary(FIRST) };
    let with = |mut command: Document, db: &str| {
        command.insert("$db", db);
        command
    };
    let speculative = with(start.clone(), "admin");
    let hello = doc! {
        "hello": 1, "saslSupportedMechs": "admin.alice", "speculativeAuthenticate": speculative,
    };
    let proof = doc! { "saslContinue": 1, "conversationId": 1, "payload": binary(PROOF) };
    let plain = doc! { "saslStart": 1, "mechanism": "PLAIN", "payload": binary(PLAIN) };
    vec![
        op_query(1, "admin.$cmd", &hello),
        op_msg(2, &with(hello, "admin")),
        op_msg(3, &with(start, "admin")),
        op_msg(4, &with(proof, "admin")),
        op_msg(5, &with(plain, "$external")),
        op_msg(6, &with(doc! { "createUser": "alice", "pwd": PASSWORD, "roles": [] }, "admin")),
        // What people write into comments is theirs to know.
        op_msg(7, &with(doc! { "updateUser": "alice", "pwd": 1, "comment": PASSWORD }, "admin")),
    ]
}

#[test]
fn no_secret_of_a_login_is_ever_said() {
    let server = Scripted::answering(|message| {
        let document = message.document();
        let command = document.keys().next().map(String::as_str);
        let payload = binary(if command == Some("saslContinue") { VERIFIER } else { CHALLENGE });
        let sasl = doc! { "conversationId": 1, "done": false, "payload": payload, "ok": 1.0 };
        let reply = match command {
            Some("hello") => doc! { "speculativeAuthenticate": sasl, "ok": 1.0 },
            Some("saslStart" | "saslContinue") => sasl,
            _ => doc! { "ok": 1.0 },
        };
        reply_to(message, &reply)
    });
    let mut talkative = tollgate::program();
    talkative.env("TOLLGATE_LOG", "trace");
    let settings = "slower_than: 0.001ms, values: true";
    let tollgate = Tollgate::start_as(talkative, settings, &mongo_config(server.address(), ""));
    let mut client = RawClient::connect(tollgate.listener("db"));
    let messages = login();
    messages.iter().for_each(|message| drop(client.round_trip(message)));
    // All of it passed, and was seen.
    assert_eq!(server.bytes(messages.concat().len()), messages.concat());
    tollgate.logged(7, |_| true);
    drop(client);
    // Nor of what cannot be read, although that is reported.
    let mut stray = RawClient::connect(tollgate.listener("db"));
    stray.send(format!("GET /?password={PASSWORD} HTTP/1.1\r\n\r\n").as_bytes());
    stray.read_until_close();
    tollgate.wait_for_metric("tollgate_violations_total", &[("kind", "looks_like_http")], 1.0);
    tollgate.wait_for_metric("tollgate_connections_active", &[], 0.0);
    let outputs = tollgate.outputs();
    let all: String = outputs.iter().map(|(_, output)| output.as_str()).collect();
    for seen in ["saslStart", "saslContinue", "createUser", "DEBUG", "looks_like_http"] {
        assert!(all.contains(seen), "no {seen}: nothing to be tested here");
    }
    assert_eq!(base64(b"hunter"), "aHVudGVy");
    let secrets = [PASSWORD, PLAIN, NONCE, FIRST, CHALLENGE, PROOF, VERIFIER];
    for secret in secrets.into_iter().flat_map(forms) {
        for (place, output) in &outputs {
            assert!(!output.contains(&secret), "{secret:?} in the {place}");
        }
    }
}

/// Output about arguments and files that contain a pasted URI.
#[test]
fn no_password_of_a_pasted_uri_is_ever_said() {
    const URI: &str = "mongodb://user:s3cret@db:27017/shop?replicaSet=rs0";
    let file = crate::File::new(&format!(
        "listeners: {{ db: {{ address: \"{URI}\", protocol: mongo, cluster: c }} }}\n\
         clusters: {{ c: {{ endpoints: [\"{URI}\"], health_check: \"{URI}\", \"{URI}\": 1 }} }}\n\
         zone: {URI}\npolicies: [{{ name: p, deny: {{}}, match: {{ listener: \"{URI}\" }} }}]\n"
    ));
    let path = file.path();
    let good = tcp_config("127.0.0.1:1".parse().unwrap(), "");
    let good = crate::File::new(&good);
    for arguments in [
        &["check", "-c", &path][..],
        &["check", "-c", &path, "--format", "json"],
        &["check", "-c", URI],
        &["check", "-c", &good.path(), "--explain", URI],
        &["check", "-c", &good.path(), "--explain", &format!("tcp session listener={URI}")],
        &["run", "-c", &path],
        &["proxy", "mongo", ":0", URI],
        &["proxy", "mongo", URI, "db:27017"],
        &["proxy", URI, ":0", "db:27017"],
        &["proxy", "mongo", ":0", "db:27017", URI],
        &["proxy", "mongo", ":0", "db:27017", "--admin", URI],
        &["top", "--once", URI],
        &["top", "--interval", URI],
        &[URI],
    ] {
        let output = output_of(arguments);
        assert_ne!(output.code, Some(0), "{arguments:?}");
        assert!(!output.out.is_empty() || !output.err.is_empty(), "{arguments:?}");
        for text in [&output.out, &output.err] {
            assert!(!text.contains("s3cret"), "{arguments:?}: {text}");
        }
    }
    let check = output_of(&["check", "-c", &path]);
    assert!(check.out.contains("hint: write host and port alone: `db:27017`"), "{check:?}");
}

#[test]
fn no_password_is_ever_said_in_answers_of_the_admin_interface() {
    const URI: &str = "mongodb://user:s3cret@db:27017";
    let config = mongo_config("127.0.0.1:9".parse().unwrap(), "");
    let tollgate = Tollgate::start(&format!("{config}policies: [{{ name: p, deny: {{}} }}]\n"));
    for (method, path, body) in [
        (
            "PUT",
            "/policies/p",
            format!("{{\"match\": {{\"listener\": \"{URI}\"}}, \"deny\": {{}}}}"),
        ),
        ("PUT", "/policies/p", format!("{{\"rate_limit\": {{\"rate\": \"{URI}\"}}}}")),
        ("PUT", "/policies/p", format!("{{\"{URI}\": 1}}")),
        ("PUT", "/policies/user:s3cret@db", "{\"enabled\": false}".to_owned()),
        ("POST", "/faults", format!("{{\"deny\": {{}}, \"for\": \"{URI}\"}}")),
        ("POST", "/clusters/c/endpoints/user:s3cret@db:1", "{\"state\": \"drained\"}".to_owned()),
        ("POST", "/clusters/c/endpoints/x", format!("{{\"state\": \"{URI}\"}}")),
        ("POST", "/user:s3cret@db", String::new()),
    ] {
        let (status, answer) = tollgate.send(method, path, &body);
        assert!((400..500).contains(&status), "{path} {body}: {status} {answer}");
        assert!(!answer.contains("s3cret"), "{path} {body}: {answer}");
    }
}
