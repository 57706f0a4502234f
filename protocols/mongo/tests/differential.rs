//! The codec, which reads only as much of a message as it must, names a million commands exactly as
//! a parser does that reads all of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]

#[allow(dead_code, reason = "shared with the unit tests")]
#[path = "../src/dice.rs"]
mod dice;

use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf, raw::CString, rawdoc};
use dice::Dice;
use mongo::{Mongo, MongoListener};
use operation::{Codec, ConnectionInfo, Next, OperationNames};
use std::{collections::BTreeMap, sync::Arc};

/// How many messages are tried, unless the environment's `DIFFERENTIAL_MESSAGES` says.
const MESSAGES: u64 = 1_000_000;

#[test]
fn a_million_commands_are_named_as_a_whole_parser_names_them() {
    let wanted = std::env::var("DIFFERENTIAL_MESSAGES").ok().and_then(|n| n.parse().ok());
    let wanted = wanted.unwrap_or(MESSAGES);
    let listener = Arc::new(MongoListener::default());
    let (mut valid, mut mutated) = (0, 0);
    let mut names = BTreeMap::new();
    for seed in 0..wanted {
        let mut dice = Dice::new(seed);
        let mut message = request(&mut dice);
        let whole = dice.below(2) == 0;
        if !whole {
            mutate(&mut dice, &mut message);
        }
        let found = named(&listener, &message);
        let expected = reference::name(&message);
        assert!(!whole || expected.is_some(), "seed {seed} makes no message: {message:02x?}");
        // A whole parser has nothing to say about a message that is broken anywhere.
        let Some(expected) = expected else { continue };
        assert_eq!(found, Some(expected.clone()), "seed {seed}: {message:02x?}");
        *(if whole { &mut valid } else { &mut mutated }) += 1;
        *names.entry(expected.0).or_insert(0_u64) += 1;
    }
    println!("{valid} valid and {mutated} mutated messages agree: {names:?}");
    assert!(valid >= wanted * 2 / 5 && mutated >= wanted / 10, "{valid} valid, {mutated} mutated");
    assert!(wanted < 10_000 || names.len() >= reference::COMMANDS.len(), "{names:?}");
}

/// What the codec calls it; `None` if it finds no request without fault.
fn named(listener: &Arc<MongoListener>, message: &[u8]) -> Option<(String, String)> {
    let link = ConnectionInfo {
        peer: ([127, 0, 0, 1], 5000).into(),
        local: ([127, 0, 0, 1], 27018).into(),
    };
    let mut codec = Mongo::new(listener, link);
    // Without it nothing compressed is read.
    let offers = rawdoc! { "hello": 1, "compression": ["snappy", "zlib", "zstd"] };
    let hello = message_of(OP_MSG, &[&[0; 5], offers.as_bytes()].concat());
    codec.request(&hello).ok()?;
    let (Next::Pass { mark, .. } | Next::Swap { mark, .. }) = codec.request(message).ok()? else {
        return None;
    };
    let OperationNames { name, resource } = codec.names(message);
    mark?.violation.is_none().then(|| (name.to_owned(), resource.to_owned()))
}

/// A request of one of many kinds.
fn request(dice: &mut Dice) -> Vec<u8> {
    let word = reference::COMMANDS[dice.below(reference::COMMANDS.len())].0;
    let (command, database) = (command(dice, word), name(dice));
    let plain = match dice.below(6) {
        0 => query(dice, command, &database),
        1 => query_of_documents(dice, &database),
        _ => op_msg(dice, word, command, &database),
    };
    // Few of them, since to begin with zlib or zstd takes longer than all the rest.
    match dice.below(100) {
        0 => compressed(&plain, ZLIB),
        1 => compressed(&plain, ZSTD),
        2..=9 => compressed(&plain, SNAPPY),
        _ => plain,
    }
}

