use super::*;
use crate::{header::opcode, testing};
use bson::{Document, doc, oid::ObjectId, spec::BinarySubtype};

const LOCAL: &str = "10.0.0.1:27017";

fn presented(present_as: PresentAs, server: Option<Document>) -> Presentation {
    let presentation = Presentation::new(present_as, None);
    server.into_iter().for_each(|server| presentation.record(&server.to_vec().unwrap()));
    presentation
}

fn member() -> Document {
    doc! { "ok": 1.0, "setName": "rs", "maxWireVersion": 25, "logicalSessionTimeoutMinutes": 30 }
}

/// What a client with this `hello` sees.
fn seen(presentation: &Presentation, hello: &HelloRequest) -> Document {
    let reply = presentation.describe(hello, LOCAL.parse().unwrap(), 9).finish();
    Document::from_reader(reply.as_slice()).unwrap()
}

fn modern() -> HelloRequest {
    HelloRequest { is_modern: true, ..HelloRequest::default() }
}

#[test]
fn a_server_s_limits_are_those_that_it_has_shown() {
    let presentation = presented(PresentAs::Router, Some(member()));
    let reply = seen(&presentation, &modern());
    assert_eq!(reply.get_i32("maxWireVersion").unwrap(), 25);
    assert_eq!(reply.get_i32("logicalSessionTimeoutMinutes").unwrap(), 30);
    assert_eq!(reply.get_i32("maxBsonObjectSize").unwrap(), 16 << 20, "the default");
    assert_eq!(reply.get_i32("connectionId").unwrap(), 9);
    presentation
        .record(&doc! { "ok": 1.0, "setName": "rs", "maxWireVersion": 27 }.to_vec().unwrap());
    assert_eq!(seen(&presentation, &modern()).get_i32("maxWireVersion").unwrap(), 27);
}

#[test]
fn an_old_hello_gets_an_old_reply() {
    let reply = seen(&presented(PresentAs::Primary, Some(member())), &HelloRequest::default());
    assert!(reply.get_bool("ismaster").unwrap());
    assert!(!reply.contains_key("isWritablePrimary"));
}

#[test]
fn a_mongos_is_a_mongos_whatever_it_is_presented_as() {
    let mongos = doc! { "ok": 1.0, "msg": "isdbgrid" };
    for present_as in [PresentAs::Router, PresentAs::Primary] {
        let reply = seen(&presented(present_as, Some(mongos.clone())), &modern());
        assert_eq!(reply.get_str("msg").unwrap(), "isdbgrid");
    }
}

#[test]
fn the_newest_cluster_time_is_shown() {
    let at = |time: u32| {
        let time = bson::Timestamp { time, increment: 300 };
        let hello = doc! { "ok": 1.0, "setName": "rs", "$clusterTime": { "clusterTime": time } };
        hello.to_vec().unwrap()
    };
    let presentation = presented(PresentAs::Router, None);
    for (recorded, shown) in [(5, 5), (7, 7), (6, 7), (256, 256)] {
        presentation.record(&at(recorded));
        let reply = seen(&presentation, &modern());
        let time = reply.get_document("$clusterTime").unwrap().get_timestamp("clusterTime");
        assert_eq!(time.unwrap().time, shown);
    }
    presentation.record(&doc! { "ok": 1.0 }.to_vec().unwrap());
    assert!(seen(&presentation, &modern()).contains_key("$clusterTime"), "it is kept");
}

#[test]
fn a_client_that_can_be_moved_sees_no_cluster_time() {
    let time = bson::Timestamp { time: 5, increment: 1 };
    let mut server = member();
    server.insert("$clusterTime", doc! { "clusterTime": time });
    let presentation = Presentation::new(PresentAs::Router, None).stripping_time(true);
    presentation.record(&server.to_vec().unwrap());
    assert!(!seen(&presentation, &modern()).contains_key("$clusterTime"));
}

