//! The well-known types, which JSON writes in a way of their own.

use super::{Printed, Printer, Seen, content, each, seen, wrong};
use crate::transcode::{
    slot::{ANY_DEPTH, Known, Slot, type_name},
    wire::Payload,
};
use prost_reflect::{
    Kind, MessageDescriptor,
    prost_types::{Duration, Timestamp},
};

/// From the year 1 to the year 9999, in seconds.
const TIMES: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Some 10,000 years, in seconds.
const LONGEST: u64 = 315_576_000_000;
const NANOS: u32 = 999_999_999;

impl Printer<'_> {
    pub(super) fn known(
        &mut self,
        known: Known,
        message: &MessageDescriptor,
        pieces: &[&[u8]],
        depth: usize,
    ) -> Printed {
        let fields = seen(message, pieces)?;
        let first = fields.iter().find(|it| it.slot.number == 1);
        match (known, first) {
            (Known::Any, _) => self.any(&fields, depth),
            (Known::Timestamp | Known::Duration, _) => self.time(known, &fields),
            (Known::Value, _) => self.json(&fields, pieces, depth),
            (Known::Empty, _) | (Known::Struct, None) => self.raw("{}"),
            (Known::List, None) => self.raw("[]"),
            (Known::FieldMask, None) => self.raw("\"\""),
            (Known::FieldMask, Some(paths)) => self.mask(paths, pieces),
            (Known::Struct | Known::List | Known::Wrapper, Some(it)) => {
                self.value(it, pieces, depth)
            }
            (Known::Wrapper, None) => match Slot::numbered(message, 1) {
                Some(slot) => self.default(&slot),
                None => Err(wrong("the descriptor set lacks a wrapper's field")),
            },
        }
    }

    fn raw(&mut self, text: &str) -> Printed {
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn time(&mut self, known: Known, fields: &[Seen<'_>]) -> Printed {
        let number = |number: u32| match fields.iter().find(|it| it.slot.number == number) {
            Some(Seen { last: Payload::Varint(value), .. }) => Ok(value.cast_signed()),
            Some(_) => Err(wrong("a time has another type on the wire")),
            None => Ok(0),
        };
        let seconds = number(1)?;
        let nanos = i32::try_from(number(2)?).ok().filter(|it| it.unsigned_abs() <= NANOS);
        match (known, nanos) {
            (Known::Timestamp, Some(nanos)) if TIMES.contains(&seconds) && nanos >= 0 => {
                self.quoted(Timestamp { seconds, nanos });
            }
            (Known::Duration, Some(nanos)) if seconds.unsigned_abs() <= LONGEST => {
                self.quoted(Duration { seconds, nanos });
            }
            _ => return Err(wrong("a time is out of range")),
        }
        Ok(())
    }

    /// Paths with commas between them, in camel case.
    fn mask(&mut self, paths: &Seen<'_>, pieces: &[&[u8]]) -> Printed {
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
                    _ => return Err(wrong("a field mask has a name that has no camel case")),
                }
            }
            match upper {
                true => Err(wrong("a field mask has a name that has no camel case")),
                false => Ok(()),
            }
        })?;
        self.out.push(b'"');
        Ok(())
    }

    /// `google.protobuf.Value`: what its one field says.
    fn json(&mut self, fields: &[Seen<'_>], pieces: &[&[u8]], depth: usize) -> Printed {
        match fields.first() {
            Some(Seen { slot, last: Payload::Fixed64(bits), .. })
                if slot.kind == Kind::Double && !f64::from_bits(*bits).is_finite() =>
            {
                Err(wrong("a `google.protobuf.Value` is no finite number"))
            }
            Some(seen) => self.value(seen, pieces, depth),
            None => self.raw("null"),
        }
    }

    /// `google.protobuf.Any`: the message that it holds, and that message's type.
    fn any(&mut self, fields: &[Seen<'_>], depth: usize) -> Printed {
        let bytes = |number: u32| match fields.iter().find(|it| it.slot.number == number) {
            Some(seen) => content(seen.last),
            None => Ok(&[][..]),
        };
        let url = std::str::from_utf8(bytes(1)?).map_err(|_| wrong("a string is no UTF-8"))?;
        self.any_of(url, bytes(2)?, depth)
    }

    /// Writes a message with its type, as `Any` does.
    ///
    /// # Errors
    /// As of [`message`](Self::message), or nothing is known of its type.
    pub(crate) fn any_of(&mut self, url: &str, bytes: &[u8], depth: usize) -> Printed {
        if url.is_empty() && bytes.is_empty() {
            return self.raw("{}");
        }
        let name = type_name(url).map_err(wrong)?;
        let inner = self.pool.get_message_by_name(name);
        let inner = inner.ok_or_else(|| wrong(format!("message '{name}' not found")))?;
        self.raw("{\"@type\":")?;
        self.text(url)?;
        let depth = depth + ANY_DEPTH;
        if Known::of(&inner).is_some() {
            self.raw(",\"value\":")?;
            self.message(&inner, &[bytes], depth)?;
        } else if depth > crate::transcode::slot::DEPTH {
            return Err(wrong("it is too deep"));
        } else {
            self.fields(&inner, &[bytes], depth, false)?;
        }
        self.raw("}")
    }
}
