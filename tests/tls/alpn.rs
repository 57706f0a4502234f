//! The HTTP version of endpoints, as TLS agrees upon it (ALPN).

use super::{
    certificates,
    https_service::{Alpn, HttpsService},
    support::{
        eventually,
        http::{Answer, Client, Version, get, post},
        tollgate::Tollgate,
    },
};
use std::{collections::BTreeSet, thread};

/// A proxy before this service, with the listener `web`.
fn before(service: &HttpsService, protocol: &str, http: &str, more: &str) -> Tollgate {
    let ca = service.certificates.path("ca.crt");
    Tollgate::start(&format!(
        "listeners:\n  web: {{ address: '127.0.0.1:0', protocol: {protocol}, cluster: shop }}\n\
         clusters:\n  shop: {{ endpoints: ['{}'], tls: {{ ca: {} }}, http: {{ {http} }}, {more} }}\n",
        service.endpoint(),
        ca.display()
    ))
}

fn ask(tollgate: &Tollgate) -> Answer {
    Client::connect(tollgate.listener("web"), Version::One).round_trip(get("/"))
}

#[test]
fn auto_speaks_the_version_that_an_endpoint_agrees_upon() {
    let services: [(Alpn, &str, &str); 4] = [
        (|_| &["h2"], "HTTP/2.0 https", "2"),
        (|_| &["http/1.1"], "HTTP/1.1 -", "1.1"),
        (|_| &["h2", "http/1.1"], "HTTP/2.0 https", "2"),
        (|_| &[], "HTTP/1.1 -", "1.1"),
    ];
    let check = "health_check: { interval: 100ms, probe: { http: { path: / } } }";
    for (alpn, answer, version) in services {
        let service = HttpsService::start(certificates(), alpn);
        let tollgate = before(&service, "http", "version: auto", check);
        assert_eq!(ask(&tollgate).text(), answer);
        let line = tollgate.logged(1, |_| true).remove(0);
        assert_eq!(line["upstream_version"], version, "{line}");
        eventually("the health check", || {
            tollgate.json("/clusters").to_string().contains("answers 200").then_some(())
        });
    }
}

#[test]
fn an_endpoint_may_agree_on_another_version_each_time() {
    let alpn: Alpn = |number| match number % 3 {
        0 => &["h2"],
        1 => &["http/1.1"],
        _ => &[],
    };
    let service = HttpsService::start(certificates(), alpn);
    let http = "version: auto, max_requests_per_connection: 1";
    let tollgate = before(&service, "http", http, "");
    let tollgate = &tollgate;
    let answers: Vec<String> = (0..12).map(|_| ask(tollgate).text().to_owned()).collect();
    let together = thread::scope(|scope| {
        let asking: Vec<_> = (0..24).map(|_| scope.spawn(|| ask(tollgate))).collect();
        asking.into_iter().map(|it| it.join().unwrap().text().to_owned()).collect::<Vec<_>>()
    });
    let versions: BTreeSet<_> = answers.iter().chain(&together).map(String::as_str).collect();
    assert_eq!(versions, BTreeSet::from(["HTTP/1.1 -", "HTTP/2.0 https"]));
    assert_eq!(service.accepted(), 36, "a connection for each request");
}

#[test]
fn requests_share_one_connection_that_agreed_on_http2() {
    let service = HttpsService::start(certificates(), |_| &["h2", "http/1.1"]);
    let tollgate = before(&service, "http", "version: auto", "");
    let tollgate = &tollgate;
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(ask(tollgate).text(), "HTTP/2.0 https"));
        }
    });
    let workers = tollgate.json("/config")["workers"].as_u64().unwrap() as usize;
    assert!(service.accepted() <= workers, "{} connections", service.accepted());
}

#[test]
fn endpoints_that_must_speak_http2_have_to_agree_on_it() {
    let services: [Alpn; 2] = [|_| &[], |_| &["http/1.1"]];
    for (protocol, http) in [("http", "version: 2"), ("grpc", ""), ("grpc", "version: auto")] {
        for alpn in services {
            let service = HttpsService::start(certificates(), alpn);
            let tollgate = before(&service, protocol, http, "");
            let call = post("/shop.Cart/Get", "").header("content-type", "application/grpc");
            Client::connect(tollgate.listener("web"), Version::Two).round_trip(call);
            let labels = [("result", "tls_alpn")];
            eventually("the reason", || {
                let failed = tollgate.metric("tollgate_upstream_connect_total", &labels);
                (failed > 0.0).then_some(())
            });
            let report = tollgate.json("/clusters").to_string();
            assert!(report.contains("no application protocol (ALPN) in common"), "{report}");
        }
    }
}
