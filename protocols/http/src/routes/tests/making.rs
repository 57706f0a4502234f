//! How routes change requests and responses.

use super::{find, head, routes, settings, variables};
use crate::routes::{Action, AllowedUpgrades};
use http::{HeaderMap, Method, header::LOCATION};
use http_body::Body as _;
use serde_json::{Value, json};
use std::time::Duration;

/// The target that the service gets.
fn rewritten(matched: &Value, rewrite: &Value, line: &str) -> Result<String, &'static str> {
    let routes =
        routes(json!([{ "name": "a", "match": matched, "rewrite": rewrite, "cluster": "a" }]));
    let mut head = head(line, &[]);
    let (route, captures) = find(&routes, &head);
    route.rewrite(&mut head, &captures, &variables()).map(|()| head.uri.to_string())
}

#[test]
fn a_path_rewrite_keeps_the_rest_of_the_target() {
    let prefix = json!({ "path_prefix": "/cart" });
    let any = json!({ "path_prefix": "/" });
    let template = json!({ "path_template": "/users/{id}/{rest=**}" });
    let regex = json!({ "path_regex": "/(?<lang>[a-z]{2})/.*" });
    let slashed = json!({ "regex": { "pattern": "^/v([0-9]+)/", "substitution": "/api/${1}x/" } });
    for (matched, rewrite, target, expected) in [
        (&prefix, json!({ "prefix": "/" }), "/cart", "/"),
        (&prefix, json!({ "prefix": "/" }), "/cart?a=%2Fcart&b", "/?a=%2Fcart&b"),
        (&prefix, json!({ "prefix": "/" }), "/cart/x%20y//z", "/x%20y/z"),
        (&prefix, json!({ "prefix": "/v2/" }), "/cart/cart/", "/v2/cart/"),
        (&prefix, json!({ "prefix": "/v2" }), "/cart", "/v2"),
        (&prefix, json!({ "prefix": "/v2" }), "//c%61rt/x", "/v2/x"),
        (&any, json!({ "prefix": "/v2" }), "/", "/v2/"),
        (&any, json!({ "prefix": "/v2" }), "/x", "/v2/x"),
        (&template, json!({ "path": "/u/{rest}/{id}" }), "/users/a%2Fb/c/d?e", "/u/c/d/a%2Fb?e"),
        (&template, json!({ "path": "/flat" }), "/users/7/x?y=1", "/flat?y=1"),
        (&regex, json!({ "path": "/i18n/{lang}" }), "/de/x", "/i18n/de"),
        (&any, slashed.clone(), "/v1/a?v2/", "/api/1x/a?v2/"),
        (&any, slashed, "/w1/a", "/w1/a"),
        (&any, json!({ "host": "b.example.com" }), "//x/%61?y", "//x/%61?y"),
    ] {
        let line = format!("GET {target}");
        let made = rewritten(matched, &rewrite, &line);
        assert_eq!(made.as_deref(), Ok(expected), "{rewrite} {target}");
        // The same over HTTP/2, where requests have an authority.
        let line = format!("GET http://shop.example.com{target}");
        let made = rewritten(matched, &rewrite, &line).unwrap();
        assert!(made.ends_with(expected), "{rewrite} {made}");
    }
}

#[test]
fn a_rewrite_keeps_the_query_and_rejects_dot_segments() {
    let pieces = ["a", "%20", "x", "..b", ".", "-", "%2E", ";", "{", "=", "&", "?", "/", "%41"];
    let mut random = fastrand::Rng::with_seed(11);
    let routes = routes(json!([
        { "name": "a", "match": { "path_template": "/{a}/{b=**}" }, "cluster": "a",
          "rewrite": { "path": "/.{b}/{a}" } },
    ]));
    let mut done = 0;
    for _ in 0..20_000 {
        let text: String =
            (0..random.usize(1..9)).map(|_| *random.choice(&pieces).unwrap()).collect();
        let target = format!("/{text}");
        let path = target.split('?').next().unwrap();
        if crate::path_fault(path).is_some() {
            continue;
        }
        let mut head = head(&format!("GET {target}"), &[]);
        let query = head.uri.query().map(str::to_owned);
        let Some((route, captures)) = routes.find(&head, "a") else { continue };
        if route.rewrite(&mut head, &captures, &variables()).is_ok() {
            assert_eq!(head.uri.query(), query.as_deref(), "{target}");
            assert_eq!(crate::path_fault(head.uri.path()), None, "{target} {}", head.uri);
            done += 1;
        }
    }
    assert!(done > 1000, "{done}");
    let mut leads_out = head("GET /a", &[]);
    let (route, captures) = find(&routes, &leads_out);
    assert!(route.rewrite(&mut leads_out, &captures, &variables()).is_err(), "it would be `/./a`");
}

