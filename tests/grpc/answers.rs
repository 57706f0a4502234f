//! How a service's answer reaches clients that do not speak gRPC, and what the log says
//! of it.

use crate::{
    TREE, before,
    support::{
        http::{Answer, Client, Content, Reply, Service, TestRequest, Version, get, post},
        tollgate::Tollgate,
    },
};
use serde_json::Value;

/// `OK`, over with its head and without a message, as gRPC's own servers answer an empty stream.
fn over_with_its_head() -> Service {
    Service::start(Version::Two, |_| {
        let reply = Reply::empty(200).header("content-type", "application/grpc");
        reply.header("grpc-status", "0")
    })
}

fn ask(tollgate: &Tollgate, ask: TestRequest) -> Answer {
    Client::connect(tollgate.listener("rpc"), Version::One).round_trip(ask)
}

fn bare() -> TestRequest {
    post("/t.Tree/Get", "").header("content-type", "application/x-protobuf")
}

fn json(target: &str) -> TestRequest {
    post(target, "{}").header("content-type", "application/json")
}

fn line(tollgate: &Tollgate) -> Value {
    tollgate.logged(1, |_| true).remove(0)
}

#[test]
fn a_list_without_entries_is_an_empty_list_in_json() {
    let service = over_with_its_head();
    for (streams, body) in [("array", "[]"), ("lines", "")] {
        let settings = format!("transcode: {{ descriptors: \"{TREE}\", streams: {streams} }}");
        let tollgate = before(&service, &settings);
        let answer = ask(&tollgate, json("/v1/tree:watch"));
        assert_eq!((answer.status, answer.text()), (200, body), "{answer:?}");
        let line = line(&tollgate);
        assert_eq!((&line["outcome"], &line["status"]), (&"ok".into(), &"200".into()), "{line}");
    }
}

#[test]
fn a_unary_call_without_a_message_is_logged_as_an_error() {
    let service = over_with_its_head();
    let json = format!("transcode: {{ descriptors: \"{TREE}\" }}");
    for (settings, asked, status) in
        [(json.as_str(), get("/v1/tree"), 500_u16), ("bridge: true", bare(), 502)]
    {
        let tollgate = before(&service, settings);
        let answer = ask(&tollgate, asked);
        assert_eq!((answer.status, answer.header("grpc-status").as_str()), (status, "13"));
        let line = line(&tollgate);
        let told = (&line["outcome"], &line["reason"], &line["code"], &line["status"]);
        let status = status.to_string().into();
        let wanted = (&"failed".into(), &"untranslated".into(), &"INTERNAL".into(), &status);
        assert_eq!(told, wanted, "{line}");
    }
}

#[test]
fn an_empty_stream_is_a_frame_of_trailers_over_the_bridge() {
    let service = over_with_its_head();
    let tollgate = before(&service, "bridge: { server_streams: frames }");
    let answer = ask(&tollgate, bare());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/grpc-web+proto");
    assert_eq!(&answer.body[..], b"\x80\0\0\0\x10grpc-status: 0\r\n");
}

#[test]
fn a_head_that_says_ok_may_have_a_message_after_it() {
    let service = Service::start(Version::Two, |_| {
        let reply = Reply::ok(&[0, 0, 0, 0, 2, 0x12, 0][..]);
        reply.header("content-type", "application/grpc").header("grpc-status", "0")
    });
    let tollgate = before(&service, "bridge: true");
    let answer = ask(&tollgate, bare());
    assert_eq!((answer.status, answer.header("grpc-status").as_str()), (200, "0"), "{answer:?}");
    assert_eq!(&answer.body[..], [0x12, 0]);
}

#[test]
fn the_log_has_the_status_that_a_client_of_a_bridge_was_sent() {
    let service = Service::start(Version::Two, |asked| {
        let ends = [("grpc-status", "5")];
        match asked.header("x-late").as_str() {
            "" => Reply::empty(200).header("grpc-status", "5"),
            _ => Reply::ok(Content::default().trailers(&ends)),
        }
        .header("content-type", "application/grpc")
    });
    let json = format!("transcode: {{ descriptors: \"{TREE}\" }}");
    let in_json = || get("/v1/tree");
    for (settings, early, late) in
        [("bridge: true", bare(), bare()), (json.as_str(), in_json(), in_json())]
    {
        for asked in [early, late.header("x-late", "1")] {
            let tollgate = before(&service, settings);
            assert_eq!(ask(&tollgate, asked).status, 404);
            let line = line(&tollgate);
            let told = (&line["outcome"], &line["code"], &line["status"]);
            assert_eq!(told, (&"rejected".into(), &"NOT_FOUND".into(), &"404".into()), "{line}");
            assert_eq!(line["reason"], Value::Null, "{line}");
        }
    }
}

