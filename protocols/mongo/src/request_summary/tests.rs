use super::*;
use crate::{
    message_view::MessageView,
    parsed_command::ParsedCommand,
    testing::{body, documents, joined, msg, sequence},
};
use bson::{Bson, Document, doc};

fn digest(bytes: &[u8], pieces: usize) -> (Vec<u8>, Option<Violation>, bool) {
    let mut digest = RequestSummary::new(Header::read(bytes).unwrap().unwrap());
    let mut wrong = None;
    for piece in bytes[HEADER_LEN..].chunks(pieces) {
        digest.feed(piece);
        wrong = wrong.or(digest.take_violation());
    }
    let whole = digest.is_complete();
    (digest.finish().unwrap(), wrong, whole)
}

fn words(bytes: &[u8]) -> (&'static str, String) {
    let mut resource = String::new();
    let asked = ParsedCommand::parse(&MessageView::read(bytes).unwrap(), &mut resource);
    (asked.name, resource)
}

/// A body with a field that `doc!` would not put there twice.
fn with(document: &Document, more: &[(&str, Bson)]) -> Vec<u8> {
    let more = more.iter().map(|(key, value)| doc! {*key: value.clone()});
    let all: Vec<Document> = std::iter::once(document.clone()).chain(more).collect();
    [vec![0], joined(&all)].concat()
}

#[test]
fn a_long_request_is_summarised_wherever_its_fields_stand() {
    let long = "x".repeat(9000);
    let find = doc! {"find": "orders", "filter": {"a": &long}, "comment": "why", "$db": "shop"};
    let insert = doc! {"insert": "orders", "documents": documents(90, 200), "$db": "shop"};
    let bulk = doc! {"bulkWrite": 1, "$db": "admin"};
    let apart = [sequence("ops", &documents(90, 200)), sequence("nsInfo", &[doc! {"ns": "a.b"}])];
    for (sections, about) in [
        (vec![body(0, &find)], ("find", "shop.orders")),
        (vec![body(0, &insert)], ("insert", "shop.orders")),
        (
            vec![
                sequence("documents", &documents(90, 200)),
                body(
                    0,
                    &doc! {
                        "insert": "orders", "$db": "shop",
                    },
                ),
            ],
            ("insert", "shop.orders"),
        ),
        ([&apart[..], &[body(0, &bulk)]].concat(), ("bulkWrite", "a.b")),
        ([&[body(0, &bulk)], &apart[..]].concat(), ("bulkWrite", "a.b")),
        (vec![body(0, &doc! {"find": long.as_str(), "$db": "shop"})], ("find", "shop.?")),
    ] {
        for flags in [0, 1] {
            let bytes = msg(7, 0, flags, &sections);
            let (all, wrong, whole) = digest(&bytes, bytes.len());
            assert_eq!((wrong, whole), (None, true), "{about:?}");
            assert!(all.len() < 400, "{} bytes", all.len());
            assert_eq!(words(&all), (about.0, about.1.to_owned()));
            for pieces in [1, 2, 3, 7, 64, 1000] {
                assert_eq!(digest(&bytes, pieces).0, all, "in pieces of {pieces}");
            }
        }
    }
}

#[test]
fn what_is_too_long_to_keep_is_there_all_the_same() {
    let long = "x".repeat(9000);
    let bytes = msg(1, 0, 0, &[body(0, &doc! {"find": "c", "comment": long, "$db": "d"})]);
    let (front, ..) = digest(&bytes, 100);
    let message = MessageView::read(&front).unwrap();
    let comment = crate::comment::find(&message).unwrap();
    assert_eq!(comment.kind, kind::MIN_KEY);
}

#[test]
fn what_is_there_twice_is_noticed_wherever_it_stands() {
    let long = Bson::from("x".repeat(9000));
    let plain = doc! {"find": "orders", "$db": "shop"};
    let apart = sequence("documents", &documents(9, 2000));
    for sections in [
        vec![with(&plain, &[("filter", long.clone()), ("$db", "audit".into())])],
        vec![with(&plain, &[("filter", long.clone()), ("find", "events".into())])],
        vec![with(&plain, &[("filter", long.clone()), ("filter", Bson::Null)])],
        vec![body(0, &plain), apart.clone(), body(0, &plain)],
        vec![apart.clone(), body(0, &plain), apart.clone()],
        vec![with(&plain, &[("documents", Bson::Null)]), apart.clone()],
    ] {
        let bytes = msg(1, 0, 0, &sections);
        for pieces in [1, 7, 4096, bytes.len()] {
            assert_eq!(digest(&bytes, pieces).1, Some(DUPLICATE_FIELD), "in pieces of {pieces}");
        }
    }
    let many = (0..300).map(|i| (format!("f{i}"), Bson::Null)).collect::<Vec<_>>();
    let many: Vec<_> = many.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let bytes = msg(1, 0, 0, &[with(&plain, &many)]);
    assert_eq!(digest(&bytes, 64).1, Some(Violation("too_many_fields")));
}

#[test]
fn what_makes_no_sense_is_not_read_to_its_end() {
    let plain = doc! {"find": "orders", "filter": "x".repeat(3000), "$db": "shop"};
    let whole = msg(1, 0, 0, &[body(0, &plain)]);
    let mut longer = whole.clone();
    longer[21] += 1;
    let mut shorter = whole.clone();
    shorter[21] -= 1;
    let strange = msg(1, 0, 0, &[body(0, &plain), body(9, &plain)]);
    for (bytes, violation) in
        [(longer, "bad_document"), (shorter, "bad_document"), (strange, "unknown_section")]
    {
        for pieces in [1, 100, bytes.len()] {
            let (_, wrong, whole) = digest(&bytes, pieces);
            assert_eq!((wrong, whole), (Some(Violation(violation)), false));
        }
    }
    // Cut anywhere, it is reported as incomplete.
    for cut in HEADER_LEN..whole.len() {
        let mut digest = RequestSummary::new(Header::read(&whole).unwrap().unwrap());
        digest.feed(&whole[HEADER_LEN..cut]);
        assert!(!digest.is_complete(), "{cut}");
        let wants = digest.bytes_needed();
        assert!(wants > cut && wants <= whole.len() + 1, "{cut} {wants}");
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let many = (0..200).map(|i| (format!("f{i}"), Bson::from("x".repeat(1500))));
    let many: Document = [("find".to_owned(), "c".into())].into_iter().chain(many).collect();
    let bytes = msg(1, 0, 0, &[body(0, &many)]);
    let (front, wrong, whole) = digest(&bytes, 999);
    assert!(front.len() < MAX_SUMMARY + 100 && wrong.is_none() && whole);
}
