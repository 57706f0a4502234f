//! Who the client is, where it should go, and what it may compress with.

use super::*;
use crate::Settings;
use bson::{Binary, Document, spec::BinarySubtype};

fn start(user: &str) -> Document {
    let first = format!("n,,n={user},r=nonce");
    let payload = Binary { subtype: BinarySubtype::Generic, bytes: first.into_bytes() };
    doc! {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": payload, "$db": "admin"}
}

fn user(codec: &Mongo) -> Option<String> {
    codec.attribute(&[], "user").text().map(|user| user.into_owned())
}

#[test]
fn a_user_is_known_once_the_server_accepts_the_last_step() {
    let mut codec = codec();
    one_request(&mut codec, &command(1, start("ann")));
    one_reply(&mut codec, &answer(1, doc! {"conversationId": 1, "done": false, "ok": 1}));
    assert_eq!(user(&codec), None);
    one_request(&mut codec, &command(2, doc! {"saslContinue": 1, "$db": "admin"}));
    one_reply(&mut codec, &answer(2, doc! {"conversationId": 1, "done": true, "ok": 1}));
    assert_eq!(user(&codec).as_deref(), Some("ann@admin"));
}

#[test]
fn an_authentication_inside_a_hello_counts_too() {
    let mut codec = codec();
    let mut speculative = start("ann");
    speculative.insert("db", "admin");
    let hello = doc! {"hello": 1, "speculativeAuthenticate": speculative, "$db": "admin"};
    one_request(&mut codec, &command(1, hello));
    let step = doc! {"conversationId": 1, "done": false};
    one_reply(&mut codec, &answer(1, doc! {"ok": 1, "speculativeAuthenticate": step}));
    assert_eq!(user(&codec), None);
    one_request(&mut codec, &command(2, doc! {"saslContinue": 1, "$db": "admin"}));
    one_reply(&mut codec, &answer(2, doc! {"done": true, "ok": 1}));
    assert_eq!(user(&codec).as_deref(), Some("ann@admin"));
}

#[test]
fn a_wrong_password_sets_no_user() {
    let mut codec = codec();
    one_request(&mut codec, &command(1, start("ann")));
    one_reply(&mut codec, &answer(1, doc! {"done": false, "ok": 1}));
    one_request(&mut codec, &command(2, doc! {"saslContinue": 1}));
    one_reply(&mut codec, &answer(2, doc! {"ok": 0, "code": 18}));
    one_request(&mut codec, &command(3, doc! {"saslContinue": 1}));
    one_reply(&mut codec, &answer(3, doc! {"ok": 1, "done": true}));
    assert_eq!(user(&codec), None);
}

#[test]
fn a_refused_claim_is_not_proved_by_the_conversation_before_it() {
    let mut codec = codec();
    one_request(&mut codec, &command(1, start("mallory")));
    one_reply(&mut codec, &answer(1, doc! {"done": false, "ok": 1}));
    one_request(&mut codec, &command(2, start("root")));
    refusal(&mut codec, 2, RejectReason::RateLimited);
    one_request(&mut codec, &command(3, doc! {"saslContinue": 1, "$db": "admin"}));
    one_reply(&mut codec, &answer(3, doc! {"done": true, "ok": 1}));
    assert_eq!(user(&codec), None);
}

#[test]
fn a_rejected_claim_is_not_proved_by_a_reused_request_id() {
    let mut codec = codec();
    one_request(&mut codec, &command(1, doc! {"ping": 1, "$db": "admin"}));
    let x509 = doc! {"authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=root"};
    one_request(&mut codec, &command(1, x509));
    refusal(&mut codec, 1, RejectReason::Denied);
    one_reply(&mut codec, &answer(1, doc! {"ok": 1}));
    assert_eq!(user(&codec), None);
    assert!(codec.in_flight.is_empty());
}

#[test]
fn a_rewritten_hello_has_nothing_of_the_previous_request() {
    let hello = command(2, doc! {"hello": 1, "compression": ["of-the-future"], "$db": "admin"});
    for hello in [hello.clone(), compress(&hello, 1)] {
        let mut codec = codec();
        one_request(&mut codec, &insert(1, 0, 3, 9));
        assert_eq!(codec.request_items(), 3);
        assert!(matches!(codec.request(&hello), Ok(Next::Swap { .. })));
        assert_eq!(codec.request_items(), 0);
    }
}

#[test]
fn a_client_says_what_it_is() {
    let client = doc! {
        "application": {"name": "shop"}, "driver": {"name": "PyMongo", "version": "4.20.0"}
    };
    let hello = doc! {"hello": 1, "client": client};
    for bytes in [command(1, hello.clone()), query(1, "admin.$cmd", &hello)] {
        let mut codec = codec();
        one_request(&mut codec, &bytes);
        assert_eq!(codec.attribute(&[], "app"), AttributeValue::known("shop"));
        assert_eq!(codec.attribute(&[], "driver"), AttributeValue::known("PyMongo 4.20.0"));
    }
}

#[test]
fn a_hello_offers_only_compressors_that_can_be_read() {
    let hello = doc! {"hello": 1, "compression": ["zstd", "lz77", "snappy"], "$db": "admin"};
    for cut in [1, 7, usize::MAX] {
        let mut codec = codec();
        let seen = feed_requests(&mut codec, &command(1, hello.clone()), cut).unwrap();
        assert_eq!((seen.marks.len(), seen.ended), (1, 1));
        let sent = Document::from_reader(&seen.out[21..]).unwrap();
        assert_eq!(sent.get_array("compression").unwrap(), &["zstd".into(), "snappy".into()]);
    }
}

fn member() -> Document {
    doc! {
        "isWritablePrimary": true, "setName": "rs", "hosts": ["db-1:27017", "db-2:27017"],
        "me": "db-1:27017", "primary": "db-1:27017", "ok": 1
    }
}

#[test]
fn every_hello_reply_has_the_address_of_the_proxy() {
    let plain = answer(1, member());
    for bytes in [plain.clone(), compress(&plain, 1), compress(&plain, 2), compress(&plain, 3)] {
        for cut in [1, 20, usize::MAX] {
            let mut codec = codec();
            one_request(&mut codec, &command(1, doc! {"hello": 1, "$db": "admin"}));
            let seen = feed_replies(&mut codec, &bytes, cut).unwrap();
            assert_eq!((seen.marks.len(), seen.ended), (1, 1));
            assert_eq!(seen.marks[0].outcome, Fine);
            let told = Document::from_reader(&seen.out[21..]).unwrap();
            assert_eq!(told.get_str("me").unwrap(), "127.0.0.1:27018");
        }
    }
}

#[test]
fn a_hello_reply_stays_as_it_is_where_the_operator_wants_that() {
    let settings = Settings { rewrite_hello: false, ..Settings::default() };
    let mut codec = codec_of(&Arc::new(MongoListener::new(settings)));
    one_request(&mut codec, &command(1, doc! {"hello": 1, "$db": "admin"}));
    let bytes = answer(1, member());
    let seen = feed_replies(&mut codec, &bytes, 9).unwrap();
    assert_eq!((seen.out, seen.marks.len()), (bytes, 1));
}

#[test]
fn a_streaming_hello_is_rewritten_each_time_and_stays_open() {
    let mut codec = codec();
    let hello = doc! {"hello": 1, "topologyVersion": {}, "maxAwaitTimeMS": 1, "$db": "admin"};
    let (.., mark, _) = one_request(&mut codec, &msg(1, 0, 1 << 16, &[body(0, &hello)]));
    assert!(mark.long_poll);
    for (id, answers) in [(50, 1), (51, 50), (52, 51)] {
        let bytes = msg(id, answers, 2, &[body(0, &member())]);
        let seen = feed_replies(&mut codec, &bytes, usize::MAX).unwrap();
        assert_eq!((seen.marks.len(), seen.ended), (0, 1));
        assert_ne!(seen.out, bytes);
    }
    assert!(!codec.in_flight.is_empty());
}

#[test]
fn a_log_in_that_wants_no_answer_makes_the_user_unknown() {
    const MORE_TO_COME: u32 = 2;
    for document in [start("ann"), doc! {"logout": 1, "$db": "admin"}] {
        let mut codec = codec();
        one_request(&mut codec, &msg(1, 0, MORE_TO_COME, &[body(0, &document)]));
        assert_eq!(codec.attribute(&[], "user"), AttributeValue::Unknown, "{document}");
    }
}

#[test]
fn an_unread_legacy_message_makes_the_user_unknown() {
    let long = doc! {"ismaster": 1, "x": "y".repeat(100_000), "speculativeAuthenticate": {}};
    let old = message(1, 0, 2010, b"admin\0ping\0\x05\0\0\0\0\x05\0\0\0\0");
    for bytes in [query(1, "admin.$cmd", &long), old] {
        let mut codec = codec();
        feed_requests(&mut codec, &bytes, usize::MAX).unwrap();
        assert_eq!(codec.attribute(&[], "user"), AttributeValue::Absent);
        one_reply(&mut codec, &reply(1, 8, 0, &[doc! {"ok": 1}]));
        assert_eq!(codec.attribute(&[], "user"), AttributeValue::Unknown);
    }
}

#[test]
fn only_a_hello_of_a_driver_that_backs_off_closes_on_overload() {
    let mut codec = codec();
    one_request(&mut codec, &command(1, doc! {"hello": 1, "$db": "admin"}));
    assert!(
        !codec.prefers_close(Tag(1), RejectReason::Overloaded, true),
        "it knows nothing of overload"
    );
    one_request(&mut codec, &command(2, doc! {"hello": 1, "backpressure": "2", "$db": "admin"}));
    one_request(&mut codec, &command(3, doc! {"find": "c", "$db": "d"}));
    assert!(codec.prefers_close(Tag(2), RejectReason::Overloaded, true));
    assert!(codec.prefers_close(Tag(2), RejectReason::NoEndpoint, true));
    assert!(
        !codec.prefers_close(Tag(2), RejectReason::NoEndpoint, false),
        "it has nothing to lose"
    );
    assert!(
        !codec.prefers_close(Tag(2), RejectReason::Denied, true),
        "that would be the same next time"
    );
    assert!(!codec.prefers_close(Tag(3), RejectReason::Overloaded, true));
    assert!(!codec.prefers_close(Tag(4), RejectReason::Overloaded, true), "nobody asked that");
    let mut out = BytesMut::new();
    let why = RejectionRef::new(RejectReason::TimedOut, "too late");
    assert!(!codec.give_up(Tag(2), &why, &mut out) && out.is_empty());
}

#[test]
fn a_driver_that_misreads_errors_is_closed_at_its_hello() {
    let mut codec = codec();
    let driver = doc! {"name": "mongoc / ext-mongodb:PHP", "version": "1.23.1 / 1.15.0"};
    one_request(
        &mut codec,
        &command(1, doc! {"hello": 1, "client": {"driver": driver}, "$db": "admin"}),
    );
    assert!(codec.prefers_close(Tag(1), RejectReason::NoEndpoint, false));
    assert!(!codec.prefers_close(Tag(1), RejectReason::Denied, false));
}
