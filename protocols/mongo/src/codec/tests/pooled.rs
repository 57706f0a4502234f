//! Clients of a pool before a replica set: what is sent again, hidden, and pinned.

use super::*;
use crate::{Settings, placement::cursor_key};
use bson::Document;
use bytes::Bytes;
use operation::{PinChange, Placement, ResendReason, TakenUpstream};

/// A client of a pool whose replica set is followed.
fn client() -> Mongo {
    let listener = Arc::new(MongoListener::pooled(Settings::default()));
    let hello = doc! { "setName": "rs", "maxWireVersion": 21, "ok": 1.0 }.to_vec().unwrap();
    listener.presentation.as_ref().unwrap().record_members(&[Bytes::from(hello)]);
    codec_of(&listener)
}

/// What the codec does with the reply to this request, of an endpoint beside which there are others.
fn replied(request: Document, reply: Document) -> (Next<Reply>, Placement) {
    let mut codec = client();
    one_request(&mut codec, &command(7, request));
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

#[test]
fn a_write_is_not_sent_again_and_its_error_is_hidden() {
    let insert = doc! { "insert": "orders", "documents": [{}], "$db": "shop" };
    let (next, placement) = replied(insert, refused(10107));
    assert_eq!(placement, Placement::Primary);
    let Next::Swap { with, mark: Some(reply), .. } = next else { panic!("{next:?}") };
    assert!(reply.lost_role);
    let shown = Document::from_reader(&with[21..]).unwrap();
    assert_eq!(shown.get_i32("code").unwrap(), 6);
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
}
