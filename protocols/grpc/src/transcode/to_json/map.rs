//! Maps: entries in any order; the last entry of a key wins.

use super::{
    PresentField, PrintError, PrintResult, Printer, content, each, invalid, scalar::unzigzag, seen,
};
use crate::transcode::wire::{Payload, next};
use prost_reflect::{Kind, MessageDescriptor};

/// The key of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum MapKey<'a> {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Text(&'a str),
}

/// Entries to buffer before duplicates are dropped.
const ENTRIES: usize = 1024;

impl Printer<'_> {
    pub(super) fn map(
        &mut self,
        entry: &MessageDescriptor,
        all: &PresentField<'_>,
        pieces: &[&[u8]],
        depth: usize,
    ) -> PrintResult {
        let kind = entry.map_entry_key_field().kind();
        let value = entry.map_entry_value_field();
        let mut entries = Vec::new();
        let mut full = ENTRIES;
        each(all, pieces, |payload| {
            let bytes = content(payload)?;
            entries.push((key(&kind, bytes)?, bytes));
            if entries.len() == full {
                keep_last(&mut entries);
                full = ENTRIES.max(entries.len() * 2);
            }
            Ok(())
        })?;
        keep_last(&mut entries);
        let mut first = true;
        self.out.push(b'{');
        for (key, bytes) in entries {
            self.comma(&mut first)?;
            match key {
                MapKey::Bool(key) => self.quoted(key),
                MapKey::Signed(key) => self.quoted(key),
                MapKey::Unsigned(key) => self.quoted(key),
                MapKey::Text(key) => self.text(key)?,
            }
            self.out.push(b':');
            let pieces = [bytes];
            let fields = seen(entry, &pieces)?;
            match (fields.iter().find(|it| it.slot.number == 2), value.kind()) {
                (Some(value), _) => self.value(value, &pieces, depth + 1)?,
                (None, Kind::Message(message)) => self.message(&message, &[], depth + 2)?,
                (None, kind) => self.scalar(&kind, Payload::nothing(&kind))?,
            }
        }
        self.out.push(b'}');
        Ok(())
    }
}

/// Keeps only the last entry of each key.
fn keep_last(entries: &mut Vec<(MapKey<'_>, &[u8])>) {
    entries.reverse();
    entries.sort_by_key(|(key, _)| *key);
    entries.dedup_by_key(|(key, _)| *key);
}

fn key<'a>(kind: &Kind, bytes: &'a [u8]) -> Result<MapKey<'a>, PrintError> {
    let mut rest = bytes;
    let mut last = Payload::nothing(kind);
    while let Some((number, payload)) = next(&mut rest)? {
        if number == 1 {
            last = payload;
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "decoders take the low 32 bits")]
    Ok(match (kind, last) {
        (Kind::String, Payload::Bytes(text)) => {
            MapKey::Text(std::str::from_utf8(text).map_err(|_| invalid("a string is not UTF-8"))?)
        }
        (Kind::Bool, Payload::Varint(it)) => MapKey::Bool(it != 0),
        (Kind::Int32, Payload::Varint(it)) => MapKey::Signed((it as i32).into()),
        (Kind::Int64, Payload::Varint(it)) => MapKey::Signed(it.cast_signed()),
        (Kind::Sint32, Payload::Varint(it)) => MapKey::Signed(unzigzag(it as u32 as u64)),
        (Kind::Sint64, Payload::Varint(it)) => MapKey::Signed(unzigzag(it)),
        (Kind::Uint32, Payload::Varint(it)) => MapKey::Unsigned((it as u32).into()),
        (Kind::Uint64, Payload::Varint(it)) => MapKey::Unsigned(it),
        (Kind::Fixed32, Payload::Fixed32(it)) => MapKey::Unsigned(it.into()),
        (Kind::Fixed64, Payload::Fixed64(it)) => MapKey::Unsigned(it),
        (Kind::Sfixed32, Payload::Fixed32(it)) => MapKey::Signed(it.cast_signed().into()),
        (Kind::Sfixed64, Payload::Fixed64(it)) => MapKey::Signed(it.cast_signed()),
        _ => return Err(invalid("a map's key has another type on the wire")),
    })
}
