//! gRPC clients before services of plain HTTP/1.1, with only the config that the page shows.

use crate::{
    before,
    support::{
        eventually,
        http::{Client, Reply, Service, TestRequest, Version, post},
        tollgate::Tollgate,
    },
};

/// A service that knows nothing of gRPC.
fn monolith() -> Service {
    Service::start(Version::One, |asked| match asked.target.as_str() {
        "/" => Reply::status(404),
        _ => Reply::back().header("content-type", "application/x-protobuf"),
    })
}

/// A message of these bytes in a frame, from a client that sends no length.
fn call(message: &[u8]) -> TestRequest {
    let frame = [&[0, 0, 0, 0, message.len() as u8][..], message].concat();
    let ask = post("/shop.v1.Carts/Get", frame).header("te", "trailers");
    let mut ask = ask.header("content-type", "application/grpc");
    ask.content = ask.content.unknown_length();
    ask
}

#[test]
fn the_reverse_bridge_sends_http_1_with_a_length() {
    let service = monolith();
    for settings in ["reverse_bridge: true", "reverse_bridge: true, bridge: true"] {
        let tollgate = before(&service, settings);
        let client = Client::connect(tollgate.listener("rpc"), Version::Two);
        for message in [&b"hello"[..], b""] {
            let answer = client.round_trip(call(message));
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(&answer.body[5..], message, "{answer:?}");
            let asked = service.received().pop().unwrap();
            assert_eq!(asked.header("content-length"), message.len().to_string());
            assert_eq!(asked.header("transfer-encoding"), "");
        }
    }
}

#[test]
fn a_service_gets_the_length_of_its_frames() {
    let service = monolith();
    let tollgate = before(&service, "reverse_bridge: { withhold_frames: false }");
    let client = Client::connect(tollgate.listener("rpc"), Version::Two);
    let answer = client.round_trip(call(b"hello"));
    assert_eq!(&answer.body[..], b"\0\0\0\0\x05hello", "{answer:?}");
    assert_eq!(service.received().pop().unwrap().header("content-length"), "10");
}

#[test]
fn a_call_that_is_none_costs_no_connection_to_the_service() {
    let service = monolith();
    let tollgate = before(&service, "reverse_bridge: true");
    let client = Client::connect(tollgate.listener("rpc"), Version::Two);
    let mut none = call(b"");
    none.content = b"\x01\0\0\0\x01x".to_vec().into();
    let answer = client.round_trip(none);
    assert_eq!(answer.header("grpc-status"), "12", "{answer:?}");
    assert_eq!(service.connections(), 0);
}

#[test]
fn services_behind_a_reverse_bridge_are_checked_by_plain_http() {
    let service = monolith();
    let tollgate = Tollgate::start(&format!(
        "listeners:\n  rpc: {{ address: \"127.0.0.1:0\", protocol: {{ grpc: {{ reverse_bridge: true \
         }} }}, cluster: monolith }}\n\
         clusters:\n  monolith: {{ {}, health_check: {{ interval: 100ms }} }}\n",
        service.endpoints()
    ));
    let checks = |result: &str| {
        let labels = [("cluster", "monolith"), ("result", result)];
        tollgate.metric("tollgate_health_checks_total", &labels)
    };
    eventually("checks to succeed", || (checks("ok") >= 2.0).then_some(()));
    assert_eq!(checks("failed"), 0.0);
}
