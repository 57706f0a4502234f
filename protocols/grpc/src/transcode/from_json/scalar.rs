//! Converts JSON scalars: numbers, text, bytes and enums.

use crate::transcode::{field::is_null, wire::MessageWriter};
use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_reflect::Kind;
use serde::de::{DeserializeSeed, Deserializer, Error, Unexpected, Visitor};
use std::fmt;

/// One value, without a tag.
pub(super) struct Scalar<'a> {
    pub(super) to: &'a mut MessageWriter,
    pub(super) kind: &'a Kind,
}

impl<'de> DeserializeSeed<'de> for Scalar<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for Scalar<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Double => "a 64-bit floating point value",
            Kind::Float => "a 32-bit floating point value",
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "a 32-bit signed integer",
            Kind::Uint32 | Kind::Fixed32 => "a 32-bit unsigned integer",
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "a 64-bit signed integer",
            Kind::Uint64 | Kind::Fixed64 => "a 64-bit unsigned integer",
            Kind::Bool => "a boolean",
            Kind::String => "a string",
            Kind::Bytes => "a base64-encoded string",
            Kind::Enum(_) => "an enum's name or number",
            Kind::Message(_) => "a message",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.kind {
            Kind::Enum(of) if is_null(of) => {
                self.to.varint(0);
                Ok(())
            }
            _ => Err(E::invalid_type(Unexpected::Unit, &self)),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.kind {
            Kind::Bool => {
                self.to.varint(value.into());
                Ok(())
            }
            _ => Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
    }

    fn visit_i64<E: Error>(mut self, value: i64) -> Result<(), E> {
        match self.integer(value.into()) {
            true => Ok(()),
            false => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }

    fn visit_u64<E: Error>(mut self, value: u64) -> Result<(), E> {
        match self.integer(value.into()) {
            true => Ok(()),
            false => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
        let written = match self.kind {
            Kind::Double | Kind::Float => self.float(value),
            // All 64-bit integers are far within this range.
            _ if value.fract() == 0.0 && value.abs() < 1e20 => self.integer(value as i128),
            _ => false,
        };
        match written {
            true => Ok(()),
            false => Err(E::invalid_value(Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        let written = match self.kind {
            Kind::Bool | Kind::Message(_) => false,
            Kind::String => {
                self.to.block(text.as_bytes());
                true
            }
            Kind::Bytes => match bytes(text) {
                Some(bytes) => {
                    self.to.block(&bytes);
                    true
                }
                None => false,
            },
            Kind::Enum(of) => match of.get_value_by_name(text) {
                Some(value) => self.integer(value.number().into()),
                None => {
                    return Err(E::custom(format_args!("unrecognized enum value '{text}'")));
                }
            },
            Kind::Double | Kind::Float => float(text).is_some_and(|value| self.float(value)),
            _ => text.parse().is_ok_and(|value| self.integer(value)),
        };
        match written {
            true => Ok(()),
            false => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

impl Scalar<'_> {
    /// Writes a number. Returns whether it fits.
    #[expect(clippy::cast_sign_loss, reason = "negative numbers are written so")]
    fn integer(&mut self, value: i128) -> bool {
        let long = i64::try_from(value);
        let short = i32::try_from(value);
        match (self.kind, long, short) {
            (Kind::Int32 | Kind::Enum(_), _, Ok(it)) => self.to.varint(i64::from(it) as u64),
            (Kind::Int64, Ok(it), _) => self.to.varint(it as u64),
            (Kind::Sint32, Ok(it), Ok(_)) | (Kind::Sint64, Ok(it), _) => {
                self.to.varint((it << 1 ^ it >> 63) as u64);
            }
            (Kind::Sfixed32, _, Ok(it)) => self.to.bytes.extend(it.to_le_bytes()),
            (Kind::Sfixed64, Ok(it), _) => self.to.bytes.extend(it.to_le_bytes()),
            (Kind::Double | Kind::Float, ..) => return self.float(value as f64),
            (kind, ..) => return self.unsigned(kind, value),
        }
        true
    }

    fn unsigned(&mut self, kind: &Kind, value: i128) -> bool {
        match (kind, u64::try_from(value), u32::try_from(value)) {
            (Kind::Uint32, _, Ok(it)) => self.to.varint(it.into()),
            (Kind::Uint64, Ok(it), _) => self.to.varint(it),
            (Kind::Fixed32, _, Ok(it)) => self.to.bytes.extend(it.to_le_bytes()),
            (Kind::Fixed64, Ok(it), _) => self.to.bytes.extend(it.to_le_bytes()),
            _ => return false,
        }
        true
    }

    /// Writes a number. Returns whether it fits.
    #[expect(clippy::cast_possible_truncation, reason = "the range is looked at first")]
    fn float(&mut self, value: f64) -> bool {
        match self.kind {
            Kind::Double => self.to.bytes.extend(value.to_le_bytes()),
            Kind::Float if value.is_finite() && value.abs() > f32::MAX.into() => return false,
            _ => self.to.bytes.extend((value as f32).to_le_bytes()),
        }
        true
    }
}

/// Parses a float. A value that is too large is an error; only `Infinity` is infinite.
fn float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok().filter(|value: &f64| value.is_finite()),
    }
}

/// Base64, of either alphabet, padded or not.
fn bytes(text: &str) -> Option<Vec<u8>> {
    const EITHER: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    static URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, EITHER);
    static PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, EITHER);
    let engine = if text.contains(['-', '_']) { &URL } else { &PLAIN };
    engine.decode(text).ok()
}

/// The key of a map entry.
pub(super) struct MapKeyReader<'a> {
    pub(super) to: &'a mut MessageWriter,
    pub(super) kind: &'a Kind,
}

impl<'de> DeserializeSeed<'de> for MapKeyReader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for MapKeyReader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let scalar = Scalar { to: self.to, kind: self.kind };
        match (self.kind, text) {
            (Kind::Bool, "true" | "false") => scalar.visit_bool(text == "true"),
            _ => scalar.visit_str(text),
        }
    }
}
