//! Ways to write a command down: plain as drivers do, or as an attacker would to hide what it is
//! about.

use super::{
    commands::{Command, one, swapped},
    support::wire::{self, Compressor},
    value::{Fields, Value, document, fields},
};
use fastrand::Rng;

/// A message, and whether it wants no answer.
#[derive(Clone, Debug)]
pub(crate) struct Spelled {
    pub(crate) bytes: Vec<u8>,
    pub(crate) silent: bool,
}

/// The fields that may travel as sequences.
const APART: [&str; 7] =
    ["documents", "updates", "deletes", "ops", "nsInfo", "pipeline", "applyOps"];

/// A length of padding, in bytes: mostly short, often about where a proxy stops to read.
fn length(rng: &mut Rng) -> usize {
    match rng.u16(..400) {
        0 => 5_000_000,
        1..30 => rng.usize(100_000..300_000),
        30..110 => rng.usize(63_000..68_000),
        110..180 => rng.usize(900..5_000),
        _ => rng.usize(..200),
    }
}

fn padding(rng: &mut Rng) -> Value {
    let length = length(rng);
    match rng.u8(..4) {
        // What no compressor makes shorter.
        0 => Value::Bytes(std::iter::repeat_with(|| rng.u8(..)).take(length).collect()),
        1 if length < 70_000 => vec![Value::Int(1); length / 8].into(),
        2 => [("a", "y".repeat(length).into())].into(),
        _ => "y".repeat(length).into(),
    }
}

/// As drivers write it: the command, what belongs to it, `$db` and the session, perhaps long,
/// perhaps with its documents apart, perhaps compressed.
pub(crate) fn plainly(rng: &mut Rng, id: i32, command: &Command) -> Spelled {
    let mut fields = command.fields.clone();
    let long = fields.iter_mut().find_map(|(name, value)| match value {
        Value::Document(inner) if matches!(name.as_str(), "filter" | "query") => Some(inner),
        _ => None,
    });
    if let Some(filter) = long {
        filter.push(("long".into(), padding(rng)));
    }
    let session = ("lsid".to_owned(), Value::from([("id", Value::Uuid)]));
    let database = ("$db".to_owned(), command.database.clone());
    let last = [[session.clone(), database.clone()], [database, session]];
    fields.extend(one(rng, &last));
    let mut sections = Vec::new();
    if rng.bool() {
        let at = fields.iter().position(|(name, _)| APART[..5].contains(&name.as_str()));
        if let Some(at) = at
            && let (name, Value::Array(rows)) = fields.remove(at)
        {
            sections.push(sequence(&name, &rows));
        }
    }
    sections.insert(rng.usize(..=sections.len()), wire::section(0, &document(&fields)));
    let mut bytes = wire::op_msg_of(id, 0, 0, &sections);
    if rng.u8(..5) == 0 {
        bytes = wire::checksummed(bytes);
    }
    if rng.bool() {
        bytes = compressed(rng, &bytes);
    }
    Spelled { bytes, silent: false }
}

/// In a way that tries to hide what it is about, without success.
pub(crate) fn wildly(rng: &mut Rng, id: i32, command: &Command) -> Spelled {
    let mut command = command.clone();
    other_types(rng, &mut command);
    if rng.u8(..10) == 0 {
        explained(rng, &mut command);
    }
    let mut body = command.fields.clone();
    let at = rng.usize(1..=body.len());
    body.insert(at, ("$db".into(), command.database.clone()));
    for _ in 0..rng.usize(..3) {
        let value = padding(rng);
        insert(rng, &mut body, value, 1);
    }
    if rng.u8(..3) == 0 {
        decoy(rng, &mut body, 0);
    }
    if rng.u8(..3) == 0 {
        rng.shuffle(&mut body[1..]);
    }
    let spelled = match rng.u8(..20) {
        0..15 => message(rng, id, body),
        15 => old(rng, id, &command).unwrap_or_else(|| query(rng, id, &command, body)),
        _ => query(rng, id, &command, body),
    };
    let bytes = match rng.u8(..3) {
        0 => compressed(rng, &spelled.bytes),
        _ => spelled.bytes,
    };
    Spelled { bytes, ..spelled }
}

/// Names by symbols, and collections by their UUID.
fn other_types(rng: &mut Rng, command: &mut Command) {
    let symbol = |value: &mut Value| {
        if let Value::Text(text) = value {
            *value = Value::Symbol(std::mem::take(text));
        }
    };
    if let Some((_, first)) = command.fields.first_mut() {
        match (rng.u8(..8), &first) {
            (0, _) => symbol(first),
            (1, Value::Text(_)) => *first = Value::Uuid,
            _ => {}
        }
    }
    if rng.u8(..10) == 0 {
        symbol(&mut command.database);
    }
}