#[test]
fn a_host_is_rewritten_in_target_and_header() {
    let routes = routes(json!([{ "name": "a", "cluster": "a", "rewrite": { "host": "b:81" } }]));
    for (line, host, uri, header) in [
        ("GET /x?y", Some("a"), "/x?y", Some("b:81")),
        ("GET /x?y", None, "/x?y", Some("b:81")),
        ("GET http://a/x?y", None, "http://b:81/x?y", None),
        ("GET http://a/x", Some("a"), "http://b:81/x", Some("b:81")),
        ("CONNECT a:443", None, "b:81", None),
    ] {
        let mut head = head(line, &host.map(|host| ("host", host)).into_iter().collect::<Vec<_>>());
        let (route, captures) = find(&routes, &head);
        route.rewrite(&mut head, &captures, &variables()).unwrap();
        assert_eq!(head.uri.to_string(), uri, "{line}");
        let named = head.headers.get("host").map(|it| it.to_str().unwrap());
        assert_eq!(named, header, "{line}");
    }
}

#[test]
fn variables_in_headers_tell_what_the_client_asked_for() {
    let routes = routes(json!([{
        "name": "users", "cluster": "shop",
        "match": { "path_template": "/users/{id}" },
        "rewrite": { "path": "/u/{id}" },
        "request_headers": { "remove": ["x-debug"], "set": {
            "x-all": "%{peer} %{peer_ip} %{host} %{path} %{method} %{request_id} %{route} %{cluster}",
            "x-more": "%{header.accept}|%{capture.id}|100%%|%%{x}",
            "x-user": "%{header.x-auth-user}",
        }, "add": { "x-tag": "new", "x-empty": "%{header.none}" } },
    }]));
    let mut head = head(
        "PUT /users/a%20b?q",
        &[
            ("accept", "*/*"),
            ("x-debug", "1"),
            ("x-debug", "2"),
            ("x-user", "forged"),
            ("x-tag", "old"),
        ],
    );
    let (route, captures) = find(&routes, &head);
    route.rewrite(&mut head, &captures, &variables()).unwrap();
    assert_eq!(head.uri, "/u/a%20b?q");
    let all = |name: &str| -> Vec<&str> {
        head.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    };
    let told = "10.0.0.7:4711 10.0.0.7 shop.example.com /users/a%20b PUT id-1 users shop";
    assert_eq!(all("x-all"), [told]);
    assert_eq!(all("x-more"), ["*/*|a%20b|100%|%{x}"]);
    assert_eq!(all("x-tag"), ["old", "new"]);
    for gone in ["x-debug", "x-user", "x-empty"] {
        assert_eq!(all(gone), [""; 0], "{gone}");
    }
}

#[test]
fn response_header_variables_are_rendered_from_the_request() {
    let routes = routes(json!([{
        "name": "a", "cluster": "shop", "match": { "path_prefix": "/a" }, "rewrite": { "prefix": "/" },
        "response_headers": {
            "remove": ["server"],
            "set": { "x-path": "%{path}", "x-fixed": "1", "x-none": "%{header.none}" },
            "add": { "x-id": "%{request_id}" },
        },
    }]));
    let mut asked = head("GET /a/b", &[]);
    let (route, captures) = find(&routes, &asked);
    let response_values = route.render_response(&asked, &captures, &variables());
    route.rewrite(&mut asked, &captures, &variables()).unwrap();
    let mut headers: HeaderMap = [("server", "x"), ("x-none", "x"), ("x-id", "0"), ("x-path", "x")]
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .into_iter()
        .collect();
    route.edit_response(&mut headers, &response_values);
    let mut told: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    told.sort();
    assert_eq!(told, ["x-fixed: 1", "x-id: 0", "x-id: id-1", "x-path: /a/b"]);
}

