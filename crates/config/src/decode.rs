//! Fills the types of `file` from a tree. Every error is reported at its span, and reading
//! continues: unknown and repeated keys are skipped, an invalid `Spanned` value is missing. Inside
//! a value that is not `Spanned`, as in the settings of protocols, an invalid part is left out and
//! the rest is read again for further errors.

mod error;
mod misplaced;
mod parts;
mod pooler_keys;

use super::{report::Report, scope::attributes};
use error::{Error, shortened};
use misplaced::{is_below, unknown};
use parts::{Entries, Entry, ReadAttempts, Variant};
use policy::attributes::ATTRIBUTE;
use pooler_keys::pooler_key;
use serde::{
    Deserialize,
    de::{self, Deserializer, IntoDeserializer, Visitor, value::SeqDeserializer},
    forward_to_deserialize_any,
};
use std::{cell::RefCell, collections::BTreeMap};
use values::{Diagnostic, Node, ONE_OR_MORE, OR_OFF, Span, Value, nearest, spanned::SPANNED};

/// Fills a `T`; `None` if that is impossible.
///
/// A value that reports its own error in the form `message\nhint` gets both shown.
pub(crate) fn decode<'de, T: Deserialize<'de>>(
    tree: &'de Node,
    report: &'de RefCell<Report>,
) -> Option<T> {
    Reader { node: tree, key: None, report }.read_or_report(T::deserialize)
}

#[derive(Clone, Copy)]
struct Reader<'de> {
    node: &'de Node,
    key: Option<Span>,
    report: &'de RefCell<Report>,
}

impl<'de> Reader<'de> {
    fn at(self) -> Span {
        self.node.place_under(self.key)
    }

    fn read_or_report<T>(self, read: impl FnOnce(Self) -> Result<T, Error>) -> Option<T> {
        match read(self) {
            Ok(value) => Some(value),
            Err(error) => {
                self.report_error(error);
                None
            }
        }
    }

    /// Reports an error. Returns whether leaving the invalid part out may reveal more.
    fn report_error(self, error: Error) -> bool {
        let at = error.at.unwrap_or(self.at());
        let mut report = self.report.borrow_mut();
        if let Some(error) = error.diagnostic {
            report.add_diagnostic(at, error);
        }
        report.mark_invalid(at) && at != self.at()
    }

    /// Whether this is invalid, which has been reported.
    fn is_invalid(self) -> bool {
        self.report.borrow().is_invalid(self.at())
    }

    /// Whether an invalid part of it is left out.
    fn has_gaps(self) -> bool {
        let below = |node, key| Reader { node, key, report: self.report };
        match &self.node.value {
            Value::Null | Value::Word(_) | Value::Text(_) => false,
            Value::List(items) => items.iter().any(|item| below(item, None).is_invalid()),
            Value::Map(entries) => entries.iter().any(|(key, value)| {
                below(key, None).is_invalid() || below(value, Some(key.at)).is_invalid()
            }),
        }
    }

    /// Keys and values, without repeated keys.
    fn entries(self, entries: &'de [(Node, Node)]) -> Vec<Entry<'de>> {
        let mut seen = BTreeMap::new();
        let mut kept = Vec::new();
        for (key, value) in entries {
            let name = key.as_text();
            let first = *seen.entry(name).or_insert(key.at);
            if first == key.at {
                let entry = |node, under| Reader { node, key: under, report: self.report };
                let (key, value) = (entry(key, None), entry(value, Some(key.at)));
                if !key.is_invalid() && !value.is_invalid() {
                    kept.push(Entry { key, value, corrected: None });
                }
            } else {
                let message = format!("the key `{name}` stands here for the second time");
                let hint = format!("the first is in line {}; keep one of them", first.line);
                self.report.borrow_mut().add(key.at, message, hint);
            }
        }
        kept
    }

    /// The entries of a struct. Unknown keys are reported; an obvious misspelling is read as the
    /// key that was meant.
    fn fields(self, written: &'de [(Node, Node)], known: Names) -> Vec<Entry<'de>> {
        let (mut kept, strange): (Vec<_>, Vec<_>) =
            self.entries(written).into_iter().partition(|entry| known.contains(&entry.name()));
        for entry in strange {
            let name = entry.name();
            let near = nearest(name, known.iter().copied());
            let near = near.filter(|near| !is_below(name, known, near));
            let other = pooler_key(name, known);
            let near = other.map_or(near, |other| other.key);
            let mut error = unknown(name, known, near);
            if let Some(hint) = other.and_then(|other| other.hint) {
                hint.clone_into(&mut error.hint);
            }
            self.report.borrow_mut().add_diagnostic(entry.key.node.at, error);
            if near.is_some_and(|near| kept.iter().all(|entry| entry.name() != near)) {
                kept.push(Entry { corrected: near, ..entry });
            }
        }
        kept
    }

    fn expected(self, what: &dyn de::Expected, hint: &str) -> Error {
        let found = match &self.node.value {
            Value::Null => "nothing".to_owned(),
            Value::Word(text) | Value::Text(text) => format!("`{}`", shortened(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "keys and values".to_owned(),
        };
        let error = Diagnostic::new(format!("expected {what}, found {found}"), hint);
        Error { at: Some(self.at()), diagnostic: Some(error) }
    }

    /// The hint for a text that is one of these words in quotes.
    fn unquoted(self, words: &[&str]) -> &'static str {
        match &self.node.value {
            Value::Text(text) if words.contains(&text.as_str()) => "write it without quotes",
            _ => "",
        }
    }

    fn visit_map<V: Visitor<'de>>(
        self,
        entries: Vec<Entry<'de>>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Entries::new(entries))
    }

    /// Gives an error without a span that of the whole value. If parts are left out, they are the
    /// cause, as with a missing key whose value was invalid.
    fn with_span<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| match error.at {
            Some(_) => error,
            None => {
                let error = error.diagnostic.filter(|_| !self.has_gaps());
                Error {
                    at: Some(self.at()),
                    diagnostic: error.map(|error| self.without_variables(error)),
                }
            }
        })
    }

