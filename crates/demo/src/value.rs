//! BSON values: order, sums, memory, and paths through documents.

use super::command_error::CommandError;
use bson::{Bson, Document};
use std::cmp::Ordering;

/// How deep a stored document may nest: what a message may, less the reply around it.
pub(crate) const MAX_STORED_DEPTH: usize = super::wire::MAX_DEPTH - 10;
/// How many steps a dotted path may have.
const MAX_PATH: usize = 100;

/// A value with MongoDB's order, in which `1` and `1.0` are the same.
#[derive(Clone, Debug)]
pub struct OrderedValue(pub Bson);

impl Ord for OrderedValue {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for OrderedValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for OrderedValue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for OrderedValue {}

/// The position of a value's type in MongoDB's order of types.
fn bracket(value: &Bson) -> u8 {
    match value {
        Bson::MinKey => 0,
        Bson::Null | Bson::Undefined => 1,
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => 2,
        Bson::String(_) | Bson::Symbol(_) => 3,
        Bson::Document(_) => 4,
        Bson::Array(_) => 5,
        Bson::Binary(_) => 6,
        Bson::ObjectId(_) => 7,
        Bson::Boolean(_) => 8,
        Bson::DateTime(_) => 9,
        Bson::Timestamp(_) => 10,
        Bson::RegularExpression(_) => 11,
        Bson::DbPointer(_) => 12,
        Bson::JavaScriptCode(_) | Bson::JavaScriptCodeWithScope(_) => 13,
        Bson::MaxKey => 14,
    }
}

/// Whether two values have comparable types, so that `$lt` and similar operators apply.
pub(crate) fn same_bracket(left: &Bson, right: &Bson) -> bool {
    bracket(left) == bracket(right)
}

/// MongoDB's order of values of any type.
pub fn compare(left: &Bson, right: &Bson) -> Ordering {
    match (left, right) {
        (Bson::Int64(left), Bson::Int64(right)) => left.cmp(right),
        (Bson::String(left), Bson::String(right)) => left.cmp(right),
        (Bson::ObjectId(left), Bson::ObjectId(right)) => left.bytes().cmp(&right.bytes()),
        (Bson::Boolean(left), Bson::Boolean(right)) => left.cmp(right),
        (Bson::DateTime(left), Bson::DateTime(right)) => left.cmp(right),
        (Bson::Timestamp(left), Bson::Timestamp(right)) => left.cmp(right),
        (Bson::Array(left), Bson::Array(right)) => {
            let unequal = left.iter().zip(right).map(|(l, r)| compare(l, r)).find(|o| o.is_ne());
            unequal.unwrap_or(left.len().cmp(&right.len()))
        }
        (Bson::Document(left), Bson::Document(right)) => {
            let fields = left.iter().zip(right).map(|((left_key, left), (right_key, right))| {
                let types = bracket(left).cmp(&bracket(right));
                types.then_with(|| left_key.cmp(right_key)).then_with(|| compare(left, right))
            });
            { fields }.find(|order| order.is_ne()).unwrap_or(left.len().cmp(&right.len()))
        }
        (Bson::Binary(left), Bson::Binary(right)) => {
            let rank = |value: &bson::Binary| (value.bytes.len(), u8::from(value.subtype));
            rank(left).cmp(&rank(right)).then_with(|| left.bytes.cmp(&right.bytes))
        }
        _ => match (number(left), number(right)) {
            (Some(left), Some(right)) => left.compare(right),
            _ => bracket(left).cmp(&bracket(right)).then_with(|| match bracket(left) {
                // Types that are never sorted by, in any stable order.
                3 | 11.. => left.to_string().cmp(&right.to_string()),
                _ => Ordering::Equal,
            }),
        },
    }
}

/// A number, exactly.
#[derive(Clone, Copy)]
enum Number {
    Whole(i64),
    Real(f64),
}

fn number(value: &Bson) -> Option<Number> {
    Some(match value {
        Bson::Int32(value) => Number::Whole((*value).into()),
        Bson::Int64(value) => Number::Whole(*value),
        Bson::Double(value) => Number::Real(*value),
        Bson::Decimal128(value) => Number::Real(value.to_string().parse().unwrap_or(f64::NAN)),
        _ => return None,
    })
}

impl Number {
    fn compare(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Whole(left), Number::Whole(right)) => left.cmp(&right),
            (Number::Real(left), Number::Real(right)) => {
                // NaN comes before all other numbers; -0 and 0 are one.
                left.partial_cmp(&right).unwrap_or(right.is_nan().cmp(&left.is_nan()))
            }
            (Number::Whole(left), Number::Real(right)) => compare_mixed(left, right),
            (Number::Real(left), Number::Whole(right)) => compare_mixed(right, left).reverse(),
        }
    }
}

