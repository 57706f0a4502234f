use super::*;
use http::Request;

fn head(method: &str, version: Version, uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).version(version).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn flaw(
    method: &str,
    version: Version,
    uri: &str,
    headers: &[(&str, &str)],
) -> Option<&'static str> {
    let flaw = check(&head(method, version, uri, headers)).err()?;
    assert_eq!(flaw.status, if flaw.violation.0 == "unknown_expectation" { 417 } else { 400 });
    assert!(!flaw.message.is_empty());
    Some(flaw.violation.0)
}

const V0: Version = Version::HTTP_10;
const V1: Version = Version::HTTP_11;
const V2: Version = Version::HTTP_2;

#[test]
fn plain_requests_go_on() {
    for (method, version, uri, headers, host) in [
        ("GET", V1, "/a?b", &[("host", "Shop:8080")][..], "shop"),
        ("GET", V1, "http://shop/a", &[("host", "SHOP:80")], "shop"),
        ("GET", V1, "http://[::1]:8080", &[("host", "[::1]:8080")], "::1"),
        ("OPTIONS", V1, "*", &[("host", "shop")], "shop"),
        ("POST", V1, "/", &[("host", "shop"), ("content-length", "9223372036854775807")], "shop"),
        ("GET", V0, "/", &[], ""),
        ("CONNECT", V1, "db:5432", &[], "db"),
        ("CONNECT", V1, "db:5432", &[("host", "db:5432")], "db"),
        ("GET", V2, "http://shop/", &[("te", "trailers")], "shop"),
        ("GET", V2, "https://shop:443/", &[("host", "shop")], "shop"),
        ("GET", V2, "/", &[("host", "shop")], "shop"),
        ("CONNECT", V2, "db:5432", &[], "db"),
    ] {
        let authority = check(&head(method, version, uri, headers));
        assert_eq!(authority.unwrap().host(), host, "{method} {uri}");
    }
}

#[test]
fn a_request_has_exactly_one_authority() {
    for (version, uri, headers, word) in [
        (V1, "/", &[][..], "no_host"),
        (V1, "http://shop/", &[], "no_host"),
        (V2, "/", &[], "no_host"),
        (V1, "/", &[("host", "")], "host"),
        (V1, "/", &[("host", "a,b")], "host"),
        (V1, "/", &[("host", "u@a")], "host"),
        (V1, "/", &[("host", "a"), ("host", "a")], "host"),
        (V1, "http://a/", &[("host", "b")], "host_mismatch"),
        (V1, "http://a/", &[("host", "a:8080")], "host_mismatch"),
        (V2, "https://a/", &[("host", "b")], "host_mismatch"),
        (V2, "https://a/", &[("host", "a:80")], "host_mismatch"),
        (V1, "http://u:p@a/", &[("host", "a")], "userinfo"),
        (V2, "http://u@a/", &[], "userinfo"),
        (V2, "http://a:/", &[], "authority"),
    ] {
        assert_eq!(flaw("GET", version, uri, headers), Some(word), "{uri} {headers:?}");
    }
}

#[test]
fn a_target_has_the_form_its_method_requires() {
    let host = &[("host", "a:80")];
    for (method, uri, word) in [
        ("GET", "*", "target"),
        ("GET", "a:80", "target"),
        ("CONNECT", "/", "target"),
        ("CONNECT", "http://a:80/", "target"),
        ("GET", "ftp://a:80/", "scheme"),
    ] {
        assert_eq!(flaw(method, V1, uri, host), Some(word), "{method} {uri}");
    }
    assert_eq!(flaw("CONNECT", V1, "a", &[]), Some("target"));
    assert_eq!(flaw("CONNECT", V1, "a:0", &[]), Some("target"));
}

#[test]
fn an_extended_connect_has_a_path() {
    let mut websocket = head("CONNECT", V2, "https://a/chat", &[]);
    assert_eq!(check(&websocket).unwrap_err().violation.0, "target");
    websocket.extensions.insert(Protocol::from_static("websocket"));
    assert_eq!(check(&websocket).unwrap().host(), "a");
    websocket.method = Method::GET;
    assert_eq!(check(&websocket).unwrap_err().violation.0, "target");
}

