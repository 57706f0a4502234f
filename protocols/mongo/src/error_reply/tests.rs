use super::*;
use crate::testing::{codec, command, compress, msg, one_request, query};
use bson::{Document as Bson, doc};
use operation::{Codec, Tag};
use std::rc::Rc;

fn no(reason: RejectReason) -> RejectionRef<'static> {
    RejectionRef::new(reason, "the policy says no")
}

/// What stands in the header (`responseTo`, opcode), `OP_REPLY`'s flags, and the document.
fn read(out: &[u8]) -> (u32, i32, u32, Bson) {
    let word = |at: usize| u32::from_le_bytes(out[at..at + 4].try_into().unwrap());
    assert_eq!(word(0) as usize, out.len(), "the length of the message");
    let (flags, body) = match word(12) {
        1 => (word(16), &out[36..]),
        _ => (0, &out[21..]),
    };
    let document = Bson::from_reader(body).unwrap();
    assert_eq!(document.to_vec().unwrap().len(), body.len(), "one document and no more");
    (word(8), word(12) as i32, flags, document)
}

/// What a client gets that sent this request.
fn refused(request: &[u8], why: &RejectionRef<'_>) -> (u32, i32, u32, Bson) {
    let mut codec = codec();
    let tag = one_request(&mut codec, request).2.tag.unwrap();
    let mut out = BytesMut::new();
    assert!(codec.reject(tag, why, &mut out));
    read(&out)
}

fn find() -> Vec<u8> {
    command(77, doc! {"find": "orders", "$db": "shop"})
}

#[test]
fn each_reason_has_the_code_and_the_labels_that_drivers_know() {
    let overloaded = Some(vec!["SystemOverloadedError", "RetryableError"]);
    let cases = [
        (RejectReason::RateLimited, 462, "IngressRequestRateLimitExceeded", overloaded.clone()),
        (RejectReason::Overloaded, 462, "IngressRequestRateLimitExceeded", overloaded),
        (RejectReason::Denied, 13, "Unauthorized", None),
        (RejectReason::NoEndpoint, 6, "HostUnreachable", None),
        (RejectReason::TimedOut, 50, "MaxTimeMSExpired", None),
        (RejectReason::Injected, 8000, "InjectedFault", None),
        (RejectReason::Lost, 6, "HostUnreachable", None),
        (RejectReason::Invalid, 9, "FailedToParse", None),
        (RejectReason::TooLarge, 10334, "BSONObjectTooLarge", None),
    ];
    assert_eq!(cases.len(), RejectReason::ALL.len());
    for (reason, code, name, labels) in cases {
        let (answers, opcode, _, document) = refused(&find(), &no(reason));
        assert_eq!((answers, opcode), (77, opcode::MSG));
        let mut expected = doc! {"ok": 0.0, "errmsg": "the policy says no", "code": code};
        expected.insert("codeName", name);
        expected.extend(labels.map(|labels| ("errorLabels".to_owned(), labels.into())));
        assert_eq!(document, expected, "{reason}");
    }
}

#[test]
fn a_code_that_is_asked_for_comes_with_its_own_name() {
    for (code, name) in
        [(411, "QueryRejectedBySettings"), (112, "WriteConflict"), (-7, "Location-7")]
    {
        let why = RejectionRef { code: Some(code), ..no(RejectReason::Denied) };
        let (.., document) = refused(&find(), &why);
        assert_eq!(document.get_i32("code").unwrap(), code);
        assert_eq!(document.get_str("codeName").unwrap(), name);
    }
    let why = RejectionRef { code: Some(91), ..no(RejectReason::RateLimited) };
    let (.., document) = refused(&find(), &why);
    assert_eq!(document.get_array("errorLabels").unwrap().len(), 2, "the reason keeps its labels");
}