#[test]
fn the_head_of_an_answer_in_json_can_be_asked_for_alone() {
    let service = Service::start(Version::Two, |_| {
        let message = Content::from(&[0, 0, 0, 0, 3, 0x12, 1, b'x'][..]);
        let content = message.trailers(&[("grpc-status", "0")]);
        Reply::ok(content).header("content-type", "application/grpc")
    });
    let tollgate = before(&service, &format!("transcode: {{ descriptors: \"{TREE}\" }}"));
    for version in [Version::One, Version::Two] {
        let client = Client::connect(tollgate.listener("rpc"), version);
        let length = client.round_trip(get("/v1/tree")).body.len();
        let answer = client.round_trip(TestRequest::new(http::Method::HEAD, "/v1/tree"));
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
        assert_eq!(answer.header("content-length"), length.to_string(), "{answer:?}");
        assert_eq!(client.round_trip(get("/v1/tree")).status, 200, "the connection goes on");
    }
}

#[test]
fn a_form_gets_an_error_that_asks_for_json() {
    let service = over_with_its_head();
    let tollgate = before(&service, &format!("transcode: {{ descriptors: \"{TREE}\" }}"));
    let form = post("/v1/tree", "{}").header("content-type", "application/x-www-form-urlencoded");
    let answer = ask(&tollgate, form);
    assert_eq!(answer.status, 415);
    let told = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(told.contains("`content-type: application/json`"), "{told}");
    assert!(told.contains("`application/x-www-form-urlencoded`"), "{told}");
}

#[test]
fn an_error_for_long_metadata_names_the_setting() {
    let service = over_with_its_head();
    let tollgate = before(&service, "bridge: true");
    let client = Client::connect(tollgate.listener("rpc"), Version::Two);
    let call = || post("/t.Tree/Get", &[0; 5][..]).header("content-type", "application/grpc");
    let answer = client.round_trip(call().header("x-long", &"x".repeat(70 << 10)));
    assert_eq!((answer.status, answer.header("grpc-status").as_str()), (200, "8"), "{answer:?}");
    assert!(answer.header("grpc-message").contains("max_head"), "{answer:?}");
    let mut many = call();
    for _ in 0..120 {
        many = many.header("x-many", "x");
    }
    let answer = client.round_trip(many);
    assert_eq!(answer.header("grpc-status"), "8", "{answer:?}");
    assert!(answer.header("grpc-message").contains("max_headers"), "{answer:?}");
    // A client without gRPC gets an HTTP error.
    let other = post("/t.Tree/Get", "").header("content-type", "application/x-protobuf");
    assert_eq!(client.round_trip(other.header("x-long", &"x".repeat(70 << 10))).status, 431);
    assert_eq!(client.round_trip(call()).header("grpc-status"), "0", "the connection goes on");
}

#[test]
fn a_response_head_over_the_limit_blames_no_endpoint() {
    let service = Service::start(Version::Two, |asked| {
        let reply = Reply::empty(200).header("content-type", "application/grpc");
        let reply = reply.header("grpc-status", "0");
        match asked.header("x-long").as_str() {
            "" => reply,
            _ => reply.header("x-long", &"x".repeat(70 << 10)),
        }
    });
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  rpc: {{ address: \"127.0.0.1:0\", protocol: grpc, cluster: rpc }}\n\
         clusters:\n  rpc: {{ {}, outlier_detection: {{ consecutive_failures: 3, \
         max_ejection_percent: 100 }} }}\n",
        service.endpoints()
    ));
    let client = Client::connect(tollgate.listener("rpc"), Version::Two);
    let call = || post("/t.Tree/Get", &[0; 5][..]).header("content-type", "application/grpc");
    for _ in 0..6 {
        let answer = client.round_trip(call().header("x-long", "1"));
        assert_eq!(answer.header("grpc-status"), "8", "{answer:?}");
        assert!(answer.header("grpc-message").contains("max_head"), "{answer:?}");
    }
    assert_eq!(client.round_trip(call()).header("grpc-status"), "0");
    assert_eq!(tollgate.metric("tollgate_ejections_total", &[]), 0.0);
}