    /// The error for a value that is meant as a variable and was not replaced.
    fn without_variables(self, error: Diagnostic) -> Diagnostic {
        let text = self.node.as_text();
        let replaces = self.report.borrow().replaces_variables();
        if !(text.contains("${") || text.contains("{{") || text.starts_with('$')) {
            return error;
        }
        let (message, hint) = match replaces {
            true => ("this is no variable", "write `${NAME}`, or `${NAME:-default}`"),
            false => ("there are no variables here", "they are replaced in config files only"),
        };
        Diagnostic::new(format!("`{}`: {message}", shortened(text)), hint)
    }
}

type Names = &'static [&'static str];

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.with_span(match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Text(text) => visitor.visit_str(text),
            Value::Word(word) => match word.as_str() {
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                _ => match (word.parse(), word.parse(), word.parse()) {
                    (Ok(n), _, _) => visitor.visit_u64(n),
                    (_, Ok(n), _) => visitor.visit_i64(n),
                    (_, _, Ok(n)) => visitor.visit_f64(n),
                    _ => visitor.visit_str(word),
                },
            },
            Value::List(items) => {
                let reader = |node| Reader { node, key: None, report: self.report };
                let items = items.iter().map(reader).filter(|item| !item.is_invalid());
                visitor.visit_seq(SeqDeserializer::new(items))
            }
            Value::Map(entries) => self.visit_map(self.entries(entries), visitor),
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Word(word) if matches!(word.as_str(), "true" | "false") => {
                self.deserialize_any(visitor)
            }
            _ => Err(self.expected(&"`true` or `false`", self.unquoted(&["true", "false"]))),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Word(word) if word.parse::<i64>().is_ok() => self.deserialize_any(visitor),
            _ => Err(self.expected(&"a whole number", "")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Word(text) | Value::Text(text) => self.with_span(visitor.visit_str(text)),
            Value::Null | Value::List(_) | Value::Map(_) => Err(self.expected(&visitor, "")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    /// A key that is written has a value: an empty one is an error, not the default.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == SPANNED {
            return visitor.visit_seq(ReadAttempts::new(self));
        }
        if name == OR_OFF {
            return match &self.node.value {
                Value::Text(text) if text == "off" => visitor.visit_none(),
                _ => visitor.visit_some(self),
            };
        }
        if name == ATTRIBUTE {
            let (Value::Word(text) | Value::Text(text)) = &self.node.value else {
                return Err(self.expected(&visitor, ""));
            };
            let attributes = attributes();
            let texts = std::iter::once(text.as_str()).chain(attributes.iter());
            return self.with_span(visitor.visit_seq(SeqDeserializer::new(texts)));
        }
        if name == ONE_OR_MORE {
            return match self.node.value {
                Value::List(_) => self.deserialize_any(visitor),
                _ => visitor.visit_seq(SeqDeserializer::new([self].into_iter())),
            };
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value {
            Value::List(_) => self.deserialize_any(visitor),
            _ => Err(self.expected(&"a list", "write `[one, two]`, or `- one` a line")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value {
            Value::Map(_) => self.deserialize_any(visitor),
            _ => {
                Err(self.expected(&visitor, "write `key: value` a line, each with the same indent"))
            }
        }
    }

    /// Text is offered too, for short forms; an empty value is all defaults.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Map(entries) => {
                self.with_span(self.visit_map(self.fields(entries, fields), visitor))
            }
            Value::Null => self.with_span(self.visit_map(Vec::new(), visitor)),
            Value::Word(_) | Value::Text(_) => self.deserialize_str(visitor),
            Value::List(_) => Err(self.expected(&visitor, "")),
        }
    }

    /// `name`, or `{ name: … }` with one key.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let variant = match &self.node.value {
            Value::Word(_) | Value::Text(_) => Variant { name: self, content: None },
            Value::Map(entries) => {
                let entries = self.entries(entries);
                let [Entry { key, value, .. }] = entries.as_slice() else {
                    let found = format!("expected one key, found {}", entries.len());
                    return self.with_span(Err(de::Error::custom(found)));
                };
                Variant { name: *key, content: Some(*value) }
            }
            Value::Null | Value::List(_) => return Err(self.expected(&visitor, "")),
        };
        let place = variant.name;
        place.with_span(visitor.visit_enum(variant))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct
    }
}

impl<'de> IntoDeserializer<'de, Error> for Reader<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
