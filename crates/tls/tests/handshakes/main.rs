//! Handshakes over sockets, with certificates that are made for each test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is all test, helpers too")]

mod authority;
mod records;

use authority::{Authority, Pair};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use std::{net::SocketAddr, path::Path};
use tls::{
    ClientCertificates, ClientTls, ClientTlsPlan, HandshakeFailure, MinVersion, ServerTls,
    ServerTlsPlan, TlsInfo, TlsStream,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

fn server_plan(pair: &Pair) -> ServerTlsPlan {
    ServerTlsPlan {
        certificates: vec![pair.files()],
        client_certificates: None,
        min_version: MinVersion::Tls12,
        alpn: Vec::new(),
        strict_names: false,
        allow_plaintext: false,
    }
}

fn client_plan(authority: &Authority) -> ClientTlsPlan {
    ClientTlsPlan { ca: Some(authority.file().to_owned()), ..ClientTlsPlan::default() }
}

type Ends = (Result<TlsStream, HandshakeFailure>, Result<TlsStream, HandshakeFailure>);

/// A connected pair of sockets: the client's, and the server's.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

/// What each side makes of a handshake: the client's end, and the server's.
async fn handshake(server: &ServerTls, client: &ClientTls, host: &str) -> Ends {
    let (near, far) = sockets().await;
    let client = async {
        let mut stream = client.connect(near, host).await?;
        // With TLS 1.3 the server may still refuse the client's certificate.
        match stream.read_u8().await {
            Ok(_) => Ok(stream),
            Err(error) => Err(HandshakeFailure::from_io(&error)),
        }
    };
    let server = async {
        let mut stream = TlsStream::server(far, server.config())?;
        stream.handshake().await?;
        stream.write_u8(b'!').await.unwrap();
        stream.flush().await.unwrap();
        Ok(stream)
    };
    tokio::join!(client, server)
}

async fn reasons(server: &ServerTlsPlan, client: &ClientTlsPlan, host: &str) -> [String; 2] {
    let server = ServerTls::load(server.clone()).unwrap();
    let client = ClientTls::load(client.clone()).unwrap();
    let (near, far) = handshake(&server, &client, host).await;
    let reason = |end: Result<TlsStream, HandshakeFailure>| match end {
        Ok(_) => "ok".to_owned(),
        Err(failure) => failure.reason().to_owned(),
    };
    [reason(near), reason(far)]
}

#[tokio::test]
async fn both_sides_agree_and_exchange_bytes() {
    let authority = Authority::new();
    let pair = authority.issue(&["db.example.net"]);
    let server = ServerTls::load(server_plan(&pair)).unwrap();
    let client = ClientTls::load(client_plan(&authority)).unwrap();
    let (near, far) = handshake(&server, &client, "db.example.net").await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    let TlsInfo { version, cipher, resumed, .. } = near.info(None);
    assert_eq!((version, resumed), ("1.3", false));
    assert!(cipher.starts_with("TLS13_AES"), "{cipher}");
    let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    let (mut got, mut back) = (vec![0; sent.len()], vec![0; 5]);
    let write = async {
        near.write_all(&sent).await.unwrap();
        near.flush().await.unwrap();
        near.read_exact(&mut back).await.unwrap();
    };
    let read = async {
        far.read_exact(&mut got).await.unwrap();
        far.write_all(b"reply").await.unwrap();
        far.flush().await.unwrap();
    };
    tokio::join!(write, read);
    assert!(sent == got, "bytes were changed");
    assert_eq!(back, b"reply");
}

#[tokio::test]
async fn only_close_notify_is_a_complete_end() {
    let authority = Authority::new();
    let pair = authority.issue(&["db.example.net"]);
    let server = ServerTls::load(server_plan(&pair)).unwrap();
    let client = ClientTls::load(client_plan(&authority)).unwrap();
    for orderly in [true, false] {
        let (near, far) = handshake(&server, &client, "db.example.net").await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        if orderly {
            near.shutdown().await.unwrap();
        } else {
            near.abort();
            drop(near);
        }
        assert_eq!(far.read(&mut [0; 16]).await.unwrap(), 0);
        assert_eq!(far.is_truncated(), !orderly);
    }
}

#[tokio::test]
async fn an_idle_connection_differs_from_an_ended_one() {
    let authority = Authority::new();
    let pair = authority.issue(&["db.example.net"]);
    let server = ServerTls::load(server_plan(&pair)).unwrap();
    let client = ClientTls::load(client_plan(&authority)).unwrap();
    let (near, far) = handshake(&server, &client, "db.example.net").await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    assert!(near.is_idle(), "session tickets are no payload");
    far.shutdown().await.unwrap();
    near.tcp().readable().await.unwrap();
    while near.is_idle() {
        near.tcp().readable().await.unwrap();
    }
    assert!(!near.is_truncated());
}

#[tokio::test]
async fn a_client_comes_back_with_its_session() {
    let authority = Authority::new();
    let pair = authority.issue(&["db.example.net"]);
    for min_version in [MinVersion::Tls12, MinVersion::Tls13] {
        let server = ServerTls::load(ServerTlsPlan { min_version, ..server_plan(&pair) }).unwrap();
        let client = ClientTls::load(client_plan(&authority)).unwrap();
        let mut resumed = Vec::new();
        for _ in 0..2 {
            let (near, far) = handshake(&server, &client, "db.example.net").await;
            resumed.push((near.unwrap().info(None).resumed, far.unwrap().info(None).resumed));
        }
        assert_eq!(resumed, [(false, false), (true, true)]);
    }
}

#[tokio::test]
async fn client_certificates_switch_off_resumption() {
    let authority = Authority::new();
    let (pair, own) = (authority.issue(&["db.example.net"]), authority.issue(&["client"]));
    let server = ServerTls::load(with_clients(&server_plan(&pair), &authority, true)).unwrap();
    let plan = ClientTlsPlan { certificate: Some(own.files()), ..client_plan(&authority) };
    let client = ClientTls::load(plan).unwrap();
    for _ in 0..2 {
        let (near, far) = handshake(&server, &client, "db.example.net").await;
        near.unwrap();
        let info = far.unwrap().info(Some("db.example.net".to_owned()));
        assert!(!info.resumed);
        let peer = info.peer.unwrap();
        assert_eq!(peer.dns, ["client"]);
        assert_eq!(peer.main_name(), "client");
        assert_eq!(peer.fingerprint.len(), 64);
    }
}

fn with_clients(plan: &ServerTlsPlan, authority: &Authority, required: bool) -> ServerTlsPlan {
    let ca = authority.file().to_owned();
    let clients =
        ClientCertificates { ca, required, crl: None, strict_crl: false, close_revoked: false };
    ServerTlsPlan { client_certificates: Some(clients), ..plan.clone() }
}

#[tokio::test]
async fn both_sides_have_the_reason_of_a_bad_server_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let client = client_plan(&authority);
    let day = |days: i64| time::OffsetDateTime::now_utc() + time::Duration::days(days);
    let changed = |change: &dyn Fn(&mut CertificateParams)| {
        authority.issue_with(&["db.example.net"], |params| change(params))
    };
    let cases = [
        (authority.issue(&["db.example.net"]), ["ok", "ok"]),
        (authority.issue(&["*.example.net"]), ["ok", "ok"]),
        (authority.issue(&["other.example.net"]), ["wrong_name", "peer_rejects_us"]),
        (authority.issue(&[]), ["wrong_name", "peer_rejects_us"]),
        (other.issue(&["db.example.net"]), ["unknown_issuer", "peer_rejects_us"]),
        (changed(&|it| it.not_after = day(-1)), ["expired", "peer_rejects_us"]),
        (changed(&|it| it.not_before = day(1)), ["not_yet_valid", "peer_rejects_us"]),
        (
            changed(&|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            ["wrong_purpose", "peer_rejects_us"],
        ),
        (Pair::self_signed("db.example.net"), ["unknown_issuer", "peer_rejects_us"]),
    ];
    for (number, (pair, wanted)) in cases.iter().enumerate() {
        let got = reasons(&server_plan(pair), &client, "db.example.net").await;
        assert_eq!(got, *wanted, "case {number}");
    }
}

#[tokio::test]
async fn both_sides_have_the_reason_of_a_bad_client_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.issue(&["db.example.net"]);
    let plan = server_plan(&pair);
    let (required, optional) =
        (with_clients(&plan, &authority, true), with_clients(&plan, &authority, false));
    let day = |days: i64| time::OffsetDateTime::now_utc() + time::Duration::days(days);
    let expired = authority.issue_with(&["client"], |it| it.not_after = day(-1));
    let cases = [
        (&required, None, ["peer_rejects_us", "no_certificate"]),
        (&optional, None, ["ok", "ok"]),
        (&required, Some(authority.issue(&["client"])), ["ok", "ok"]),
        (&required, Some(other.issue(&["client"])), ["peer_rejects_us", "unknown_issuer"]),
        (&optional, Some(other.issue(&["client"])), ["peer_rejects_us", "unknown_issuer"]),
        (&required, Some(expired), ["peer_rejects_us", "expired"]),
    ];
    for (number, (server, own, wanted)) in cases.iter().enumerate() {
        let certificate = own.as_ref().map(Pair::files);
        let client = ClientTlsPlan { certificate, ..client_plan(&authority) };
        assert_eq!(reasons(server, &client, "db.example.net").await, *wanted, "case {number}");
    }
}

