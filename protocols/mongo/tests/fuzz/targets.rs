//! What is done with a fuzzer's bytes. `fuzz/` gives these functions bytes of its own making;
//! `main.rs` gives them all that was ever found.

use mongo::{Mongo, MongoListener};
use operation::{
    Reply, Tag,
    testing::{CodecRun, Fixture, FoundRequest, RuleBreach, Side, fuzz},
};
use std::sync::{Arc, OnceLock};

/// A client says this.
pub(crate) fn client(bytes: &[u8]) {
    unbroken(fuzz::client::<Mongo>(Arc::default, bytes));
}

/// The first byte picks a recorded client's requests, and which of them are given up; the server
/// says the rest.
pub(crate) fn server(bytes: &[u8]) {
    let Some((&pick, replies)) = bytes.split_first() else { return };
    let recorded = recorded();
    let requests = &recorded[usize::from(pick) % recorded.len()];
    let given_up = pick / recorded.len() as u8;
    unbroken(fuzz::upstream::<Mongo>(Arc::default, requests, given_up, replies));
}

/// Both sides say this; see [`fuzz::conversation`].
pub(crate) fn conversation(bytes: &[u8]) {
    unbroken(fuzz::conversation::<Mongo>(Arc::default, bytes));
}

/// What stands in an OP_COMPRESSED after its header: the opcode inside, the size, the compressor,
/// and what is compressed. It is read as the plain message is that whole decompressors find, or
/// not at all where they find none.
pub(crate) fn decompress(inside: &[u8]) {
    let compressed = message(OP_COMPRESSED, inside);
    let asks = op_msg(b"\x10ping\0\x01\0\0\0\x02$db\0\x02\0\0\0d\0");
    let said = [&offers()[..], &compressed].concat();
    unbroken(fuzz::client::<Mongo>(Arc::default, &said));
    unbroken(fuzz::upstream::<Mongo>(Arc::default, &asks, 0, &compressed));

    let Some((opcode, size, compressor, packed)) = parts(inside) else { return };
    if opcode == OP_COMPRESSED || size > LARGEST {
        return;
    }
    let plain = reference::inflate(compressor, packed, size as usize);
    let (request, reply) = (ask(&compressed), tell(&asks, &compressed));
    match plain.map(|plain| message(opcode, &plain)) {
        Some(plain) => {
            assert_eq!(request, ask(&plain), "the request, and the same one not compressed");
            assert_eq!(reply, tell(&asks, &plain), "the reply, and the same one not compressed");
        }
        None => assert_eq!(request.0, [], "whole decompressors refuse what was read"),
    }
}

const OP_COMPRESSED: i32 = 2012;
const OP_MSG: i32 = 2013;
/// Beyond this many bytes whole decompressors are not asked: that would take too long.
const LARGEST: u32 = 1 << 20;

/// Of a few recordings the file's name and text. Their order is part of the inputs' meaning.
pub(crate) const RECORDINGS: [(&str, &str); 8] = [
    ("pymongo-4-crud", include_str!("../../../../fixtures/mongo/pymongo-4-crud.hex")),
    ("pymongo-4-cursor", include_str!("../../../../fixtures/mongo/pymongo-4-cursor.hex")),
    (
        "pymongo-4-crud-compressed",
        include_str!("../../../../fixtures/mongo/pymongo-4-crud-compressed.hex"),
    ),
    ("pymongo-4-exhaust", include_str!("../../../../fixtures/mongo/pymongo-4-exhaust.hex")),
    ("pymongo-4-login", include_str!("../../../../fixtures/mongo/pymongo-4-login.hex")),
    ("pymongo-4-errors", include_str!("../../../../fixtures/mongo/pymongo-4-errors.hex")),
    ("pymongo-3-crud", include_str!("../../../../fixtures/mongo/pymongo-3-crud.hex")),
    ("node-7-monitor", include_str!("../../../../fixtures/mongo/node-7-monitor.hex")),
];

/// What the client of each recording said.
fn recorded() -> &'static [Vec<u8>] {
    static REQUESTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    REQUESTS.get_or_init(|| {
        let parse = |(name, text)| Fixture::parse(name, text).expect("a recording");
        RECORDINGS.map(parse).iter().map(|recording| said(recording, Side::Client)).collect()
    })
}

/// Everything that one side of a recording said.
pub(crate) fn said(recording: &Fixture, side: Side) -> Vec<u8> {
    let turns = recording.turns.iter().filter(|turn| turn.from == side);
    turns.flat_map(|turn| turn.bytes.iter().copied()).collect()
}

fn unbroken(verdict: Result<(), RuleBreach>) {
    if let Err(breach) = verdict {
        panic!("{breach}");
    }
}

