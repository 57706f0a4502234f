use super::*;
use http::{Method, Request, Response};
use hyper::ext::Protocol;

fn head(version: Version, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().version(version).uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn pass_with(head: &mut request::Parts, policy: &HeaderPolicy, upgrades: bool) -> RequestIdentity {
    let peer = PeerAddress::new("10.0.0.9".parse().unwrap());
    let authority = Authority::of_header(&HeaderValue::from_static("shop")).unwrap();
    let context = HeaderContext {
        policy,
        peer: &peer,
        authority: &authority,
        encrypted: true,
        forward_upgrade: upgrades,
        certificate: &[],
        span: None,
    };
    request(head, &context, &mut fastrand::Rng::with_seed(3))
}

/// The forwarded names and values, without those that this proxy adds.
fn passed(version: Version, headers: &[(&str, &str)]) -> Vec<String> {
    let mut head = head(version, headers);
    let policy = HeaderPolicy { forwarded: ForwardedStyle::Off, ..HeaderPolicy::default() };
    pass_with(&mut head, &policy, false);
    told(&head.headers)
}

fn told(headers: &HeaderMap) -> Vec<String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect()
}

#[test]
fn hop_by_hop_headers_are_not_forwarded() {
    let headers = [
        ("host", "a"),
        ("connection", "Keep-Alive, X-Own"),
        ("connection", "x-other , close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("x-own", "1"),
        ("x-other", "2"),
        ("trailer", "x-sum"),
        ("x-kept", "3"),
    ];
    assert_eq!(passed(Version::HTTP_11, &headers), ["host: a", "trailer: x-sum", "x-kept: 3"]);
}

#[test]
fn connection_cannot_name_end_to_end_headers() {
    let kept = [
        ("host", "a"),
        ("content-length", "3"),
        ("content-type", "a/b"),
        ("authorization", "Basic x"),
        ("cookie", "a=b"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-request-id", "r"),
        ("grpc-timeout", "1S"),
        ("cache-control", "no-cache"),
    ];
    for (name, value) in kept {
        let headers = [("connection", name), (name, value)];
        let expected = [format!("{name}: {value}")];
        assert_eq!(passed(Version::HTTP_11, &headers), expected, "{name}");
    }
}

#[test]
fn no_combination_forwards_a_hop_by_hop_header() {
    let own = ["x-a", "x-b", "X-C", "session"];
    let words = ["close", "keep-alive", "te", "upgrade", "", "\"", "a b", "host", "@"];
    let by_hop = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ];
    for seed in 0..2000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut headers = vec![("host".to_owned(), "a".to_owned())];
        let mut nominated = Vec::new();
        for _ in 0..rng.usize(..4) {
            let mut list = Vec::new();
            for _ in 0..rng.usize(..4) {
                if rng.bool() {
                    let name = own[rng.usize(..own.len())];
                    nominated.push(name.to_ascii_lowercase());
                    list.push(name);
                } else {
                    list.push(words[rng.usize(..words.len())]);
                }
            }
            headers.push(("connection".to_owned(), list.join([",", " , ", ",,"][rng.usize(..3)])));
        }
        for name in own.iter().chain(&by_hop) {
            if *name != "connection" && rng.bool() {
                headers.push(((*name).to_owned(), "1".to_owned()));
            }
        }
        rng.shuffle(&mut headers);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        let mut head = head(Version::HTTP_11, &headers);
        pass_with(&mut head, &HeaderPolicy::default(), false);
        for name in by_hop.iter().copied().chain(nominated.iter().map(|name| &**name)) {
            assert!(!head.headers.contains_key(name), "seed {seed}: {name} of {headers:?}");
        }
        assert_eq!(head.headers["host"], "a", "seed {seed}");
    }
}

#[test]
fn only_te_trailers_is_forwarded() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        assert_eq!(passed(version, &[("te", "trailers")]), ["te: trailers"]);
        assert_eq!(passed(version, &[("te", "gzip;q=1, Trailers")]), ["te: trailers"]);
        assert_eq!(passed(version, &[("te", "gzip")]), [""; 0]);
    }
    assert_eq!(passed(Version::HTTP_11, &[("connection", "te"), ("te", "trailers")]).len(), 1);
}

#[test]
fn cookies_in_pieces_become_one() {
    let pieces = [("cookie", "a=b"), ("cookie", "c=d"), ("cookie", "e=f")];
    assert_eq!(passed(Version::HTTP_2, &pieces), ["cookie: a=b; c=d; e=f"]);
}

