//! Values that know their span and survive errors.

use crate::{Span, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer, SeqAccess, Visitor};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// A value with its span. Reading one never fails: an error is reported and the value is missing,
/// so that the rest can be read and checked.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// Its span.
    pub at: Span,
    /// `None` if it was invalid, which has been reported.
    pub value: Option<T>,
}

/// Asks `decode` for the span too.
pub const SPANNED: &str = "$spanned";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SPANNED, SpannedVisitor(PhantomData))
    }
}

struct SpannedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SpannedVisitor<T> {
    type Value = Spanned<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value and its place")
    }

    // Only `decode` knows the name; other formats offer the value itself.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, any: D) -> Result<Spanned<T>, D::Error> {
        Ok(Spanned { at: Span::NOWHERE, value: Some(T::deserialize(any)?) })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Spanned<T>, E> {
        self.visit_newtype_struct(IntoDeserializer::<E>::into_deserializer(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tries: A) -> Result<Spanned<T>, A::Error> {
        let PartlySpanned { at, value, .. } = read(&mut tries)?;
        Ok(Spanned { at, value })
    }
}

/// Reads a value, repeatedly while it is invalid, without its parts that are known to be invalid.
fn read<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    tries: &mut A,
) -> Result<PartlySpanned<T>, A::Error> {
    let mut read = PartlySpanned { at: Span::NOWHERE, value: None, rest: None };
    while let Some(at) = tries.next_element()? {
        let found = tries.next_element()?;
        let whole = tries.next_element()?.unwrap_or(false);
        let (value, rest) = if whole { (found, None) } else { (None, found) };
        read = PartlySpanned { at, value, rest };
    }
    Ok(read)
}

/// A value with its span, as [`Spanned`], and the valid rest of it if a part was invalid, for
/// further checks.
#[derive(Clone, Debug)]
pub struct PartlySpanned<T> {
    /// Its span.
    pub at: Span,
    /// `None` if a part of it was invalid, which has been reported.
    pub value: Option<T>,
    /// The valid rest in that case.
    pub rest: Option<T>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PartlySpanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SPANNED, PartlySpannedVisitor(PhantomData))
    }
}

struct PartlySpannedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PartlySpannedVisitor<T> {
    type Value = PartlySpanned<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value and its place")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tries: A) -> Result<PartlySpanned<T>, A::Error> {
        read(&mut tries)
    }
}

impl<T: JsonSchema> JsonSchema for PartlySpanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// An optional key whose value is written as text.
pub type Opt<T> = Option<Spanned<Text<T>>>;

/// The value, if it is set and valid.
pub fn opt_value<T>(value: Opt<T>) -> Option<T> {
    let Spanned { value, .. } = value?;
    value.map(|Text(value)| value)
}
