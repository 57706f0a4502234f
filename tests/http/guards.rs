//! A policy is asked about the text that the service will read, however a client spells it.

use crate::support::{
    http::{
        Answer, Client, Content, PAIRINGS, RawHttpClient, Reply, Service, TestRequest, Version, at,
        get, post, proxy, proxy_config, routed_config,
    },
    tollgate::Tollgate,
};
use http::{HeaderValue, Method};

const VERSIONS: [Version; 2] = [Version::One, Version::Two];

/// A proxy before this service with these policies, each in a line.
fn guarded(service: &Service, settings: &str, policies: &[&str]) -> Tollgate {
    let policies: String = policies.iter().map(|policy| format!("  - {policy}\n")).collect();
    let config = proxy_config(&service.endpoints(), settings, "");
    Tollgate::start(&format!("{config}policies:\n{policies}"))
}

/// What is answered to requests, each by either version, before one guard.
fn each(policy: &str, ask: impl Fn() -> TestRequest) -> [u16; 2] {
    let service = Service::replying(Version::One, "ok");
    let tollgate = guarded(&service, "", &[policy]);
    VERSIONS.map(|version| {
        let before = service.received().len();
        let status = Client::connect(at(&tollgate), version).round_trip(ask()).status;
        assert_eq!(service.received().len() - before, usize::from(status == 200), "{version:?}");
        status
    })
}

fn violations(tollgate: &Tollgate, kind: &str, count: f64) {
    let labels = [("listener", "web"), ("kind", kind)];
    tollgate.wait_for_metric("tollgate_violations_total", &labels, count);
}

/// The answer to bytes of HTTP/1.
fn raw(tollgate: &Tollgate, head: &[u8]) -> Answer {
    let mut asker = RawHttpClient::connect(at(tollgate));
    asker.send(&[head, b"\r\n\r\n"].concat());
    asker.answer().unwrap()
}

#[test]
fn no_spelling_of_a_path_passes_a_guard() {
    let service = Service::replying(Version::One, "ok");
    let deny = "{ name: no, match: { path: [/admin, \"/admin/*\", \"/v1:x\", /café, \"/a b\"] }, deny: {} }";
    let tollgate = guarded(&service, "", &[deny]);
    for version in VERSIONS {
        let client = Client::connect(at(&tollgate), version);
        for path in [
            "/admin/x",
            "//admin/x",
            "///admin",
            "/%61dmin/x",
            "/%61%64%6D%69%6e",
            "/admin//x",
            "/admin%2Fx",
            "/admin%2fx",
            "/%2Fadmin/x",
            "/admin%5Cx",
            "/v1%3ax",
            "/caf%c3%a9",
            "/a%20b",
        ] {
            assert_eq!(client.round_trip(get(path)).status, 403, "{version:?} {path}");
        }
        for path in ["/administration", "/%2561dmin/x", "/x/admin", "/group%2Fproject"] {
            assert_eq!(client.round_trip(get(path)).status, 200, "{version:?} {path}");
        }
    }
    let absolute = raw(&tollgate, b"GET http://a.example//%61dmin/x HTTP/1.1\r\nhost: a.example");
    assert_eq!(absolute.status, 403);
    assert_eq!(raw(&tollgate, b"GET /admin\\x HTTP/1.1\r\nhost: a.example").status, 403);
}

#[test]
fn a_path_that_means_two_things_is_refused_and_counted() {
    let service = Service::replying(Version::One, "ok");
    let routes = [
        "{ name: admin, match: { path_prefix: /admin }, reply: { status: 403 } }",
        "{ name: rest, cluster: shop }",
    ];
    let tollgate = Tollgate::start(&routed_config(&routes, &[("shop", &service)], ""));
    let mut count = 0.0;
    for version in VERSIONS {
        let client = Client::connect(at(&tollgate), version);
        for path in
            ["/a%00", "/%c0%afadmin", "/a/..%2fadmin", "/100%25%", "/admin%2Fx", "/admin%5cx"]
        {
            let answer = client.round_trip(get(path));
            assert_eq!(
                (answer.status, answer.json()["error"].clone()),
                (400, "path".into()),
                "{path}"
            );
            count += 1.0;
            violations(&tollgate, "ambiguous_path", count);
        }
        assert_eq!(client.round_trip(get("/group%2Fproject")).status, 200);
    }
    assert_eq!(service.received().len(), 2);
    let logged = tollgate.logged(12, |line| line["reason"] == "path");
    assert!(logged.iter().all(|line| line["outcome"] == "rejected"));
}

