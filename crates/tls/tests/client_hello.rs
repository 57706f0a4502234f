//! The first bytes of a connection: a ClientHello cut at any place, and what is none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is all test, helpers too")]

use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};
use std::sync::Arc;
use tls::{
    ClientHello, FirstBytes, HandshakeFailure, MAX_CLIENT_HELLO, Plaintext, read_client_hello,
};

/// A ClientHello in one record.
fn hello(name: &str, alpn: &[&str]) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    let name = name.to_owned().try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same message in records of at most this many bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let (header, message) = hello.split_at(5);
    let record = |part: &[u8]| {
        [&header[..3], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

fn read(bytes: &[u8]) -> ClientHello {
    match read_client_hello(bytes) {
        FirstBytes::Hello(hello) => *hello,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hello_says_what_the_client_asks_for() {
    let bytes = hello("DB.Example.net", &["h2", "http/1.1"]);
    let hello = read(&bytes);
    assert_eq!(hello.server_name.as_deref(), Some("db.example.net"));
    assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(read(&self::hello("192.0.2.1", &[])).server_name, None);
}

#[test]
fn a_hello_may_be_cut_at_any_byte_and_into_records() {
    let bytes = hello("db.example.net", &[]);
    let whole = read(&bytes);
    for end in 0..bytes.len() {
        assert_eq!(read_client_hello(&bytes[..end]), FirstBytes::Incomplete, "{end}");
    }
    for size in [1, 7, 100, 200] {
        let records = in_records(&bytes, size);
        assert_eq!(read(&records), whole, "records of {size}");
        assert_eq!(read_client_hello(&records[..records.len() - 1]), FirstBytes::Incomplete);
    }
    let more = [&bytes[..], b"what follows"].concat();
    assert_eq!(read(&more), whole);
}

#[test]
fn other_protocols_are_recognised_by_their_first_bytes() {
    let mongo = [&[60u8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0][..], &2013u32.to_le_bytes()].concat();
    let cases: [(&[u8], Plaintext); 9] = [
        (b"GET / HTTP/1.1\r\n", Plaintext::Http),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Plaintext::Http),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n", Plaintext::ProxyHeader),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Plaintext::ProxyHeader),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Plaintext::Postgres),
        (b"\0\0\0\x11\0\x03\0\0user\0me\0\0", Plaintext::Postgres),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Plaintext::Ssh),
        (&mongo, Plaintext::Mongo),
        (b"EHLO mail.example.net\r\n", Plaintext::Unknown),
    ];
    for (bytes, protocol) in cases {
        assert_eq!(read_client_hello(bytes), FirstBytes::Plaintext(protocol), "{bytes:?}");
    }
    assert_eq!(read_client_hello(b"GE"), FirstBytes::Incomplete);
}

#[test]
fn a_broken_hello_is_answered_by_an_alert() {
    let mut bytes = hello("db.example.net", &[]);
    bytes[5] = 2;
    match read_client_hello(&bytes) {
        FirstBytes::Invalid(HandshakeFailure::Protocol, alert) => assert_eq!(alert[0], 0x15),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hello_without_an_end_is_refused() {
    let bytes = hello("db.example.net", &[]);
    let mut endless = in_records(&bytes, 1);
    endless.truncate(6);
    while endless.len() < MAX_CLIENT_HELLO + 6 {
        let record: Vec<u8> = endless[..6].to_vec();
        endless.extend_from_slice(&record);
    }
    let refused = matches!(read_client_hello(&endless), FirstBytes::Invalid(..));
    assert!(refused, "a hello of {} bytes is still waited for", endless.len());
}

#[test]
fn changed_hellos_never_panic() {
    let bytes = hello("db.example.net", &["h2"]);
    let mut random = fastrand::Rng::with_seed(16);
    for _ in 0..20_000 {
        let mut changed = bytes.clone();
        for _ in 0..random.usize(1..5) {
            let at = random.usize(..changed.len());
            changed[at] = random.u8(..);
        }
        changed.truncate(random.usize(..=changed.len()));
        let _ = read_client_hello(&changed);
    }
}