#[test]
fn labels_that_are_given_replace_those_of_the_reason() {
    let labels: [Rc<str>; 2] = ["RetryableWriteError".into(), "NoWritesPerformed".into()];
    for reason in [RejectReason::RateLimited, RejectReason::Injected] {
        let (.., document) = refused(&find(), &RejectionRef { labels: &labels, ..no(reason) });
        let told: Vec<_> = document.get_array("errorLabels").unwrap().iter().collect();
        assert_eq!(told, [&"RetryableWriteError".into(), &"NoWritesPerformed".into()]);
    }
}

#[test]
fn an_overload_error_has_the_base_of_the_back_off() {
    let after = |wait, reason, labels: &[Rc<str>]| {
        let (.., document) =
            refused(&find(), &RejectionRef { retry_after: Some(wait), labels, ..no(reason) });
        document.get("baseBackoffMS").cloned()
    };
    let (millis, own) = (Duration::from_millis, ["SystemOverloadedError".into()]);
    assert_eq!(after(millis(250), RejectReason::RateLimited, &[]), Some(250_i64.into()));
    assert_eq!(after(millis(250), RejectReason::Injected, &own), Some(250_i64.into()));
    assert_eq!(after(millis(250), RejectReason::Denied, &[]), None);
    assert_eq!(after(millis(250), RejectReason::RateLimited, &["Mine".into()]), None);
    assert_eq!(after(Duration::from_micros(1), RejectReason::RateLimited, &[]), Some(1_i64.into()));
    assert_eq!(after(Duration::ZERO, RejectReason::RateLimited, &[]), Some(1_i64.into()));
    assert_eq!(after(Duration::MAX, RejectReason::RateLimited, &[]), Some(i64::MAX.into()));
}

#[test]
fn legacy_requests_are_refused_in_legacy_replies() {
    let hello = query(5, "admin.$cmd", &doc! {"ismaster": 1});
    let find = query(6, "shop.orders", &doc! {"a": 1});
    for reason in RejectReason::ALL {
        let (answers, opcode, flags, document) = refused(&hello, &no(reason));
        assert_eq!((answers, opcode, flags), (5, opcode::REPLY, 8));
        assert_eq!(document.get_str("errmsg").unwrap(), "the policy says no");
        let (answers, opcode, flags, document) = refused(&find, &no(reason));
        assert_eq!((answers, opcode, flags), (6, opcode::REPLY, 2));
        assert_eq!(document.get_str("$err").unwrap(), "the policy says no");
        assert_eq!(document.get_i32("code").unwrap(), code_and_labels(reason).0);
    }
}

#[test]
fn a_compressed_request_is_rejected_in_its_own_format() {
    for compressor in 0..=3 {
        let (answers, opcode, ..) =
            refused(&compress(&find(), compressor), &no(RejectReason::Denied));
        assert_eq!((answers, opcode), (77, opcode::MSG));
        let old = query(6, "shop.orders", &doc! {"a": 1});
        let (answers, opcode, ..) = refused(&compress(&old, compressor), &no(RejectReason::Denied));
        assert_eq!((answers, opcode), (6, opcode::REPLY));
    }
}

#[test]
fn a_request_without_a_reply_has_no_tag_to_refuse_it_by() {
    let insert = doc! {"insert": "orders", "documents": [{}], "$db": "shop"};
    let unacknowledged = msg(9, 0, 2, &[crate::testing::body(0, &insert)]);
    assert_eq!(one_request(&mut codec(), &unacknowledged).2.tag, None);
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let message = "é".repeat(4000);
    let why = RejectionRef { message: &message, ..no(RejectReason::Denied) };
    let (.., document) = refused(&find(), &why);
    assert_eq!(document.get_str("errmsg").unwrap().len(), MAX_MESSAGE_TEXT);
}

#[test]
fn a_tag_that_no_request_has_is_not_refused() {
    let mut out = BytesMut::new();
    assert!(!codec().reject(Tag(u64::MAX), &no(RejectReason::Denied), &mut out));
    assert!(out.is_empty());
}
