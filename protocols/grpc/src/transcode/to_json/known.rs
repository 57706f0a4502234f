//! The well-known types, which have a special JSON form.

use super::{PresentField, PrintResult, Printer, content, each, invalid, seen};
use crate::transcode::{
    field::{ANY_DEPTH, Field, WellKnown, type_name},
    wire::Payload,
};
use prost_reflect::{
    Kind, MessageDescriptor,
    prost_types::{Duration, Timestamp},
};

/// The years 1 to 9999, in seconds.
const TIMES: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Some 10,000 years, in seconds.
const LONGEST: u64 = 315_576_000_000;
const NANOS: u32 = 999_999_999;

impl Printer<'_> {
    pub(super) fn known(
        &mut self,
        known: WellKnown,
        message: &MessageDescriptor,
        pieces: &[&[u8]],
        depth: usize,
    ) -> PrintResult {
        let fields = seen(message, pieces)?;
        let first = fields.iter().find(|it| it.slot.number == 1);
        match (known, first) {
            (WellKnown::Any, _) => self.any(&fields, depth),
            (WellKnown::Timestamp | WellKnown::Duration, _) => self.time(known, &fields),
            (WellKnown::Value, _) => self.json(&fields, pieces, depth),
            (WellKnown::Empty, _) | (WellKnown::Struct, None) => self.raw("{}"),
            (WellKnown::List, None) => self.raw("[]"),
            (WellKnown::FieldMask, None) => self.raw("\"\""),
            (WellKnown::FieldMask, Some(paths)) => self.mask(paths, pieces),
            (WellKnown::Struct | WellKnown::List | WellKnown::Wrapper, Some(it)) => {
                self.value(it, pieces, depth)
            }
            (WellKnown::Wrapper, None) => match Field::numbered(message, 1) {
                Some(slot) => self.default(&slot),
                None => Err(invalid("the descriptor set lacks a wrapper's field")),
            },
        }
    }

    fn raw(&mut self, text: &str) -> PrintResult {
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn time(&mut self, known: WellKnown, fields: &[PresentField<'_>]) -> PrintResult {
        let number = |number: u32| match fields.iter().find(|it| it.slot.number == number) {
            Some(PresentField { last: Payload::Varint(value), .. }) => Ok(value.cast_signed()),
            Some(_) => Err(invalid("a time has another type on the wire")),
            None => Ok(0),
        };
        let seconds = number(1)?;
        let nanos = i32::try_from(number(2)?).ok().filter(|it| it.unsigned_abs() <= NANOS);
        match (known, nanos) {
            (WellKnown::Timestamp, Some(nanos)) if TIMES.contains(&seconds) && nanos >= 0 => {
                self.quoted(Timestamp { seconds, nanos });
            }
            (WellKnown::Duration, Some(nanos)) if seconds.unsigned_abs() <= LONGEST => {
                self.quoted(Duration { seconds, nanos });
            }
            _ => return Err(invalid("a time is out of range")),
        }
        Ok(())
    }

    /// Writes paths separated by commas, in camel case.
    fn mask(&mut self, paths: &PresentField<'_>, pieces: &[&[u8]]) -> PrintResult {
        let mut first = true;
        self.out.push(b'"');
        each(paths, pieces, |payload| {
            self.comma(&mut first)?;
            let mut upper = false;
            for &byte in content(payload)? {
                match (byte, upper) {
                    (b'_', false) => upper = true,
                    (b'a'..=b'z', true) => {
                        self.out.push(byte.to_ascii_uppercase());
                        upper = false;
                    }
                    (b'a'..=b'z' | b'0'..=b'9' | b'.', false) => self.out.push(byte),
                    _ => return Err(invalid("a field mask has a name that has no camel case")),
                }
            }
            match upper {
                true => Err(invalid("a field mask has a name that has no camel case")),
                false => Ok(()),
            }
        })?;
        self.out.push(b'"');
        Ok(())
    }

    /// Writes the one field of a `google.protobuf.Value`.
    fn json(&mut self, fields: &[PresentField<'_>], pieces: &[&[u8]], depth: usize) -> PrintResult {
        match fields.first() {
            Some(PresentField { slot, last: Payload::Fixed64(bits), .. })
                if slot.kind == Kind::Double && !f64::from_bits(*bits).is_finite() =>
            {
                Err(invalid("a `google.protobuf.Value` is not a finite number"))
            }
            Some(seen) => self.value(seen, pieces, depth),
            None => self.raw("null"),
        }
    }

    /// Writes a `google.protobuf.Any`: its type and its message.
    fn any(&mut self, fields: &[PresentField<'_>], depth: usize) -> PrintResult {
        let bytes = |number: u32| match fields.iter().find(|it| it.slot.number == number) {
            Some(seen) => content(seen.last),
            None => Ok(&[][..]),
        };
        let url = std::str::from_utf8(bytes(1)?).map_err(|_| invalid("a string is not UTF-8"))?;
        self.any_of(url, bytes(2)?, depth)
    }

    /// Writes a message with its type, as `Any` does.
    ///
    /// # Errors
    /// As of [`message`](Self::message), or nothing is known of its type.
    pub(crate) fn any_of(&mut self, url: &str, bytes: &[u8], depth: usize) -> PrintResult {
        if url.is_empty() && bytes.is_empty() {
            return self.raw("{}");
        }
        let name = type_name(url).map_err(invalid)?;
        let inner = self.pool.get_message_by_name(name);
        let inner = inner.ok_or_else(|| invalid(format!("message '{name}' not found")))?;
        self.raw("{\"@type\":")?;
        self.text(url)?;
        let depth = depth + ANY_DEPTH;
        if WellKnown::of(&inner).is_some() {
            self.raw(",\"value\":")?;
            self.message(&inner, &[bytes], depth)?;
        } else if depth > crate::transcode::field::MAX_DEPTH {
            return Err(invalid("it is too deep"));
        } else {
            self.fields(&inner, &[bytes], depth, false)?;
        }
        self.raw("}")
    }
}
