//! Accesses that visitors get: read attempts, entries, variants.

use super::{Reader, error::Error};
use serde::de::{
    self, IntoDeserializer, Visitor,
    value::{BoolDeserializer, BorrowedStrDeserializer, SeqDeserializer},
};
use std::vec;
use values::{Node, Span, Value};

/// A key and its value.
#[derive(Clone, Copy)]
pub(super) struct Entry<'de> {
    pub(super) key: Reader<'de>,
    pub(super) value: Reader<'de>,
    /// The correct spelling of a misspelt key.
    pub(super) corrected: Option<&'static str>,
}

impl<'de> Entry<'de> {
    pub(super) fn name(self) -> &'de str {
        self.corrected.unwrap_or(self.key.node.as_text())
    }
}

/// The maximum number of attempts to read a value.
const MAX_ATTEMPTS: u32 = 100;

/// Yields the span of a value, then the value, or nothing if it is invalid, and then whether it is
/// complete; and so on, while more errors may be found.
pub(super) struct ReadAttempts<'de> {
    reader: Reader<'de>,
    next: Next,
    more: u32,
}

#[derive(Clone, Copy)]
enum Next {
    Place,
    Value,
    Whole(bool),
}

impl<'de> ReadAttempts<'de> {
    pub(super) fn new(reader: Reader<'de>) -> Self {
        Self { reader, next: Next::Place, more: MAX_ATTEMPTS }
    }
}

impl<'de> de::SeqAccess<'de> for ReadAttempts<'de> {
    type Error = Error;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        match self.next {
            Next::Place if self.more == 0 => return Ok(None),
            Next::Place => {
                self.next = Next::Value;
                let Span { file, line, column, width } = self.reader.at();
                let place = [file, line, column, width].into_iter();
                let place = SeqDeserializer::<_, Error>::new(place);
                return seed.deserialize(place).map(Some);
            }
            Next::Whole(whole) => {
                self.next = Next::Place;
                let whole: BoolDeserializer<Error> = whole.into_deserializer();
                return seed.deserialize(whole).map(Some);
            }
            Next::Value => {}
        }
        // Without its invalid parts it is not complete.
        self.next = Next::Whole(self.more == MAX_ATTEMPTS);
        match seed.deserialize(self.reader) {
            Ok(value) => {
                self.more = 0;
                Ok(Some(value))
            }
            Err(error) => {
                self.more = if self.reader.report_error(error) { self.more - 1 } else { 0 };
                Ok(None)
            }
        }
    }
}

pub(super) struct Entries<'de> {
    rest: vec::IntoIter<Entry<'de>>,
    value: Option<Reader<'de>>,
}

impl<'de> Entries<'de> {
    pub(super) fn new(entries: Vec<Entry<'de>>) -> Self {
        Self { rest: entries.into_iter(), value: None }
    }
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(entry) = self.rest.next() else { return Ok(None) };
        self.value = Some(entry.value);
        match entry.corrected {
            Some(name) => seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some),
            None => seed.deserialize(entry.key).map(Some),
        }
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().ok_or_else(|| de::Error::custom("a value without a key"))?;
        seed.deserialize(value)
    }
}

pub(super) struct Variant<'de> {
    pub(super) name: Reader<'de>,
    pub(super) content: Option<Reader<'de>>,
}

impl<'de> de::EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        Ok((seed.deserialize(self.name)?, self))
    }
}

/// The content of a variant that is only a name.
const NOTHING: Node = Node { at: Span::NOWHERE, value: Value::Null };

impl<'de> de::VariantAccess<'de> for Variant<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(self.name.expected(&"just a word", "it has no settings of its own")),
        }
    }

    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        let key = Some(self.name.node.at);
        let nothing = Reader { node: &NOTHING, key, report: self.name.report };
        seed.deserialize(self.content.unwrap_or(nothing))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("no variant of a config is a tuple"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Err(de::Error::custom("settings have a type of their own"))
    }
}
