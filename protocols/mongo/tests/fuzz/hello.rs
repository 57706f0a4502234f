//! A `hello` or its reply, made of a fuzzer's bytes, goes through the codec and is compared with
//! what came out, by a BSON library that shares no code with the codec.

#[path = "compose.rs"]
pub(crate) mod compose;

use bson::{RawDocument, RawDocumentBuf, raw::RawBsonRef};
use compose::{compose, finished};
use mongo::{Mongo, MongoListener, Settings};
use operation::testing::{CodecRun, Side};
use std::sync::Arc;

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_COMPRESSED: i32 = 2012;
const OP_MSG: i32 = 2013;
const HEADER: usize = 16;
/// The address at which a [`CodecRun`]'s client reached the listener.
const LOCAL: &str = "127.0.0.1:27018";
/// Documents nested deeper are not compared.
const DEEPEST: usize = 50;

const LISTS: [&str; 3] = ["hosts", "passives", "arbiters"];

// Bits of the first byte.
pub(crate) const REPLY: u8 = 1;
const CHECKSUM: u8 = 2;
const SECTION: u8 = 4;
pub(crate) const LEGACY: u8 = 8;
const WRAPPED: u8 = 16;
const COMPRESSED: u8 = 32;
pub(crate) const RAW: u8 = 64;
const STREAMED: u8 = 128;
const LEGACY_WRAPPED: u8 = LEGACY | WRAPPED;

/// The first byte says which message it is, the second one the listener's settings. The rest is
/// the message's document: as it is with [`RAW`], composed by [`compose`] without.
pub(crate) fn hello(bytes: &[u8]) {
    let Some((&[how, which], rest)) = bytes.split_first_chunk() else { return };
    let document = if how & RAW == 0 { compose(rest) } else { rest.to_vec() };
    let sent = Sent::new(how, &document);
    let settings = settings(which);
    let out = passed(&settings, how, &sent.wire, usize::MAX);
    assert_eq!(out, passed(&settings, how, &sent.wire, 1 + bytes.len() % 61), "whole, and cut");

    let changed = out != sent.wire;
    let after = if changed { sent.framed(&out) } else { &sent.document[..] };
    let before = read(&sent.document);
    if before.is_some() || changed {
        again(&settings, how, if changed { &out } else { &sent.plain });
    }
    let Some(before) = before else { return };
    let after = read(after).expect("a document that could be read can still be read");
    match how & REPLY {
        // An OP_MSG of a client is read to its end, or not at all.
        0 if how & LEGACY == 0 && !changed && !sent.behind.is_empty() => {}
        0 => request(how, before, after),
        _ => reply(&settings, before, after),
    }
}

/// A message as it is sent, and its parts.
struct Sent {
    wire: Vec<u8>,
    /// The same message, not compressed.
    plain: Vec<u8>,
    document: Vec<u8>,
    /// What is behind it, such as a second document of a query.
    behind: Vec<u8>,
    /// Where the document begins in the plain message.
    at: usize,
    checksum: bool,
}

impl Sent {
    fn new(how: u8, document: &[u8]) -> Self {
        let reply = how & REPLY != 0;
        let document = match how & (LEGACY | WRAPPED | REPLY) {
            LEGACY_WRAPPED => wrapped(document),
            _ => document.to_vec(),
        };
        let legacy = how & LEGACY != 0;
        let checksum = !legacy && how & CHECKSUM != 0;
        let (opcode, front) = match (legacy, reply) {
            (true, true) => (OP_REPLY, [&[8, 0, 0, 0][..], &[0; 12], &[1, 0, 0, 0]].concat()),
            (true, false) => (OP_QUERY, b"\x04\0\0\0admin.$cmd\0\0\0\0\0\xFF\xFF\xFF\xFF".to_vec()),
            (false, _) => (OP_MSG, sections(how, reply)),
        };
        let mut plain = message(opcode, &[&front[..], &document].concat());
        let at = HEADER + front.len();
        if checksum {
            let len = plain.len() as u32 + 4;
            plain[..4].copy_from_slice(&len.to_le_bytes());
            plain.extend(crc32c::crc32c(&plain).to_le_bytes());
        }
        let wire = if how & COMPRESSED == 0 { plain.clone() } else { compressed(&plain) };
        let len = document.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
        let (document, behind) = match document.split_at_checked(len) {
            Some((document, behind)) if len > 0 => (document.to_vec(), behind.to_vec()),
            _ => (document, Vec::new()),
        };
        Self { wire, plain, document, behind, at, checksum }
    }

