use super::*;
use operation::Ledger;
use std::time::Instant;

/// Counts nothing.
struct Nobody;

impl Ledger for Nobody {
    fn settle(&self, _: u32, _: &Settlement<'_>) {}

    fn abandon(&self, _: u32) {}
}

fn open(tag: Option<u64>) -> Open {
    Open {
        tag: tag.map(Tag),
        ticket: Ticket::new(Rc::new(Nobody), 0, None),
        awaits: false,
        began: Instant::now(),
        due: None,
        shape: None,
        request_bytes: 0,
        request_items: 0,
        reply_bytes: 0,
        counted: [0; 2],
        first_byte: None,
        learned: None,
        refusals: None,
    }
}

fn words(text: &str) -> BytesMut {
    BytesMut::from(text)
}

/// What is said when the reply with this tag has come.
fn after(table: &mut Table, tag: u64) -> String {
    let open = table.take(Tag(tag)).unwrap();
    let said = open.refusals.as_deref().map_or(&[][..], |words| words);
    String::from_utf8(said.to_vec()).unwrap()
}

#[test]
fn a_refusal_is_said_when_all_older_requests_are_answered_in_whatever_order() {
    let mut table = Table::default();
    assert_eq!(table.refuse_after_replies(words("a")), Some(words("a")), "nothing is due");
    table.push(open(None));
    assert_eq!(table.refuse_after_replies(words("b")), Some(words("b")), "no reply will come");
    table.push(open(Some(1)));
    table.push(open(Some(2)));
    assert_eq!(table.refuse_after_replies(words("c")), None);
    table.push(open(Some(3)));
    assert_eq!(table.refuse_after_replies(words("d")), None);
    assert_eq!(table.refuse_after_replies(words("e")), None);
    assert_eq!(after(&mut table, 3), "", "two are older");
    assert_eq!(after(&mut table, 2), "");
    assert_eq!(after(&mut table, 1), "cde");
}