fn explained(rng: &mut Rng, command: &mut Command) {
    let mut inner = std::mem::take(&mut command.fields);
    if rng.u8(..3) == 0 {
        // The database inside may be another than that outside.
        let at = rng.usize(1..=inner.len());
        inner.insert(at, ("$db".into(), command.database.clone()));
        if let (Value::Text(name), true) = (&command.database, rng.bool()) {
            command.database = swapped(name).into();
        }
    }
    command.fields = fields([("explain", Value::Document(inner)), ("verbosity", "x".into())]);
}

/// Puts a field with this value somewhere, but not before what names the command.
fn insert(rng: &mut Rng, fields: &mut Fields, value: Value, first: usize) {
    let inner: Vec<usize> = (0..fields.len())
        .filter(|at| matches!(&fields[*at].1, Value::Document(inner) if !inner.is_empty()))
        .collect();
    if !inner.is_empty() && rng.bool() {
        let at = one(rng, &inner);
        // The first field of what is explained names it.
        let first = usize::from(fields[at].0 == "explain");
        if let Value::Document(inner) = &mut fields[at].1 {
            return insert(rng, inner, value, first);
        }
    }
    let at = rng.usize(first..=fields.len());
    let name = one(rng, &["let", "hint", "sort", "a", "x", "readConcern"]);
    fields.insert(at, (format!("{name}{}", rng.u16(..)), value));
}

/// Puts a field there twice, with another value, near or far, on the surface or further in.
fn decoy(rng: &mut Rng, fields: &mut Fields, depth: usize) {
    let deeper: Vec<usize> = (0..fields.len())
        .filter(|at| matches!(fields[*at].1, Value::Document(_) | Value::Array(_)))
        .collect();
    if !deeper.is_empty() && depth < 6 && rng.bool() {
        let at = one(rng, &deeper);
        let mut value = &mut fields[at].1;
        while let Value::Array(all) = value {
            if all.is_empty() {
                return;
            }
            let at = rng.usize(..all.len());
            value = &mut all[at];
        }
        if let Value::Document(inner) = value
            && !inner.is_empty()
        {
            return decoy(rng, inner, depth + 1);
        }
    }
    let at = rng.usize(..fields.len());
    let (name, value) = fields[at].clone();
    let another = (name, other(&value));
    let place = match rng.u8(..4) {
        0 => at,
        1 => at + 1,
        2 => fields.len(),
        _ => rng.usize(at..=fields.len()),
    };
    fields.insert(place, another);
}

/// A value like this one, about something else.
fn other(value: &Value) -> Value {
    value.renamed(&swapped)
}

fn sequence(name: &str, rows: &[Value]) -> Vec<u8> {
    let documents = rows.iter().filter_map(|row| match row {
        Value::Document(fields) => Some(document(fields)),
        _ => None,
    });
    wire::sequence_of(name, documents)
}

/// An `OP_MSG` with sections of all kinds, in any order.
fn message(rng: &mut Rng, id: i32, mut body: Fields) -> Spelled {
    let mut sections = Vec::new();
    for name in APART {
        // Not what names the command: without it there is none.
        let place = body.iter().skip(1).position(|(field, _)| field == name);
        if let Some(at) = place.filter(|_| rng.bool())
            && let Value::Array(rows) = body[at + 1].1.clone()
        {
            // In its place, beside it, or twice.
            if rng.u8(..6) > 0 {
                body.remove(at + 1);
            }
            sections.push(sequence(name, &rows));
            if rng.u8(..8) == 0 {
                sections.push(sequence(name, &rows.iter().map(other).collect::<Vec<_>>()));
            }
        }
    }
    let whole = wire::section(0, &document(&body));
    sections.push(whole);
    if rng.u8(..6) == 0 {
        let name = one(rng, &["documents", "zzz", "drop", "x", "comment"]);
        sections.push(sequence(name, &[[("x", padding(rng))].into()]));
    }
    if rng.u8(..10) == 0 {
        let decoy: Fields = body.iter().map(|(name, it)| (name.clone(), other(it))).collect();
        let plain = fields([("find", "orders".into()), ("$db", "shop".into())]);
        sections.push(wire::section(0, &document(&one(rng, &[decoy, plain]))));
    }
    if rng.u8(..10) == 0 {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let telemetry = fields([("otel", [("traceparent", parent.into())].into())]);
        sections.push(wire::section(3, &document(&telemetry)));
    }
    rng.shuffle(&mut sections);
    let mut flags = if rng.u8(..10) == 0 { wire::MORE_TO_COME } else { 0 };
    let silent = flags != 0;
    if rng.u8(..10) == 0 {
        flags |= wire::EXHAUST_ALLOWED;
    }
    let mut bytes = wire::op_msg_of(id, 0, flags, &sections);
    if rng.u8(..10) == 0 {
        bytes = wire::checksummed(bytes);
    }
    Spelled { bytes, silent }
}