#[test]
fn what_is_let_pass_is_so_in_every_reading() {
    let service = Service::replying(Version::One, "ok");
    let deny = "{ name: no, match: { not: { path: [\"/public/*\", \"/group*\"] } }, deny: {} }";
    let tollgate = guarded(&service, "", &[deny]);
    let client = Client::connect(at(&tollgate), Version::One);
    let ask = |path| client.round_trip(get(path)).status;
    let passes = ["/public/x", "//%70ublic/x", "/public/a%2Fb", "/group%2Fproject"];
    assert_eq!(passes.map(ask), [200; 4]);
    assert_eq!(["/public%2Fx", "/private"].map(ask), [403; 2]);
}

#[test]
fn a_policy_added_at_run_time_compares_the_same() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = guarded(&service, "", &["{ name: no, match: { path: /x }, deny: {} }"]);
    let client = Client::connect(at(&tollgate), Version::One);
    assert_eq!(client.round_trip(get("/caf%c3%a9")).status, 200);
    let body = r#"{"match": {"path": ["/café", "/%61dmin"]}, "deny": {}}"#;
    assert_eq!(tollgate.send("PUT", "/policies/no", body).0, 200);
    assert_eq!(["/caf%c3%a9", "//admin"].map(|path| client.round_trip(get(path)).status), [403; 2]);
}

#[test]
fn a_limit_of_logins_counts_every_spelling() {
    for version in VERSIONS {
        let service = Service::replying(Version::One, "ok");
        let limit = "{ name: logins, match: { operation: POST, path: /login }, \
                     rate_limit: { rate: 1/h, burst: 1, key: [client] } }";
        let tollgate = guarded(&service, "", &[limit]);
        let client = Client::connect(at(&tollgate), version);
        let ask = |path| client.round_trip(post(path, "x")).status;
        let asked = ["/login", "/login", "/%6cogin", "//login", "/log%69n?a=b"].map(ask);
        assert_eq!(asked, [200, 429, 429, 429, 429], "{version:?}");
        assert_eq!(ask("/other"), 200);
    }
}

#[test]
fn no_spelling_of_a_query_passes_a_guard() {
    let service = Service::replying(Version::One, "ok");
    let deny = "{ name: no, match: { query: [\"*debug=1*\", \"*q=a b*\", wsdl, \"*admin=*\"] }, deny: {} }";
    let tollgate = guarded(&service, "", &[deny]);
    for version in VERSIONS {
        let client = Client::connect(at(&tollgate), version);
        for query in [
            "debug=1",
            "%64ebug=1",
            "debug=%31",
            "x=1&debug=0&debug=1",
            "q=a+b",
            "q=a%20b",
            "wsdl",
            "wsdl=",
            "&wsdl&",
            "admin",
            "%61dmin=",
        ] {
            let status = client.round_trip(get(&format!("/?{query}"))).status;
            assert_eq!(status, 403, "{version:?} {query}");
        }
        for query in ["debug=2", "debug%3D1", "a=b%26debug%3D2", "q=a%2Bb", "q=100%"] {
            let status = client.round_trip(get(&format!("/?{query}"))).status;
            assert_eq!(status, 200, "{version:?} {query}");
        }
    }
}

#[test]
fn no_spelling_of_a_host_passes_a_guard() {
    for deny in [
        "{ name: no, match: { host: [Admin.example, \"[2001:DB8:0::1]\"] }, deny: {} }",
        "{ name: no, match: { header.host: [admin.example, \"2001:db8::1\"] }, deny: {} }",
    ] {
        let service = Service::replying(Version::One, "ok");
        let tollgate = guarded(&service, "", &[deny]);
        for host in [
            "admin.example",
            "ADMIN.example",
            "admin.example.",
            "admin.example:80",
            "[2001:db8::0:1]",
        ] {
            for version in VERSIONS {
                let client = Client::connect(at(&tollgate), version);
                assert_eq!(
                    client.round_trip(get("/").header("host", host)).status,
                    403,
                    "{version:?} {host}"
                );
            }
        }
        let client = Client::connect(at(&tollgate), Version::Two);
        assert_eq!(client.round_trip(get("/").header("host", "shop.example")).status, 200);
    }
}

#[test]
fn a_known_method_in_small_letters_is_refused() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = guarded(&service, "", &["{ name: no, match: { operation: DELETE }, deny: {} }"]);
    for (n, version) in VERSIONS.into_iter().enumerate() {
        let client = Client::connect(at(&tollgate), version);
        let ask = |method: &[u8]| {
            client.round_trip(TestRequest::new(Method::from_bytes(method).unwrap(), "/")).status
        };
        assert_eq!([&b"DELETE"[..], b"delete", b"FROB", b"frob"].map(ask), [403, 400, 200, 200]);
        violations(&tollgate, "method_case", n as f64 + 1.0);
    }
}

