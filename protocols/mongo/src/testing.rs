//! Hand-built messages for tests.

use bson::{Document, doc};

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
        rest.extend([0xC4; 4]);
    }
    message(id, answers, 2013, &rest)
}

/// A section of kind 0, or another kind that is one document.
pub(crate) fn body(kind: u8, document: &Document) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(document.to_vec().unwrap());
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

/// An answer in an `OP_MSG`.
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
