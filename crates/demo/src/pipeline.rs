//! The stages of `aggregate` that a demonstration needs.

#[cfg(test)]
mod tests;

use super::{
    command_error::CommandError,
    query::{matches, project, sort},
    value::{
        OrderedValue, as_double, as_whole, compare, sum, truthy, value_weight, values_at, weight,
    },
};
use bson::{Bson, Document, doc};
use std::{collections::BTreeMap, rc::Rc};

/// How many stages there may be, since each may make documents nest deeper.
const MAX_STAGES: usize = 20;
/// How many bytes of memory a stage's result may take.
const MAX_BYTES: usize = 64 << 20;

/// Runs documents through the stages.
pub fn run(
    mut documents: Vec<Rc<Document>>,
    stages: &[Bson],
) -> Result<Vec<Rc<Document>>, CommandError> {
    if stages.len() > MAX_STAGES {
        return Err(CommandError::new(7749501, "Location7749501", "too many stages"));
    }
    for stage in stages {
        let stage =
            stage.as_document().filter(|stage| stage.len() == 1).and_then(|s| s.iter().next());
        let Some((name, argument)) = stage else {
            let message = "A pipeline stage specification object must contain exactly one field.";
            return Err(CommandError::new(40323, "Location40323", message));
        };
        documents = run_stage(documents, name, argument)?;
    }
    Ok(documents)
}

fn run_stage(
    mut documents: Vec<Rc<Document>>,
    name: &str,
    argument: &Bson,
) -> Result<Vec<Rc<Document>>, CommandError> {
    match name {
        "$match" => {
            let filter = object(name, argument)?;
            let mut kept = Vec::new();
            for document in documents {
                if matches(filter, &document)? {
                    kept.push(document);
                }
            }
            return Ok(kept);
        }
        "$sort" => sort(&mut documents, object(name, argument)?, |document| document)?,
        "$limit" => documents.truncate(count_of(name, argument)?),
        "$skip" => drop(documents.drain(..count_of(name, argument)?.min(documents.len()))),
        "$count" => {
            let Some(field) = argument.as_str().filter(|field| !field.is_empty()) else {
                return Err(CommandError::new(
                    40156,
                    "Location40156",
                    "the count field must be a name",
                ));
            };
            let count = documents.len() as i32;
            return Ok(if count == 0 { vec![] } else { vec![Rc::new(doc! { field: count })] });
        }
        "$project" => {
            return each(&documents, |document| reshape(object(name, argument)?, document));
        }
        "$group" => return group(&documents, object(name, argument)?),
        _ => {
            let message = format!("Unrecognized pipeline stage name: '{name}'");
            return Err(CommandError::new(40324, "Location40324", message));
        }
    }
    Ok(documents)
}

fn object<'a>(stage: &str, argument: &'a Bson) -> Result<&'a Document, CommandError> {
    argument
        .as_document()
        .ok_or_else(|| CommandError::wrong_type(format!("{stage} needs an object")))
}

fn count_of(stage: &str, argument: &Bson) -> Result<usize, CommandError> {
    let count = as_whole(argument).and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| {
        CommandError::wrong_type(format!("{stage} needs a number that is not negative"))
    })
}

fn each(
    documents: &[Rc<Document>],
    change: impl Fn(&Document) -> Result<Document, CommandError>,
) -> Result<Vec<Rc<Document>>, CommandError> {
    let mut bytes = 0;
    let changed = documents.iter().map(|document| {
        let changed = change(document)?;
        bytes += weight(&changed);
        if bytes > MAX_BYTES {
            return Err(too_much());
        }
        Ok(Rc::new(changed))
    });
    changed.collect()
}

fn too_much() -> CommandError {
    let message = "the stage needs more memory than the demonstration has";
    CommandError::new(292, "QueryExceededMemoryLimitNoDiskUseAllowed", message)
}

/// `$project`: fields kept or left out, and fields computed as `"$path"`.
fn reshape(spec: &Document, document: &Document) -> Result<Document, CommandError> {
    let is_computed = |value: &Bson| matches!(value, Bson::String(_));
    let (computed, plain): (Document, Document) =
        spec.clone().into_iter().partition(|(_, value)| is_computed(value));
    let mut changed = match (plain.is_empty(), computed.is_empty()) {
        (true, false) => project(&doc! { "_id": 1 }, document)?,
        _ if plain.keys().eq(["_id"]) && !computed.is_empty() => match plain.values().next() {
            Some(wanted) if truthy(wanted) => project(&plain, document)?,
            _ => Document::new(),
        },
        _ => project(&plain, document)?,
    };
    for (field, expression) in &computed {
        if field.contains('.') {
            return Err(CommandError::bad_value("computed fields have no dots here"));
        }
        if let Some(value) = evaluate(expression, document)? {
            changed.insert(field, value);
        }
    }
    Ok(changed)
}