/// Without rounding the whole number, which would make the order inconsistent past 2^53.
fn compare_mixed(whole: i64, real: f64) -> Ordering {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if real.is_nan() || real < -LIMIT {
        Ordering::Greater
    } else if real >= LIMIT {
        Ordering::Less
    } else {
        let fraction = real.fract();
        whole
            .cmp(&(real.trunc() as i64))
            .then_with(|| 0.0.partial_cmp(&fraction).unwrap_or(Ordering::Equal))
    }
}

/// A number as a double; `None` for other values.
pub(crate) fn as_double(value: &Bson) -> Option<f64> {
    number(value).map(|number| match number {
        Number::Whole(value) => value as f64,
        Number::Real(value) => value,
    })
}

/// A number without a fraction, of whatever type, as drivers send limits and flags.
pub(crate) fn as_whole(value: &Bson) -> Option<i64> {
    number(value).map(|number| match number {
        Number::Whole(value) => value,
        Number::Real(value) => value as i64,
    })
}

/// Whether MongoDB treats the value as true: all except `false`, zero and null.
pub fn truthy(value: &Bson) -> bool {
    match value {
        Bson::Boolean(value) => *value,
        Bson::Int32(value) => *value != 0,
        Bson::Int64(value) => *value != 0,
        Bson::Double(value) => *value != 0.0,
        Bson::Null | Bson::Undefined => false,
        _ => true,
    }
}

/// Whether a flag is set, which some drivers do with numbers.
pub fn flag(document: &Document, name: &str) -> bool {
    document.get(name).is_some_and(truthy)
}

/// The sum of two numbers, in the widest of their types and wider if it overflows; `None` if
/// either is no number.
pub fn sum(left: &Bson, right: &Bson) -> Option<Bson> {
    if let (Bson::Int32(left), Bson::Int32(right)) = (left, right)
        && let Some(sum) = left.checked_add(*right)
    {
        return Some(Bson::Int32(sum));
    }
    match (number(left)?, number(right)?) {
        (Number::Whole(left), Number::Whole(right)) => Some(match left.checked_add(right) {
            Some(sum) => Bson::Int64(sum),
            None => Bson::Double(left as f64 + right as f64),
        }),
        _ => Some(Bson::Double(as_double(left)? + as_double(right)?)),
    }
}

/// About how many bytes of memory a document takes.
pub fn weight(document: &Document) -> usize {
    document.iter().map(|(key, value)| 64 + key.len() + value_weight(value)).sum::<usize>() + 64
}

/// About how many bytes of memory a value takes.
pub(crate) fn value_weight(value: &Bson) -> usize {
    64 + match value {
        Bson::Document(inner) => weight(inner),
        Bson::Array(items) => items.iter().map(value_weight).sum(),
        Bson::String(text) | Bson::Symbol(text) | Bson::JavaScriptCode(text) => text.len(),
        Bson::Binary(binary) => binary.bytes.len(),
        Bson::JavaScriptCodeWithScope(code) => code.code.len() + weight(&code.scope),
        _ => 0,
    }
}

/// How deep a document nests; 1 for a flat one.
pub fn depth(document: &Document) -> usize {
    fn below(value: &Bson) -> usize {
        match value {
            Bson::Document(inner) => depth(inner),
            Bson::Array(items) => 1 + items.iter().map(below).max().unwrap_or_default(),
            Bson::JavaScriptCodeWithScope(code) => depth(&code.scope),
            _ => 0,
        }
    }
    1 + document.values().map(below).max().unwrap_or_default()
}

/// Every value that a dotted path reaches, through the elements of arrays as well.
pub(crate) fn values_at<'a>(document: &'a Document, path: &str) -> Vec<&'a Bson> {
    let mut found = Vec::new();
    reach(document, path, &mut found);
    found
}

fn reach<'a>(document: &'a Document, path: &str, found: &mut Vec<&'a Bson>) {
    let (head, rest) = match path.split_once('.') {
        Some((head, rest)) => (head, Some(rest)),
        None => (path, None),
    };
    if let Some(value) = document.get(head) {
        reach_into(value, rest, found);
    }
}

fn reach_into<'a>(value: &'a Bson, path: Option<&str>, found: &mut Vec<&'a Bson>) {
    let Some(path) = path else { return found.push(value) };
    match value {
        Bson::Document(inner) => reach(inner, path, found),
        Bson::Array(items) => {
            for item in items.iter().filter_map(Bson::as_document) {
                reach(item, path, found);
            }
            let (head, rest) = match path.split_once('.') {
                Some((head, rest)) => (head, Some(rest)),
                None => (path, None),
            };
            if let Some(item) = head.parse().ok().and_then(|index: usize| items.get(index)) {
                reach_into(item, rest, found);
            }
        }
        _ => {}
    }
}