#[test]
fn every_line_of_a_header_counts() {
    let deny = "{ name: no, match: { header.x-debug: \"1\" }, deny: {} }";
    let with = |lines: &'static [&str]| {
        move || lines.iter().fold(get("/"), |ask, line| ask.header("x-debug", line))
    };
    assert_eq!(each(deny, with(&["1"])), [403, 403]);
    assert_eq!(each(deny, with(&["0", "1"])), [403, 403]);
    assert_eq!(each(deny, with(&["", "1"])), [403, 403]);
    assert_eq!(each(deny, with(&["0", "2"])), [200, 200]);
    // What must not be there is not there as soon as one line is so.
    let other = "{ name: no, match: { not: { header.x-debug: \"0\" } }, deny: {} }";
    assert_eq!(each(other, with(&["0", "1"])), [200, 200]);
    assert_eq!(each(other, with(&["1", "2"])), [403, 403]);
}

#[test]
fn a_value_that_is_no_ascii_is_one() {
    let odd = |name: &'static str, value: &'static [u8]| {
        move || {
            let mut ask = get("/");
            ask.headers.insert(name, HeaderValue::from_bytes(value).unwrap());
            ask
        }
    };
    let bots = "{ name: no, match: { user_agent: \"*bot*\" }, deny: {} }";
    assert_eq!(each(bots, odd("user-agent", b"mybot/1\xff")), [403, 403]);
    let team = "{ name: no, match: { header.x-team: café }, deny: {} }";
    assert_eq!(each(team, odd("x-team", "café".as_bytes())), [403, 403]);
}

#[test]
fn a_key_is_made_of_all_lines() {
    for version in VERSIONS {
        let service = Service::replying(Version::One, "ok");
        let limit = "{ name: tokens, match: {}, rate_limit: { rate: 1/h, burst: 1, key: [header.authorization] } }";
        let tollgate = guarded(&service, "", &[limit]);
        let client = Client::connect(at(&tollgate), version);
        let ask = |lines: &[&str]| {
            let ask = lines.iter().fold(get("/"), |ask, line| ask.header("authorization", line));
            client.round_trip(ask).status
        };
        assert_eq!([ask(&["real"]), ask(&["real"])], [200, 429], "{version:?}");
        // Two lines would be a key of their own, and a service might read the second.
        assert_eq!(ask(&["r0", "real"]), 400, "{version:?}");
        violations(&tollgate, "repeated_header", 1.0);
    }
}

#[test]
fn a_cookie_in_pieces_is_one_value() {
    let deny = "{ name: no, match: { header.cookie: \"a=1; b=2\" }, deny: {} }";
    let pieces = || get("/").header("cookie", "a=1").header("cookie", "b=2");
    assert_eq!(each(deny, pieces), [403, 403]);
}

#[test]
fn a_name_that_a_service_folds_is_none_that_counts() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::replying(answers, "ok");
        let route = "{ name: all, cluster: shop, request_headers: { set: { x-user: \"%{header.x-auth-user}\" }, remove: [x-debug] } }";
        let tollgate = Tollgate::start(&routed_config(&[route], &[("shop", &service)], ""));
        let client = Client::connect(at(&tollgate), client_version);
        let ask = get("/")
            .header("x_user", "admin")
            .header("x.user", "admin")
            .header("x_forwarded_for", "6.6.6.6")
            .header("x_request_id", "mine")
            .header("x_debug", "1")
            .header("x-key", "1")
            .header("x_key", "2")
            .header("x_other", "1");
        assert_eq!(client.round_trip(ask).status, 200);
        let asked = &service.received()[0];
        let odd: Vec<_> =
            asked.headers.keys().filter(|name| !name.as_str().contains('-')).collect();
        assert!(
            odd.iter().all(|name| ["x_other", "host", "traceparent"].contains(&name.as_str())),
            "{odd:?}"
        );
        assert_eq!((asked.header("x-key"), asked.header("x_other")), ("1".into(), "1".into()));
        violations(&tollgate, "folded_name", 1.0);
    }
}