#[tokio::test]
async fn a_revoked_client_is_refused() {
    let authority = Authority::new();
    let (good, bad) = (authority.issue(&["good"]), authority.issue(&["bad"]));
    let pair = authority.issue(&["db"]);
    let plan = with_clients(&server_plan(&pair), &authority, true);
    let mut clients = plan.client_certificates.clone().unwrap();
    clients.crl = Some(authority.revocation_list(&[&bad]));
    let plan = ServerTlsPlan { client_certificates: Some(clients), ..plan };
    for (own, wanted) in [(good, ["ok", "ok"]), (bad, ["peer_rejects_us", "revoked"])] {
        let client = ClientTlsPlan { certificate: Some(own.files()), ..client_plan(&authority) };
        assert_eq!(reasons(&plan, &client, "db").await, wanted);
    }
}

#[tokio::test]
async fn the_newest_list_of_an_issuer_counts() {
    let authority = Authority::new();
    let (pair, own) = (authority.issue(&["db"]), authority.issue(&["app"]));
    let (old, new) = (time::Duration::hours(2), time::Duration::ZERO);
    for (lists, wanted) in [
        ([(old, &[][..]), (new, &[&own])], ["peer_rejects_us", "revoked"]),
        ([(new, &[&own]), (old, &[])], ["peer_rejects_us", "revoked"]),
        ([(old, &[&own]), (new, &[])], ["ok", "ok"]),
    ] {
        let mut server = with_clients(&server_plan(&pair), &authority, true);
        let clients = server.client_certificates.as_mut().unwrap();
        clients.crl = Some(authority.revocation_lists(&lists));
        let client = ClientTlsPlan { certificate: Some(own.files()), ..client_plan(&authority) };
        assert_eq!(reasons(&server, &client, "db").await, wanted);
    }
}

