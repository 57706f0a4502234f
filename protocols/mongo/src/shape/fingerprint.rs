//! The key of a query's shape, made from its bytes in one pass.
//!
//! Two queries with the same text of their shape ([`super::row_text`]) have the same key, up to what is
//! left unread of very long ones. The names of fields count, and the types of literals, and what the text
//! shows of literals; values do not.

use super::{CARRIERS, literals::Literals, shaped_command, text::direction_number};
use crate::{
    element::{Element, Elements, elements, kind},
    message_view::MessageView,
};
use operation::{LONG_LIST, QueryRole, QueryShape, ShapeHasher};

/// How deep documents are read.
const MAX_DEPTH: usize = 20;

/// How many elements of a query are read.
const MAX_ELEMENTS: u32 = 512;

/// How many elements of an array are read: those after them are taken to be alike.
const MAX_ARRAY_ELEMENTS: usize = 32;

/// The shortest array that may have more than [`LONG_LIST`] elements, in bytes.
const LONG_LIST_BYTES: usize = 5 * LONG_LIST;

/// The shape of a command on a collection. `name` is its name, or `query` if the body is the filter of a
/// legacy query.
pub(crate) fn query_shape(
    name: &'static str,
    resource: &str,
    message: &MessageView<'_>,
) -> QueryShape {
    let role = match name {
        "find" | "query" => QueryRole::Lookup,
        "getMore" => QueryRole::Continuation,
        "killCursors" => QueryRole::CloseCursors,
        _ => QueryRole::Other,
    };
    let mut hash = ShapeHasher::of_names(name, resource);
    let (is_unlimited, has_long_list) = (false, false);
    let shape = QueryShape { key: Some(hash.finish()), role, is_unlimited, has_long_list };
    let mut walk = Fingerprint { left: MAX_ELEMENTS, has_long_list: false };
    // The body of a legacy query is its filter.
    if name == "query" {
        let filter = Element { kind: kind::DOCUMENT, name: b"filter", value: message.body };
        hash = ShapeHasher::of_names("find", resource);
        hash.number(walk.field("find", &filter));
        return QueryShape { key: Some(hash.finish()), ..shape };
    }
    let shaped = shaped_command(name, message.body).filter(|(name, _)| !CARRIERS.contains(name));
    let Some((command, body)) = shaped else { return shape };
    // Fields count in any order.
    let (mut fields, mut is_limited) = (0_u64, false);
    for field in elements(body) {
        match field.name {
            // Nearly every command has these, and they are no part of a shape.
            b"lsid" | b"$db" | b"$clusterTime" => {}
            b"limit" => is_limited |= field.number() != Some(0),
            b"singleBatch" => is_limited |= field.truthy(),
            _ => fields = fields.wrapping_add(walk.field(command, &field)),
        }
    }
    if message.has_sequences {
        for sequence in ["updates", "deletes"] {
            let Some(documents) = message.sequence(sequence.as_bytes()) else { continue };
            let statement = Element { kind: kind::DOCUMENT, name: b"", value: documents };
            fields = fields.wrapping_add(walk.statement(sequence.as_bytes(), &statement));
        }
    }
    hash.number(fields);
    QueryShape {
        key: Some(hash.finish()),
        is_unlimited: name == "find" && !is_limited,
        has_long_list: walk.has_long_list,
        ..shape
    }
}

/// A pass over a query.
struct Fingerprint {
    /// How many elements may still be read.
    left: u32,
    /// An array with more than [`LONG_LIST`] elements was seen.
    has_long_list: bool,
}

impl Fingerprint {
    /// The hash of a field of a command; 0 if the field is no part of the shape.
    fn field(&mut self, command: &str, field: &Element<'_>) -> u64 {
        let literals = match field.name {
            b"filter" | b"query" => Literals::Types,
            b"sort" | b"projection" | b"fields" => Literals::Directions,
            b"pipeline" => Literals::Expression,
            b"updates" | b"deletes" if field.kind == kind::ARRAY => {
                let first = elements(field.value).next();
                return first.map_or(0, |first| self.statement(field.name, &first));
            }
            b"update" if command != "update" => Literals::Types.of_field(field),
            b"remove" | b"arrayFilters" => Literals::Types,
            b"key" if command == "distinct" => Literals::Names,
            b"out" if matches!(command, "mapReduce" | "mapreduce") => Literals::Names,
            _ => return 0,
        };
        let mut hash = ShapeHasher::new();
        self.element(field, literals, 0, &mut hash);
        hash.value()
    }

