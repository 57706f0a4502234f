//! What a query looks like, for logs and for grouping: its keys, with or without its values.
//!
//! Without values it is a shape such as the server's own `$queryStats` shows:
//! `{"filter":{"status":"?string","age":{"$gt":"?number"}}}`. Equal code makes equal shapes, so a
//! hash of the shape, and of the collection, names a query. Command bodies may be cut anywhere; a shape that is not all
//! there ends with `…`.

mod literals;
mod reads;
mod text;

pub(crate) use reads::read_shape;

use crate::bson_writer::BsonWriter;
use crate::element::{Element, elements, is_complete, kind};
use literals::Literals;
use text::BoundedText;

/// The most bytes that [`query`] writes.
const MAX_QUERY_TEXT: usize = 1024;
/// The most bytes of a shape that its hash is taken of.
const MAX_HASHED_SHAPE: usize = 16 * 1024;
/// The most statements that [`inline`] takes over.
const MAX_STATEMENTS: usize = 16;

/// The commands that have a shape. No command that carries secrets is among them.
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

/// The fields that make a command's shape, in the order in which they are written.
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
/// Literals become the names of their types, but for names and paths, unless `values` asks for
/// themselves; strings are cut after 64 characters. Nothing is written for commands that have no query, such as
/// those that carry credentials.
pub(crate) fn query(name: &str, body: &[u8], values: bool, out: &mut String) {
    let literals = if values { Literals::Values } else { Literals::Types };
    if let Some((name, body)) = shaped_command(name, body) {
        write(name, body, literals, &mut BoundedText::new(out, MAX_QUERY_TEXT));
    }
}

/// A name for the query of a command on a collection: the same for the same shape, on every machine
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

/// The body as it would be if the documents of its sequence (`updates`, `deletes`, …) were in it
/// as an array; at most the first 16 of those that are whole. Drivers send them apart, and the
/// functions here read bodies.
pub(crate) fn with_sequence(body: &[u8], identifier: &str, documents: &[u8]) -> Vec<u8> {
    if !is_complete(body) {
        return body.to_vec();
    }
    let mut out = BsonWriter::new();
    elements(body).for_each(|element| out.element(element.kind, element.name, element.value));
    let mut statements = BsonWriter::new();
    let mut rest = documents;
    for index in 0..MAX_STATEMENTS {
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

/// The command whose shape is asked for: that inside, for `explain`.
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
            // Here the name of a field, not the value of one.
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