#[tokio::test]
async fn a_pinned_key_is_required_beside_a_valid_certificate() {
    let authority = Authority::new();
    let pair = authority.issue(&["db"]);
    for (pins, wanted) in [
        (vec![[0; 32], pair.key_digest()], ["ok", "ok"]),
        (vec![[0; 32]], ["pin", "peer_rejects_us"]),
    ] {
        let client = ClientTlsPlan { pins, ..client_plan(&authority) };
        assert_eq!(reasons(&server_plan(&pair), &client, "db").await, wanted);
    }
}

#[tokio::test]
async fn without_verification_any_certificate_will_do() {
    let plan = ClientTlsPlan { verify: false, ..ClientTlsPlan::default() };
    let pair = Pair::self_signed("anything");
    assert_eq!(reasons(&server_plan(&pair), &plan, "db").await, ["ok", "ok"]);
}

#[tokio::test]
async fn no_common_application_protocol_ends_the_handshake() {
    let authority = Authority::new();
    let pair = authority.issue(&["db"]);
    let server = ServerTlsPlan { alpn: vec![b"h2".to_vec()], ..server_plan(&pair) };
    for (alpn, wanted) in [
        (vec![b"http/1.1".to_vec(), b"h2".to_vec()], ["ok", "ok"]),
        (vec![b"http/1.1".to_vec()], ["alpn", "alpn"]),
        (Vec::new(), ["ok", "ok"]),
    ] {
        let client = ClientTlsPlan { alpn, ..client_plan(&authority) };
        assert_eq!(reasons(&server, &client, "db").await, wanted);
    }
}

