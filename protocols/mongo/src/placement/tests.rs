//! Where requests may go, and the read preference that a policy adds to one.

use super::*;
use crate::testing::{body, command, msg};
use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};

fn place(document: Document) -> RequestPlace {
    place_of(&command(1, document))
}

fn place_of(message: &[u8]) -> RequestPlace {
    let message = MessageView::read(message).unwrap();
    let mut resource = String::new();
    let asked = ParsedCommand::parse(&message, &mut resource);
    RequestPlace::of(&message, &asked)
}

fn lsid() -> Document {
    doc! { "id": Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] } }
}

#[test]
fn writes_and_unknown_commands_go_to_the_primary() {
    for document in [
        doc! { "insert": "orders", "$readPreference": { "mode": "secondary" } },
        doc! { "aggregate": "orders", "pipeline": [{ "$out": "copy" }], "$readPreference": { "mode": "nearest" } },
        doc! { "someNewCommand": 1, "$readPreference": { "mode": "secondary" } },
    ] {
        assert_eq!(place(document), RequestPlace::Write);
    }
}

#[test]
fn reads_go_where_their_preference_says() {
    assert_eq!(place(doc! { "find": "orders" }), RequestPlace::Read(None));
    let primary = doc! { "find": "orders", "$readPreference": { "mode": "primary" } };
    assert_eq!(place(primary), RequestPlace::Read(None));
    let tagged = doc! { "count": "orders", "$readPreference": {
        "mode": "secondaryPreferred", "tags": [{ "use": "analytics" }, {}], "maxStalenessSeconds": 120,
    } };
    let expected = ReadPreference {
        mode: ReadMode::SecondaryPreferred,
        tag_sets: vec![vec![("use".to_owned(), "analytics".to_owned())], vec![]],
        max_staleness: Some(Duration::from_secs(120)),
    };
    assert_eq!(place(tagged), RequestPlace::Read(Some(expected)));
}

#[test]
fn what_a_server_would_refuse_goes_to_the_primary() {
    let unknown = doc! { "find": "orders", "$readPreference": { "mode": "anywhere" } };
    assert_eq!(place(unknown), RequestPlace::Read(None));
}

#[test]
fn a_cursor_is_continued_where_it_was_opened() {
    assert_eq!(place(doc! { "getMore": 42_i64, "collection": "orders" }), RequestPlace::Cursor(42));
    let kill = doc! { "killCursors": "orders", "cursors": [42_i64] };
    assert_eq!(place(kill), RequestPlace::Cursor(42));
}

#[test]
fn all_of_a_transaction_has_the_key_of_its_session() {
    let of = |name: &str| {
        let mut command =
            doc! { name: "orders", "lsid": lsid(), "txnNumber": 1_i64, "autocommit": false };
        if name == "getMore" {
            command.insert(name, 42_i64);
        }
        place(command)
    };
    let RequestPlace::Transaction { session, ends: false, .. } = of("find") else { panic!() };
    for name in ["insert", "getMore"] {
        let place = RequestPlace::Transaction { session, begins: false, ends: false };
        assert_eq!(of(name), place);
    }
    let place = RequestPlace::Transaction { session, begins: false, ends: true };
    assert_eq!(of("commitTransaction"), place);
}

#[test]
fn a_transaction_begins_with_its_first_command() {
    let command = doc! { "find": "orders", "lsid": lsid(), "txnNumber": 1_i64, "autocommit": false,
    "startTransaction": true };
    let place = place(command);
    assert!(
        matches!(place, RequestPlace::Transaction { begins: true, ends: false, .. }),
        "{place:?}"
    );
}

/// A request with this preference, and the bytes that follow the replaced ones.
fn routed(request: &[u8], preference: &ReadPreference) -> Option<Document> {
    let (len, with) = with_read_preference(request, preference)?;
    let whole = [&with[..], &request[len..]].concat();
    assert_eq!(whole.len(), u32::from_le_bytes(whole[..4].try_into().unwrap()) as usize);
    Some(Document::from_reader(&whole[21..]).unwrap())
}

#[test]
fn a_policy_adds_its_preference_behind_the_command() {
    let tags = vec![vec![("use".to_owned(), "analytics".to_owned())]];
    let preference = ReadPreference {
        tag_sets: tags,
        max_staleness: Some(Duration::from_secs(90)),
        ..ReadPreference::of_mode(ReadMode::Secondary)
    };
    let written = Bson::from(doc! {
        "mode": "secondary", "tags": [{ "use": "analytics" }], "maxStalenessSeconds": 90_i64,
    });
    let request = command(1, doc! { "find": "orders", "filter": { "a": 1 }, "$db": "shop" });
    let changed = routed(&request, &preference).unwrap();
    let names: Vec<_> = changed.keys().map(String::as_str).collect();
    assert_eq!(names, ["find", "$readPreference", "filter", "$db"]);
    assert_eq!(changed.get("$readPreference"), Some(&written));
    let with_old =
        doc! { "find": "orders", "$readPreference": { "mode": "primary" }, "$db": "shop" };
    let changed = routed(&command(1, with_old), &preference).unwrap();
    let names: Vec<_> = changed.keys().map(String::as_str).collect();
    assert_eq!(names, ["find", "$readPreference", "$db"]);
    assert_eq!(changed.get("$readPreference"), Some(&written));
}

#[test]
fn only_the_front_of_a_long_request_is_needed() {
    let request = command(1, doc! { "find": "orders", "filter": { "a": "x".repeat(100_000) } });
    let preference = ReadPreference::of_mode(ReadMode::Nearest);
    let (len, with) = with_read_preference(&request[..1000], &preference).unwrap();
    let whole = [&with[..], &request[len..]].concat();
    let document = Document::from_reader(&whole[21..]).unwrap();
    assert_eq!(document.get_document("$readPreference").unwrap(), &doc! { "mode": "nearest" });
    assert_eq!(document.get_document("filter").unwrap().get_str("a").unwrap().len(), 100_000);
}

#[test]
fn a_request_with_a_checksum_is_not_changed() {
    let request = msg(1, 0, 1, &[body(0, &doc! { "find": "orders" })]);
    assert_eq!(with_read_preference(&request, &ReadPreference::of_mode(ReadMode::Nearest)), None);
}
