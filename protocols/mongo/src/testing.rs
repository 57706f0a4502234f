//! Hand-built messages for tests.

use crate::{Mongo, MongoListener};
use bson::{Document, doc};
use operation::{Codec, ConnectionInfo, Next, OperationNames, Reply, Request, Violation};
use std::sync::Arc;

/// A whole message.
pub(crate) fn message(id: u32, answers: u32, opcode: i32, rest: &[u8]) -> Vec<u8> {
    let len = 16 + rest.len() as u32;
    let mut out = Vec::new();
    for number in [len, id, answers, opcode as u32] {
        out.extend(number.to_le_bytes());
    }
    out.extend(rest);
    out
}

/// An `OP_MSG` with these flags and sections.
pub(crate) fn msg(id: u32, answers: u32, flags: u32, sections: &[Vec<u8>]) -> Vec<u8> {
    let mut rest = flags.to_le_bytes().to_vec();
    for section in sections {
        rest.extend(section);
    }
    if flags & 1 != 0 {
        // Zeros could be read as a section of kind 0.
        rest.extend([0; 4]);
    }
    message(id, answers, 2013, &rest)
}

/// A section of kind 0, or another kind that is one document.
pub(crate) fn body(kind: u8, document: &Document) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(document.to_vec().unwrap());
    out
}

/// The fields of all documents in one, duplicates included.
pub(crate) fn joined(documents: &[Document]) -> Vec<u8> {
    let mut out = vec![0; 4];
    for document in documents {
        let document = document.to_vec().unwrap();
        out.extend(&document[4..document.len() - 1]);
    }
    out.push(0);
    let len = out.len() as u32;
    out[..4].copy_from_slice(&len.to_le_bytes());
    out
}

/// A section of kind 1.
pub(crate) fn sequence(identifier: &str, documents: &[Document]) -> Vec<u8> {
    let mut section = identifier.as_bytes().to_vec();
    section.push(0);
    for document in documents {
        section.extend(document.to_vec().unwrap());
    }
    let mut out = vec![1];
    out.extend((section.len() as u32 + 4).to_le_bytes());
    out.extend(section);
    out
}

/// A command in an `OP_MSG`.
pub(crate) fn command(id: u32, document: Document) -> Vec<u8> {
    msg(id, 0, 0, &[body(0, &document)])
}

/// A reply in an `OP_MSG`.
pub(crate) fn answer(answers: u32, document: Document) -> Vec<u8> {
    msg(answers + 1000, answers, 0, &[body(0, &document)])
}

/// An `OP_QUERY`.
pub(crate) fn query(id: u32, namespace: &str, document: &Document) -> Vec<u8> {
    let mut rest = vec![0; 4];
    rest.extend(namespace.as_bytes());
    rest.extend([0; 5]);
    rest.extend((-1_i32).to_le_bytes());
    rest.extend(document.to_vec().unwrap());
    message(id, 0, 2004, &rest)
}

/// An `OP_REPLY`.
pub(crate) fn reply(answers: u32, flags: u32, cursor: i64, documents: &[Document]) -> Vec<u8> {
    let mut rest = flags.to_le_bytes().to_vec();
    rest.extend(cursor.to_le_bytes());
    rest.extend(0_u32.to_le_bytes());
    rest.extend((documents.len() as u32).to_le_bytes());
    for document in documents {
        rest.extend(document.to_vec().unwrap());
    }
    message(answers + 1000, answers, 1, &rest)
}

/// A message in an `OP_COMPRESSED`, by snappy (1), zlib (2), zstd (3), or not at all (0).
pub(crate) fn compress(message: &[u8], compressor: u8) -> Vec<u8> {
    use std::io::Write;
    let inner = &message[16..];
    let packed = match compressor {
        1 => snap::raw::Encoder::new().compress_vec(inner).unwrap(),
        2 => {
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            zlib.write_all(inner).unwrap();
            zlib.finish().unwrap()
        }
        3 => zstd::bulk::compress(inner, 1).unwrap(),
        _ => inner.to_vec(),
    };
    let mut rest = message[12..16].to_vec();
    rest.extend((inner.len() as u32).to_le_bytes());
    rest.push(compressor);
    rest.extend(packed);
    let number = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap());
    self::message(number(4), number(8), 2012, &rest)
}

/// Documents of about `len` bytes each.
pub(crate) fn documents(count: usize, len: usize) -> Vec<Document> {
    (0..count).map(|i| doc! {"_id": i as i32, "text": "x".repeat(len)}).collect()
}

/// A codec with default settings, for a client at 127.0.0.1:5000 that offered to compress.
pub(crate) fn codec() -> Mongo {
    codec_of(&Arc::new(MongoListener::default()))
}

/// A `hello` that offers every compressor.
pub(crate) fn offers() -> Document {
    doc! {"hello": 1, "compression": ["snappy", "zlib", "zstd"], "$db": "admin"}
}

/// A codec of one more connection to a listener.
pub(crate) fn codec_of(listener: &Arc<MongoListener>) -> Mongo {
    let link = ConnectionInfo {
        peer: ([127, 0, 0, 1], 5000).into(),
        local: ([127, 0, 0, 1], 27018).into(),
    };
    let mut codec = Mongo::new(listener, link);
    codec.offer_to_compress();
    codec
}

