//! A walk over a BSON document that may be cut short: it yields what is here, then stops.

/// BSON's element types (bsonspec.org), as far as they are looked at.
pub(crate) mod kind {
    pub(crate) const DOUBLE: u8 = 0x01;
    pub(crate) const STRING: u8 = 0x02;
    pub(crate) const DOCUMENT: u8 = 0x03;
    pub(crate) const ARRAY: u8 = 0x04;
    pub(crate) const BOOL: u8 = 0x08;
    pub(crate) const INT32: u8 = 0x10;
    pub(crate) const INT64: u8 = 0x12;
}

/// One element of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'b> {
    pub(crate) kind: u8,
    pub(crate) key: &'b [u8],
    /// The value's bytes as far as they are here.
    pub(crate) value: &'b [u8],
}

impl<'b> Element<'b> {
    /// A string; `None` if it is none, or not all here, or no UTF-8.
    pub(crate) fn text(&self) -> Option<&'b str> {
        if self.kind != kind::STRING {
            return None;
        }
        let len = (u32_at(self.value, 0)? as usize).checked_sub(1)?;
        std::str::from_utf8(self.value.get(4..4_usize.checked_add(len)?)?).ok()
    }

    /// The bytes of binary data.
    pub(crate) fn binary(&self) -> Option<&'b [u8]> {
        if self.kind != 0x05 {
            return None;
        }
        self.value.get(5..5_usize.checked_add(u32_at(self.value, 0)? as usize)?)
    }

    /// A number of any type, rounded towards zero; booleans count as 0 and 1.
    pub(crate) fn number(&self) -> Option<i64> {
        number(self.kind, self.value)
    }

    /// The elements of a document or an array.
    pub(crate) fn elements(&self) -> Option<Elements<'b>> {
        matches!(self.kind, kind::DOCUMENT | kind::ARRAY).then(|| elements(self.value))
    }
}

/// The number in `value`, if a value of this kind is one.
pub(crate) fn number(kind: u8, value: &[u8]) -> Option<i64> {
    match kind {
        kind::DOUBLE => value.get(..8)?.try_into().ok().map(|v| f64::from_le_bytes(v) as i64),
        kind::INT64 => value.get(..8)?.try_into().ok().map(i64::from_le_bytes),
        kind::INT32 => value.get(..4)?.try_into().ok().map(|v| i32::from_le_bytes(v).into()),
        kind::BOOL => value.first().map(|v| i64::from(*v != 0)),
        _ => None,
    }
}

/// How many bytes a value takes, where its kind alone tells.
pub(crate) fn fixed(kind: u8) -> Option<u32> {
    match kind {
        0x01 | 0x09 | 0x11 | 0x12 => Some(8),
        0x06 | 0x0A | 0x7F | 0xFF => Some(0),
        0x07 => Some(12),
        0x08 => Some(1),
        0x10 => Some(4),
        0x13 => Some(16),
        _ => None,
    }
}

/// How many bytes a value takes that begins with this length, itself included.
pub(crate) fn prefixed(kind: u8, length: u32) -> Option<u32> {
    match kind {
        0x02 | 0x0D | 0x0E if length >= 1 => length.checked_add(4),
        0x03 | 0x04 if length >= 5 => Some(length),
        0x0F if length >= 14 => Some(length),
        0x05 => length.checked_add(5),
        0x0C if length >= 1 => length.checked_add(16),
        _ => None,
    }
}

/// The elements of the document whose length prefix `document` begins with.
pub(crate) fn elements(document: &[u8]) -> Elements<'_> {
    let len = u32_at(document, 0).map_or(0, |len| len as usize).min(document.len());
    Elements { rest: document.get(4..len).unwrap_or_default() }
}

/// See [`elements`].
#[derive(Clone, Debug)]
pub(crate) struct Elements<'b> {
    rest: &'b [u8],
}

impl<'b> Iterator for Elements<'b> {
    type Item = Element<'b>;

    fn next(&mut self) -> Option<Element<'b>> {
        let (&kind, rest) = self.rest.split_first().filter(|(kind, _)| **kind != 0)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (key, rest) = (rest.get(..end)?, rest.get(end + 1..)?);
        let len = match fixed(kind) {
            Some(len) => len as usize,
            None if kind == 0x0B => regex(rest)?,
            None => prefixed(kind, u32_at(rest, 0)?)? as usize,
        };
        let (value, rest) = rest.split_at(len.min(rest.len()));
        self.rest = rest;
        Some(Element { kind, key, value })
    }
}

/// A regular expression is two NUL-terminated strings.
fn regex(bytes: &[u8]) -> Option<usize> {
    let pattern = bytes.iter().position(|byte| *byte == 0)? + 1;
    let options = bytes.get(pattern..)?.iter().position(|byte| *byte == 0)? + 1;
    Some(pattern + options)
}

/// The little-endian number at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, doc, oid::ObjectId, spec::BinarySubtype};

    fn every_kind() -> bson::Document {
        doc! {
            "double": 1.5, "string": "text", "document": {"a": 1}, "array": [1, 2], "null": null,
            "binary": Bson::Binary(bson::Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2, 3] }),
            "id": ObjectId::from_bytes([7; 12]), "bool": true, "date": bson::DateTime::from_millis(5),
            "regex": Bson::RegularExpression(bson::Regex {
                pattern: "a.b".try_into().unwrap(), options: "i".try_into().unwrap()
            }),
            "code": Bson::JavaScriptCode("x".into()), "symbol": Bson::Symbol("s".into()),
            "scoped": Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope {
                code: "x".into(), scope: doc! {"y": 1}
            }),
            "int": 42, "time": Bson::Timestamp(bson::Timestamp { time: 1, increment: 2 }), "long": 42_i64,
            "decimal": Bson::Decimal128("1.5".parse().unwrap()), "min": Bson::MinKey, "max": Bson::MaxKey,
            "undefined": Bson::Undefined, "last": "one"
        }
    }

    #[test]
    fn every_kind_of_value_is_stepped_over() {
        let document = every_kind();
        let bytes = document.to_vec().unwrap();
        let keys: Vec<_> = elements(&bytes).map(|e| String::from_utf8_lossy(e.key)).collect();
        assert_eq!(keys, document.keys().collect::<Vec<_>>());
        let find = |key: &str| elements(&bytes).find(|e| e.key == key.as_bytes()).unwrap();
        assert_eq!(find("last").text(), Some("one"));
        assert_eq!(find("double").number(), Some(1));
        assert_eq!(find("int").number(), Some(42));
        assert_eq!(find("long").number(), Some(42));
        assert_eq!(find("bool").number(), Some(1));
        assert_eq!(find("binary").binary(), Some(&[1, 2, 3][..]));
        assert_eq!(find("array").elements().unwrap().count(), 2);
    }

    #[test]
    fn a_cut_document_yields_what_is_here() {
        let bytes = every_kind().to_vec().unwrap();
        let whole: Vec<_> = elements(&bytes).collect();
        for cut in 0..bytes.len() {
            let here: Vec<_> = elements(&bytes[..cut]).collect();
            for (part, all) in here.iter().zip(&whole) {
                assert_eq!((part.kind, part.key), (all.kind, all.key));
                assert!(all.value.starts_with(part.value));
            }
            assert!(here.len() <= whole.len());
        }
    }
}