    /// The hash of the first statement of an `update` or `delete`, which stands for all of them.
    fn statement(&mut self, name: &[u8], statement: &Element<'_>) -> u64 {
        let mut hash = ShapeHasher::new();
        let statement = Element { name, ..*statement };
        self.element(&statement, Literals::Statement, 0, &mut hash);
        hash.value()
    }

    /// Adds the name of an element, its type, and what is shown of its value.
    fn element(
        &mut self,
        element: &Element<'_>,
        literals: Literals,
        depth: usize,
        hash: &mut ShapeHasher,
    ) {
        hash.tagged(element.name, class(element.kind));
        match element.kind {
            kind::DOCUMENT if depth < MAX_DEPTH && literals == Literals::Types => {
                self.filter(element.value, depth + 1, hash);
            }
            kind::DOCUMENT if depth < MAX_DEPTH => {
                self.document(elements(element.value), literals, depth + 1, hash);
            }
            kind::ARRAY if depth < MAX_DEPTH => {
                self.has_long_list |= is_long_list(element.value);
                self.array(element.value, literals, depth + 1, hash);
            }
            _ if matches!(literals, Literals::Types | Literals::Statement) => {}
            _ => shown_literal(element, literals, hash),
        }
    }

    /// The same as [`document`](Self::document) where only types are shown, as nearly everywhere in a filter.
    fn filter(&mut self, filter: &[u8], depth: usize, hash: &mut ShapeHasher) {
        for element in elements(filter) {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            match (element.name, element.kind) {
                (b"$expr" | b"$rename", _) | (_, kind::ARRAY) => {
                    self.element(&element, Literals::Types.under(&element), depth, hash);
                }
                (name, kind::DOCUMENT) if depth < MAX_DEPTH => {
                    hash.tagged(name, kind::DOCUMENT);
                    self.filter(element.value, depth + 1, hash);
                }
                (name, kind) => hash.tagged(name, class(kind)),
            }
        }
        hash.number(u64::MAX);
    }

    fn document(
        &mut self,
        document: Elements<'_>,
        literals: Literals,
        depth: usize,
        hash: &mut ShapeHasher,
    ) {
        for element in document {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            self.element(&element, literals.under(&element), depth, hash);
        }
        hash.number(u64::MAX);
    }

    /// Equal neighbours count once, as in the text.
    fn array(&mut self, array: &[u8], literals: Literals, depth: usize, hash: &mut ShapeHasher) {
        let mut last = None;
        for element in elements(array).take(MAX_ARRAY_ELEMENTS) {
            let mut own = ShapeHasher::new();
            self.element(&Element { name: b"", ..element }, literals, depth, &mut own);
            if last != Some(own) {
                hash.number(own.value());
                last = Some(own);
            }
        }
        hash.number(u64::MAX);
    }
}

fn is_long_list(array: &[u8]) -> bool {
    array.len() >= LONG_LIST_BYTES && elements(array).nth(LONG_LIST).is_some()
}

/// The number of a type. Drivers choose the type of a number by its value, so all of them have one.
#[inline]
fn class(kind: u8) -> u8 {
    match kind {
        kind::INT32 | kind::INT64 | kind::DECIMAL => kind::DOUBLE,
        kind::UNDEFINED => kind::NULL,
        kind::SCOPED_CODE => kind::CODE,
        other => other,
    }
}

/// Adds what the text shows of a literal besides its type.
fn shown_literal(element: &Element<'_>, literals: Literals, hash: &mut ShapeHasher) {
    match element.text() {
        Some(text) if literals.shows(text) => hash.bytes(text.as_bytes()),
        None if literals == Literals::Directions && element.kind == kind::BOOLEAN => {
            hash.number(u64::from(element.truthy()));
        }
        None if literals == Literals::Directions => {
            let number = direction_number(element);
            hash.number(number.map_or(0, |number| (i64::from(number) + 2) as u64));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