    /// The document of the message that was forwarded instead of this one. Asserts that its length
    /// and checksum are right, and that nothing else has changed.
    fn framed<'o>(&self, out: &'o [u8]) -> &'o [u8] {
        assert_eq!(out[..4], (out.len() as u32).to_le_bytes(), "the length is right");
        assert_eq!(out[4..self.at], self.plain[4..self.at], "what is before the document stays");
        let (message, sum) = out.split_at(out.len() - if self.checksum { 4 } else { 0 });
        if self.checksum {
            assert_eq!(sum, crc32c::crc32c(message).to_le_bytes(), "the checksum is right");
        }
        let len = u32::from_le_bytes(*message[self.at..].first_chunk().expect("a length"));
        let (document, behind) = message[self.at..].split_at(len as usize);
        assert_eq!(behind, self.behind, "what is behind the document stays");
        document
    }
}

/// What stands in an OP_MSG before its document.
fn sections(how: u8, reply: bool) -> Vec<u8> {
    let checksum = u32::from(how & CHECKSUM != 0);
    let streams = match (how & STREAMED != 0, reply) {
        (false, _) => 0,
        (true, false) => 1 << 16,
        (true, true) => 1 << 1,
    };
    let mut front = (checksum | streams).to_le_bytes().to_vec();
    if how & SECTION != 0 {
        // A section of kind 3, with an empty document.
        front.extend([3, 5, 0, 0, 0, 0]);
    }
    front.push(0);
    front
}

/// `{ $query: document }`.
fn wrapped(document: &[u8]) -> Vec<u8> {
    finished([b"\x03$query\0", document].concat())
}

/// Message 7, which as a reply answers request 7.
fn message(opcode: i32, inside: &[u8]) -> Vec<u8> {
    let head = [(HEADER + inside.len()) as i32, 7, 7, opcode];
    let head: Vec<u8> = head.into_iter().flat_map(i32::to_le_bytes).collect();
    [&head[..], inside].concat()
}

/// The message inside an OP_COMPRESSED, by snappy.
fn compressed(plain: &[u8]) -> Vec<u8> {
    let inside = &plain[HEADER..];
    let packed = snap::raw::Encoder::new().compress_vec(inside).expect("it is not too long");
    let size = (inside.len() as u32).to_le_bytes();
    message(OP_COMPRESSED, &[&plain[12..16], &size, &[1], &packed].concat())
}

/// Some settings of a listener.
fn settings(which: u8) -> Settings {
    let members: &[(&str, &str)] = match which >> 2 & 3 {
        0 => &[],
        1 => &[("a:1", "P:11"), ("B:2", "P:12"), ("p:4", "P:14")],
        // These have reply after reply rewritten to the same.
        2 => &[("a:1", "P:11"), ("b:2", "P:12"), ("P:11", "P:11"), ("P:12", "P:12")],
        _ => &[("a:1", "P:11"), ("b:2", "P:11"), ("x:5", "P:12"), ("P:11", "P:11")],
    };
    let members = members.iter().map(|(own, proxy)| (own.to_string(), proxy.to_string()));
    Settings {
        auth: None,
        advertise: (which & 1 != 0).then(|| "proxy:9".to_owned()),
        members: members.collect(),
        rewrite_hello: which & 2 == 0,
        present_as: None,
        ..Settings::default()
    }
}

