//! Connections to endpoints end with the certificate that they were opened with.

use super::{
    Certificates, certificates, echo_server,
    https_service::{Alpn, HttpsService},
    support::{
        PATIENCE, eventually,
        http::{Client, Version, get},
        scripted::reply_to,
        tollgate::Tollgate,
        wire::{self, Message},
    },
};
use bson::doc;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, SystemTime},
};

const REASON: [(&str, &str); 1] = [("reason", "certificate_expired")];

/// Issues the client's certificate for so long. Returns when it ends.
fn issue(certificates: &Certificates, lifetime: Duration) -> SystemTime {
    let end = SystemTime::now() + lifetime;
    certificates.issue_with("client", &["app.example.net"], |params| params.not_after = end.into());
    end
}

/// A proxy with the listener `it` before a server for `localhost` that asks for certificates.
fn before(certificates: &Certificates, server: SocketAddr, protocol: &str, more: &str) -> Tollgate {
    let (ca, own) = (certificates.path("ca.crt"), certificates.pair("client"));
    Tollgate::start(&format!(
        "listeners:\n  it: {{ address: '127.0.0.1:0', protocol: {protocol}, cluster: far }}\n\
         clusters:\n  far: {{ endpoints: ['localhost:{}'], \
         tls: {{ ca: {}, certificate: {own} }}, {more} }}\n",
        server.port(),
        ca.display()
    ))
}

/// A MongoDB server that agrees to everything.
fn mongo_server(certificates: &'static Certificates) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut stream = certificates.accept(socket.unwrap(), "server", true);
            thread::spawn(move || {
                while let Ok(Some(message)) = Message::read(&mut stream) {
                    let reply = reply_to(&message, &doc! { "ok": 1 });
                    if stream.write_all(&reply).and_then(|()| stream.flush()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn session(tollgate: &Tollgate) -> TcpStream {
    let client = TcpStream::connect_timeout(&tollgate.listener("it"), PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn ping(client: &mut TcpStream) {
    client.write_all(&wire::op_msg(1, &doc! { "ping": 1, "$db": "shop" })).unwrap();
    let reply = Message::read(client).unwrap().unwrap();
    assert_eq!(reply.document().get_i32("ok").unwrap(), 1);
}

#[test]
fn idle_sessions_end_with_their_own_certificate() {
    let certificates = certificates();
    let end = issue(certificates, Duration::from_secs(4));
    let tollgate = before(certificates, mongo_server(certificates), "mongo", "");
    let mut old = session(&tollgate);
    ping(&mut old);
    issue(certificates, Duration::from_secs(1000));
    let reloads = [("result", "ok")];
    eventually("the new certificate", || {
        (tollgate.metric("tollgate_tls_reloads_total", &reloads) > 0.0).then_some(())
    });
    let mut new = session(&tollgate);
    ping(&mut new);
    ping(&mut old);
    assert!(SystemTime::now() < end, "this test is too slow");
    assert_eq!(old.read(&mut [0; 16]).unwrap(), 0, "the session goes on");
    let late = SystemTime::now().duration_since(end).unwrap_or_default();
    assert!(late < Duration::from_secs(1), "{late:?} after the end");
    tollgate.wait_for_metric("tollgate_connection_close_total", &REASON, 1.0);
    ping(&mut new);
    let log = tollgate.stderr();
    assert!(log.contains("a certificate is about to expire"), "{log}");
}

#[test]
fn sessions_in_use_end_with_the_certificate_at_the_latest() {
    let certificates = certificates();
    let end = issue(certificates, Duration::from_secs(5));
    let server = echo_server(certificates, true, true);
    let tollgate = before(certificates, server, "tcp", "drain_timeout: 2s");
    let mut client = session(&tollgate);
    let mut echoed =
        move || client.write_all(b"x").and_then(|()| client.read_exact(&mut [0])).is_ok();
    let mut last = SystemTime::now();
    while echoed() {
        last = SystemTime::now();
        thread::yield_now();
    }
    let left = end.duration_since(last).expect("it outlived its certificate");
    assert!(left < Duration::from_secs(3), "closed {left:?} before the end, and not at rest");
    let line = tollgate.logged(1, |_| true).remove(0);
    assert_eq!(line["reason"], "certificate_expired", "{line}");
    assert_eq!(line["outcome"], "cancelled", "{line}");
}

#[test]
fn pooled_connections_end_with_their_certificate() {
    let certificates = certificates();
    let versions: [(Alpn, &str); 2] = [(|_| &["http/1.1"], "1"), (|_| &["h2"], "2")];
    for (alpn, version) in versions {
        let end = issue(certificates, Duration::from_secs(3));
        let service = HttpsService::start_asking(certificates, alpn);
        let http = format!("http: {{ version: {version}, idle_timeout: off }}");
        let tollgate = before(certificates, service.address(), "http", &http);
        let open = || tollgate.json("/clusters")[0]["endpoints"][0]["active_connections"].as_u64();
        let client = Client::connect(tollgate.listener("it"), Version::One);
        client.round_trip(get("/"));
        client.round_trip(get("/"));
        assert_eq!(open(), Some(1));
        assert!(SystemTime::now() < end, "this test is too slow");
        eventually("the end of the connection", || (open() == Some(0)).then_some(()));
        let late = SystemTime::now().duration_since(end).unwrap_or_default();
        assert!(late < Duration::from_secs(1), "{late:?} after the end");
        assert_eq!(service.accepted(), 1);
    }
}
