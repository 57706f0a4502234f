//! Clients of a pool before a replica set: what is sent again, hidden, and pinned.

use super::*;
use crate::{Settings, placement::cursor_key};
use bson::Document;
use bytes::{Bytes, BytesMut};
use operation::{PinChange, Placement, ReplayConfig, ResendReason, TakenUpstream};

/// A client of a pool whose replica set is followed.
fn client() -> Mongo {
    client_with(ReplayConfig { max_request: 4096, ..ReplayConfig::default() })
}

fn client_with(replay: ReplayConfig) -> Mongo {
    let listener = Arc::new(MongoListener::pooled(Settings::default()).replaying(replay));
    let hello = doc! { "setName": "rs", "maxWireVersion": 21, "logicalSessionTimeoutMinutes": 30,
    "ok": 1.0 };
    let hello = hello.to_vec().unwrap();
    listener.presentation.as_ref().unwrap().record_members(&[Bytes::from(hello)]);
    codec_of(&listener)
}

/// What the codec does with the reply to this request, of an endpoint beside which there are others.
fn replied(request: Document, reply: Document) -> (Next<Reply>, Placement) {
    replied_to(&mut client(), request, reply)
}

fn replied_to(codec: &mut Mongo, request: Document, reply: Document) -> (Next<Reply>, Placement) {
    one_request(codec, &command(7, request));
    let placement = codec.placement();
    let kept = codec.keeps_request();
    let endpoint = ([127, 0, 0, 1], 27017).into();
    codec.upstream_taken(TakenUpstream { endpoint, has_untried: kept, may_resend: kept });
    (codec.reply(&answer(7, reply)).unwrap(), placement)
}

fn refused(code: i32) -> Document {
    doc! { "ok": 0.0, "code": code, "errmsg": "no" }
}

fn resend(next: &Next<Reply>) -> Option<ResendReason> {
    match next {
        Next::Resend { reason, .. } => Some(*reason),
        _ => None,
    }
}

#[test]
fn a_read_that_is_refused_by_role_is_sent_again() {
    let find = doc! { "find": "orders", "$db": "shop" };
    for code in [13435, 13436, 10107, 11602, 91] {
        let (next, _) = replied(find.clone(), refused(code));
        assert_eq!(resend(&next), Some(ResendReason::LostRole), "{code}");
    }
    let (next, _) = replied(find, refused(26));
    assert_eq!(resend(&next), None);
}

fn insert() -> Document {
    doc! { "insert": "orders", "documents": [{}], "$db": "shop" }
}

/// The reply that the client gets instead of the server's.
fn shown(next: Next<Reply>) -> Document {
    let Next::Swap { with, mark: Some(reply), .. } = next else { panic!("{next:?}") };
    assert!(reply.lost_role);
    Document::from_reader(&with[21..]).unwrap()
}

#[test]
fn a_write_is_sent_again_if_it_was_not_done() {
    for code in [10107, 13435, 10058] {
        let (next, placement) = replied(insert(), refused(code));
        assert_eq!((resend(&next), placement), (Some(ResendReason::LostRole), Placement::Primary));
    }
    for code in [11602, 189, 91, 11600, 13436] {
        let reply = shown(replied(insert(), refused(code)).0);
        assert_eq!(reply.get_i32("code").unwrap(), 6, "{code}");
        assert!(reply.get("errorLabels").is_none(), "{code}");
    }
    let concern = doc! { "ok": 1.0, "n": 1, "writeConcernError": { "code": 11602, "errmsg": "x" } };
    assert_eq!(resend(&replied(insert(), concern.clone()).0), None, "it was done");
    let mut numbered = insert();
    numbered.insert("txnNumber", 3_i64);
    assert_eq!(resend(&replied(numbered, concern).0), Some(ResendReason::LostRole));
}

#[test]
fn without_replays_the_client_sees_the_failure() {
    let replied = |request, code| {
        replied_to(&mut client_with(ReplayConfig::default()), request, refused(code)).0
    };
    assert_eq!(shown(replied(insert(), 10107)).get_i32("code").unwrap(), 6);
    let find = doc! { "find": "orders", "$db": "shop" };
    assert_eq!(resend(&replied(find, 13435)), None);
}

