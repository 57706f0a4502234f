//! Services that break HTTP's rules, or break off: the client gets an error, and never a part
//! of an answer for the whole.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use support::{
    http::{RawHttpClient, endpoints, proxy_to},
    scripted::{Peer, Scripted},
    tollgate::Tollgate,
};

/// Reads a request's head. `false` once there is none.
fn asked(peer: &mut Peer) -> bool {
    let mut reader = BufReader::with_capacity(1, peer);
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return false,
            Ok(_) if line == "\r\n" => return true,
            Ok(_) => {}
        }
    }
}

/// A proxy before a service that says this to the first request of each connection, and closes.
fn replying(said: Vec<u8>) -> (Scripted, Tollgate) {
    let service = Scripted::start(move |peer| {
        if asked(peer) {
            peer.send(&said);
        }
    });
    let tollgate = before(&service);
    (service, tollgate)
}

fn before(service: &Scripted) -> Tollgate {
    proxy_to(&endpoints(&[service.address()]), "", "")
}

#[test]
fn what_is_no_http_is_answered_by_502() {
    let cases = [
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello",
        "HTTP/1.1 2x0 OK\r\n\r\n",
    ];
    for case in cases {
        let (_service, tollgate) = replying(case.into());
        let mut client = RawHttpClient::connect(tollgate.listener("web"));
        let answer = client.get("/a");
        assert_eq!(answer.status, 502, "{case:.60}");
        assert_eq!(answer.json()["error"], "lost", "{case:.60}");
        let line = tollgate.logged(1, |line| line["operation"] == "GET").remove(0);
        assert_eq!(
            (&line["outcome"], &line["reason"]),
            (&"lost".into(), &"upstream_violation".into())
        );
    }
}

#[test]
fn a_service_that_closes_before_its_response_is_a_502() {
    for said in ["", "HTTP/1.1 200 OK\r\ncontent-"] {
        let (_service, tollgate) = replying(said.into());
        let answer = RawHttpClient::connect(tollgate.listener("web")).get("/a");
        assert_eq!((answer.status, &answer.json()["error"]), (502, &"lost".into()), "{said}");
    }
}

#[test]
fn an_answer_that_is_cut_short_never_looks_whole() {
    let cases = [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
    ];
    for case in cases {
        let (_service, tollgate) = replying(case.into());
        let mut client = RawHttpClient::connect(tollgate.listener("web"));
        client.send(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n");
        client.answer().unwrap_err();
        let line = tollgate.logged(1, |line| line["operation"] == "GET").remove(0);
        assert_eq!(line["outcome"], "lost", "{case}");
    }
}

#[test]
fn a_connection_closed_at_its_reuse_is_replaced() {
    let asks = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = asks.clone();
    let service = Scripted::start(move |peer| {
        while asked(peer) {
            // The second request of all finds the service gone.
            if counted.fetch_add(1, SeqCst) == 1 {
                return;
            }
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
        }
    });
    let tollgate = before(&service);
    let mut client = RawHttpClient::connect(tollgate.listener("web"));
    assert_eq!(client.get("/a").status, 200);
    assert_eq!(client.get("/b").status, 200);
    assert_eq!(asks.load(SeqCst), 3);
    let line = tollgate.logged(1, |line| line["path"] == "/b").remove(0);
    assert_eq!(line["flags"], "stale_connection");
}