#[test]
fn another_deployment_has_another_time_and_the_same_name() {
    let at = |set: &str, time: u32| {
        let time = bson::Timestamp { time, increment: 1 };
        let mut hello = member();
        hello.insert("setName", set);
        hello.insert("$clusterTime", doc! { "clusterTime": time });
        hello.to_vec().unwrap()
    };
    let presentation = presented(PresentAs::Primary, None);
    presentation.record(&at("rs0", 900));
    assert_eq!(seen(&presentation, &modern()).get_str("setName").unwrap(), "rs0");
    presentation.switched(&at("rs1", 100));
    let reply = seen(&presentation, &modern());
    assert_eq!(reply.get_str("setName").unwrap(), "rs0");
    let time = reply.get_document("$clusterTime").unwrap().get_timestamp("clusterTime").unwrap();
    assert_eq!(time.time, 100, "the older one belongs to the other deployment");
}

#[test]
fn a_successor_is_the_same_kind_of_server() {
    let standalone = doc! { "ok": 1.0, "maxWireVersion": 25 };
    let mongos = doc! { "ok": 1.0, "msg": "isdbgrid" };
    let check = |present_as, before: &Document, after: &Document| {
        presented(present_as, Some(before.clone())).check_successor(&after.to_vec().unwrap())
    };
    for present_as in [PresentAs::Router, PresentAs::Primary] {
        assert_eq!(check(present_as, &member(), &member()), Ok(()));
        let error = check(present_as, &member(), &standalone).unwrap_err();
        assert!(error.contains("would drop a standalone server"), "{error}");
        check(present_as, &standalone, &mongos).unwrap_err();
    }
    assert_eq!(check(PresentAs::Router, &member(), &mongos), Ok(()), "both are shown as a mongos");
    check(PresentAs::Primary, &member(), &mongos).unwrap_err();
    let unknown = presented(PresentAs::Primary, None);
    assert_eq!(unknown.check_successor(&mongos.to_vec().unwrap()), Ok(()));
}

/// What is read of this `hello`.
fn read(presentation: &Presentation, hello: &Document, flags: u32) -> HelloRequest {
    let body = hello.to_vec().unwrap();
    let inside = [&flags.to_le_bytes()[..], &[0], &body].concat();
    let bytes = testing::message(1, 0, opcode::MSG, &inside);
    presentation.read_request(&MessageView::read(&bytes).unwrap())
}

#[test]
fn a_client_waits_only_for_the_state_that_it_knows() {
    let presentation = presented(PresentAs::Router, Some(member()));
    let version = seen(&presentation, &modern()).get_document("topologyVersion").unwrap().clone();
    let ask = |version: &Document| {
        doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 500, "$db": "admin" }
    };
    let wait = Duration::from_millis(500);
    let known = read(&presentation, &ask(&version), 0);
    assert_eq!((known.awaits(), known.follows_after()), (Some(wait), None));
    let mut other = version.clone();
    other.insert("processId", ObjectId::new());
    let unknown = read(&presentation, &ask(&other), flag::EXHAUST_ALLOWED);
    assert_eq!((unknown.awaits(), unknown.follows_after()), (None, Some(wait)));
    let negative = doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": -1 };
    assert_eq!(read(&presentation, &negative, flag::EXHAUST_ALLOWED).follows_after(), None);
}

#[test]
fn what_only_the_server_knows_is_asked_of_it() {
    let presentation = presented(PresentAs::Router, Some(member()));
    let payload = bson::Binary { subtype: BinarySubtype::Generic, bytes: vec![1] };
    for (hello, needs_server) in [
        (doc! { "hello": 1 }, false),
        (doc! { "hello": 1, "saslSupportedMechs": "admin.app" }, true),
        (doc! { "hello": 1, "speculativeAuthenticate": { "payload": payload } }, true),
    ] {
        assert_eq!(read(&presentation, &hello, 0).needs_server, needs_server, "{hello}");
    }
}
