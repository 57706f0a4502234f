//! Heads over a limit: the client hears that, and does not try again.

use crate::{
    before, service,
    support::http::{Client, TestRequest, Version, post},
};

fn call(metadata: usize) -> TestRequest {
    post("/a.B/C", vec![0; 5])
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-long", &"v".repeat(metadata))
}

#[test]
fn metadata_over_the_limit_is_resource_exhausted_by_its_name() {
    let service = service();
    let tollgate = before(&service.endpoints(), "", "");
    let client = Client::connect(tollgate.listener("rpc"), Version::Two);
    let answer = client.round_trip(call(70_000));
    assert_eq!((answer.status, &*answer.header("grpc-status")), (200, "8"), "{answer:?}");
    assert!(answer.header("grpc-message").contains("max_head"), "{answer:?}");
    // What the service itself would not take is not sent either.
    let answer = client.round_trip(call(20_000));
    assert_eq!((answer.status, &*answer.header("grpc-status")), (200, "8"), "{answer:?}");
    assert!(answer.header("grpc-message").contains("16384"), "{answer:?}");
    assert_eq!(client.round_trip(call(10)).trailers["grpc-status"], "0");
}
