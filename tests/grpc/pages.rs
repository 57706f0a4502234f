//! Pages in browsers: which sites may call, and what is logged for the others.

use crate::{
    TREE, before,
    support::http::{Answer, Client, Content, Reply, Service, TestRequest, Version, get},
};
use http::Method;

#[test]
fn a_forbidden_origin_is_logged() {
    let service = Service::start(Version::Two, |_| {
        let empty = Content::from(&[0; 5][..]).trailers(&[("grpc-status", "0")]);
        Reply::ok(empty).header("content-type", "application/grpc")
    });
    let settings = format!(
        "web: {{ origins: [\"https://shop.example\"] }}, transcode: {{ descriptors: \"{TREE}\" }}"
    );
    let tollgate = before(&service, &settings);
    let client = Client::connect(tollgate.listener("rpc"), Version::One);
    let from = |ask: TestRequest, origin: &str| -> Answer {
        client.round_trip(ask.header("origin", origin))
    };
    let preflight = || {
        let ask = TestRequest::new(Method::OPTIONS, "/t.Tree/Get");
        ask.header("access-control-request-method", "POST")
    };
    assert_eq!(from(preflight(), "https://evil.example").status, 204);
    assert_eq!(from(preflight(), "https://shop.example").status, 204);
    assert_eq!(from(get("/v1/tree"), "https://evil.example").status, 200);
    assert_eq!(from(get("/v1/tree"), "https://shop.example").status, 200);
    // The page that the proxy's own name brought.
    assert_eq!(from(get("/v1/tree"), "http://shop.example:8080").status, 200);
    let lines = tollgate.logged(5, |_| true);
    let told = |at: usize| {
        let text = |key: &str| lines[at][key].as_str().unwrap_or_default().to_owned();
        [text("outcome"), text("reason"), text("flags")]
    };
    assert_eq!(told(0), ["rejected", "origin_refused", ""]);
    assert_eq!(told(1), ["ok", "preflight", ""]);
    assert_eq!(told(2), ["ok", "", "origin_refused"]);
    assert_eq!(told(3), ["ok", "", ""]);
    assert_eq!(told(4), ["ok", "", ""]);
}
