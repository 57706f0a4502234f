//! Python's clients: `requests`, `httpx` and `websockets`; `tests/drivers/http_scenarios.py`.

use crate::{
    each,
    support::{
        eventually,
        http::{endpoints, proxy_to},
        python::{self, Service},
        tollgate::Tollgate,
    },
};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

#[test]
fn requests_keeps_its_connection_cookies_and_streams() {
    each(|pair| {
        if pair.versions.0 == "1.1" {
            python::run("http_scenarios.py", &["requests", &pair.url("")]);
        }
    });
}

#[test]
fn httpx_has_many_streams_on_one_connection() {
    each(|pair| {
        if pair.versions.0 == "2" {
            python::run("http_scenarios.py", &["httpx", &pair.url("")]);
        }
    });
}

/// A proxy before a WebSocket service; `settings` are its listener's.
fn websocket(settings: &str) -> Option<(Service, Tollgate)> {
    let service = Service::start("http_scenarios.py", &["websocket_service"])?;
    let routes = "routes: [{ name: chat, cluster: shop, upgrade: [websocket] }]";
    let tollgate = proxy_to(&endpoints(&[service.address()]), routes, settings);
    Some((service, tollgate))
}

#[test]
fn a_websocket_carries_text_bytes_pings_and_how_it_was_closed() {
    let Some((_service, tollgate)) = websocket("") else { return };
    let address = tollgate.listener("web").to_string();
    python::run("http_scenarios.py", &["websocket", &address]);
    let lines = tollgate.logged(3, |line| line["flags"] == "upgraded");
    assert!(lines.iter().all(|line| line["status"] == "101" && line["resource"] == "chat"));
    assert!(lines.iter().any(|line| line["reply_bytes"].as_u64() > Some(4 << 20)), "{lines:?}");
}

#[test]
fn a_websocket_at_rest_is_closed_after_the_idle_time() {
    let Some((_service, tollgate)) = websocket("idle_timeout: 1s") else { return };
    let address = tollgate.listener("web").to_string();
    python::run("http_scenarios.py", &["websocket_idle", &address]);
    let line = &tollgate.logged(1, |line| line["flags"] == "upgraded")[0];
    assert_eq!(line["outcome"], "ok", "{line}");
    let labels = [("listener", "web"), ("reason", "idle_timeout")];
    tollgate.wait_for_metric("tollgate_connection_close_total", &labels, 1.0);
}

#[test]
fn no_websocket_passes_a_route_that_has_none() {
    let Some(service) = Service::start("http_scenarios.py", &["websocket_service"]) else { return };
    let tollgate = proxy_to(&endpoints(&[service.address()]), "", "");
    let address = tollgate.listener("web").to_string();
    python::run("http_scenarios.py", &["websocket_refused", &address]);
}

#[test]
fn requests_that_are_sent_ahead_are_answered_in_their_order() {
    each(|pair| {
        if pair.versions.0 == "2" {
            return;
        }
        let mut client = TcpStream::connect(pair.tollgate.listener("web")).unwrap();
        let ask = |n: usize, more: &str| {
            format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n{more}\r\n{n:02}")
        };
        let asked: String = (0..20).map(|n| ask(n, "")).collect();
        client.write_all((asked + &ask(20, "connection: close\r\n")).as_bytes()).unwrap();
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        let mut rest = &heard[..];
        for n in 0..=20 {
            let end = rest.find(&format!("{n:02}")).unwrap_or_else(|| panic!("no {n} in {heard}"));
            rest = &rest[end + 2..];
        }
        eventually("all to be logged", || (pair.tollgate.access_log().len() == 21).then_some(()));
    });
}
