//! Replies to clients that see nothing of the deployment's time.

use super::*;
use crate::{ClusterTime, Settings};
use bson::{Document, Timestamp};

fn client(cluster_time: ClusterTime) -> Mongo {
    let settings = Settings { cluster_time, ..Settings::default() };
    codec_of(&Arc::new(MongoListener::pooled(settings)))
}

fn find() -> Vec<u8> {
    command(7, doc! { "find": "orders", "$db": "shop" })
}

fn timed(mut reply: Document) -> Document {
    let time = Timestamp { time: 9, increment: 1 };
    reply.insert("$clusterTime", doc! { "clusterTime": time, "signature": { "keyId": 1_i64 } });
    reply.insert("operationTime", time);
    reply
}

/// What is forwarded of a reply that arrives in slices, as the relay forwards it. The operation ends with the
/// last byte, and not before.
fn forwarded(codec: &mut Mongo, reply: &[u8], slice: usize) -> Vec<u8> {
    let (mut out, mut unread, mut ended) = (Vec::new(), Vec::new(), false);
    let mut passing = 0;
    for bytes in reply.chunks(slice) {
        unread.extend_from_slice(bytes);
        loop {
            let passes = passing.min(unread.len());
            out.extend(unread.drain(..passes));
            passing -= passes;
            if unread.is_empty() || passing > 0 {
                break;
            }
            assert!(!ended, "bytes follow the end of the reply");
            match codec.reply(&unread).unwrap() {
                Next::Hold(wanted) => {
                    assert!(wanted > unread.len());
                    break;
                }
                Next::Pass { len, ends, mark } => {
                    assert!(ends || mark.is_none());
                    (passing, ended) = (len as usize, ends);
                }
                Next::Swap { len, with, mark } => {
                    assert!(mark.is_some());
                    unread.drain(..len);
                    out.extend(with);
                    ended = true;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(ended, "the reply has not ended");
    out
}

fn cursor(documents: usize) -> Document {
    let documents = vec![doc! { "text": "x".repeat(100) }; documents];
    doc! { "cursor": { "firstBatch": documents, "id": 0_i64, "ns": "shop.orders" }, "ok": 1.0 }
}

#[test]
fn a_short_reply_loses_the_time_however_it_arrives() {
    let reply = answer(7, timed(cursor(3)));
    for slice in [1, 7, 16, 100, reply.len()] {
        let mut codec = client(ClusterTime::Strip);
        one_request(&mut codec, &find());
        let out = forwarded(&mut codec, &reply, slice);
        assert_eq!(Document::from_reader(&out[21..]).unwrap(), cursor(3), "{slice}");
    }
    let mut codec = client(ClusterTime::Pass);
    one_request(&mut codec, &find());
    assert_eq!(forwarded(&mut codec, &reply, 100), reply);
}

#[test]
fn a_long_reply_is_not_held_and_keeps_its_length() {
    for documents in [560, 600, 3000] {
        let reply = answer(7, timed(cursor(documents)));
        for slice in [1000, 16 * 1024, 65_000, 70_000, reply.len()] {
            let mut codec = client(ClusterTime::Strip);
            one_request(&mut codec, &find());
            let out = forwarded(&mut codec, &reply, slice);
            assert_eq!(out.len(), reply.len());
            let mut seen = Document::from_reader(&out[21..]).unwrap();
            assert!(seen.remove("stripped").is_some());
            assert_eq!(seen, cursor(documents), "{slice}");
        }
    }
}

#[test]
fn a_request_loses_the_time() {
    let mut sent = doc! { "find": "orders", "$db": "shop" };
    sent.insert("$clusterTime", doc! { "clusterTime": Timestamp { time: 9, increment: 1 } });
    let request = command(7, sent);
    let mut codec = client(ClusterTime::Strip);
    one_request(&mut codec, &request);
    let (len, with) = codec.edit_front(&request).unwrap();
    assert_eq!([&with[..], &request[len..]].concat(), find());
    let preference = ReadPreference::of_mode(operation::ReadMode::Secondary);
    let ReadRoute::Rewritten { len, with } = codec.route_read(&request, &preference) else {
        panic!("it is a read");
    };
    let routed = [&with[..], &request[len..]].concat();
    let routed = Document::from_reader(&routed[21..]).unwrap();
    let keys: Vec<_> = routed.keys().map(String::as_str).collect();
    assert_eq!(keys, ["find", "$readPreference", "$db"]);
    assert!(client(ClusterTime::Pass).edit_front(&request).is_none());
}
