//! MongoDB's messages, built byte by byte and read back.
//!
//! Layouts: the specifications' `message/OP_MSG.md` and `compression/OP_COMPRESSED.md`.

use bson::Document;
use std::io::{self, Read, Write};

pub const OP_REPLY: i32 = 1;
pub const OP_QUERY: i32 = 2004;
pub const OP_COMPRESSED: i32 = 2012;
pub const OP_MSG: i32 = 2013;

pub const CHECKSUM_PRESENT: u32 = 1;
pub const MORE_TO_COME: u32 = 1 << 1;
pub const EXHAUST_ALLOWED: u32 = 1 << 16;

/// The longest message that a server takes: `maxMessageSizeBytes`.
pub const LONGEST: usize = 48_000_000;

/// A whole message as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// Reads the next message. `None` if the stream ends before the message does.
    pub fn read(stream: &mut impl Read) -> io::Result<Option<Message>> {
        let mut bytes = Vec::new();
        stream.take(4).read_to_end(&mut bytes)?;
        let Ok(length) = <[u8; 4]>::try_from(bytes.as_slice()) else { return Ok(None) };
        let length = i32::from_le_bytes(length);
        assert!(length >= 16, "a message of {length} bytes");
        stream.take(length as u64 - 4).read_to_end(&mut bytes)?;
        Ok((bytes.len() == length as usize).then_some(Message(bytes)))
    }

    /// Its `requestID`.
    pub fn id(&self) -> i32 {
        self.i32_at(4)
    }

    /// Its `responseTo`.
    pub fn answers(&self) -> i32 {
        self.i32_at(8)
    }

    /// Its `opCode`.
    pub fn opcode(&self) -> i32 {
        self.i32_at(12)
    }

    /// The flags of an OP_MSG.
    pub fn flags(&self) -> u32 {
        self.i32_at(16) as u32
    }

    /// The document that it is about: an OP_MSG's body (which must come first), an OP_QUERY's
    /// query, or an OP_REPLY's first document.
    pub fn document(&self) -> Document {
        let at = match self.opcode() {
            OP_MSG => 16 + 4 + 1,
            OP_REPLY => 16 + 20,
            OP_QUERY => 16 + 4 + self.0[20..].iter().position(|b| *b == 0).unwrap() + 1 + 8,
            other => panic!("no document in a message of kind {other}"),
        };
        Document::from_reader(&self.0[at..]).expect("a document")
    }

    /// Whether its checksum is there and right.
    pub fn checksum_holds(&self) -> bool {
        let (front, sum) = self.0.split_at(self.0.len() - 4);
        self.flags() & CHECKSUM_PRESENT != 0 && crc32c::crc32c(front).to_le_bytes() == sum
    }

    fn i32_at(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }
}

/// A message of any kind.
pub fn message(id: i32, answers: i32, opcode: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + body.len());
    for word in [16 + body.len() as i32, id, answers, opcode] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(body);
    bytes
}

