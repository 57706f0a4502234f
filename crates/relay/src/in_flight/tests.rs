use super::*;
use operation::SettleSink;
use std::time::Instant;

/// A policy that counts nothing.
struct IgnoringSink;

impl SettleSink for IgnoringSink {
    fn settle(&self, _: u32, _: &Settlement<'_>) {}

    fn abandon(&self, _: u32) {}
}

fn open(tag: Option<u64>) -> InFlightRequest {
    let ticket = Ticket::new(Rc::new(IgnoringSink), 0, None);
    InFlightRequest::new(tag.map(Tag), ticket, Instant::now())
}

fn words(text: &str) -> BytesMut {
    BytesMut::from(text)
}

/// The rejections that are written after the reply with this tag.
fn after(table: &mut InFlightRequests, tag: u64) -> String {
    let open = table.take(Tag(tag)).unwrap();
    let said = open.rejections.as_deref().map_or(&[][..], |words| words);
    String::from_utf8(said.to_vec()).unwrap()
}

#[test]
fn a_rejection_follows_the_replies_to_older_requests() {
    let mut table = InFlightRequests::default();
    assert_eq!(table.defer_rejection(words("a")), Some(words("a")), "nothing is due");
    table.push(open(None));
    assert_eq!(table.defer_rejection(words("b")), Some(words("b")), "no reply will come");
    table.push(open(Some(1)));
    table.push(open(Some(2)));
    assert_eq!(table.defer_rejection(words("c")), None);
    table.push(open(Some(3)));
    assert_eq!(table.defer_rejection(words("d")), None);
    assert_eq!(table.defer_rejection(words("e")), None);
    assert_eq!(after(&mut table, 3), "", "two are older");
    assert_eq!(after(&mut table, 2), "");
    assert_eq!(after(&mut table, 1), "cde");
}
