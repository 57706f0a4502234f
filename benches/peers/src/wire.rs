//! MongoDB messages, as far as a scripted conversation needs them.

use bson::{RawDocumentBuf, rawdoc, spec::BinarySubtype};

/// A reply of one document for `find`, with its header and all.
pub const SMALL_REPLY: usize = 200;
/// A large reply.
pub const LARGE_REPLY: usize = 1024 * 1024;

const HEADER: usize = 16;
const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

/// A message with this request id, in answer to `to`.
fn message(id: i32, to: i32, opcode: i32, body: &[&[u8]]) -> Vec<u8> {
    let len = HEADER + body.iter().map(|part| part.len()).sum::<usize>();
    let mut out = Vec::with_capacity(len);
    for word in [len as i32, id, to, opcode] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    body.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// An `OP_MSG` of one document.
fn msg(id: i32, to: i32, document: &RawDocumentBuf) -> Vec<u8> {
    message(id, to, OP_MSG, &[&[0; 5], document.as_bytes()])
}

/// What a driver says first.
pub fn hello(id: i32) -> Vec<u8> {
    msg(
        id,
        0,
        &rawdoc! {
            "hello": 1, "helloOk": true,
            "client": {
                "application": { "name": "load" },
                "driver": { "name": "peers", "version": "1.0.0" },
                "os": { "type": "Linux", "name": "linux", "architecture": "x86_64", "version": "6" },
                "platform": "Rust",
            },
            "compression": [], "$db": "admin",
        },
    )
}

/// A request that every server answers.
pub fn ping(id: i32) -> Vec<u8> {
    msg(id, 0, &rawdoc! { "ping": 1, "$db": "admin" })
}

/// A `find` by id, of a small document.
pub fn find(id: i32) -> Vec<u8> {
    read(id, "orders")
}

/// A `find` whose reply is large.
pub fn find_large(id: i32) -> Vec<u8> {
    read(id, "large")
}

fn read(id: i32, collection: &str) -> Vec<u8> {
    let session = bson::Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] };
    msg(
        id,
        0,
        &rawdoc! {
            "find": collection,
            "filter": { "_id": 4711_i64 },
            "limit": 1_i64, "singleBatch": true,
            "lsid": { "id": session }, "$db": "shop",
            "$readPreference": { "mode": "primaryPreferred" },
        },
    )
}

/// The same question as drivers asked it before MongoDB 3.6.
pub fn query(id: i32) -> Vec<u8> {
    let document = rawdoc! { "_id": 4711_i64 };
    let tail = [&0_i32.to_le_bytes()[..], &(-1_i32).to_le_bytes()].concat();
    message(id, 0, OP_QUERY, &[&[0; 4], b"shop.orders\0", &tail, document.as_bytes()])
}

/// An insert of one document that makes the message `len` bytes long.
pub fn insert(id: i32, len: usize) -> Vec<u8> {
    filled(len, |filler| {
        let command = rawdoc! { "insert": "orders", "ordered": true, "$db": "shop" };
        let document = rawdoc! { "_id": 4711_i64, "filling": filler };
        let (command, document) = (command.as_bytes(), document.as_bytes());
        let size = (4 + b"documents\0".len() + document.len()) as i32;
        let sequence = [&[1][..], &size.to_le_bytes(), b"documents\0", document].concat();
        message(id, 0, OP_MSG, &[&[0; 5], command, &sequence])
    })
}

/// A message that its filling makes `len` bytes long, if it is not longer without.
fn filled(len: usize, build: impl Fn(bson::Binary) -> Vec<u8>) -> Vec<u8> {
    let bytes = |len| bson::Binary { subtype: BinarySubtype::Generic, bytes: vec![b'x'; len] };
    let bare = build(bytes(0)).len();
    build(bytes(len.saturating_sub(bare)))
}

/// The replies that a scripted server gives, by the question.
pub struct Replies {
    hello: Vec<u8>,
    ok: Vec<u8>,
    small: Vec<u8>,
    large: Vec<u8>,
    legacy: Vec<u8>,
}

impl Default for Replies {
    fn default() -> Self {
        let hello = rawdoc! {
            "isWritablePrimary": true, "maxBsonObjectSize": 16_777_216,
            "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30, "connectionId": 1, "minWireVersion": 0,
            "maxWireVersion": 21, "readOnly": false, "ok": 1.0,
        };
        let legacy = filled(SMALL_REPLY, |filler| {
            let flags = [&[8][..], &[0; 15], &1_i32.to_le_bytes()].concat();
            let document = rawdoc! { "_id": 4711_i64, "filling": filler };
            message(0, 0, OP_REPLY, &[&flags, document.as_bytes()])
        });
        Self {
            hello: msg(0, 0, &hello),
            ok: msg(0, 0, &rawdoc! { "n": 1, "ok": 1.0 }),
            small: found(SMALL_REPLY),
            large: found(LARGE_REPLY),
            legacy,
        }
    }
}

/// A reply to `find` of `len` bytes.
fn found(len: usize) -> Vec<u8> {
    filled(len, |filler| {
        let found = rawdoc! { "_id": 4711_i64, "filling": filler };
        let cursor = rawdoc! { "firstBatch": [found], "id": 0_i64, "ns": "shop.orders" };
        msg(0, 0, &rawdoc! { "cursor": cursor, "ok": 1.0 })
    })
}

impl Replies {
    /// Appends the reply to this whole request.
    pub fn answer(&self, request: &[u8], out: &mut Vec<u8>) {
        let template = match (word(request, 12), request.get(26..).unwrap_or_default()) {
            (OP_QUERY, _) => &self.legacy,
            (_, command) if command.starts_with(b"find\0") => {
                // The value follows its name and its length.
                match command.get(9..) {
                    Some(collection) if collection.starts_with(b"large") => &self.large,
                    _ => &self.small,
                }
            }
            (_, command) if command.starts_with(b"hello\0") => &self.hello,
            _ => &self.ok,
        };
        let at = out.len();
        out.extend_from_slice(template);
        out[at + 8..at + 12].copy_from_slice(&request[4..8]);
    }
}

/// The length of the message at the front of `bytes`, if the whole of it is here.
pub fn whole(bytes: &[u8]) -> Option<usize> {
    let len = usize::try_from(word(bytes, 0)).ok()?;
    (len >= HEADER && len <= bytes.len()).then_some(len)
}

/// The id of the request that this message answers.
pub fn answered(message: &[u8]) -> i32 {
    word(message, 8)
}

fn word(bytes: &[u8], at: usize) -> i32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, i32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply_to(request: &[u8]) -> Vec<u8> {
        assert_eq!(whole(request), Some(request.len()));
        let mut out = Vec::new();
        Replies::default().answer(request, &mut out);
        assert_eq!(whole(&out), Some(out.len()));
        out
    }

    #[test]
    fn messages_are_as_long_as_the_table_says() {
        assert_eq!(reply_to(&find(1)).len(), SMALL_REPLY);
        assert_eq!(reply_to(&query(1)).len(), SMALL_REPLY);
        assert_eq!(reply_to(&find_large(1)).len(), LARGE_REPLY);
        assert_eq!(insert(1, 1024).len(), 1024);
        assert_eq!(insert(1, 65_536).len(), 65_536);
    }

    #[test]
    fn a_reply_answers_its_request() {
        for request in [hello(7), ping(7), find(7), query(7), insert(7, 1024)] {
            assert_eq!(answered(&reply_to(&request)), 7);
        }
    }
}