#[tokio::test]
async fn a_certificate_is_chosen_by_the_name() {
    let authority = Authority::new();
    let pairs = [&["first"][..], &["*.example.net"], &["db.example.net"]];
    let pairs = pairs.map(|names| authority.issue(names));
    let plan = ServerTlsPlan {
        certificates: pairs.iter().map(Pair::files).collect(),
        ..server_plan(&pairs[0])
    };
    let server = ServerTls::load(plan).unwrap();
    let client = ClientTls::load(client_plan(&authority)).unwrap();
    for (host, number) in [("first", 0), ("db.example.net", 2), ("web.example.net", 1)] {
        let (near, _) = handshake(&server, &client, host).await;
        let serial = near.unwrap().info(None).peer.unwrap().serial;
        assert_eq!(serial, server.identities()[number].info.serial, "{host}");
    }
}

#[tokio::test]
async fn new_files_are_for_new_connections() {
    let authority = Authority::new();
    let pair = authority.issue(&["db"]);
    let server = ServerTls::load(server_plan(&pair)).unwrap();
    let client = ClientTls::load(client_plan(&authority)).unwrap();
    assert!(!server.reload().unwrap(), "nothing has changed");
    let (open, _far) = handshake(&server, &client, "db").await;
    let before = open.unwrap().info(None).peer.unwrap().serial;
    pair.replace(&authority.issue(&["db"]));
    assert!(server.reload().unwrap());
    // One that resumes a session is not shown a certificate.
    let client = ClientTls::load(client_plan(&authority)).unwrap();
    let (near, _far) = handshake(&server, &client, "db").await;
    assert_ne!(near.unwrap().info(None).peer.unwrap().serial, before);
    std::fs::write(pair.files().key, "no key").unwrap();
    let error = server.reload().unwrap_err();
    assert!(error.to_string().contains("has no private key"), "{error}");
    assert!(handshake(&server, &client, "db").await.0.is_ok(), "the last good pair serves on");
}

#[test]
fn files_that_can_not_be_used_are_explained() {
    let authority = Authority::new();
    let (one, two) = (authority.issue(&["db"]), authority.issue(&["db"]));
    let load = |chain: &Path, key: &Path| {
        let files = tls::CertificateFiles { chain: chain.to_owned(), key: key.to_owned() };
        ServerTls::load(ServerTlsPlan { certificates: vec![files], ..server_plan(&one) })
            .err()
            .map(|error| format!("{error}: {}", error.hint))
            .unwrap_or_default()
    };
    let (own, other) = (one.files(), two.files());
    for (chain, key, words) in [
        (&own.chain, &other.key, "is not the key of"),
        (&own.key, &own.key, "has no certificate"),
        (&own.chain, &own.chain, "has no private key"),
        (&own.chain.with_extension("none"), &own.key, "can't be read"),
    ] {
        let told = load(chain, key);
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(load(&own.chain, &own.key), "");
}

#[test]
fn a_certificate_has_warnings_before_clients_complain() {
    let authority = Authority::new();
    let day = |days: i64| time::OffsetDateTime::now_utc() + time::Duration::days(days);
    let warnings = |pair: &Pair| {
        let identity = tls::Identity::load(&pair.files()).unwrap();
        identity.warnings(std::time::SystemTime::now()).join("; ")
    };
    assert_eq!(warnings(&authority.issue(&["db"])), "");
    assert!(warnings(&authority.issue(&[])).contains("no subjectAltName"));
    let expired = authority.issue_with(&["db"], |it| it.not_after = day(-1));
    assert!(warnings(&expired).contains("has expired"));
}