#[test]
fn a_redirect_changes_only_the_configured_parts() {
    let prefix = json!({ "path_prefix": "/a" });
    let template = json!({ "path_template": "/u/{id}" });
    for (matched, redirect, line, host, location) in [
        (&prefix, json!({ "scheme": "https" }), "GET /a?b", "x:8080", "https://x/a?b"),
        (
            &prefix,
            json!({ "scheme": "https", "port": 8443 }),
            "GET /a",
            "[::1]:80",
            "https://[::1]:8443/a",
        ),
        (&prefix, json!({ "scheme": "https" }), "GET /a", "[::1]", "https://[::1]/a"),
        (&prefix, json!({ "host": "y" }), "GET /a//b", "x:8080", "http://y/a//b"),
        (
            &prefix,
            json!({ "prefix": "/b", "query": false }),
            "GET /a/c?d",
            "x:81",
            "http://x:81/b/c",
        ),
        (&template, json!({ "path": "/users/{id}" }), "GET /u/7?x", "x", "http://x/users/7?x"),
        (
            &template,
            json!({ "path": "/users/{id}" }),
            "GET http://z:1/u/7",
            "",
            "http://z:1/users/7",
        ),
        (&template, json!({ "path": "/users/{id}" }), "GET /u/7", "", "/users/7"),
    ] {
        let routes = routes(json!([{ "name": "a", "match": matched, "redirect": redirect }]));
        let headers = [("host", host)];
        let head = head(line, if host.is_empty() { &[] } else { &headers });
        let (route, captures) = find(&routes, &head);
        let Action::Redirect(redirect) = &route.action else { panic!("{:?}", route.action) };
        let answer = redirect.answer(&head, &captures, "http");
        assert_eq!(answer.status(), 301);
        assert_eq!(answer.headers()[LOCATION], location, "{line}");
    }
}

#[test]
fn a_redirect_without_host_stays_on_the_host() {
    let routes = routes(json!([{ "name": "a", "redirect": { "scheme": "https", "status": 308 } }]));
    let head = head("GET //evil.example.com/x", &[]);
    let (route, captures) = find(&routes, &head);
    let Action::Redirect(redirect) = &route.action else { panic!("{:?}", route.action) };
    let answer = redirect.answer(&head, &captures, "http");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[LOCATION]),
        (308, &"/evil.example.com/x".parse().unwrap())
    );
}

#[test]
fn a_fixed_reply_is_text_unless_it_says_otherwise() {
    let typed =
        json!({ "status": 503, "body": "{}", "headers": { "content-type": "application/json" } });
    for (reply, status, kind) in [
        (json!({ "status": 200, "body": "ok" }), 200, Some("text/plain; charset=utf-8")),
        (json!({ "status": 204 }), 204, None),
        (typed, 503, Some("application/json")),
    ] {
        let routes = routes(json!([{ "name": "a", "reply": reply }]));
        let (route, _) = find(&routes, &head("GET /", &[]));
        let Action::Reply(fixed) = &route.action else { panic!("{:?}", route.action) };
        let answer = fixed.answer();
        assert_eq!(answer.status(), status);
        let told = answer.headers().get("content-type").map(|it| it.to_str().unwrap());
        assert_eq!(told, kind);
        let body = reply["body"].as_str().unwrap_or_default().len() as u64;
        assert_eq!(answer.body().size_hint().exact(), Some(body));
    }
}