/// An `OP_QUERY` that asks for the command, with or without something around it.
fn query(rng: &mut Rng, id: i32, command: &Command, mut body: Fields) -> Spelled {
    // There the namespace has the database.
    let database = match &command.database {
        Value::Text(name) | Value::Symbol(name) => name.clone(),
        _ => String::new(),
    };
    if rng.u8(..8) > 0 {
        body.retain(|(name, _)| name != "$db");
    }
    let outer = match rng.u8(..4) {
        0 | 1 => body,
        2 => {
            let mut outer = fields([("$query", Value::Document(body))]);
            for name in ["$readPreference", "$comment", "$orderby"] {
                if rng.u8(..4) == 0 {
                    let value = match name {
                        "$comment" => one(rng, &["bad one", "good one"]).into(),
                        _ => [("mode", padding(rng))].into(),
                    };
                    outer.insert(rng.usize(..=outer.len()), (name.into(), value));
                }
            }
            outer
        }
        _ => fields([("query", Value::Document(body)), ("orderby", [("a", 1.into())].into())]),
    };
    let mut inside = vec![0; 4];
    inside.extend(format!("{database}.$cmd\0").as_bytes());
    inside.extend([0_i32.to_le_bytes(), (-1_i32).to_le_bytes()].concat());
    inside.extend(document(&outer));
    Spelled { bytes: wire::message(id, 0, wire::OP_QUERY, &inside), silent: false }
}

/// The opcode that was this command before `OP_MSG`; `None` if there was none.
fn old(rng: &mut Rng, id: i32, command: &Command) -> Option<Spelled> {
    let (word, first) = command.fields.first()?;
    let (Value::Text(collection), Value::Text(database)) = (first, &command.database) else {
        return None;
    };
    let name = format!("{database}.{collection}\0").into_bytes();
    let padded = document(&fields([("x", padding(rng))]));
    let (opcode, rest, silent) = match word.as_str() {
        "insert" => (2002, padded, true),
        "update" => (2001, [&[0; 4][..], &padded, &padded].concat(), true),
        "delete" => (2006, [&[0; 4][..], &padded].concat(), true),
        "find" => (2004, [&[0; 8][..], &padded].concat(), false),
        _ => {
            // `OP_COMMAND` of MongoDB 3.2: database, command, metadata, arguments.
            let front = format!("{database}\0{word}\0").into_bytes();
            let body = document(&command.fields);
            let whole = [front, body, document(&Vec::new())].concat();
            return Some(Spelled { bytes: wire::message(id, 0, 2010, &whole), silent: false });
        }
    };
    let whole = [&[0; 4][..], &name, &rest].concat();
    Some(Spelled { bytes: wire::message(id, 0, opcode, &whole), silent })
}

/// The same message inside of an `OP_COMPRESSED`, by any compressor.
fn compressed(rng: &mut Rng, whole: &[u8]) -> Vec<u8> {
    let size = whole.len() as i32 - 16;
    match rng.u8(..4) {
        0 => wire::packed(whole, 0, size, &whole[16..]),
        1 => wire::compressed(whole, Compressor::Snappy),
        2 => wire::compressed(whole, Compressor::Zlib),
        _ => wire::packed(whole, 3, size, &stored(&whole[16..])),
    }
}

/// A frame of zstd whose blocks are stored, which the reference server can read by itself
/// (RFC 8878, 3.1.1).
fn stored(bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 100_000;
    // A window of 128 KiB, as the proxy takes none over 8 MiB, and the size in four bytes.
    let mut out = vec![0x28, 0xB5, 0x2F, 0xFD, 0x80, 0x38];
    out.extend((bytes.len() as u32).to_le_bytes());
    let blocks = bytes.chunks(BLOCK).count();
    for (at, block) in bytes.chunks(BLOCK).enumerate() {
        let last = u32::from(at + 1 == blocks);
        out.extend(&(last | (block.len() as u32) << 3).to_le_bytes()[..3]);
        out.extend(block);
    }
    out
}
