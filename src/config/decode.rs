//! Fills the types of `file` from a tree. Every mistake is reported where it stands, and reading
//! goes on: unknown and repeated keys are skipped, a wrong `Located` value goes missing.

mod error;

pub(crate) use error::{did_you_mean, nearest};

use super::{
    located::{LOCATED, ONE_OR_MORE, OR_OFF},
    problem::{At, Report},
    yaml::{Node, Value},
};
use error::{Error, shortened};
use serde::{
    Deserialize,
    de::{
        self, Deserializer, IntoDeserializer, Visitor,
        value::{BorrowedStrDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use std::{cell::RefCell, collections::BTreeMap, vec};
use values::Fault;

/// Fills a `T`; `None` if not even its outline was right.
///
/// A value that reports its own mistake in the form `message\nhint` gets both shown.
pub(crate) fn decode<'de, T: Deserialize<'de>>(
    tree: &'de Node,
    report: &'de RefCell<Report>,
) -> Option<T> {
    Reader { node: tree, key: None, report }.read_or_report(T::deserialize)
}

#[derive(Clone, Copy)]
struct Reader<'de> {
    node: &'de Node,
    key: Option<At>,
    report: &'de RefCell<Report>,
}

impl<'de> Reader<'de> {
    fn at(self) -> At {
        self.node.place_under(self.key)
    }

    fn read_or_report<T>(self, read: impl FnOnce(Self) -> Result<T, Error>) -> Option<T> {
        match read(self) {
            Ok(value) => Some(value),
            Err(error) => {
                let at = error.at.unwrap_or(self.at());
                self.report.borrow_mut().fault(at, error.fault);
                None
            }
        }
    }

    /// Keys and values, without those keys that stand there for the second time.
    fn entries(self, entries: &'de [(Node, Node)]) -> Vec<Entry<'de>> {
        let mut seen = BTreeMap::new();
        let mut kept = Vec::new();
        for (key, value) in entries {
            let name = key.as_text();
            let first = *seen.entry(name).or_insert(key.at);
            if first == key.at {
                let entry = |node, under| Reader { node, key: under, report: self.report };
                let (key, value) = (entry(key, None), entry(value, Some(key.at)));
                kept.push(Entry { key, value, meant: None });
            } else {
                let message = format!("the key `{name}` stands here for the second time");
                let hint = format!("the first is in line {}; keep one of them", first.line);
                self.report.borrow_mut().add(key.at, message, hint);
            }
        }
        kept
    }

    /// The entries of a struct. A key that it does not have is reported; if it is plain which
    /// one was meant, it is read as that.
    fn fields(self, written: &'de [(Node, Node)], known: Names) -> Vec<Entry<'de>> {
        let (mut kept, strange): (Vec<_>, Vec<_>) =
            self.entries(written).into_iter().partition(|entry| known.contains(&entry.name()));
        for entry in strange {
            let name = entry.name();
            let near = nearest(name, known.iter().copied());
            let hint = match known {
                [] => "nothing can be set here".to_owned(),
                _ => format!("the keys here: {}", known.join(", ")),
            };
            let message = format!("unknown key `{name}`{}", did_you_mean(near));
            self.report.borrow_mut().add(entry.key.node.at, message, hint);
            if near.is_some_and(|near| kept.iter().all(|entry| entry.name() != near)) {
                kept.push(Entry { meant: near, ..entry });
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
        let fault = Fault::new(format!("expected {what}, found {found}"), hint);
        Error { at: Some(self.at()), fault }
    }

    fn visit_map<V: Visitor<'de>>(
        self,
        entries: Vec<Entry<'de>>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Entries { rest: entries.into_iter(), value: None })
    }

    fn located<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| Error { at: error.at.or(Some(self.at())), ..error })
    }
}

type Names = &'static [&'static str];

/// A key and its value.
#[derive(Clone, Copy)]
struct Entry<'de> {
    key: Reader<'de>,
    value: Reader<'de>,
    /// What the key should have been.
    meant: Option<&'static str>,
}

impl<'de> Entry<'de> {
    fn name(self) -> &'de str {
        self.meant.unwrap_or(self.key.node.as_text())
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.located(match &self.node.value {
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
                visitor.visit_seq(SeqDeserializer::new(items.iter().map(reader)))
            }
            Value::Map(entries) => self.visit_map(self.entries(entries), visitor),
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Word(word) if matches!(word.as_str(), "true" | "false") => {
                self.deserialize_any(visitor)
            }
            _ => Err(self.expected(&"`true` or `false`", "")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Word(text) | Value::Text(text) => self.located(visitor.visit_str(text)),
            Value::Null | Value::List(_) | Value::Map(_) => Err(self.expected(&visitor, "")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    /// A key that is there has a value: a forgotten one is a mistake, not the default.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == LOCATED {
            return visitor.visit_seq(Place { reader: self, told: false });
        }
        if name == OR_OFF {
            return match &self.node.value {
                Value::Text(text) if text == "off" => visitor.visit_none(),
                _ => visitor.visit_some(self),
            };
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

    /// Text is offered too, for what can be written in short; nothing at all is all defaults.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Map(entries) => {
                self.located(self.visit_map(self.fields(entries, fields), visitor))
            }
            Value::Null => self.located(self.visit_map(Vec::new(), visitor)),
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
                    return Err(Error { at: Some(self.at()), fault: Fault::new(found, "") });
                };
                Variant { name: *key, content: Some(*value) }
            }
            Value::Null | Value::List(_) => return Err(self.expected(&visitor, "")),
        };
        let place = variant.name;
        place.located(visitor.visit_enum(variant))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct
    }
}

impl<'de> IntoDeserializer<'de, Error> for Reader<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// First the place of a value, then the value, which goes missing if it is wrong.
struct Place<'de> {
    reader: Reader<'de>,
    told: bool,
}

impl<'de> de::SeqAccess<'de> for Place<'de> {
    type Error = Error;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.told {
            return Ok(self.reader.read_or_report(|reader| seed.deserialize(reader)));
        }
        self.told = true;
        let At { line, column, width } = self.reader.at();
        let place = SeqDeserializer::<_, Error>::new([line, column, width].into_iter());
        seed.deserialize(place).map(Some)
    }
}

struct Entries<'de> {
    rest: vec::IntoIter<Entry<'de>>,
    value: Option<Reader<'de>>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(entry) = self.rest.next() else { return Ok(None) };
        self.value = Some(entry.value);
        match entry.meant {
            Some(name) => seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some),
            None => seed.deserialize(entry.key).map(Some),
        }
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().ok_or_else(|| de::Error::custom("a value without a key"))?;
        seed.deserialize(value)
    }
}

struct Variant<'de> {
    name: Reader<'de>,
    content: Option<Reader<'de>>,
}

impl<'de> de::EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        Ok((seed.deserialize(self.name)?, self))
    }
}

/// What a variant holds where only its name was written.
const NOTHING: Node = Node { at: At::NOWHERE, value: Value::Null };

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