/// What is forwarded of this message, which arrives in slices of `slice` bytes.
fn passed(settings: &Settings, how: u8, wire: &[u8], slice: usize) -> Vec<u8> {
    let mut run = CodecRun::<Mongo>::new(&Arc::new(MongoListener::new(settings.clone())));
    let offers = compose(&[0x00, 0x13, 3, 7, 8, 9]);
    let offers = message(OP_MSG, &[&[0; 5], &offers[..]].concat());
    run.feed(Side::Client, &offers).expect("no rule is broken");
    let side = if how & REPLY == 0 { Side::Client } else { Side::Upstream };
    let before = if side == Side::Client { offers.len() } else { 0 };
    for bytes in wire.chunks(slice) {
        run.feed(side, bytes).expect("no rule is broken");
    }
    assert_eq!(run.lost(), None, "the message is well framed");
    let stream = if side == Side::Client { run.from_client() } else { run.from_upstream() };
    assert_eq!(stream.held(), 0, "a whole message is not held");
    stream.out()[before..].to_vec()
}

/// What went on goes on as it is when it comes once more.
fn again(settings: &Settings, how: u8, out: &[u8]) {
    // An address of the proxy that is no member's own is hidden by `members`.
    let known = |proxy| settings.members.contains_key(proxy);
    if how & REPLY == 0 || settings.members.values().all(known) {
        assert_eq!(passed(settings, how, out, usize::MAX), out, "rewritten, and rewritten again");
    }
}

/// A document that the BSON library can read to its end.
fn read(document: &[u8]) -> Option<&RawDocument> {
    fn sound(document: &RawDocument, deepest: usize) -> bool {
        document.iter().all(|pair| match pair {
            Ok((_, RawBsonRef::Document(inner))) => deepest > 0 && sound(inner, deepest - 1),
            Ok((_, RawBsonRef::Array(inner))) => {
                let inner = RawDocument::from_bytes(inner.as_bytes());
                deepest > 0 && inner.is_ok_and(|inner| sound(inner, deepest - 1))
            }
            other => other.is_ok(),
        })
    }
    RawDocument::from_bytes(document).ok().filter(|document| sound(document, DEEPEST))
}

/// Its elements, as far as the BSON library reads them.
fn pairs(document: &RawDocument) -> impl Iterator<Item = (&str, RawBsonRef<'_>)> {
    document.iter().filter_map(Result::ok).map(|(name, value)| (name.as_str(), value))
}

/// The elements that are not `edited`, in their order, byte for byte.
fn rest<'d>(document: &'d RawDocument, edited: &[&str]) -> Vec<(&'d str, Vec<u8>)> {
    let kept = pairs(document).filter(|(name, _)| !edited.contains(name));
    kept.map(|(name, value)| {
        let mut alone = RawDocumentBuf::new();
        alone.append(bson::cstr!(""), value);
        (name, alone.into_bytes())
    })
    .collect()
}