#[test]
fn routes_inherit_the_listeners_defaults() {
    let routes = routes(json!([
        { "name": "all", "match": { "path": "/x" }, "cluster": "a", "timeout": "off",
          "idle_timeout": "1m", "upgrade": ["WebSocket"], "connect": true,
          "max_request_body": "1KiB", "mirror": { "cluster": "b", "percent": 0.5 },
          "hedge": { "after": "100ms" } },
        { "name": "none", "cluster": "a" },
    ]));
    let [all, none] = &routes.iter().collect::<Vec<_>>()[..] else { panic!("{routes:?}") };
    assert_eq!((all.timeout, all.idle_timeout), (None, Some(Duration::from_secs(60))));
    assert_eq!((all.connect, all.max_request_body), (true, Some(1024)));
    assert_eq!(all.hedge, Some(Duration::from_millis(100)));
    assert!(all.mirror.as_ref().is_some_and(|it| (it.share - 0.005).abs() < 1e-12));
    assert!(all.upgrade.allow("websocket") && !all.upgrade.allow("h2c"));
    assert_eq!(none.timeout, Some(Duration::from_secs(15)));
    assert_eq!(none.idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!((none.connect, none.max_request_body), (false, None));
    assert_eq!((&none.upgrade, none.upgrade.allow("websocket")), (&AllowedUpgrades::None, false));
}

#[test]
fn retry_conditions_have_their_usual_meaning() {
    let retry = |retry: Value| {
        let routes = routes(json!([{ "name": "a", "cluster": "a", "retry": retry }]));
        find(&routes, &head("GET /", &[])).0.retry.clone().unwrap()
    };
    let usual = retry(json!({ "on": "5xx" }));
    assert!(usual.on.connect_failure && usual.on.reset && usual.on.refused_stream);
    assert!(usual.on.statuses.contains(500) && !usual.on.statuses.contains(409));
    assert_eq!((usual.attempts, usual.max_body, usual.per_try_timeout), (1, 64 << 10, None));
    assert_eq!(usual.backoff.base, Duration::from_millis(25));
    assert_eq!(usual.backoff.max, Duration::from_millis(250));
    assert_eq!((usual.budget.percent, usual.budget.min), (20, 3));
    assert!(usual.retries_method(&Method::POST), "who says 5xx is asked to mean it");
    let only =
        retry(json!({ "on": [503, "retriable_4xx", "unavailable"], "methods": ["GET", "PUT"],
        "attempts": 3, "backoff": { "base": "1s" } }));
    assert!(!only.on.connect_failure && !only.on.reset);
    assert!(only.on.statuses.contains(503) && only.on.statuses.contains(409));
    assert!(!only.on.statuses.contains(502));
    assert!(only.on.grpc(14) && !only.on.grpc(13) && !only.on.grpc(99));
    assert!(only.retries_method(&Method::PUT) && !only.retries_method(&Method::POST));
    assert_eq!((only.attempts, only.backoff.max), (3, Duration::from_secs(10)));
    let gateway = retry(json!({ "on": ["gateway_error"] })).on;
    let statuses: Vec<_> = (100..600).filter(|it| gateway.statuses.contains(*it)).collect();
    assert_eq!((statuses, gateway.reset), (vec![502, 503, 504], true));
}

#[test]
fn settings_are_written_back_as_they_would_be_read() {
    let written = json!([
        { "name": "a", "match": { "host": ["a", "*.b"], "path_prefix": "/a", "method": "GET",
            "headers": { "x-a": { "prefix": "b", "not": { "exact": "bc" } } },
            "query": { "page": { "range": [1, 9] }, "all": { "present": false } } },
          "clusters": [{ "cluster": "a", "weight": 9 }, { "cluster": "b" }],
          "timeout": "off", "idle_timeout": "90s",
          "retry": { "on": ["5xx", 503, "500-504", "unavailable", "reset"], "attempts": 2,
            "per_try_timeout": "250ms", "backoff": { "base": "1s" }, "budget": { "percent": 20 },
            "max_body": "1MiB", "methods": ["GET", "PUT"] },
          "mirror": { "cluster": "c", "percent": 0.5 }, "hedge": { "after": "100ms" },
          "rewrite": { "prefix": "/", "host": "b" },
          "request_headers": { "set": { "x-a": "%{peer_ip}" }, "remove": ["x-b"] },
          "upgrade": ["websocket"], "connect": true, "max_request_body": "off" },
        { "name": "b", "match": { "path": "/b" }, "redirect": { "status": 302, "host": "c", "port": 81 } },
        { "name": "c", "match": { "path": "/c" }, "upgrade": true, "cluster": "c" },
        { "name": "d", "reply": { "status": 404, "body": "no", "headers": { "x-a": "b" } } },
    ]);
    let read = settings(&written);
    let shown = serde_json::to_value(&read).unwrap();
    assert_eq!(shown["routes"], written);
    assert_eq!(shown["max_head"], "64KiB");
    assert_eq!((&shown["failed"], &shown["via"]), (&json!("5xx"), &json!("off")));
    assert_eq!(super::read(shown).unwrap(), read);
}