/// A command's document, but for `$db`.
fn command(dice: &mut Dice, word: &str) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    let first = match (word, dice.below(8)) {
        ("explain", 1..) => {
            let inner = reference::COMMANDS[dice.below(reference::COMMANDS.len())].0;
            RawBson::Document(command(dice, if inner == word { "find" } else { inner }))
        }
        ("getMore", 1..) => RawBson::Int64(dice.next() as i64),
        (_, 0) => RawBson::Int32(1),
        (_, 1) => RawBson::Document(dice::document(dice, 2)),
        (_, 2) => RawBson::String(format!("{}.{}", name(dice), name(dice))),
        _ => RawBson::String(name(dice)),
    };
    out.append(key(word), first);
    let from = dice.below(9);
    for place in from..from + dice.below(5) {
        let (word, value) = match place % 9 {
            0 => ("filter", RawBson::Document(dice::document(dice, 3))),
            1 => ("collection", RawBson::String(name(dice))),
            2 => ("nsInfo", namespaces(dice)),
            3 => ("comment", RawBson::String(name(dice))),
            4 => ("lsid", RawBson::Document(rawdoc! { "id": 5, "$db": "not this" })),
            5 => ("pipeline", RawBson::Array([rawdoc! { "$match": {} }].into_iter().collect())),
            6 => ("ordered", RawBson::Boolean(false)),
            7 => ("maxTimeMS", RawBson::Double(5.0)),
            _ => ("documents", RawBson::Document(dice::document(dice, 1))),
        };
        out.append(key(word), value);
    }
    out
}

fn namespaces(dice: &mut Dice) -> RawBson {
    let one = |dice: &mut Dice| rawdoc! { "x": 1, "ns": format!("{}.{}", name(dice), name(dice)) };
    RawBson::Array((0..dice.below(3)).map(|_| one(dice)).collect())
}

fn key(word: &str) -> CString {
    CString::try_from(word).unwrap()
}

fn name(dice: &mut Dice) -> String {
    let words = ["shop", "orders", "admin", "a.b", "größe", "$cmd", "", "x"];
    words[dice.below(words.len())].repeat(1 + dice.below(3))
}

/// An OP_MSG: `$db` anywhere but first, sections in any order, with or without a checksum.
fn op_msg(dice: &mut Dice, word: &str, command: RawDocumentBuf, database: &str) -> Vec<u8> {
    let mut body = RawDocumentBuf::new();
    let at = 1 + dice.below(4);
    for (place, field) in command.iter().enumerate() {
        if place == at {
            body.append(key("$db"), database);
        }
        let (key, value) = field.unwrap();
        body.append(key, value);
    }
    if command.iter().count() <= at && dice.below(20) > 0 {
        body.append(key("$db"), database);
    }
    let mut sections = vec![[&[0], body.as_bytes()].concat()];
    let sequences = if word == "bulkWrite" { &["ops", "nsInfo"][..] } else { &["documents"] };
    for sequence in sequences {
        // What is there twice is a violation, and has no name to compare.
        if dice.below(3) > 0 || body.get(sequence).is_ok_and(|field| field.is_some()) {
            continue;
        }
        let mut section = [sequence.as_bytes(), &[0]].concat();
        for _ in 0..dice.below(3) {
            let document = rawdoc! { "_id": 1, "ns": format!("{}.{}", name(dice), name(dice)) };
            section.extend(document.as_bytes());
        }
        let len = (section.len() as i32 + 4).to_le_bytes();
        let place = dice.below(sections.len() + 1);
        sections.insert(place, [&[1], &len[..], &section].concat());
    }
    let checked = dice.below(8) == 0;
    let flags = u32::from(checked) | (u32::from(dice.below(8) == 0) << 1);
    let mut inside = flags.to_le_bytes().to_vec();
    sections.iter().for_each(|section| inside.extend(section));
    // The proxy has no use for the sum, and lets the server check it.
    inside.extend(if checked { &[7; 4][..] } else { &[] });
    message_of(OP_MSG, &inside)
}

/// A command in an OP_QUERY, wrapped or not.
fn query(dice: &mut Dice, command: RawDocumentBuf, database: &str) -> Vec<u8> {
    let document = match dice.below(3) {
        0 => rawdoc! { "$query": command, "$readPreference": { "mode": "nearest" } },
        1 => rawdoc! { "query": command },
        _ => command,
    };
    op_query(&format!("{database}.$cmd"), &document)
}