/// The requests that a codec can read in these bytes, and whether it lost the framing.
fn ask(request: &[u8]) -> (Vec<FoundRequest>, bool) {
    let mut run = CodecRun::<Mongo>::new(&Arc::new(MongoListener::default()));
    run.feed(Side::Client, &offers()).expect("no rule is broken");
    run.feed(Side::Client, request).expect("no rule is broken");
    let mut asked = run.requests()[1..].to_vec();
    // Which rule an unreadable message breaks may differ.
    asked.retain(|asked| asked.request.violation.is_none());
    (asked, run.lost().is_some())
}

/// What a codec reads from a reply to these requests, `None` where it can't be read, and whether
/// it lost the framing.
fn tell(requests: &[u8], reply: &[u8]) -> (Vec<(Tag, Option<Reply>)>, bool) {
    let mut run = CodecRun::<Mongo>::new(&Arc::new(MongoListener::default())).without_attributes();
    run.feed(Side::Client, requests).expect("no rule is broken");
    run.feed(Side::Upstream, reply).expect("no rule is broken");
    let replies = run.requests().iter().filter_map(|asked| asked.reply).chain(run.stray().to_vec());
    let told = replies.map(|reply| match reply.violation {
        // As above: broken is broken.
        Some(_) => (reply.tag, None),
        None => (reply.tag, Some(reply)),
    });
    (told.collect::<Vec<_>>(), run.lost().is_some())
}

/// Message 7, which as a reply answers 7.
fn message(opcode: i32, inside: &[u8]) -> Vec<u8> {
    let len = 16 + inside.len() as i32;
    let mut out: Vec<u8> = [len, 7, 7, opcode].into_iter().flat_map(i32::to_le_bytes).collect();
    out.extend(inside);
    out
}

/// A `hello` that offers every compressor: without it nothing compressed is read.
fn offers() -> Vec<u8> {
    let names = ["snappy", "zlib", "zstd"].iter().enumerate();
    let names: Vec<u8> = names
        .flat_map(|(at, name)| {
            let len = (name.len() as u32 + 1).to_le_bytes();
            [format!("\x02{at}\0").as_bytes(), &len, name.as_bytes(), &[0]].concat()
        })
        .collect();
    let len = (names.len() as u32 + 5).to_le_bytes();
    let list = [&len[..], &names, &[0]].concat();
    op_msg(&[b"\x10hello\0\x01\0\0\0\x04compression\0", &list[..]].concat())
}

/// An OP_MSG of one document with these elements.
fn op_msg(elements: &[u8]) -> Vec<u8> {
    let mut inside = vec![0; 5];
    inside.extend((elements.len() as i32 + 5).to_le_bytes());
    inside.extend(elements);
    inside.push(0);
    message(OP_MSG, &inside)
}

/// Opcode, size, compressor, and what is compressed.
fn parts(inside: &[u8]) -> Option<(i32, u32, u8, &[u8])> {
    let (opcode, rest) = inside.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (compressor, packed) = rest.split_first()?;
    Some((i32::from_le_bytes(*opcode), u32::from_le_bytes(*size), *compressor, packed))
}

/// Decompressors as they are meant to be used: everything at once.
mod reference {
    use flate2::{Decompress, FlushDecompress, Status};
    use std::io::Read;

    /// What comes out, if that is `size` bytes and nothing is left over.
    pub(super) fn inflate(compressor: u8, packed: &[u8], size: usize) -> Option<Vec<u8>> {
        let plain = match compressor {
            0 => packed.to_vec(),
            1 if snap::raw::decompress_len(packed).ok()? == size => {
                snap::raw::Decoder::new().decompress_vec(packed).ok()?
            }
            2 => zlib(packed, size)?,
            3 => zstd(packed, size)?,
            _ => return None,
        };
        (plain.len() == size).then_some(plain)
    }

    fn zlib(packed: &[u8], size: usize) -> Option<Vec<u8>> {
        let mut zlib = Decompress::new(true);
        let mut plain = vec![0; size + 1];
        let status = zlib.decompress(packed, &mut plain, FlushDecompress::Finish).ok()?;
        plain.truncate(zlib.total_out() as usize);
        (status == Status::StreamEnd && zlib.total_in() == packed.len() as u64).then_some(plain)
    }

    fn zstd(packed: &[u8], size: usize) -> Option<Vec<u8>> {
        let mut zstd = zstd::stream::read::Decoder::with_buffer(packed).ok()?;
        // Exactly what a server's own level 19 needs.
        zstd.window_log_max(23).ok()?;
        let mut plain = Vec::new();
        zstd.take(size as u64 + 1).read_to_end(&mut plain).ok()?;
        Some(plain)
    }
}
