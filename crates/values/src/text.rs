//! Values that a file contains as text.

use crate::{Diagnostic, to_serde_error};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::{borrow::Cow, fmt, marker::PhantomData, ops::Deref};

/// A value that a file contains as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<T> Deref for Text<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A type read from text, with its JSON schema.
pub trait FromText: Sized {
    /// What is expected, as the end of "expected …".
    const EXPECTED: &str;

    /// Reads the text.
    ///
    /// # Errors
    /// If the text is invalid, with a hint.
    fn from_text(text: &str) -> Result<Self, Diagnostic>;

    /// Its JSON Schema.
    fn schema() -> Schema;
}

/// A value, or `off`.
pub type OrOff<T> = Option<T>;

impl<T: FromText> FromText for OrOff<T> {
    const EXPECTED: &str = T::EXPECTED;

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        match text {
            "off" => Ok(None),
            _ if is_nothing(text) => {
                let message = format!("`{text}` is out of range");
                Err(Diagnostic::new(message, "to do without, write `off`"))
            }
            _ => T::from_text(text).map(Some),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [T::schema(), { "const": "off" }] })
    }
}

/// Whether this is 0, with or without a unit: `0`, `0s`, `0.0ms`.
fn is_nothing(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    number.starts_with('0') && number.bytes().all(|b| matches!(b, b'0' | b'.'))
}

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromText> Visitor<'_> for TextVisitor<T> {
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<T>, E> {
        T::from_text(text).map(Text).map_err(to_serde_error)
    }

    // Numbers of a config arrive as text, as they were written; those of JSON do not.
    fn visit_u64<E: Error>(self, number: u64) -> Result<Text<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Text<T>, E> {
        self.visit_str(&number.to_string())
    }
}

impl<T: FromText> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::EXPECTED.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}