/// The value at a dotted path, for writing. Missing parts are created; a new value is `Undefined`,
/// which is not stored any longer.
pub fn place<'a>(document: &'a mut Document, path: &str) -> Result<&'a mut Bson, CommandError> {
    let steps: Vec<&str> = path.split('.').collect();
    if steps.len() > MAX_PATH || steps.iter().any(|step| step.is_empty() || step.starts_with('$')) {
        let message = format!("the path {path:?} can't be written");
        return Err(CommandError::new(56, "EmptyFieldName", message));
    }
    let (first, rest) = (steps[0], &steps[1..]);
    let mut place = document.entry(first).or_insert(Bson::Undefined);
    for step in rest {
        if *place == Bson::Undefined {
            *place = Bson::Document(Document::new());
        }
        place = match place {
            Bson::Document(inner) => inner.entry(*step).or_insert(Bson::Undefined),
            Bson::Array(items) => {
                let index = step.parse().ok().filter(|index: &usize| *index <= items.len());
                let index = index.ok_or_else(|| blocked(path, step))?;
                if index == items.len() {
                    items.push(Bson::Undefined);
                }
                &mut items[index]
            }
            _ => return Err(blocked(path, step)),
        };
    }
    Ok(place)
}

fn blocked(path: &str, step: &str) -> CommandError {
    CommandError::new(
        28,
        "PathNotViable",
        format!("Cannot create field '{step}' on the way of {path:?}"),
    )
}

/// Removes the value at a dotted path, if it exists.
pub fn remove_at(document: &mut Document, path: &str) {
    let Some((head, rest)) = path.split_once('.') else {
        document.remove(path);
        return;
    };
    match document.get_mut(head) {
        Some(Bson::Document(inner)) => remove_at(inner, rest),
        Some(Bson::Array(items)) => {
            let index = rest.split('.').next().and_then(|step| step.parse::<usize>().ok());
            match (index.and_then(|index| items.get_mut(index)), rest.split_once('.')) {
                (Some(Bson::Document(inner)), Some((_, rest))) => remove_at(inner, rest),
                (Some(item), None) => *item = Bson::Null,
                _ => {}
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn numbers_compare_by_value_and_exactly() {
        let big = (1_i64 << 53) + 1;
        assert!(compare(&Bson::Int32(1), &Bson::Double(1.0)).is_eq());
        assert!(compare(&Bson::Int64(big), &Bson::Double((1_i64 << 53) as f64)).is_gt());
        assert!(compare(&Bson::Int32(-1), &Bson::Double(-1.5)).is_gt());
        assert!(compare(&Bson::Int32(1), &Bson::Double(1.5)).is_lt());
        assert!(compare(&Bson::Int64(i64::MAX), &Bson::Double(f64::INFINITY)).is_lt());
        assert!(compare(&Bson::Double(f64::NAN), &Bson::Int64(i64::MIN)).is_lt());
    }

    #[test]
    fn types_come_in_mongodbs_order() {
        let values = [
            Bson::MinKey,
            Bson::Null,
            Bson::Int32(5),
            Bson::String("a".into()),
            Bson::Document(doc! {}),
            Bson::Array(vec![]),
            Bson::ObjectId(bson::oid::ObjectId::new()),
            Bson::Boolean(false),
            Bson::MaxKey,
        ];
        assert!(values.is_sorted_by(|left, right| compare(left, right).is_lt()));
    }

    #[test]
    fn sums_widen_when_they_must() {
        assert_eq!(sum(&Bson::Int32(1), &Bson::Int32(2)), Some(Bson::Int32(3)));
        let past = Bson::Int64(i64::from(i32::MAX) + 1);
        assert_eq!(sum(&Bson::Int32(i32::MAX), &Bson::Int32(1)), Some(past));
        assert_eq!(sum(&Bson::Int32(1), &Bson::Double(0.5)), Some(Bson::Double(1.5)));
        assert_eq!(sum(&Bson::Int32(1), &Bson::Null), None);
    }

    #[test]
    fn paths_reach_through_arrays() {
        let document = doc! { "items": [{ "sku": "a" }, { "sku": "b" }], "deep": { "er": 1 } };
        assert_eq!(values_at(&document, "items.sku").len(), 2);
        assert_eq!(values_at(&document, "items.1.sku"), [&Bson::String("b".into())]);
        assert_eq!(values_at(&document, "deep.er"), [&Bson::Int32(1)]);
        assert!(values_at(&document, "deep.er.more").is_empty());
    }

    #[test]
    fn a_path_too_long_to_follow_is_refused() {
        let path = vec!["a"; MAX_PATH + 1].join(".");
        assert_eq!(place(&mut doc! {}, &path).unwrap_err().code, 56);
        assert_eq!(place(&mut doc! { "a": 1 }, "a.b").unwrap_err().code, 28);
    }
}
