//! Hop-by-hop headers are removed, and services get the client's address.

use crate::support::{
    http::{
        Client, Content, PAIRINGS, ReceivedRequest, Reply, Service, Version, at, client::HOST, get,
        post, proxy, proxy_config,
    },
    tollgate::Tollgate,
};

#[test]
fn headers_about_a_connection_end_with_it() {
    for answers in [Version::One, Version::Two] {
        let service = Service::start(answers, move |_| {
            let reply = Reply::ok("ok").header("x-kept", "1");
            if answers == Version::Two {
                return reply;
            }
            reply
                .header("connection", "x-hop, keep-alive")
                .header("keep-alive", "timeout=5")
                .header("proxy-connection", "keep-alive")
                .header("x-hop", "1")
        });
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), Version::One);
        let ask = get("/")
            .header("connection", "x-mine, keep-alive, te")
            .header("keep-alive", "timeout=9")
            .header("proxy-connection", "keep-alive")
            .header("x-mine", "1")
            .header("te", "gzip, trailers")
            .header("x-other", "1");
        let answer = client.round_trip(ask);
        for name in ["connection", "keep-alive", "proxy-connection", "x-hop"] {
            assert_eq!(answer.header(name), "", "{answers:?} {name}");
        }
        assert_eq!(answer.header("x-kept"), "1");
        let asked = &service.received()[0];
        for name in ["connection", "keep-alive", "proxy-connection", "x-mine"] {
            assert_eq!(asked.header(name), "", "{answers:?} {name}");
        }
        assert_eq!((asked.header("te"), asked.header("x-other")), ("trailers".into(), "1".into()));
    }
}

#[test]
fn services_get_the_client_address_and_clients_can_not_forge_it() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "ok");
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        let ask = get("/")
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "evil.example")
            .header("forwarded", "for=6.6.6.6")
            .header("x-real-ip", "6.6.6.6")
            .header("true-client-ip", "6.6.6.6")
            .header("x-forwarded-port", "443")
            .header("x_real_ip", "6.6.6.6")
            .header("x-forwarded-prefix", "/evil");
        client.round_trip(ask);
        let asked = &service.received()[0];
        assert_eq!(asked.header("x-forwarded-for"), "127.0.0.1", "{client_version:?} {answers:?}");
        assert_eq!(asked.header("x-forwarded-proto"), "http");
        assert_eq!(asked.header("x-forwarded-host"), HOST);
        for name in [
            "forwarded",
            "x-real-ip",
            "true-client-ip",
            "x-forwarded-port",
            "x_real_ip",
            "x-forwarded-prefix",
        ] {
            assert_eq!(asked.header(name), "", "{name}");
        }
        assert_eq!(tollgate.logged(1, |_| true)[0]["client"], "127.0.0.1");
    }
}

#[test]
fn a_client_can_not_claim_a_certificate() {
    const CLAIMS: [(&str, &str); 6] = [
        ("x-forwarded-client-cert", "Hash=1;URI=spiffe://example.net/admin"),
        ("x-forwarded-client-cert", "Hash=2"),
        ("x_forwarded_client_cert", "Hash=3"),
        ("client-cert", ":AA==:"),
        ("client_cert", ":AA==:"),
        ("client-cert-chain", ":AA==:"),
    ];
    let claims = |asked: &ReceivedRequest| {
        let names = asked.headers.keys().chain(asked.trailers.keys());
        names.filter(|name| name.as_str().contains("cert")).count()
    };
    for (client_version, answers) in PAIRINGS {
        for settings in ["", "forwarded: off", "client_certificate_header: xfcc"] {
            let service = Service::replying(answers, "ok");
            let tollgate = proxy(&service, settings);
            let client = Client::connect(at(&tollgate), client_version);
            let sent = Content::from("abc").trailers(&CLAIMS);
            let ask = post("/", sent).header("te", "trailers");
            let ask = CLAIMS.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
            client.round_trip(ask);
            let asked = &service.received()[0];
            assert_eq!(claims(asked), 0, "{client_version:?} {answers:?} {settings}: {asked:?}");
        }
    }
    let service = Service::replying(Version::One, "ok");
    let tollgate = proxy(&service, "trusted_hops: 1");
    let ask = get("/").header("client-cert", ":AA==:").header("connection", "client-cert");
    Client::connect(at(&tollgate), Version::One).round_trip(ask);
    assert_eq!(service.received()[0].header("client-cert"), ":AA==:", "of a trusted proxy");
}

#[test]
fn proxies_that_are_trusted_are_believed_as_far_as_they_go() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = proxy(&service, "trusted_hops: 2");
    let client = Client::connect(at(&tollgate), Version::One);
    let ask = get("/")
        .header("x-forwarded-for", "6.6.6.6, 10.0.0.1")
        .header("x-forwarded-for", "10.0.0.2")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "front.example")
        .header("x-real-ip", "10.0.0.1");
    client.round_trip(ask);
    let asked = &service.received()[0];
    assert_eq!(asked.header("x-forwarded-for"), "10.0.0.1, 10.0.0.2, 127.0.0.1");
    assert_eq!(asked.header("x-forwarded-proto"), "https");
    assert_eq!(asked.header("x-forwarded-host"), "front.example");
    assert_eq!(asked.header("x-real-ip"), "10.0.0.1");
    assert_eq!(tollgate.logged(1, |_| true)[0]["client"], "10.0.0.1");
}