#[test]
fn a_write_made_retryable_is_sent_again_after_any_failure() {
    let replay =
        ReplayConfig { max_request: 4096, makes_writes_retryable: true, ..ReplayConfig::default() };
    let mut codec = client_with(replay);
    let sent = command(7, insert());
    one_request(&mut codec, &sent);
    let (len, with) = codec.edit_front(&sent).unwrap();
    let changed = [&with[..], &sent[len..]].concat();
    let number =
        |bytes: &[u8]| Document::from_reader(&bytes[21..]).unwrap().get_i64("txnNumber").ok();
    assert_eq!(number(&changed), Some(1));
    assert!(codec.recovery().resends_when_lost && codec.keeps_request());
    let endpoint = ([127, 0, 0, 1], 27017).into();
    let upstream = TakenUpstream { endpoint, has_untried: true, may_resend: true };
    codec.upstream_taken(upstream);
    let interrupted = codec.reply(&answer(7, refused(11602))).unwrap();
    assert_eq!(resend(&interrupted), Some(ResendReason::LostRole));
    assert_eq!(&*codec.rewrite_resent(changed.clone().into()), &*changed);
    // A server without retryable writes gets it as the client has sent it, and so do all that follow.
    codec.upstream_taken(upstream);
    let unsupported = codec.reply(&answer(7, refused(20))).unwrap();
    assert_eq!(resend(&unsupported), Some(ResendReason::Unsupported));
    assert_eq!(number(&codec.rewrite_resent(changed.into())), None);
    assert!(codec.operator_notice().unwrap().contains("no retryable writes"));
    assert!(!codec.recovery().resends_when_lost);
    codec.reply(&answer(7, doc! { "ok": 1.0 })).unwrap();
    one_request(&mut codec, &sent);
    assert_eq!(codec.edit_front(&sent), None);
}

#[test]
fn a_lost_request_is_reported_with_the_label_of_what_it_is() {
    let labelled = |request: Document| {
        let mut codec = client();
        one_request(&mut codec, &command(7, request));
        assert!(codec.recovery().reports_loss);
        let mut out = BytesMut::new();
        let why = operation::RejectionRef::new(operation::RejectReason::Lost, "lost");
        codec.reject(operation::Tag(7), &why, &mut out);
        let reply = Document::from_reader(&out[21..]).unwrap();
        assert_eq!(reply.get_i32("code").unwrap(), 6);
        let labels = reply.get_array("errorLabels").cloned().unwrap_or_default();
        labels.first().map(|label| label.as_str().unwrap().to_owned())
    };
    let in_transaction = |mut command: Document| {
        command.extend(doc! { "lsid": { "id": 1 }, "txnNumber": 1_i64, "autocommit": false });
        command
    };
    let commit = in_transaction(doc! { "commitTransaction": 1, "$db": "admin" });
    assert_eq!(labelled(commit).as_deref(), Some("RetryableWriteError"));
    let inside = labelled(in_transaction(insert()));
    assert_eq!(inside.as_deref(), Some("TransientTransactionError"));
    assert_eq!(labelled(doc! { "find": "orders", "$db": "shop" }), None);
    let mut other = client();
    one_request(&mut other, &command(7, insert()));
    assert!(!other.recovery().reports_loss, "its driver knows best");
}

#[test]
fn a_cursor_is_pinned_and_looked_for() {
    let cursor = |key: &str, id: i64| doc! { "cursor": { "id": id, key: [] }, "ok": 1.0 };
    let pin = |next: &Next<Reply>| match next {
        Next::Pass { mark: Some(reply), .. } => reply.pin,
        _ => None,
    };
    let (next, _) = replied(doc! { "find": "orders", "$db": "shop" }, cursor("firstBatch", 42));
    assert_eq!(pin(&next), Some(PinChange::Pin(cursor_key(42))));
    let more = doc! { "getMore": 42_i64, "collection": "orders", "$db": "shop" };
    let (next, placement) = replied(more.clone(), cursor("nextBatch", 0));
    assert_eq!(placement, Placement::Pinned(cursor_key(42)));
    assert_eq!(pin(&next), Some(PinChange::Unpin(cursor_key(42))));
    let (next, _) = replied(more, refused(43));
    assert_eq!(resend(&next), Some(ResendReason::NotHeld));
}

#[test]
fn a_transaction_is_not_sent_again() {
    let find = doc! { "find": "orders", "$db": "shop", "lsid": { "id": 1 }, "txnNumber": 1_i64,
    "autocommit": false };
    let (next, placement) = replied(find, refused(10107));
    assert_eq!((resend(&next), placement), (None, Placement::Primary));
    let labels = shown(next).get_array("errorLabels").unwrap().clone();
    assert_eq!(labels, vec!["TransientTransactionError".into()]);
}