/// The value of an expression: `"$path"`, a value, or an object of expressions. `None` if it names
/// a missing field.
fn evaluate(expression: &Bson, document: &Document) -> Result<Option<Bson>, CommandError> {
    match expression {
        Bson::Document(fields) => {
            let mut object = Document::new();
            for (key, field) in fields {
                if key.starts_with('$') || matches!(field, Bson::Document(_)) {
                    return Err(unknown_expression(key));
                }
                if let Some(value) = evaluate(field, document)? {
                    object.insert(key, value);
                }
            }
            Ok(Some(object.into()))
        }
        Bson::String(text) if text.starts_with("$$") => Err(unknown_expression(text)),
        Bson::String(text) => Ok(match text.strip_prefix('$') {
            None => Some(expression.clone()),
            Some(path) => match values_at(document, path).as_slice() {
                [] => None,
                [value] => Some((*value).clone()),
                values => {
                    Some(values.iter().map(|value| (*value).clone()).collect::<Vec<_>>().into())
                }
            },
        }),
        _ => Ok(Some(expression.clone())),
    }
}

fn unknown_expression(name: &str) -> CommandError {
    CommandError::new(168, "InvalidPipelineOperator", format!("Unrecognized expression '{name}'"))
}

/// `$group`: one document for each value of `_id`, in the order of their first appearance.
fn group(documents: &[Rc<Document>], spec: &Document) -> Result<Vec<Rc<Document>>, CommandError> {
    let Some(id) = spec.get("_id") else {
        return Err(CommandError::new(
            15955,
            "Location15955",
            "a group specification must include an _id",
        ));
    };
    let mut places = BTreeMap::new();
    let mut groups: Vec<(Bson, Vec<Accumulator<'_>>)> = Vec::new();
    let mut bytes = 0;
    for document in documents {
        let key = evaluate(id, document)?.unwrap_or(Bson::Null);
        let at = match places.get(&OrderedValue(key.clone())) {
            Some(at) => *at,
            None => {
                bytes += weight(&doc! { "_id": key.clone() });
                places.insert(OrderedValue(key.clone()), groups.len());
                let fields = spec.iter().filter(|(field, _)| *field != "_id");
                groups.push((
                    key,
                    fields.map(|(_, how)| Accumulator::new(how)).collect::<Result<_, _>>()?,
                ));
                groups.len() - 1
            }
        };
        for accumulator in &mut groups[at].1 {
            bytes += accumulator.add(document)?;
        }
        if bytes > MAX_BYTES / 2 {
            return Err(too_much());
        }
    }
    let finished = groups.into_iter().map(|(key, accumulators)| {
        let values = accumulators.into_iter().map(Accumulator::finish);
        let fields = spec.keys().filter(|field| *field != "_id").cloned();
        Rc::new(std::iter::once(("_id".to_owned(), key)).chain(fields.zip(values)).collect())
    });
    Ok(finished.collect())
}

/// A field of a `$group`, being computed.
struct Accumulator<'a> {
    operator: &'a str,
    operand: &'a Bson,
    value: Option<Bson>,
    count: u32,
}

impl<'a> Accumulator<'a> {
    fn new(spec: &'a Bson) -> Result<Self, CommandError> {
        let only = spec.as_document().filter(|spec| spec.len() == 1).and_then(|s| s.iter().next());
        match only {
            Some((operator, operand))
                if ["$sum", "$count", "$avg", "$min", "$max", "$first", "$last"]
                    .contains(&operator.as_str()) =>
            {
                Ok(Self { operator, operand, value: None, count: 0 })
            }
            _ => Err(CommandError::new(15952, "Location15952", "unknown group operator")),
        }
    }

    /// Adds a document. Returns about how many bytes of memory that took.
    fn add(&mut self, document: &Document) -> Result<usize, CommandError> {
        if self.operator == "$count" {
            self.count += 1;
            return Ok(0);
        }
        let Some(value) = evaluate(self.operand, document)? else { return Ok(0) };
        let better = match (self.operator, &self.value) {
            ("$sum" | "$avg", _) => {
                if let Some(total) = sum(self.value.as_ref().unwrap_or(&Bson::Int32(0)), &value) {
                    self.value = Some(total);
                    self.count += 1;
                }
                false
            }
            (_, None) => true,
            ("$min", Some(best)) => compare(&value, best).is_lt(),
            ("$max", Some(best)) => compare(&value, best).is_gt(),
            (operator, _) => operator == "$last",
        };
        if !better {
            return Ok(0);
        }
        let cost = value_weight(&value);
        self.value = Some(value);
        Ok(cost)
    }

    fn finish(self) -> Bson {
        match self.operator {
            "$count" => Bson::Int32(self.count as i32),
            "$sum" => self.value.unwrap_or(Bson::Int32(0)),
            "$avg" => match self.value.as_ref().and_then(as_double) {
                Some(total) => Bson::Double(total / f64::from(self.count)),
                None => Bson::Null,
            },
            _ => self.value.unwrap_or(Bson::Null),
        }
    }
}
