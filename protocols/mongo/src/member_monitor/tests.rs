//! Replies to `hello`, and what they say of the member that sent them.

use super::*;
use crate::testing::answer;
use bson::{DateTime, Document, Timestamp, doc, oid::ObjectId};

/// A reply of a member of `rs`, with these fields besides.
fn member(fields: Document) -> Document {
    let mut reply = doc! {
        "setName": "rs",
        "setVersion": 3,
        "hosts": ["a:1", "B:2"],
        "maxWireVersion": 21,
        "topologyVersion": { "processId": ObjectId::from_bytes([1; 12]), "counter": 5_i64 },
        "ok": 1.0,
    };
    reply.extend(fields);
    reply
}

fn primary(election: u8, fields: Document) -> Document {
    let election = ObjectId::from_bytes([election; 12]);
    let mut reply = member(doc! { "isWritablePrimary": true, "electionId": election });
    reply.extend(fields);
    reply
}

fn state(reply: &Document) -> Result<MemberState, String> {
    let body = reply.to_vec().unwrap();
    member_state(&body, &MemberMonitors::new("rs").expected)
}

#[test]
fn a_hello_shows_the_role_of_its_member() {
    for (fields, role, words) in [
        (doc! { "isWritablePrimary": true }, Role::Primary, "primary of rs"),
        (doc! { "ismaster": true }, Role::Primary, "primary of rs"),
        (doc! { "secondary": true }, Role::Secondary, "secondary of rs"),
        (doc! { "secondary": true, "hidden": true }, Role::Unknown, "hidden secondary of rs"),
        (doc! { "arbiterOnly": true }, Role::Unknown, "arbiter of rs: has no data"),
        (doc! { "secondary": false }, Role::Unknown, "neither primary nor secondary of rs"),
    ] {
        let state = state(&member(fields)).unwrap();
        assert_eq!(state.role, role, "{words}");
        assert!(state.description.starts_with(words), "{}", state.description);
    }
}

#[test]
fn what_is_no_member_of_the_set_is_an_error() {
    for (reply, words) in [
        (doc! { "ok": 1.0, "isWritablePrimary": true }, "member of no replica set, expected rs"),
        (member(doc! { "setName": "other" }), "member of the replica set other, expected rs"),
        (doc! { "ok": 1.0, "isreplicaset": true }, "member of no replica set, expected rs"),
        (doc! { "ok": 0.0, "code": 18 }, "answers hello with error 18 AuthenticationFailed"),
    ] {
        assert_eq!(state(&reply), Err(words.to_owned()));
    }
}

#[test]
fn members_are_hosts_and_passives_in_lower_case() {
    let reply = member(doc! { "secondary": true, "passives": ["c:3"], "arbiters": ["d:4"] });
    let members = ["a:1", "b:2", "c:3"].map(str::to_owned).to_vec();
    assert_eq!(state(&reply).unwrap().members, Some(members));
    let alone = doc! { "ok": 1.0, "setName": "rs", "secondary": true };
    assert_eq!(state(&alone).unwrap().members, None);
}

#[test]
fn tags_and_the_newest_write_are_read() {
    let written = DateTime::from_millis(1_700_000_000_123);
    let reply = member(doc! {
        "secondary": true,
        "tags": { "use": "analytics", "dc": "east" },
        "lastWrite": {
            "opTime": { "ts": Timestamp { time: 1, increment: 1 }, "t": 1_i64 },
            "lastWriteDate": written,
        },
    });
    let state = state(&reply).unwrap();
    let tag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(state.tags, [tag("use", "analytics"), tag("dc", "east")]);
    assert_eq!(state.last_write, Some(written.to_system_time()));
}

#[test]
fn the_newer_election_has_the_greater_term() {
    let term = |election, fields| state(&primary(election, fields)).unwrap().term;
    assert!(term(2, doc! {}) > term(1, doc! {}));
    // From MongoDB 6.0 on the election decides, before it the version of the config.
    let old_config = doc! { "setVersion": 2 };
    assert!(term(2, old_config.clone()) > term(1, doc! {}));
    let version_5 = |fields: Document| {
        let mut all = doc! { "maxWireVersion": 13 };
        all.extend(fields);
        all
    };
    assert!(term(2, version_5(old_config)) < term(1, version_5(doc! {})));
    assert!(state(&member(doc! { "isWritablePrimary": true })).unwrap().term.is_empty());
}

/// The command of the next request, which is answered by `reply`.
fn exchange(monitor: &mut dyn Monitor, reply: &Document) -> (Document, MonitorStep) {
    let mut request = BytesMut::new();
    monitor.write_request(&mut request);
    let id = u32::from_le_bytes(request[4..8].try_into().unwrap());
    let command = Document::from_reader(&request[21..]).unwrap();
    let bytes = answer(id, reply.clone());
    assert_eq!(monitor.read_reply(&bytes[..bytes.len() - 1]), MonitorStep::NeedMore);
    (command, monitor.read_reply(&bytes))
}

#[test]
fn a_plain_question_and_an_awaiting_one_take_turns() {
    let mut monitor = MemberMonitors::new("rs").begin();
    let reply = primary(1, doc! {});
    let (first, step) = exchange(&mut *monitor, &reply);
    assert!(!first.contains_key("topologyVersion"));
    let is_round_trip = |step: &MonitorStep| matches!(step, MonitorStep::State { is_round_trip: true, pause, .. } if pause.is_zero());
    assert!(is_round_trip(&step));
    let (second, step) = exchange(&mut *monitor, &reply);
    assert_eq!(second.get("topologyVersion"), reply.get("topologyVersion"));
    assert_eq!(second.get_i64("maxAwaitTimeMS").unwrap(), 2000);
    assert!(matches!(step, MonitorStep::State { is_round_trip: false, .. }));
    let (third, step) = exchange(&mut *monitor, &reply);
    assert!(!third.contains_key("maxAwaitTimeMS"));
    assert!(is_round_trip(&step));
}

#[test]
fn a_server_that_does_not_wait_is_asked_with_pauses() {
    let mut monitor = MemberMonitors::new("rs").begin();
    let mut reply = primary(1, doc! {});
    reply.remove("topologyVersion");
    for _ in 0..2 {
        let (question, step) = exchange(&mut *monitor, &reply);
        assert!(!question.contains_key("maxAwaitTimeMS"));
        assert!(matches!(step, MonitorStep::State { pause, .. } if pause == POLL));
    }
}