/// The strings in a list.
fn strings(list: RawBsonRef<'_>) -> Vec<String> {
    let list = list.as_array().into_iter().flatten().filter_map(Result::ok);
    list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// A request differs in `compression` alone, and a `hello` asks for nothing that can't be read.
fn request(how: u8, before: &RawDocument, after: &RawDocument) {
    let wrapper = |document: &RawDocument| {
        let (name, value) = pairs(document).next()?;
        matches!(name, "$query" | "query").then_some(())?;
        value.as_document().map(RawDocument::to_owned)
    };
    if let (true, Some(inner)) = (how & LEGACY != 0, wrapper(before)) {
        let Some(after_inner) = wrapper(after) else { panic!("the wrapper is kept") };
        let names = ["$query", "query"];
        assert_eq!(rest(before, &names), rest(after, &names));
        return asks(&inner, &after_inner);
    }
    asks(before, after);
}

fn asks(before: &RawDocument, after: &RawDocument) {
    let first = pairs(before).next().map(|(name, _)| name);
    let hello = first.is_some_and(|name| matches!(name, "hello" | "isMaster" | "ismaster"));
    if !hello {
        assert_eq!(before.as_bytes(), after.as_bytes(), "only a hello is rewritten");
        return;
    }
    assert_eq!(rest(before, &["compression"]), rest(after, &["compression"]));
    let lists = |document| {
        let lists = pairs(document).filter(|(name, _)| *name == "compression");
        lists.map(|(_, value)| value).collect::<Vec<_>>()
    };
    let (lists_before, lists_after) = (lists(before), lists(after));
    assert_eq!(lists_before.len(), lists_after.len());
    for (asked, left) in lists_before.into_iter().zip(lists_after) {
        let readable = ["snappy", "zlib", "zstd", "none", "noop"];
        let mut wanted = strings(asked);
        wanted.retain(|name| readable.contains(&name.as_str()));
        assert_eq!(strings(left), wanted, "every readable compressor is left, and no other");
    }
}

/// A reply differs in addresses alone, and all that it names lead to the proxy.
fn reply(settings: &Settings, before: &RawDocument, after: &RawDocument) {
    let good = |value: RawBsonRef<'_>| match value {
        RawBsonRef::Double(number) => number != 0.0,
        RawBsonRef::Int32(number) => number != 0,
        RawBsonRef::Int64(number) => number != 0,
        RawBsonRef::Boolean(yes) => yes,
        _ => false,
    };
    if !settings.rewrite_hello || !pairs(before).any(|(name, value)| name == "ok" && good(value)) {
        assert_eq!(before.as_bytes(), after.as_bytes(), "what is not to be rewritten stays");
        return;
    }
    let names = [&LISTS[..], &["me", "primary"]].concat();
    assert_eq!(rest(before, &names), rest(after, &names));
    let own = settings.advertise.as_deref().unwrap_or(LOCAL);
    let leads_here =
        |address: &str| address == own || settings.members.values().any(|proxy| proxy == address);
    for (name, value) in pairs(after) {
        match value {
            RawBsonRef::Array(_) if LISTS.contains(&name) => {
                assert!(strings(value).iter().all(|host| leads_here(host)), "{name}: {value:?}");
            }
            RawBsonRef::String(host) if name == "me" || name == "primary" => {
                assert!(leads_here(host), "{name}: {host}");
            }
            _ => {}
        }
    }
    listed(settings, before, after);
}

/// The member that answers stays in the list that it is in, and so do all `members`.
fn listed(settings: &Settings, before: &RawDocument, after: &RawDocument) {
    let me = |document| {
        let mut found = pairs(document).filter(|(name, _)| *name == "me");
        let one = found.next().and_then(|(_, value)| value.as_str().map(str::to_owned));
        one.filter(|_| found.next().is_none())
    };
    let hosts = |document, list| {
        let lists = pairs(document).filter(move |(name, _)| *name == list);
        lists.flat_map(|(_, value)| strings(value)).collect::<Vec<String>>()
    };
    let names = |hosts: &[String], name: &str| hosts.iter().any(|it| it.eq_ignore_ascii_case(name));
    let mut lists = LISTS.map(|list| (hosts(before, list), hosts(after, list))).into_iter();
    for (own, proxy) in &settings.members {
        for (before, after) in lists.clone() {
            assert!(!names(&before, own) || after.contains(proxy), "{own} is listed as {proxy}");
        }
    }
    let (Some(me_before), Some(me_after)) = (me(before), me(after)) else { return };
    let mut listed = lists.clone().filter(|(before, _)| names(before, &me_before));
    // Drivers drop a server that is in no list of its own reply, or learn its kind by the list.
    let stays = listed.any(|(_, after)| after.contains(&me_after));
    assert!(stays || !lists.any(|(before, _)| names(&before, &me_before)), "{after:?}");
}
