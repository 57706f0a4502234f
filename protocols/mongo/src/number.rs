//! The lengths and the numbers of BSON values.

use crate::element::kind;

/// The number in a value of this kind, rounded towards zero; booleans count as 0 and 1.
pub(crate) fn number(kind: u8, value: &[u8]) -> Option<i64> {
    match kind {
        kind::DOUBLE => value.first_chunk().map(|v| f64::from_le_bytes(*v) as i64),
        kind::INT64 => value.first_chunk().map(|v| i64::from_le_bytes(*v)),
        kind::INT32 => value.first_chunk().map(|v| i32::from_le_bytes(*v).into()),
        kind::BOOLEAN => value.first().map(|v| i64::from(*v != 0)),
        _ => None,
    }
}

/// The length of a value in bytes, if its type alone determines it.
#[inline]
pub(crate) fn fixed_len(kind: u8) -> Option<u32> {
    let len = FIXED_LEN[usize::from(kind)];
    (len != VARIABLE).then_some(u32::from(len))
}

/// Stands for values whose length depends on more than their type, and for types that do not exist.
const VARIABLE: u8 = u8::MAX;

/// The length of the values of each type.
static FIXED_LEN: [u8; 256] = {
    let mut len = [VARIABLE; 256];
    let by_kind = [
        (kind::DOUBLE, 8),
        (kind::DATE, 8),
        (kind::TIMESTAMP, 8),
        (kind::INT64, 8),
        (kind::UNDEFINED, 0),
        (kind::NULL, 0),
        (kind::MIN_KEY, 0),
        (kind::MAX_KEY, 0),
        (kind::OBJECT_ID, 12),
        (kind::BOOLEAN, 1),
        (kind::INT32, 4),
        (kind::DECIMAL, 16),
    ];
    let mut at = 0;
    while at < by_kind.len() {
        len[by_kind[at].0 as usize] = by_kind[at].1;
        at += 1;
    }
    len
};

/// The length of a value in bytes, its length prefix included, given that prefix.
#[inline]
pub(crate) fn prefixed_len(kind: u8, length: u32) -> Option<u32> {
    match kind {
        // The prefix is a signed number.
        _ if length > i32::MAX as u32 => None,
        kind::STRING | kind::CODE | kind::SYMBOL if length >= 1 => length.checked_add(4),
        kind::DOCUMENT | kind::ARRAY if length >= 5 => Some(length),
        kind::SCOPED_CODE if length >= 14 => Some(length),
        kind::BINARY => length.checked_add(5),
        kind::DB_POINTER if length >= 1 => length.checked_add(16),
        _ => None,
    }
}

/// The little-endian number at `at`.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}
