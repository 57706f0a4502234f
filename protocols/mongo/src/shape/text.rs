//! Documents as compact JSON, with their values or with the names of their types.

use super::literals::Literals;
use crate::element::{Element, elements, kind};

/// How deep documents are printed.
const MAX_DEPTH: usize = 20;
/// How many characters of a key or of a string are shown.
const MAX_STRING_CHARS: usize = 64;

/// A text with a length limit, at which it ends with `…`.
pub(super) struct BoundedText<'o> {
    out: &'o mut String,
    limit: usize,
    ended: bool,
}

impl<'o> BoundedText<'o> {
    /// Appends at most `limit` bytes to `out`.
    pub(super) fn new(out: &'o mut String, limit: usize) -> Self {
        let limit = out.len() + limit;
        Self { out, limit, ended: false }
    }

    pub(super) fn push(&mut self, token: &str) {
        if self.out.len() + token.len() + '…'.len_utf8() > self.limit {
            self.cut();
        } else if !self.ended {
            self.out.push_str(token);
        }
    }

    /// Ends the text here, with `…`.
    pub(super) fn cut(&mut self) {
        if !self.ended {
            self.out.push('…');
            self.ended = true;
        }
    }

    pub(super) fn key(&mut self, name: &[u8]) {
        self.quoted(&String::from_utf8_lossy(name));
        self.push(":");
    }

    pub(super) fn value(&mut self, element: &Element<'_>, literals: Literals, depth: usize) {
        match element.kind {
            kind::DOCUMENT | kind::ARRAY if depth == MAX_DEPTH => self.push("\"…\""),
            kind::DOCUMENT => self.document(element.value, literals, depth + 1),
            kind::ARRAY => self.array(element.value, literals, depth + 1),
            _ => self.literal(element, literals),
        }
    }

    fn document(&mut self, document: &[u8], literals: Literals, depth: usize) {
        self.push("{");
        let mut walk = elements(document);
        for (index, element) in walk.by_ref().enumerate() {
            if index > 0 {
                self.push(",");
            }
            self.key(element.name);
            self.value(&element, literals.under(&element), depth);
            if self.ended {
                return;
            }
        }
        if walk.is_complete() { self.push("}") } else { self.cut() }
    }

    /// Equal neighbours are written once, unless values are shown.
    fn array(&mut self, array: &[u8], literals: Literals, depth: usize) {
        self.push("[");
        let mut walk = elements(array);
        let mut last = self.out.len()..self.out.len();
        for (index, element) in walk.by_ref().enumerate() {
            let before = self.out.len();
            if index > 0 {
                self.push(",");
            }
            let start = self.out.len();
            self.value(&element, literals, depth);
            if self.ended {
                return;
            }
            if index > 0
                && literals != Literals::Values
                && self.out[last.clone()] == self.out[start..]
            {
                self.out.truncate(before);
            } else {
                last = start..self.out.len();
            }
        }
        if walk.is_complete() { self.push("]") } else { self.cut() }
    }

    fn literal(&mut self, element: &Element<'_>, literals: Literals) {
        if let Some(text) = element.text().filter(|text| literals.shows(text)) {
            return self.quoted(text);
        }
        let shown = match literals {
            Literals::Directions => direction(element),
            Literals::Values => plain(element),
            _ => None,
        };
        match shown {
            Some(shown) => self.push(&shown),
            None => self.push(type_name(element.kind)),
        }
    }

    /// A string as JSON, of which at most 64 characters are shown.
    fn quoted(&mut self, text: &str) {
        let mut token = String::from("\"");
        for (index, c) in text.chars().enumerate() {
            match c {
                _ if index == MAX_STRING_CHARS => {
                    token.push('…');
                    break;
                }
                '"' | '\\' => token.extend(['\\', c]),
                c if c.is_control() => token.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => token.push(c),
            }
        }
        token.push('"');
        self.push(&token);
    }
}

/// The literal, if it is a direction or a flag that includes a field.
fn direction(element: &Element<'_>) -> Option<String> {
    if element.kind == kind::BOOLEAN {
        return plain(element);
    }
    direction_number(element).map(|number| number.to_string())
}

/// The number, if it is a direction.
pub(super) fn direction_number(element: &Element<'_>) -> Option<i8> {
    let number = match element.kind {
        kind::DOUBLE => f64::from_le_bytes(*element.value.first_chunk()?),
        kind::INT32 => f64::from(i32::from_le_bytes(*element.value.first_chunk()?)),
        kind::INT64 => i64::from_le_bytes(*element.value.first_chunk()?) as f64,
        _ => return None,
    };
    [-1.0, 0.0, 1.0].contains(&number).then_some(number as i8)
}

/// A literal other than a string, as relaxed Extended JSON; `None` for types that would take much
/// space and are of little use.
fn plain(element: &Element<'_>) -> Option<String> {
    let value = element.value;
    Some(match element.kind {
        kind::DOUBLE => match f64::from_le_bytes(*value.first_chunk()?) {
            number if number.is_finite() => format!("{number:?}"),
            number => format!("\"{number}\""),
        },
        kind::INT32 => i32::from_le_bytes(*value.first_chunk()?).to_string(),
        kind::INT64 => i64::from_le_bytes(*value.first_chunk()?).to_string(),
        kind::DECIMAL => {
            let number = bson::Decimal128::from_bytes(*value.first_chunk()?);
            format!("{{\"$numberDecimal\":\"{number}\"}}")
        }
        kind::BOOLEAN => (value != [0]).to_string(),
        kind::NULL => "null".to_owned(),
        kind::OBJECT_ID => {
            let id = bson::oid::ObjectId::from_bytes(*value.first_chunk()?);
            format!("{{\"$oid\":\"{id}\"}}")
        }
        kind::DATE => {
            let date = bson::DateTime::from_millis(i64::from_le_bytes(*value.first_chunk()?));
            format!("{{\"$date\":\"{}\"}}", date.try_to_rfc3339_string().ok()?)
        }
        _ => return None,
    })
}

/// The placeholder for a literal of this type. All numbers share one: which number type a driver
/// sends often depends on the value.
fn type_name(kind: u8) -> &'static str {
    match kind {
        kind::DOUBLE | kind::INT32 | kind::INT64 | kind::DECIMAL => "\"?number\"",
        kind::STRING => "\"?string\"",
        kind::BINARY => "\"?binary\"",
        kind::OBJECT_ID => "\"?objectId\"",
        kind::BOOLEAN => "\"?bool\"",
        kind::DATE => "\"?date\"",
        kind::NULL | kind::UNDEFINED => "\"?null\"",
        kind::REGEX => "\"?regex\"",
        kind::CODE | kind::SCOPED_CODE => "\"?javascript\"",
        kind::SYMBOL => "\"?symbol\"",
        kind::TIMESTAMP => "\"?timestamp\"",
        kind::MIN_KEY => "\"?minKey\"",
        kind::MAX_KEY => "\"?maxKey\"",
        _ => "\"?other\"",
    }
}
