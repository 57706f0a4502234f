//! Whether a sharded cluster can send a query to one shard, to some, or must send it to all.

use super::field;
use crate::{
    element::{Element, elements, is_complete, kind},
    message_view::document,
};

/// How deep `$and` is followed.
const MAX_DEPTH: usize = 20;

const TARGETED: &str = "targeted";
const MULTI_GET: &str = "multi_get";
const SCATTER_GET: &str = "scatter_get";

/// How a command finds its documents, by its condition on the first field of the shard `key` (`_id`
/// if `None`): `targeted` for one value, `multi_get` for a list of values, `scatter_get` for
/// anything else.
///
/// `statements` are those of an `update` or `delete` that sends them as a sequence.
///
/// `None` for commands that find no documents, and if the body is truncated too early.
pub(crate) fn read_shape(
    name: &str,
    body: &[u8],
    statements: Option<&[u8]>,
    key: Option<&[String]>,
) -> Option<&'static str> {
    let field = key.and_then(<[String]>::first).map_or("_id", String::as_str);
    let filter = match name {
        "find" => optional(body, "filter")?,
        "count" | "distinct" | "findAndModify" | "findandmodify" => optional(body, "query")?,
        "aggregate" => first_match(body)?,
        "update" => Some(statement(body, "updates", statements)?),
        "delete" => Some(statement(body, "deletes", statements)?),
        _ => return None,
    };
    let Some(filter) = filter else { return Some(SCATTER_GET) };
    match key_match(filter, field.as_bytes(), 0) {
        Some(KeyMatch::OneValue) => Some(TARGETED),
        Some(KeyMatch::SomeValues) => Some(MULTI_GET),
        None => is_complete(filter).then_some(SCATTER_GET),
    }
}

/// A filter's condition on a field. The more exact, the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum KeyMatch {
    SomeValues,
    OneValue,
}

fn key_match(filter: &[u8], field: &[u8], depth: usize) -> Option<KeyMatch> {
    let of = |element: Element<'_>| match element.name {
        name if name == field => predicate(&element),
        b"$and" if element.kind == kind::ARRAY && depth < MAX_DEPTH => elements(element.value)
            .filter(|branch| branch.kind == kind::DOCUMENT)
            .filter_map(|branch| key_match(branch.value, field, depth + 1))
            .max(),
        _ => None,
    };
    elements(filter).filter_map(of).max()
}

/// The condition in `{field: …}`.
fn predicate(element: &Element<'_>) -> Option<KeyMatch> {
    match element.kind {
        kind::REGEX => None,
        kind::DOCUMENT => {
            let mut operators = elements(element.value).peekable();
            // A document without operators is a value to compare with.
            if operators.peek().is_none_or(|first| !first.name.starts_with(b"$")) {
                return is_complete(element.value).then_some(KeyMatch::OneValue);
            }
            let of = |operator: Element<'_>| match operator.name {
                b"$eq" => Some(KeyMatch::OneValue),
                b"$in" => Some(KeyMatch::SomeValues),
                _ => None,
            };
            operators.filter_map(of).max()
        }
        _ => Some(KeyMatch::OneValue),
    }
}

/// An optional filter; `None` if the body is truncated before it could be found.
fn optional<'a>(body: &'a [u8], name: &str) -> Option<Option<&'a [u8]>> {
    match field(body, name) {
        Some(filter) => Some((filter.kind == kind::DOCUMENT).then_some(filter.value)),
        None => is_complete(body).then_some(None),
    }
}

/// The filter of the first statement of a command, in its body or in its sequence.
fn statement<'a>(body: &'a [u8], name: &str, apart: Option<&'a [u8]>) -> Option<&'a [u8]> {
    let first = match apart {
        Some(statements) => document(statements)?,
        None => {
            let within = field(body, name).filter(|within| within.kind == kind::ARRAY)?;
            elements(within.value).next().filter(|first| first.kind == kind::DOCUMENT)?.value
        }
    };
    let filter = field(first, "q").filter(|filter| filter.kind == kind::DOCUMENT)?;
    Some(filter.value)
}

/// The filter of the pipeline's `$match`, if only `$sort` precedes it.
fn first_match(body: &[u8]) -> Option<Option<&[u8]>> {
    // `aggregate: 1` reads no collection.
    elements(body).next().filter(|first| first.kind == kind::STRING)?;
    let Some(pipeline) = field(body, "pipeline") else { return is_complete(body).then_some(None) };
    let mut stages = elements(pipeline.value).filter_map(|stage| elements(stage.value).next());
    match stages.find(|stage| stage.name != b"$sort") {
        Some(stage) => match stage.name {
            b"$match" => Some((stage.kind == kind::DOCUMENT).then_some(stage.value)),
            b"$changeStream" | b"$collStats" | b"$indexStats" | b"$planCacheStats" => None,
            _ => Some(None),
        },
        None => is_complete(pipeline.value).then_some(None),
    }
}

#[cfg(test)]
mod tests;
