//! Parses settings from JSON as a config does: text where a short form is allowed.

use crate::settings::Settings;
use serde::{
    Deserialize,
    de::{
        Deserializer, Error, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;

pub(super) fn read(json: Value) -> Result<Settings, serde_json::Error> {
    Settings::deserialize(Written(json))
}

struct Written(Value);

impl<'de> IntoDeserializer<'de, serde_json::Error> for Written {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Written {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(it) => visitor.visit_bool(it),
            Value::String(text) => visitor.visit_string(text),
            Value::Number(it) => match (it.as_u64(), it.as_i64(), it.as_f64()) {
                (Some(it), ..) => visitor.visit_u64(it),
                (_, Some(it), _) => visitor.visit_i64(it),
                (.., Some(it)) => visitor.visit_f64(it),
                _ => Err(Self::Error::custom("a number of no kind")),
            },
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Written)))
            }
            Value::Object(keys) => visitor
                .visit_map(MapDeserializer::new(keys.into_iter().map(|(k, v)| (k, Written(v))))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
