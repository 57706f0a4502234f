//! The shape of a query, for logs and for grouping: its keys, with or without its values.
//!
//! A shape without values is similar to the server's own `$queryStats`:
//! `{"filter":{"status":"?string","age":{"$gt":"?number"}}}`. The same code makes the same shape,
//! so a hash of the shape and of the collection identifies a query. Bodies may be truncated
//! anywhere; an incomplete shape ends with `…`.

mod fingerprint;
mod literals;
mod reads;
mod text;

pub(crate) use fingerprint::query_shape;
pub(crate) use reads::read_shape;

use crate::bson_writer::BsonWriter;
use crate::element::{Element, elements, is_complete, kind};
use crate::message_view::MessageView;
use literals::Literals;
use std::borrow::Cow;
use text::BoundedText;

/// The longest text that [`query`] writes, in bytes.
const MAX_QUERY_TEXT: usize = 1024;
/// How many bytes of a shape are hashed.
const MAX_HASHED_SHAPE: usize = 16 * 1024;
/// How many statements [`with_sequence`] inserts.
const MAX_STATEMENTS: usize = 16;

/// The commands that have a shape. No sensitive command is among them.
const SHAPED: [&str; 12] = [
    "aggregate",
    "bulkWrite",
    "count",
    "delete",
    "distinct",
    "find",
    "findAndModify",
    "findandmodify",
    "insert",
    "mapReduce",
    "mapreduce",
    "update",
];

/// The commands whose documents, of which each may have other fields, are their only query.
const CARRIERS: [&str; 2] = ["insert", "bulkWrite"];

/// The fields of a command's shape, in the order in which they are written.
const FIELDS: [&str; 16] = [
    "key",
    "filter",
    "query",
    "pipeline",
    "sort",
    "projection",
    "fields",
    "update",
    "remove",
    "updates",
    "deletes",
    "documents",
    "ops",
    "nsInfo",
    "arrayFilters",
    "out",
];

/// Appends the query of a command, as compact JSON of at most 1,024 bytes.
///
/// Literals are replaced with the names of their types, except names and paths, unless `values` is
/// set. Strings are cut after 64 characters. Nothing is written for commands without a query, such
/// as those that carry credentials.
pub(crate) fn query(name: &str, body: &[u8], values: bool, out: &mut String) {
    let literals = if values { Literals::Values } else { Literals::Types };
    if let Some((name, body)) = shaped_command(name, body) {
        write(name, body, literals, &mut BoundedText::new(out, MAX_QUERY_TEXT));
    }
}

/// The text of the row that commands of this shape are counted in: without values, and without the
/// documents that a command carries. Of several statements only the first is written.
pub(crate) fn row_text(name: &str, message: &MessageView<'_>, out: &mut String) {
    let mut text = BoundedText::new(out, MAX_QUERY_TEXT);
    if name == "query" {
        // The body of a legacy query is its filter.
        let filter = Element { kind: kind::DOCUMENT, name: b"filter", value: message.body };
        text.push("{");
        text.key(filter.name);
        text.value(&filter, Literals::Types, 0);
        return text.push("}");
    }
    let statements = ["updates", "deletes"]
        .into_iter()
        .find_map(|sequence| Some((sequence, message.sequence(sequence.as_bytes())?)));
    let body = statements.map_or(Cow::Borrowed(message.body), |(sequence, documents)| {
        Cow::Owned(with_statements(message.body, sequence, documents, 1))
    });
    if let Some((name, body)) = shaped_command(name, &body).filter(|_| !CARRIERS.contains(&name)) {
        write(name, body, Literals::Types, &mut text);
    }
}

/// A hash of the query of a command on a collection: the same for the same shape, on every machine
/// and in every release. FNV-1a of the command's name, `database.collection`, and its shape without
/// values.
pub(crate) fn hash(name: &str, resource: &str, body: &[u8]) -> u64 {
    let mut shape = String::new();
    let mut name = name;
    if let Some((inner, body)) = shaped_command(name, body) {
        name = inner;
        write(name, body, Literals::Types, &mut BoundedText::new(&mut shape, MAX_HASHED_SHAPE));
    }
    let bytes = name.bytes().chain([0]).chain(resource.bytes()).chain([0]).chain(shape.bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// The body with the documents of its sequence (`updates`, `deletes`, …) inserted as an array: at
/// most the first 16 complete ones. Drivers send these as sequences, and the functions here read
/// bodies.
pub(crate) fn with_sequence(body: &[u8], identifier: &str, documents: &[u8]) -> Vec<u8> {
    with_statements(body, identifier, documents, MAX_STATEMENTS)
}

/// The same with at most the first `most` documents.
fn with_statements(body: &[u8], identifier: &str, documents: &[u8], most: usize) -> Vec<u8> {
    if !is_complete(body) {
        return body.to_vec();
    }
    let mut out = BsonWriter::new();
    elements(body).for_each(|element| out.element(element.kind, element.name, element.value));
    let mut statements = BsonWriter::new();
    let mut rest = documents;
    for index in 0..most {
        let len = rest.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
        let Some((document, after)) = rest.split_at_checked(len).filter(|_| len >= 5) else {
            break;
        };
        statements.element(kind::DOCUMENT, index.to_string().as_bytes(), document);
        rest = after;
    }
    out.array(identifier, statements);
    out.finish()
}

/// The command whose shape is written: for `explain` the one inside it.
fn shaped_command<'a>(name: &'a str, body: &'a [u8]) -> Option<(&'a str, &'a [u8])> {
    let (name, body) = if name == "explain" {
        let inner = elements(body).next().filter(|inner| inner.kind == kind::DOCUMENT)?;
        let command = elements(inner.value).next()?;
        (std::str::from_utf8(command.name).ok()?, inner.value)
    } else {
        (name, body)
    };
    SHAPED.contains(&name).then_some((name, body))
}

fn write(name: &str, body: &[u8], literals: Literals, text: &mut BoundedText<'_>) {
    text.push("{");
    let mut separator = "";
    for key in FIELDS {
        let Some(element) = field(body, key) else { continue };
        let literals = match key {
            // The name of a field, not a value.
            "key" if name == "distinct" => Literals::Values,
            "key" => continue,
            // The collection.
            "update" if name == "update" => continue,
            "out" if !matches!(name, "mapReduce" | "mapreduce") => continue,
            _ => literals.of_field(&element),
        };
        text.push(separator);
        text.key(element.name);
        text.value(&element, literals, 0);
        separator = ",";
    }
    if is_complete(body) { text.push("}") } else { text.cut() }
}

fn field<'a>(document: &'a [u8], name: &str) -> Option<Element<'a>> {
    elements(document).find(|element| element.name == name.as_bytes())
}

#[cfg(test)]
mod tests;
