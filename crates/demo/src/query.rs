//! Filters, sort keys and projections.

#[cfg(test)]
mod tests;

use super::{
    command_error::CommandError,
    value::{OrderedValue, compare, same_bracket, truthy, values_at},
};
use bson::{Bson, Document};
use std::cmp::Ordering;

/// Whether `document` matches `filter`. Fails on unknown operators.
pub fn matches(filter: &Document, document: &Document) -> Result<bool, CommandError> {
    for (key, condition) in filter {
        let holds = match key.as_str() {
            "$and" => every(condition, document)?,
            "$or" => any(condition, document)?,
            "$nor" => !any(condition, document)?,
            // The delay of `$where` is over when documents are compared.
            "$comment" | "$where" => true,
            _ if key.starts_with('$') => {
                return Err(CommandError::bad_value(format!("unknown top level operator: {key}")));
            }
            _ => holds(condition, &values_at(document, key))?,
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn clauses(condition: &Bson) -> Result<Vec<&Document>, CommandError> {
    let wrong = || CommandError::bad_value("$and/$or/$nor must be a nonempty array of objects");
    let clauses = condition.as_array().filter(|clauses| !clauses.is_empty()).ok_or_else(wrong)?;
    clauses.iter().map(|clause| clause.as_document().ok_or_else(wrong)).collect()
}

fn every(condition: &Bson, document: &Document) -> Result<bool, CommandError> {
    for clause in clauses(condition)? {
        if !matches(clause, document)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn any(condition: &Bson, document: &Document) -> Result<bool, CommandError> {
    for clause in clauses(condition)? {
        if matches(clause, document)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The operators of a condition such as `{$gt: 1}`; `None` if it is a value to equal.
fn operators(condition: &Bson) -> Option<&Document> {
    condition.as_document().filter(|doc| doc.keys().next().is_some_and(|key| key.starts_with('$')))
}

/// The value that a condition requires exactly, as `x` and `{$eq: x}` do.
pub(crate) fn demanded(condition: &Bson) -> Option<&Bson> {
    match operators(condition) {
        None => Some(condition),
        Some(operators) if operators.len() == 1 => operators.get("$eq"),
        Some(_) => None,
    }
}

fn holds(condition: &Bson, found: &[&Bson]) -> Result<bool, CommandError> {
    let Some(operators) = operators(condition) else {
        return match condition {
            Bson::RegularExpression(_) => Err(CommandError::bad_value("unknown operator: $regex")),
            _ => Ok(equals_any(found, condition)),
        };
    };
    for (operator, operand) in operators {
        if !operator_holds(operator, operand, found)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn operator_holds(operator: &str, operand: &Bson, found: &[&Bson]) -> Result<bool, CommandError> {
    Ok(match operator {
        "$eq" => equals_any(found, operand),
        "$ne" => !equals_any(found, operand),
        "$gt" => ordered(found, operand, Ordering::is_gt),
        "$gte" => ordered(found, operand, Ordering::is_ge),
        "$lt" => ordered(found, operand, Ordering::is_lt),
        "$lte" => ordered(found, operand, Ordering::is_le),
        "$in" => list(operator, operand)?.iter().any(|wanted| equals_any(found, wanted)),
        "$nin" => !list(operator, operand)?.iter().any(|wanted| equals_any(found, wanted)),
        "$all" => list(operator, operand)?.iter().all(|wanted| equals_any(found, wanted)),
        "$exists" => found.is_empty() != truthy(operand),
        "$not" => !holds(operand, found)?,
        _ => return Err(CommandError::bad_value(format!("unknown operator: {operator}"))),
    })
}

fn list<'a>(operator: &str, operand: &'a Bson) -> Result<&'a Vec<Bson>, CommandError> {
    operand.as_array().ok_or_else(|| CommandError::bad_value(format!("{operator} needs an array")))
}

/// A field equals a value if it is that value, or an array that holds it; no field equals null.
fn equals_any(found: &[&Bson], wanted: &Bson) -> bool {
    (found.is_empty() && *wanted == Bson::Null)
        || with_elements(found).any(|value| compare(value, wanted).is_eq())
}

/// Only values of the same type are ordered: no number is less than any text.
fn ordered(found: &[&Bson], bound: &Bson, holds: fn(Ordering) -> bool) -> bool {
    with_elements(found).any(|value| same_bracket(value, bound) && holds(compare(value, bound)))
}

fn with_elements<'a>(found: &'a [&'a Bson]) -> impl Iterator<Item = &'a Bson> {
    found.iter().flat_map(|value| {
        let elements = value.as_array().map(Vec::as_slice).unwrap_or_default();
        std::iter::once(*value).chain(elements)
    })
}

/// Sorts by `{field: 1 or -1, …}`; documents that compare equal keep their order.
pub fn sort<T>(
    documents: &mut [T],
    spec: &Document,
    document_of: impl Fn(&T) -> &Document,
) -> Result<(), CommandError> {
    let mut fields = Vec::new();
    for (field, direction) in spec {
        let descending = match direction {
            Bson::Int32(1) | Bson::Int64(1) => false,
            Bson::Int32(-1) | Bson::Int64(-1) => true,
            Bson::Double(direction) if direction.abs() == 1.0 => *direction < 0.0,
            _ => return Err(CommandError::bad_value(format!("$sort of {field} must be 1 or -1"))),
        };
        fields.push((field, descending));
    }
    documents.sort_by_cached_key(|item| {
        let key = fields.iter().map(|(field, descending)| {
            let found = values_at(document_of(item), field);
            let value = OrderedValue(found.first().map_or(Bson::Null, |value| (*value).clone()));
            if *descending { Sorted::Down(std::cmp::Reverse(value)) } else { Sorted::Up(value) }
        });
        key.collect::<Vec<_>>()
    });
    Ok(())
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Sorted {
    Up(OrderedValue),
    Down(std::cmp::Reverse<OrderedValue>),
}

/// The part of a document that `{field: 1, …}` or `{field: 0, …}` asks for.
pub fn project(spec: &Document, document: &Document) -> Result<Document, CommandError> {
    let mut included = Vec::new();
    let mut excluded = Vec::new();
    for (field, wanted) in spec {
        match wanted {
            Bson::Document(_) | Bson::Array(_) | Bson::String(_) => {
                let message = format!("this projection of {field} is not supported");
                return Err(CommandError::bad_value(message));
            }
            wanted if truthy(wanted) => included.push(field.as_str()),
            _ => excluded.push(field.as_str()),
        }
    }
    let including = included.iter().any(|field| *field != "_id") || excluded.is_empty();
    if !including {
        return Ok(without(document, &excluded));
    }
    if let Some(field) = excluded.iter().find(|field| **field != "_id") {
        let message = format!("Cannot do exclusion on field {field} in inclusion projection");
        return Err(CommandError::new(31254, "Location31254", message));
    }
    if spec.is_empty() {
        return Ok(document.clone());
    }
    if excluded.is_empty() {
        included.push("_id");
    }
    Ok(only(document, &included))
}

/// What is left of each path below `key`; the empty path is `key` itself.
fn below<'a>(paths: &[&'a str], key: &str) -> Vec<&'a str> {
    let rest = |path: &&'a str| {
        let rest = path.strip_prefix(key)?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
    };
    paths.iter().filter_map(rest).collect()
}

fn only(document: &Document, paths: &[&str]) -> Document {
    let keep = |(key, value): (&String, &Bson)| {
        let rest = below(paths, key);
        let value = match value {
            _ if rest.is_empty() => return None,
            value if rest.contains(&"") => value.clone(),
            Bson::Document(inner) => Bson::Document(only(inner, &rest)),
            Bson::Array(items) => items
                .iter()
                .filter_map(Bson::as_document)
                .map(|item| Bson::Document(only(item, &rest)))
                .collect::<Vec<_>>()
                .into(),
            _ => return None,
        };
        Some((key.clone(), value))
    };
    document.iter().filter_map(keep).collect()
}

fn without(document: &Document, paths: &[&str]) -> Document {
    let keep = |(key, value): (&String, &Bson)| {
        let rest = below(paths, key);
        let value = match value {
            value if rest.is_empty() => value.clone(),
            _ if rest.contains(&"") => return None,
            Bson::Document(inner) => Bson::Document(without(inner, &rest)),
            Bson::Array(items) => items
                .iter()
                .map(|item| match item {
                    Bson::Document(item) => Bson::Document(without(item, &rest)),
                    item => item.clone(),
                })
                .collect::<Vec<_>>()
                .into(),
            value => value.clone(),
        };
        Some((key.clone(), value))
    };
    document.iter().filter_map(keep).collect()
}