/// What a codec returned for a stream of requests or replies.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Relayed<M> {
    pub(crate) marks: Vec<M>,
    /// How many messages ended.
    pub(crate) ended: usize,
    /// The bytes that were passed on.
    pub(crate) out: Vec<u8>,
}

/// Name and resource at the end of the request, its mark with the violation, and the number of
/// documents.
pub(crate) type SeenRequest = (String, String, Request, u64);

/// Feeds requests to a codec, `cut` bytes at a time, as a relay does.
pub(crate) fn feed_requests(
    codec: &mut Mongo,
    bytes: &[u8],
    cut: usize,
) -> Result<Relayed<SeenRequest>, Violation> {
    relay(codec, bytes, cut, |codec, bytes, seen| {
        let next = codec.request(bytes)?;
        let (mark, ends) = parts(&next);
        if let Some(mark) = mark {
            let OperationNames { name, resource } = codec.names(bytes);
            seen.marks.push((name.to_owned(), resource.to_owned(), mark, 0));
        }
        let last = seen.marks.last_mut();
        match (&next, last) {
            (Next::Violates(violation), Some(last)) => {
                last.2.violation.get_or_insert(*violation);
            }
            (_, Some(last)) if ends => {
                last.3 = codec.request_items();
                if let Some(learned) = codec.late_details() {
                    (last.0, last.1) = (learned.name.into(), learned.resource.into());
                }
            }
            _ => {}
        }
        Ok(strip(next))
    })
}

/// Feeds replies to a codec, `cut` bytes at a time, as a relay does.
pub(crate) fn feed_replies(
    codec: &mut Mongo,
    bytes: &[u8],
    cut: usize,
) -> Result<Relayed<Reply>, Violation> {
    relay(codec, bytes, cut, |codec, bytes, seen| {
        let next = codec.reply(bytes)?;
        seen.marks.extend(parts(&next).0);
        Ok(strip(next))
    })
}

/// Feeds one whole request, and returns what was found.
pub(crate) fn one_request(codec: &mut Mongo, bytes: &[u8]) -> SeenRequest {
    let mut seen = feed_requests(codec, bytes, usize::MAX).unwrap();
    assert_eq!((seen.marks.len(), seen.ended), (1, 1));
    seen.marks.remove(0)
}

/// Feeds one whole reply, and returns what was found.
pub(crate) fn one_reply(codec: &mut Mongo, bytes: &[u8]) -> Reply {
    let mut seen = feed_replies(codec, bytes, usize::MAX).unwrap();
    assert_eq!((seen.marks.len(), seen.ended), (1, 1));
    seen.marks.remove(0)
}

fn relay<M>(
    codec: &mut Mongo,
    bytes: &[u8],
    cut: usize,
    mut step: impl FnMut(&mut Mongo, &[u8], &mut Relayed<M>) -> Result<Next<()>, Violation>,
) -> Result<Relayed<M>, Violation> {
    let mut seen = Relayed { marks: Vec::new(), ended: 0, out: Vec::new() };
    let (mut at, mut here) = (0, 0);
    loop {
        let front = &bytes[at..here];
        let (len, ends) = match step(codec, front, &mut seen)? {
            Next::Hold(wanted) => {
                assert!(wanted > front.len(), "held {wanted} with {} here", front.len());
                if here == bytes.len() {
                    return Ok(seen);
                }
                here = here.saturating_add(cut).min(bytes.len());
                continue;
            }
            Next::Pass { len, ends, .. } | Next::PassUnsolicited { len, ends } => {
                assert!(len > 0);
                let len = (len as usize).min(bytes.len() - at);
                seen.out.extend(&bytes[at..at + len]);
                (len, ends)
            }
            Next::Violates(_) => continue,
            Next::Drop { len, ends } => {
                assert!(len > 0);
                ((len as usize).min(bytes.len() - at), ends)
            }
            Next::Answer { len, .. } | Next::Resend { len, .. } => {
                assert!(len <= front.len());
                (len, true)
            }
            Next::Swap { len, with, .. } => {
                assert!(len <= front.len());
                seen.out.extend(with);
                (len, true)
            }
        };
        at += len;
        here = here.max(at);
        seen.ended += usize::from(ends);
    }
}

fn parts<M: Copy>(next: &Next<M>) -> (Option<M>, bool) {
    match next {
        Next::Hold(_) | Next::Violates(_) => (None, false),
        Next::Pass { mark, ends, .. } => (*mark, *ends),
        Next::PassUnsolicited { ends, .. } | Next::Drop { ends, .. } => (None, *ends),
        Next::Swap { mark, .. } => (*mark, true),
        Next::Answer { mark, .. } => (Some(*mark), true),
        Next::Resend { .. } => (None, true),
    }
}

fn strip<M>(next: Next<M>) -> Next<()> {
    match next {
        Next::Hold(n) => Next::Hold(n),
        Next::Violates(violation) => Next::Violates(violation),
        Next::Pass { len, ends, .. } => Next::Pass { len, mark: None, ends },
        Next::PassUnsolicited { len, ends } => Next::PassUnsolicited { len, ends },
        Next::Drop { len, ends } => Next::Drop { len, ends },
        Next::Swap { len, with, .. } => Next::Swap { len, with, mark: None },
        Next::Answer { len, .. } => Next::Answer { len, mark: () },
        Next::Resend { len, reason } => Next::Resend { len, reason },
    }
}
