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
    assert_eq!(flaw.status, 400);
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
        ("POST", V1, "/", &[("host", "shop"), ("content-length", "18446744073709551615")], "shop"),
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
fn a_request_is_for_one_authority() {
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
fn a_target_has_the_form_that_its_method_asks_for() {
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
fn a_length_is_told_once_and_in_digits() {
    for lengths in [
        &["+1"][..],
        &["-1"],
        &["1, 1"],
        &["1 "],
        &[""],
        &["0x1"],
        &["18446744073709551616"],
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
fn a_fragment_does_not_go_on() {
    let head = head("GET", V1, "/a?b#c", &[("host", "a")]);
    assert_eq!(head.uri.to_string(), "/a?b");
}
