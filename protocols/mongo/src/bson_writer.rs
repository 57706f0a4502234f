//! Writes BSON documents (bsonspec.org, version 1.1).

use crate::element::kind;

/// A document or an array being written. Keys and texts must not contain NUL.
pub(crate) struct BsonWriter {
    /// The length, which [`BsonWriter::finish`] fills in, and the elements.
    bytes: Vec<u8>,
}

impl BsonWriter {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; 4] }
    }

    /// Appends an element whose value is already encoded.
    pub(crate) fn element(&mut self, kind: u8, key: &[u8], value: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(key);
        self.bytes.push(0);
        self.bytes.extend_from_slice(value);
    }

    /// Appends elements that are already encoded.
    pub(crate) fn elements(&mut self, elements: &[u8]) {
        self.bytes.extend_from_slice(elements);
    }

    pub(crate) fn double(&mut self, key: &str, value: f64) {
        self.element(kind::DOUBLE, key.as_bytes(), &value.to_le_bytes());
    }

    pub(crate) fn int32(&mut self, key: &str, value: i32) {
        self.element(kind::INT32, key.as_bytes(), &value.to_le_bytes());
    }

    pub(crate) fn int64(&mut self, key: &str, value: i64) {
        self.element(kind::INT64, key.as_bytes(), &value.to_le_bytes());
    }

    pub(crate) fn boolean(&mut self, key: &str, value: bool) {
        self.element(kind::BOOLEAN, key.as_bytes(), &[u8::from(value)]);
    }

    pub(crate) fn string(&mut self, key: &str, value: &str) {
        self.element(kind::STRING, key.as_bytes(), &string_value(value));
    }

    /// Appends binary data of the generic subtype.
    pub(crate) fn binary(&mut self, key: &str, value: &[u8]) {
        let len = value.len() as u32;
        self.element(kind::BINARY, key.as_bytes(), &[&len.to_le_bytes(), &[0][..], value].concat());
    }

    pub(crate) fn array(&mut self, key: &str, value: Self) {
        self.element(kind::ARRAY, key.as_bytes(), &value.finish());
    }

    /// The elements so far, encoded.
    pub(crate) fn into_elements(mut self) -> Vec<u8> {
        self.bytes.drain(..4);
        self.bytes
    }

    /// The encoded document.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(0);
        let len = self.bytes.len() as u32;
        self.set_len(len);
        self.bytes
    }

    /// The encoded document with a length of one byte more than it has, so that readers treat it
    /// as truncated.
    pub(crate) fn finish_truncated(mut self) -> Vec<u8> {
        self.bytes.push(0);
        let len = self.bytes.len() as u32 + 1;
        self.set_len(len);
        self.bytes
    }

    fn set_len(&mut self, len: u32) {
        self.bytes[..4].copy_from_slice(&len.to_le_bytes());
    }
}

/// An array of strings.
pub(crate) fn string_array<'a>(values: impl IntoIterator<Item = &'a str>) -> BsonWriter {
    let mut array = BsonWriter::new();
    for (index, value) in values.into_iter().enumerate() {
        array.string(&index.to_string(), value);
    }
    array
}

/// The value of a string element.
pub(crate) fn string_value(text: &str) -> Vec<u8> {
    let len = text.len() as u32 + 1;
    [&len.to_le_bytes(), text.as_bytes(), &[0]].concat()
}