/// An OP_QUERY that is no command.
fn query_of_documents(dice: &mut Dice, database: &str) -> Vec<u8> {
    let collection = format!("{database}.{}s", name(dice));
    op_query(&collection, &dice::document(dice, 2))
}

fn op_query(namespace: &str, document: &RawDocument) -> Vec<u8> {
    let inside = [&[0; 4], namespace.as_bytes(), &[0; 5], &[255; 4], document.as_bytes()].concat();
    message_of(OP_QUERY, &inside)
}

fn compressed(plain: &[u8], compressor: u8) -> Vec<u8> {
    use std::io::Write;
    let inside = &plain[16..];
    let packed = match compressor {
        SNAPPY => snap::raw::Encoder::new().compress_vec(inside).unwrap(),
        ZLIB => {
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            zlib.write_all(inside).unwrap();
            zlib.finish().unwrap()
        }
        _ => zstd::bulk::compress(inside, 1).unwrap(),
    };
    let size = (inside.len() as u32).to_le_bytes();
    message_of(OP_COMPRESSED, &[&plain[12..16], &size, &[compressor], &packed].concat())
}

const SNAPPY: u8 = 1;
const ZLIB: u8 = 2;
const ZSTD: u8 = 3;

const OP_QUERY: i32 = 2004;
const OP_COMPRESSED: i32 = 2012;
const OP_MSG: i32 = 2013;

fn message_of(opcode: i32, inside: &[u8]) -> Vec<u8> {
    let words = [16 + inside.len() as i32, 7, 0, opcode].map(i32::to_le_bytes);
    [words.as_flattened(), inside].concat()
}

/// Changes a few bytes behind the header.
fn mutate(dice: &mut Dice, message: &mut [u8]) {
    for _ in 0..=dice.below(3) {
        let at = 16 + dice.below(message.len() - 16);
        match dice.below(3) {
            0 => message[at] ^= 1 << dice.below(8),
            1 => message[at] = dice.next() as u8,
            _ => message[at] = b'a' + dice.below(26) as u8,
        }
    }
}

/// The same question, answered with a whole parser and no regard for speed.
mod reference {
    use super::*;
    use std::io::Read;

    /// Commands as they are written and as they are reported, and where their first value leads.
    pub(super) const COMMANDS: [(&str, &str, About); 16] = [
        ("find", "find", About::Collection),
        ("insert", "insert", About::Collection),
        ("update", "update", About::Collection),
        ("delete", "delete", About::Collection),
        ("aggregate", "aggregate", About::Collection),
        ("findAndModify", "findAndModify", About::Collection),
        ("count", "count", About::Collection),
        ("ping", "ping", About::Database),
        ("hello", "hello", About::Database),
        ("dropDatabase", "dropDatabase", About::Database),
        ("saslStart", "saslStart", About::Database),
        ("renameCollection", "renameCollection", About::Namespace),
        ("getMore", "getMore", About::Cursor),
        ("explain", "explain", About::Another),
        ("bulkWrite", "bulkWrite", About::Many),
        ("noSuchCommand", "other", About::Anything),
    ];

    /// What a command is about.
    #[derive(Clone, Copy, PartialEq)]
    pub(super) enum About {
        Database,
        Collection,
        Namespace,
        Cursor,
        Another,
        Many,
        Anything,
    }

    /// What a message is called; `None` if any of it can't be parsed.
    pub(super) fn name(message: &[u8]) -> Option<(String, String)> {
        let (header, inside) = message.split_at_checked(16)?;
        match i32::from_le_bytes(*header.last_chunk()?) {
            OP_COMPRESSED => {
                let (opcode, rest) = inside.split_first_chunk()?;
                let (size, rest) = rest.split_first_chunk()?;
                let (compressor, packed) = rest.split_first()?;
                let size = u32::from_le_bytes(*size);
                let plain = inflate(*compressor, packed, u64::from(size) + 1)?;
                (plain.len() == size as usize).then_some(())?;
                of_kind(i32::from_le_bytes(*opcode), &plain)
            }
            opcode => of_kind(opcode, inside),
        }
    }

