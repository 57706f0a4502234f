//! Applies updates to documents.

#[cfg(test)]
mod tests;

use super::{
    command_error::CommandError,
    query::{demanded, matches},
    value::{compare, place, remove_at, sum},
};
use bson::{Bson, DateTime, Document, doc};

/// The document after `update`, which is either another document to take its place, or operators
/// such as `$set`. `inserting` says that it is being made by an upsert.
pub fn apply(
    document: &Document,
    update: &Bson,
    inserting: bool,
) -> Result<Document, CommandError> {
    let Some(update) = update.as_document() else {
        return Err(CommandError::new(9, "FailedToParse", "pipelines are no updates here"));
    };
    let id = document.get("_id");
    let mut changed = if is_replacement(update) {
        let mut changed = update.clone();
        if let (Some(id), None) = (id, changed.get("_id")) {
            changed.insert("_id", id.clone());
        }
        changed
    } else {
        operate(document, update, inserting)?
    };
    let same = |id: &Bson| changed.get("_id").is_some_and(|other| compare(id, other).is_eq());
    if !id.is_none_or(same) {
        let message = "Performing an update on the path '_id' would modify the immutable field";
        return Err(CommandError::new(66, "ImmutableField", message));
    }
    // As the server stores it: `_id` first.
    if let Some(id) = changed.remove("_id") {
        changed = std::iter::once(("_id".to_owned(), id)).chain(changed).collect();
    }
    Ok(changed)
}

/// Whether an update is a whole document. Such a one can't be for many.
pub(crate) fn is_replacement(update: &Document) -> bool {
    !update.keys().next().is_some_and(|key| key.starts_with('$'))
}

/// What an upsert starts from: the values that the filter demands outright.
pub fn seed(filter: &Document) -> Result<Document, CommandError> {
    let mut document = Document::new();
    for (key, condition) in filter {
        if key == "$and" {
            for clause in condition.as_array().into_iter().flatten().filter_map(Bson::as_document) {
                document.extend(seed(clause)?);
            }
        } else if let (false, Some(value)) = (key.starts_with('$'), demanded(condition)) {
            *place(&mut document, key)? = value.clone();
        }
    }
    Ok(document)
}

fn operate(
    document: &Document,
    update: &Document,
    inserting: bool,
) -> Result<Document, CommandError> {
    let mut changed = document.clone();
    for (operator, operands) in update {
        let Some(operands) = operands.as_document() else {
            let message = format!("Modifiers operate on fields, but {operator} was given none");
            return Err(CommandError::new(9, "FailedToParse", message));
        };
        if operator == "$setOnInsert" && !inserting {
            continue;
        }
        for (path, operand) in operands {
            operate_on(&mut changed, operator, path, operand)?;
        }
    }
    Ok(changed)
}

fn operate_on(
    document: &mut Document,
    operator: &str,
    path: &str,
    operand: &Bson,
) -> Result<(), CommandError> {
    match operator {
        "$set" | "$setOnInsert" => *place(document, path)? = operand.clone(),
        "$unset" => remove_at(document, path),
        "$inc" => {
            let place = place(document, path)?;
            let start = if *place == Bson::Undefined { &Bson::Int32(0) } else { &*place };
            let refused =
                || CommandError::wrong_type(format!("Cannot increment {path} by {operand}"));
            *place = sum(start, operand).ok_or_else(refused)?;
        }
        "$min" | "$max" => {
            let place = place(document, path)?;
            let order = compare(operand, place);
            let better = if operator == "$min" { order.is_lt() } else { order.is_gt() };
            if better || *place == Bson::Undefined {
                *place = operand.clone();
            }
        }
        "$push" | "$addToSet" => {
            let items = array_at(document, path)?;
            for item in pushed(operand) {
                if operator == "$push" || !items.iter().any(|there| compare(there, &item).is_eq()) {
                    items.push(item);
                }
            }
        }
        "$pull" => pull(array_at(document, path)?, operand)?,
        "$currentDate" => *place(document, path)? = DateTime::now().into(),
        "$rename" => {
            let Some(to) = operand.as_str() else {
                return Err(CommandError::bad_value("$rename needs a name"));
            };
            if let Some(value) = super::value::values_at(document, path).first().copied().cloned() {
                remove_at(document, path);
                *place(document, to)? = value;
            }
        }
        _ => {
            let message = format!("Unknown modifier: {operator}");
            return Err(CommandError::new(9, "FailedToParse", message));
        }
    }
    Ok(())
}

fn array_at<'a>(document: &'a mut Document, path: &str) -> Result<&'a mut Vec<Bson>, CommandError> {
    let place = place(document, path)?;
    if *place == Bson::Undefined {
        *place = Bson::Array(Vec::new());
    }
    let refused = || CommandError::bad_value(format!("The field '{path}' must be an array"));
    place.as_array_mut().ok_or_else(refused)
}

/// The items of `{$each: […]}`, or the one item that is meant.
fn pushed(operand: &Bson) -> Vec<Bson> {
    let each = operand.as_document().and_then(|operand| operand.get_array("$each").ok());
    each.cloned().unwrap_or_else(|| vec![operand.clone()])
}

fn pull(items: &mut Vec<Bson>, operand: &Bson) -> Result<(), CommandError> {
    let mut kept = Vec::new();
    for item in items.drain(..) {
        let meant = match (operand, &item) {
            (Bson::Document(filter), Bson::Document(item)) => matches(filter, item)?,
            (Bson::Document(filter), _) => {
                matches(&doc! { "item": filter.clone() }, &doc! { "item": item.clone() })?
            }
            (operand, item) => compare(operand, item).is_eq(),
        };
        if !meant {
            kept.push(item);
        }
    }
    *items = kept;
    Ok(())
}