#[test]
fn http2_has_no_headers_about_connections() {
    for (name, value, word) in [
        ("connection", "close", "connection_header"),
        ("keep-alive", "1", "connection_header"),
        ("proxy-connection", "close", "connection_header"),
        ("transfer-encoding", "chunked", "connection_header"),
        ("upgrade", "websocket", "connection_header"),
        ("te", "gzip", "te"),
        ("te", "trailers, deflate", "te"),
    ] {
        assert_eq!(flaw("GET", V2, "http://a/", &[(name, value)]), Some(word), "{name}");
        assert_eq!(flaw("GET", V1, "/", &[("host", "a"), (name, value)]), None, "{name}");
    }
}

#[test]
fn content_length_occurs_once_and_is_decimal() {
    for lengths in [
        &["+1"][..],
        &["-1"],
        &["1, 1"],
        &["1 "],
        &[""],
        &["0x1"],
        &["9223372036854775808"],
        &["00"],
        &["00003"],
        &["1", "1"],
        &["1", "2"],
    ] {
        let mut headers = vec![("host", "a")];
        headers.extend(lengths.iter().map(|length| ("content-length", *length)));
        assert_eq!(flaw("POST", V1, "/", &headers), Some("content_length"), "{lengths:?}");
    }
    let both = [("host", "a"), ("content-length", "1"), ("transfer-encoding", "chunked")];
    assert_eq!(flaw("POST", V1, "/", &both), Some("content_length"));
}

#[test]
fn a_fragment_is_not_forwarded() {
    let head = head("GET", V1, "/a?b#c", &[("host", "a")]);
    assert_eq!(head.uri.to_string(), "/a?b");
}

#[test]
fn a_known_method_must_be_in_capitals() {
    let host = &[("host", "a")];
    for method in ["delete", "Get", "oPTIONS", "propfind", "m-search"] {
        assert_eq!(flaw(method, V1, "/", host), Some("method_case"), "{method}");
        assert_eq!(flaw(method, V2, "http://a/", &[]), Some("method_case"), "{method}");
    }
    for method in ["DELETE", "frob", "Frob", "FROB"] {
        assert_eq!(flaw(method, V1, "/", host), None, "{method}");
    }
    assert_eq!(flaw(&"X".repeat(33), V2, "http://a/", &[]), Some("invalid_method"));
    assert_eq!(flaw(&"X".repeat(32), V2, "http://a/", &[]), None);
}

#[test]
fn trace_with_credentials_is_rejected() {
    for name in ["authorization", "proxy-authorization", "cookie"] {
        let headers = &[("host", "a"), (name, "secret")];
        assert_eq!(flaw("TRACE", V1, "/", headers), Some("trace_with_credentials"), "{name}");
        assert_eq!(flaw("GET", V1, "/", headers), None, "{name}");
    }
    assert_eq!(flaw("TRACE", V1, "/", &[("host", "a")]), None);
}

#[test]
fn a_single_value_header_may_occur_once() {
    for name in ["authorization", "content-type", "user-agent", "referer", "range", "origin"] {
        let twice = &[("host", "a"), (name, "1"), (name, "1")];
        assert_eq!(flaw("GET", V1, "/", twice), Some("repeated_header"), "{name}");
        assert_eq!(flaw("GET", V1, "/", &twice[..2]), None, "{name}");
    }
    for name in ["accept", "cookie", "x-debug", "if-none-match", "via", "cache-control"] {
        assert_eq!(flaw("GET", V1, "/", &[("host", "a"), (name, "1"), (name, "2")]), None);
    }
}

#[test]
fn nothing_is_expected_but_to_go_on() {
    for (value, word) in
        [("100-continue", None), ("100-Continue", None), ("junk", Some("unknown_expectation"))]
    {
        assert_eq!(flaw("POST", V2, "http://a/", &[("expect", value)]), word, "{value}");
        assert_eq!(flaw("POST", V1, "/", &[("host", "a"), ("expect", value)]), word, "{value}");
    }
}

#[test]
fn http2_is_held_to_what_the_screen_holds_http1_to() {
    let ask = |uri, headers: &[(&str, &str)]| flaw("GET", V2, uri, headers);
    assert_eq!(ask("http://a/caf\u{e9}", &[]), Some("invalid_target"));
    assert_eq!(ask("http://a/?q=caf\u{e9}", &[]), Some("invalid_target"));
    assert_eq!(ask("http://a/?q=`", &[]), None);
    for value in [" 1", "1 ", "\t1", "1\t"] {
        assert_eq!(ask("http://a/", &[("x-debug", value)]), Some("blank_around_value"));
    }
    assert_eq!(ask("http://a/", &[("x-debug", "a b")]), None);
    for name in ["content_length", "transfer_encoding"] {
        assert_eq!(ask("http://a/", &[(name, "5")]), Some("disguised_header"));
    }
}