    fn inflate(compressor: u8, packed: &[u8], most: u64) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match compressor {
            SNAPPY if snap::raw::decompress_len(packed).ok()? as u64 > most => return None,
            SNAPPY => return snap::raw::Decoder::new().decompress_vec(packed).ok(),
            ZLIB => {
                let mut zlib = flate2::read::ZlibDecoder::new(packed).take(most);
                zlib.read_to_end(&mut out).ok()?
            }
            ZSTD => {
                let mut zstd = zstd::Decoder::new(packed).ok()?;
                // A mutated window may be larger than that of any level a driver uses.
                zstd.window_log_max(23).ok()?;
                zstd.take(most).read_to_end(&mut out).ok()?
            }
            _ => return None,
        };
        Some(out)
    }

    fn of_kind(opcode: i32, inside: &[u8]) -> Option<(String, String)> {
        match opcode {
            OP_MSG => sections(inside),
            OP_QUERY => {
                let (namespace, rest) = cstring(inside.get(4..)?)?;
                let (document, rest) = document(rest.get(8..)?)?;
                rest.is_empty().then_some(())?;
                let Some(database) = namespace.strip_suffix(".$cmd") else {
                    let pseudo = namespace.is_empty() || namespace.contains(".$cmd");
                    return Some((if pseudo { "other" } else { "find" }.into(), namespace.into()));
                };
                let wrapped = match document.into_iter().next() {
                    Some(Ok((key, RawBsonRef::Document(inner))))
                        if ["query", "$query"].contains(&key.as_str()) =>
                    {
                        Some(inner)
                    }
                    _ => None,
                };
                command(wrapped.unwrap_or(document), Some(database), None)
            }
            _ => None,
        }
    }

    fn sections(inside: &[u8]) -> Option<(String, String)> {
        let (flags, mut rest) = inside.split_first_chunk()?;
        if u32::from_le_bytes(*flags) & 1 == 1 {
            rest = rest.split_last_chunk::<4>()?.0;
        }
        let (mut body, mut namespaces, mut apart) = (None, None, Vec::new());
        while let Some((kind, section)) = rest.split_first() {
            match (kind, body) {
                (0, None) => {
                    let (found, after) = document(section)?;
                    (body, rest) = (Some(found), after);
                }
                (1, _) => {
                    let len = u32::from_le_bytes(*section.first_chunk()?) as usize;
                    let (sequence, after) = section.split_at_checked(len)?;
                    let (identifier, mut documents) = cstring(sequence.get(4..)?)?;
                    // Servers refuse a command that says something twice: it means nothing.
                    (!apart.contains(&identifier) && apart.len() < 3).then_some(())?;
                    apart.push(identifier);
                    if identifier == "nsInfo" {
                        namespaces.get_or_insert_with(Vec::new);
                    }
                    while !documents.is_empty() {
                        let (found, after) = document(documents)?;
                        documents = after;
                        if let (Some(namespaces), "nsInfo") = (&mut namespaces, identifier) {
                            namespaces.push(found);
                        }
                    }
                    rest = after;
                }
                _ => return None,
            }
        }
        let once = body?
            .into_iter()
            .all(|field| field.is_ok_and(|(key, _)| !apart.contains(&key.as_str())));
        once.then_some(())?;
        command(body?, None, namespaces)
    }

    /// A name: a string, or a symbol.
    fn text<'a>(value: &RawBsonRef<'a>) -> Option<&'a str> {
        match value {
            RawBsonRef::String(text) | RawBsonRef::Symbol(text) => Some(text),
            _ => None,
        }
    }

    /// The number 1, which stands for a whole database.
    fn is_one(value: &RawBsonRef<'_>) -> bool {
        match value {
            RawBsonRef::Int32(number) => *number == 1,
            RawBsonRef::Int64(number) => *number == 1,
            RawBsonRef::Double(number) => *number as i64 == 1,
            _ => false,
        }
    }

    /// The `ns` of a document that has one of them.
    fn namespace(info: &RawDocument) -> Option<&str> {
        let fields = info.into_iter().map(Result::unwrap);
        let found: Vec<_> = fields.filter(|(key, _)| key.as_str() == "ns").collect();
        let [(_, value)] = found.as_slice() else { return None };
        text(value)
    }

    fn command(
        document: &RawDocument,
        legacy: Option<&str>,
        separate: Option<Vec<&RawDocument>>,
    ) -> Option<(String, String)> {
        let mut fields = document.into_iter().map(Result::unwrap);
        let (word, first) = fields.next()?;
        let (name, mut about) = look_up(word.as_str());
        let (mut subject, mut database) = (first, legacy);
        if about == About::Another {
            let inner = || first.as_document().into_iter().flatten().map(Result::unwrap);
            let mut seen = BTreeMap::new();
            for (key, value) in inner() {
                seen.insert(key.as_str(), value).is_none().then_some(())?;
            }
            database = seen.get("$db").map(|own| text(own).unwrap_or("?")).or(database);
            if let Some((word, value)) = inner().next() {
                (about, subject) = (look_up(word.as_str()).1, value);
            }
        }
        let mut rest = BTreeMap::from([(word.as_str(), first)]);
        for (key, value) in fields {
            // Servers refuse a command that says something twice: it means nothing.
            rest.insert(key.as_str(), value).is_none().then_some(())?;
        }
        if let Some(own) = rest.get("$db").filter(|_| word.as_str() != "$db") {
            let another = database.is_some() && database != text(own);
            database = if another { Some("?") } else { text(own) };
        }
        let database = database.unwrap_or("?");
        let in_database = |name: Option<&str>| format!("{database}.{}", name.unwrap_or("?"));
        let whole = match about {
            About::Collection if is_one(&subject) => database.to_owned(),
            About::Collection => in_database(text(&subject)),
            About::Namespace => text(&subject).unwrap_or("?").to_owned(),
            About::Cursor if name == "getMore" => {
                in_database(rest.get("collection").and_then(text))
            }
            About::Cursor | About::Another => in_database(None),
            About::Many if name == "bulkWrite" => {
                let inline = rest.get("nsInfo").map(|list| {
                    let infos = list.as_array().into_iter().flatten();
                    infos.map(|info| namespace(info.ok()?.as_document()?)).collect::<Vec<_>>()
                });
                let apart = separate.map(|all| all.into_iter().map(namespace).collect());
                let all: Option<Vec<_>> =
                    inline.or(apart).unwrap_or_default().into_iter().collect();
                all.and_then(|all| all.first().copied()).unwrap_or("?").to_owned()
            }
            About::Many => "?".to_owned(),
            About::Anything => match subject {
                RawBsonRef::Int32(_)
                | RawBsonRef::Int64(_)
                | RawBsonRef::Double(_)
                | RawBsonRef::Boolean(_)
                | RawBsonRef::Null => database.to_owned(),
                _ => "?".to_owned(),
            },
            About::Database => database.to_owned(),
        };
        Some((name.into(), whole))
    }

    fn look_up(word: &str) -> (&'static str, About) {
        // The spellings that a mutation makes of these words.
        let word = match word {
            "renamecollection" => "renameCollection",
            "findandmodify" => "findAndModify",
            "dropdatabase" => "dropDatabase",
            _ => word,
        };
        let known = COMMANDS.iter().find(|known| known.0 == word);
        known.map_or(("other", About::Anything), |known| (known.1, known.2))
    }

    fn cstring(bytes: &[u8]) -> Option<(&str, &[u8])> {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some((str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
    }

    /// The document at the front, parsed to its last value, and what follows it.
    fn document(bytes: &[u8]) -> Option<(&RawDocument, &[u8])> {
        let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        let (document, rest) = bytes.split_at_checked(len)?;
        let document = RawDocument::from_bytes(document).ok()?;
        bson::Document::try_from(document).ok()?;
        Some((document, rest))
    }
}