#[test]
fn an_upgrade_is_forwarded_where_allowed() {
    let headers =
        [("connection", "keep-alive, Upgrade, x-own"), ("upgrade", "websocket"), ("x-own", "1")];
    let policy = HeaderPolicy { forwarded: ForwardedStyle::Off, ..HeaderPolicy::default() };
    let mut websocket = head(Version::HTTP_11, &headers);
    pass_with(&mut websocket, &policy, true);
    let mut told = told(&websocket.headers);
    told.sort();
    assert_eq!(told, ["connection: upgrade", "upgrade: websocket"]);
    assert_eq!(passed(Version::HTTP_11, &headers), [""; 0]);
}

#[test]
fn services_get_the_configured_headers() {
    let via = ViaHeader::new("tollgate");
    let all = HeaderPolicy { request_id: true, trace: true, via, ..HeaderPolicy::default() };
    let mut came = head(Version::HTTP_2, &[("via", "1.1 edge")]);
    let traced = pass_with(&mut came, &all, false);
    let via: Vec<_> = came.headers.get_all("via").iter().collect();
    assert_eq!(via, ["1.1 edge", "2 tollgate"]);
    assert_eq!(came.headers.get("x-request-id"), traced.request_id.as_ref());
    let parent = operation::SpanContext::read(came.headers["traceparent"].as_bytes());
    assert_eq!(parent, traced.trace);
    assert!(parent.is_some());
    assert_eq!(came.headers["x-forwarded-proto"], "https");
    assert_eq!(traced.client.to_string(), "10.0.0.9");

    let none = HeaderPolicy { forwarded: ForwardedStyle::Off, ..HeaderPolicy::default() };
    let mut came = head(Version::HTTP_11, &[("x-request-id", "mine")]);
    let traced = pass_with(&mut came, &none, false);
    assert_eq!(told(&came.headers), ["x-request-id: mine"]);
    assert_eq!((traced.trace, traced.request_id.unwrap()), (None, "mine".parse().unwrap()));
}

#[test]
fn a_name_in_via_is_a_token() {
    for name in ["", "a b", "a,b", "a\r\nx: y", "(a)"] {
        assert!(ViaHeader::new(name).is_none(), "{name}");
    }
}

#[test]
fn hop_by_hop_headers_of_responses_are_removed() {
    let answer = |status: u16, headers: &[(&str, &str)], tunnel| {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let mut head = response.body(()).unwrap().into_parts().0;
        super::response(&mut head, &HeaderPolicy::default(), tunnel);
        told(&head.headers)
    };
    let headers = [
        ("server", "nginx"),
        ("connection", "close, x-own, set-cookie"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("x-own", "1"),
        ("set-cookie", "a=b"),
    ];
    assert_eq!(answer(200, &headers, false), ["server: nginx", "set-cookie: a=b"]);
    let switch = [("connection", "upgrade"), ("upgrade", "websocket"), ("keep-alive", "1")];
    let mut switched = answer(101, &switch, false);
    switched.sort();
    assert_eq!(switched, ["connection: upgrade", "upgrade: websocket"]);
    // A length where no body is allowed.
    let length = [("content-length", "5")];
    assert_eq!(answer(204, &length, false), [""; 0]);
    assert_eq!(answer(200, &length, true), [""; 0]);
    assert_eq!(answer(200, &length, false), ["content-length: 5"]);
    assert_eq!(answer(304, &length, false), ["content-length: 5"]);
    assert_eq!(answer(403, &length, true), ["content-length: 5"]);
}

#[test]
fn three_kinds_of_upgrade_are_recognized() {
    let asks = |version, headers: &[(&str, &str)]| upgrade_of(&head(version, headers));
    let websocket = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
    let upgrade = asks(Version::HTTP_11, &websocket).unwrap();
    assert!(upgrade.protocol().eq_ignore_ascii_case("websocket"));
    assert_eq!(asks(Version::HTTP_10, &websocket), None);
    for headers in [
        &[("upgrade", "websocket")][..],
        &[("connection", "upgrade")],
        &[("connection", "upgrade"), ("upgrade", "h2c")],
        &[("connection", "upgrade"), ("upgrade", "websocket, x")],
        &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "x")],
        &[("connection", "upgrade"), ("upgrade", "")],
    ] {
        assert_eq!(asks(Version::HTTP_11, headers), None, "{headers:?}");
    }
    let mut connect = head(Version::HTTP_2, &[]);
    connect.method = Method::CONNECT;
    assert_eq!(upgrade_of(&connect), Some(Upgrade::Tunnel));
    connect.extensions.insert(Protocol::from_static("websocket"));
    assert_eq!(upgrade_of(&connect).unwrap().protocol(), "websocket");
}