/// A header that claims a length, with nothing behind it.
pub fn claiming(length: i32) -> Vec<u8> {
    let mut bytes = message(1, 0, OP_MSG, &[]);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// A section of kind 0: the body.
pub fn body(document: &Document) -> Vec<u8> {
    section(0, &document.to_vec().expect("a document"))
}

/// A section of kind 1: a sequence of documents.
pub fn sequence(identifier: &str, documents: &[Document]) -> Vec<u8> {
    let documents = documents.iter().map(|document| document.to_vec().expect("a document"));
    sequence_of(identifier, documents)
}

/// The same of documents that are bytes already, valid or not.
pub fn sequence_of(identifier: &str, documents: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut inside = identifier.as_bytes().to_vec();
    inside.push(0);
    documents.into_iter().for_each(|document| inside.extend(document));
    let size = (inside.len() as i32 + 4).to_le_bytes();
    section(1, &[&size[..], &inside].concat())
}

/// A section of any kind.
pub fn section(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(payload);
    bytes
}

/// An OP_MSG of these sections.
pub fn op_msg_of(id: i32, answers: i32, flags: u32, sections: &[Vec<u8>]) -> Vec<u8> {
    let mut inside = flags.to_le_bytes().to_vec();
    sections.iter().for_each(|section| inside.extend(section));
    message(id, answers, OP_MSG, &inside)
}

/// A request: an OP_MSG of one body.
pub fn op_msg(id: i32, document: &Document) -> Vec<u8> {
    op_msg_of(id, 0, 0, &[body(document)])
}

/// A reply: an OP_MSG of one body.
pub fn op_msg_reply(id: i32, answers: i32, document: &Document) -> Vec<u8> {
    op_msg_of(id, answers, 0, &[body(document)])
}

/// An OP_QUERY for one document of this collection (`admin.$cmd`).
pub fn op_query(id: i32, collection: &str, query: &Document) -> Vec<u8> {
    let mut inside = 0_u32.to_le_bytes().to_vec();
    inside.extend(collection.as_bytes());
    inside.push(0);
    inside.extend(0_i32.to_le_bytes());
    inside.extend((-1_i32).to_le_bytes());
    inside.extend(query.to_vec().expect("a document"));
    message(id, 0, OP_QUERY, &inside)
}

/// An OP_REPLY of one document.
pub fn op_reply(id: i32, answers: i32, document: &Document) -> Vec<u8> {
    const AWAIT_CAPABLE: i32 = 8;
    let mut inside = AWAIT_CAPABLE.to_le_bytes().to_vec();
    inside.extend(0_i64.to_le_bytes());
    inside.extend(0_i32.to_le_bytes());
    inside.extend(1_i32.to_le_bytes());
    inside.extend(document.to_vec().expect("a document"));
    message(id, answers, OP_REPLY, &inside)
}

/// The same OP_MSG with its CRC-32C.
pub fn checksummed(mut message: Vec<u8>) -> Vec<u8> {
    message[16] |= CHECKSUM_PRESENT as u8;
    let length = message.len() as i32 + 4;
    message[..4].copy_from_slice(&length.to_le_bytes());
    let sum = crc32c::crc32c(&message);
    message.extend(sum.to_le_bytes());
    message
}

/// How a message may be compressed; the values are the ids on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressor {
    Snappy = 1,
    Zlib = 2,
    Zstd = 3,
}

impl Compressor {
    pub const ALL: [Compressor; 3] = [Compressor::Snappy, Compressor::Zlib, Compressor::Zstd];

    /// Compresses these bytes.
    pub fn squeeze(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Compressor::Snappy => snap::raw::Encoder::new().compress_vec(bytes).expect("snappy"),
            Compressor::Zlib => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
                encoder.write_all(bytes).expect("zlib");
                encoder.finish().expect("zlib")
            }
            Compressor::Zstd => zstd::encode_all(bytes, 3).expect("zstd"),
        }
    }
}

/// The same message inside an OP_COMPRESSED.
pub fn compressed(message: &[u8], how: Compressor) -> Vec<u8> {
    let claimed = message.len() as i32 - 16;
    compressed_claiming(message, how, claimed)
}

/// The same, but claiming that `size` bytes come out.
pub fn compressed_claiming(whole: &[u8], how: Compressor, size: i32) -> Vec<u8> {
    packed(whole, how as u8, size, &how.squeeze(&whole[16..]))
}

/// An OP_COMPRESSED instead of this message: these bytes, by the compressor with this id, of which
/// `size` bytes are said to come out.
pub fn packed(whole: &[u8], how: u8, size: i32, bytes: &[u8]) -> Vec<u8> {
    let inside = [&whole[12..16], &size.to_le_bytes(), &[how], bytes].concat();
    let word = |at: usize| i32::from_le_bytes(whole[at..at + 4].try_into().unwrap());
    message(word(4), word(8), OP_COMPRESSED, &inside)
}