#[test]
fn a_redirect_keeps_the_scheme_of_a_trusted_proxy() {
    for (settings, scheme) in [("trusted_hops: 1,", "https"), ("", "http")] {
        let routes = "[{ name: old, redirect: { host: a.example } }]";
        let tollgate = Tollgate::start(&format!(
            "listeners:\n  web: {{ address: \"127.0.0.1:0\", protocol: {{ http: {{ {settings} \
             routes: {routes} }} }} }}\nclusters: {{}}\n"
        ));
        let client = Client::connect(at(&tollgate), Version::One);
        let answer = client.round_trip(get("/b").header("x-forwarded-proto", "https"));
        assert_eq!(answer.header("location"), format!("{scheme}://a.example/b"));
    }
}

#[test]
fn a_policy_sees_the_address_from_trusted_proxies_only() {
    let service = Service::replying(Version::One, "ok");
    for (settings, status) in [("trusted_hops: 1", 403), ("", 200)] {
        let tollgate = Tollgate::start(&format!(
            "{}policies:\n  - {{ name: no, match: {{ client: 10.0.0.9 }}, deny: {{}} }}\n",
            proxy_config(&service.endpoints(), settings, "")
        ));
        let client = Client::connect(at(&tollgate), Version::One);
        let ask = |from| client.round_trip(get("/").header("x-forwarded-for", from)).status;
        assert_eq!(ask("10.0.0.9"), status);
        assert_eq!(ask("10.0.0.9, 10.0.0.1"), 200);
    }
}

#[test]
fn the_forwarded_header_is_sent_if_configured() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = proxy(&service, "forwarded: forwarded");
    let client = Client::connect(at(&tollgate), Version::One);
    client.round_trip(
        get("/").header("x-forwarded-for", "6.6.6.6").header("forwarded", "for=6.6.6.6"),
    );
    let asked = &service.received()[0];
    assert_eq!(asked.header("x-forwarded-for"), "");
    let told = asked.header("forwarded");
    assert!(told.contains("for=127.0.0.1") && told.contains("proto=http"), "{told}");
    assert!(told.contains(HOST) && !told.contains("6.6.6.6"), "{told}");
}

#[test]
fn no_forwarded_header_is_sent_if_switched_off() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = proxy(&service, "forwarded: off");
    let client = Client::connect(at(&tollgate), Version::One);
    client.round_trip(get("/1"));
    client.round_trip(get("/2").header("x-forwarded-for", "1.2.3.4"));
    let told: Vec<_> =
        service.received().iter().map(|asked| asked.header("x-forwarded-for")).collect();
    assert_eq!(told, ["", "1.2.3.4"]);
}

#[test]
fn every_request_has_an_id_and_the_log_has_the_same() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "ok");
        let tollgate = proxy(&service, "");
        let client = Client::connect(at(&tollgate), client_version);
        client.round_trip(get("/"));
        client.round_trip(get("/"));
        client.round_trip(get("/").header("x-request-id", "mine"));
        let ids: Vec<_> =
            service.received().iter().map(|asked| asked.header("x-request-id")).collect();
        assert!(ids[0].len() >= 32 && ids[0] != ids[1], "{ids:?}");
        assert_eq!(ids[2], "mine");
        let logged = tollgate.logged(3, |_| true);
        let logged: Vec<_> = logged.iter().map(|line| line["request_id"].clone()).collect();
        assert_eq!(logged, ids, "{client_version:?} {answers:?}");
    }
}

#[test]
fn a_trace_goes_on_or_begins() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = proxy(&service, "");
    let client = Client::connect(at(&tollgate), Version::One);
    let mine = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    client.round_trip(get("/").header("traceparent", mine).header("tracestate", "a=1"));
    client.round_trip(get("/"));
    client.round_trip(get("/").header("traceparent", "nonsense").header("tracestate", "a=1"));
    let asked = service.received();
    assert!(asked[0].header("traceparent").starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    assert_eq!(asked[0].header("tracestate"), "a=1");
    for asked in &asked[1..] {
        let began = asked.header("traceparent");
        assert!(began.len() == 55 && began.starts_with("00-"), "{began}");
        assert_eq!(asked.header("tracestate"), "");
    }
}

#[test]
fn the_proxy_names_itself_in_via_where_that_is_wanted() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| Reply::ok("ok").header("via", "1.1 inner"));
        let tollgate = proxy(&service, "via: edge");
        let client = Client::connect(at(&tollgate), client_version);
        let answer = client.round_trip(get("/").header("via", "1.0 outer"));
        let version = |version| if version == Version::One { "1.1" } else { "2" };
        assert_eq!(
            service.received()[0].header("via"),
            format!("1.0 outer, {} edge", version(client_version)),
            "{answers:?}"
        );
        assert_eq!(
            answer.header("via"),
            format!("1.1 inner, {} edge", version(answers)),
            "{client_version:?}"
        );
    }
}
