//! Writes scalars: numbers, text, bytes and enums.

use super::{PrintResult, Printer, invalid};
use crate::transcode::{field::is_null, wire::Payload};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost_reflect::{EnumDescriptor, Kind};
use std::io::Write as _;

impl Printer<'_> {
    /// Writes one value.
    pub(super) fn scalar(&mut self, kind: &Kind, payload: Payload<'_>) -> PrintResult {
        match (kind, payload) {
            (Kind::String, Payload::Bytes(bytes)) => {
                let text = std::str::from_utf8(bytes);
                self.text(text.map_err(|_| invalid("a string is not UTF-8"))?)
            }
            (Kind::Bytes, Payload::Bytes(bytes)) => {
                self.out.push(b'"');
                let from = self.out.len();
                self.out.resize(from + bytes.len().div_ceil(3) * 4, 0);
                let written = STANDARD.encode_slice(bytes, &mut self.out[from..]);
                written.map_err(|error| invalid(error.to_string()))?;
                self.out.push(b'"');
                Ok(())
            }
            (_, Payload::Varint(value)) => self.varint(kind, value),
            (_, Payload::Fixed32(value)) => self.fixed32(kind, value),
            (_, Payload::Fixed64(value)) => self.fixed64(kind, value),
            _ => Err(mistyped()),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "decoders take the low 32 bits")]
    fn varint(&mut self, kind: &Kind, value: u64) -> PrintResult {
        match kind {
            Kind::Bool => self.plain(value != 0),
            Kind::Int32 => self.plain(value as u32 as i32),
            Kind::Uint32 => self.plain(value as u32),
            Kind::Sint32 => self.plain(unzigzag(value as u32 as u64) as i32),
            Kind::Int64 => self.quoted(value.cast_signed()),
            Kind::Uint64 => self.quoted(value),
            Kind::Sint64 => self.quoted(unzigzag(value)),
            Kind::Enum(of) => return self.named(of, value as u32 as i32),
            _ => return Err(mistyped()),
        }
        Ok(())
    }

    fn fixed32(&mut self, kind: &Kind, value: u32) -> PrintResult {
        match kind {
            Kind::Fixed32 => self.plain(value),
            Kind::Sfixed32 => self.plain(value.cast_signed()),
            Kind::Float => {
                let value = f32::from_bits(value);
                match value.is_finite() {
                    true => return self.number(&value),
                    false => self.infinite(value.into()),
                }
            }
            _ => return Err(mistyped()),
        }
        Ok(())
    }

    fn fixed64(&mut self, kind: &Kind, value: u64) -> PrintResult {
        match kind {
            Kind::Fixed64 => self.quoted(value),
            Kind::Sfixed64 => self.quoted(value.cast_signed()),
            Kind::Double => {
                let value = f64::from_bits(value);
                match value.is_finite() {
                    true => return self.number(&value),
                    false => self.infinite(value),
                }
            }
            _ => return Err(mistyped()),
        }
        Ok(())
    }

    fn named(&mut self, of: &EnumDescriptor, number: i32) -> PrintResult {
        if is_null(of) {
            self.out.extend_from_slice(b"null");
            return Ok(());
        }
        match of.get_value(number) {
            Some(value) => self.text(value.name())?,
            None => self.plain(number),
        }
        Ok(())
    }

    /// Writes a float in its shortest form.
    pub(super) fn number(&mut self, value: &impl serde::Serialize) -> PrintResult {
        let written = serde_json::to_writer(&mut self.out, value);
        written.map_err(|error| invalid(error.to_string()))?;
        // Like protobuf's own printers, write whole numbers without a point.
        if self.out.ends_with(b".0") {
            self.out.truncate(self.out.len() - 2);
        }
        Ok(())
    }

    fn infinite(&mut self, value: f64) {
        self.out.extend_from_slice(match value {
            f64::INFINITY => b"\"Infinity\"",
            f64::NEG_INFINITY => b"\"-Infinity\"",
            _ => b"\"NaN\"",
        });
    }

    fn plain(&mut self, value: impl std::fmt::Display) {
        // Writing to a `Vec` can't fail.
        _ = write!(self.out, "{value}");
    }

    /// Quoted, because JavaScript's numbers can't hold 64 bits.
    pub(super) fn quoted(&mut self, value: impl std::fmt::Display) {
        self.out.push(b'"');
        self.plain(value);
        self.out.push(b'"');
    }
}

fn mistyped() -> super::PrintError {
    invalid("a field has another type on the wire")
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