#[test]
fn a_policy_sees_every_spelling_of_a_header_name() {
    let deny = "{ name: no, match: { header.x-debug: \"1\" }, deny: {} }";
    assert_eq!(each(deny, || get("/").header("x_debug", "1")), [403, 403]);
    assert_eq!(each(deny, || get("/").header("x.debug", "1")), [403, 403]);
    assert_eq!(each(deny, || get("/").header("x_debug", "0")), [200, 200]);
    let folded = "{ name: no, match: { header.x_debug: \"1\" }, deny: {} }";
    assert_eq!(each(folded, || get("/").header("x-debug", "1")), [403, 403]);
}

#[test]
fn no_trailer_imitates_the_proxy() {
    for (client_version, answers) in PAIRINGS {
        let service = Service::start(answers, |_| Reply::back());
        let route = "{ name: all, cluster: shop, request_headers: { set: { x-user: a } } }";
        let tollgate = Tollgate::start(&routed_config(&[route], &[("shop", &service)], ""));
        let names = [
            "x-forwarded-for",
            "x_forwarded_for",
            "x-request-id",
            "via",
            "traceparent",
            "x-user",
            "x_user",
            "x-sum",
        ];
        let trailers = names.map(|name| (name, "6.6.6.6"));
        let ask = post("/", Content::pieces(&[b"hello"]).trailers(&trailers));
        let ask = ask.header("trailer", &names.join(", "));
        assert_eq!(
            Client::connect(at(&tollgate), client_version).round_trip(ask).status,
            200,
            "{client_version:?} {answers:?}"
        );
        let asked = &service.received()[0];
        let names: Vec<_> = asked.trailers.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["x-sum"], "{client_version:?} {answers:?}");
        violations(&tollgate, "forbidden_trailer", 1.0);
    }
}

#[test]
fn trailers_of_http_2_neither_frame_nor_authenticate() {
    let service = Service::start(Version::One, |_| Reply::back());
    let tollgate = guarded(&service, "", &["{ name: any, match: {}, deny: {}, enabled: false }"]);
    let trailers = [("authorization", "a"), ("host", "b"), ("content-length", "1")];
    let ask = post("/", Content::pieces(&[b"hello"]).trailers(&trailers));
    assert_eq!(Client::connect(at(&tollgate), Version::Two).round_trip(ask).status, 200);
    let asked = &service.received()[0];
    assert!(asked.trailers.is_empty() && asked.body == b"hello", "{asked:?}");
    violations(&tollgate, "forbidden_trailer", 1.0);
}

#[test]
fn long_uncompressed_trailers_are_allowed() {
    let service = Service::start(Version::One, |_| Reply::back());
    let tollgate = guarded(&service, "", &["{ name: any, match: {}, deny: {}, enabled: false }"]);
    let long = "x".repeat(2500);
    let trailers = [("x-sum", &*long); 3];
    let ask =
        post("/", Content::pieces(&[b"hello"]).trailers(&trailers)).header("trailer", "x-sum");
    assert_eq!(Client::connect(at(&tollgate), Version::One).round_trip(ask).status, 200);
    assert_eq!(service.received()[0].trailers.get_all("x-sum").iter().count(), 3);
}

#[test]
fn a_trace_with_credentials_is_refused() {
    let any = "{ name: any, match: {}, deny: {}, enabled: false }";
    let trace = || TestRequest::new(Method::TRACE, "/");
    assert_eq!(each(any, trace), [200, 200]);
    for name in ["authorization", "cookie"] {
        assert_eq!(each(any, || trace().header(name, "secret")), [400, 400], "{name}");
    }
}

#[test]
fn what_is_expected_is_the_same_in_both_versions() {
    let any = "{ name: any, match: {}, deny: {}, enabled: false }";
    assert_eq!(each(any, || post("/", "x").header("expect", "junk")), [417, 417]);
    assert_eq!(each(any, || post("/", "x").header("expect", "100-continue")), [200, 200]);
}

#[test]
fn the_log_has_the_normalized_and_the_original_path() {
    let service = Service::replying(Version::One, "ok");
    let tollgate = proxy(&service, "");
    let client = Client::connect(at(&tollgate), Version::One);
    client.round_trip(get("//%61dmin%2fx?%61=1"));
    client.round_trip(get("/plain"));
    let lines = tollgate.logged(2, |_| true);
    assert_eq!(lines[0]["path"], "/admin%2Fx");
    assert_eq!(lines[0]["raw_path"], "//%61dmin%2fx");
    assert_eq!((&lines[1]["path"], lines[1].get("raw_path")), (&"/plain".into(), None));
    assert_eq!(service.received()[0].target, "//%61dmin%2fx?%61=1", "what passes stays as it came");
}
