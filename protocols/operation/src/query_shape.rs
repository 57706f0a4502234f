//! The shape of a query: what an operation asks for, without its values.

use std::num::NonZeroU64;

/// The attribute with the text of an operation's shape. It never shows a value.
pub const SHAPE_TEXT: &str = "shape_text";

/// The attribute with the cursors that an operation closes: numbers, separated by commas.
pub const CLOSED_CURSORS: &str = "closed_cursors";

/// The attribute for why the client's driver is out of support; absent if it is not.
pub const OUTDATED_DRIVER: &str = "outdated_driver";

/// With how many values an operation compares a field before [`QueryShape::has_long_list`] is set.
pub const LONG_LIST: usize = 1000;

/// The shape of an operation's query, as its codec found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryShape {
    /// A hash of the operation's name, its resource, and its query without values. `None`: the names
    /// are in the unread rest of the request.
    pub key: Option<NonZeroU64>,
    /// What the operation does with queries and their results.
    pub role: QueryRole,
    /// Nothing limits the number of items that it returns.
    pub is_unlimited: bool,
    /// It compares a field with more than [`LONG_LIST`] values.
    pub has_long_list: bool,
}

/// What an operation does with queries and their results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryRole {
    /// It finds items. One operation could replace many with other values.
    Lookup,
    /// Anything else.
    Other,
    /// It fetches the next items of a cursor, and belongs to the operation that opened the cursor.
    Continuation,
    /// It closes cursors.
    CloseCursors,
}

/// What a reply has done with a cursor: the handle by which a client fetches further items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorChange {
    /// The cursor with this id has further items.
    Opened(i64),
    /// It still has further items.
    Advanced(i64),
    /// It has none, or does not exist any more.
    Closed(i64),
}

/// The lookups of one shape that follow each other, on one connection or of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupRun {
    /// The key of their shape; 0 before the first one.
    pub key: u64,
    /// How many there are.
    pub length: u32,
    /// How many of them began before the one before had ended.
    pub overlapping: u32,
    /// A lookup of another shape came before the first.
    pub follows_another: bool,
    /// The client's number in the observer's table; 0 if it has none.
    pub client: u32,
    /// When the last one ended, in nanoseconds of the observer's clock; 0 before the first one.
    pub ended: u64,
}

impl QueryShape {
    /// The shape of an operation of which only the name and the resource count.
    pub fn of_names(name: &str, resource: &str, role: QueryRole) -> Self {
        Self {
            key: Some(ShapeHasher::of_names(name, resource).finish()),
            role,
            is_unlimited: false,
            has_long_list: false,
        }
    }

    /// The shape of an operation whose names are not known yet.
    pub fn unread(role: QueryRole) -> Self {
        Self { key: None, role, is_unlimited: false, has_long_list: false }
    }
}

/// Makes the key of a shape: the same on every machine, and in every release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeHasher(u64);

impl ShapeHasher {
    /// A hasher that has seen nothing.
    pub const fn new() -> Self {
        Self(0x243F_6A88_85A3_08D3)
    }

    /// A hasher that has seen the names of an operation.
    pub fn of_names(name: &str, resource: &str) -> Self {
        let mut hasher = Self::new();
        hasher.bytes(name.as_bytes());
        hasher.bytes(resource.as_bytes());
        hasher
    }

    /// Adds a number.
    #[inline]
    pub fn number(&mut self, number: u64) {
        self.mix(number, 0);
    }

    /// Adds bytes and their number.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.tagged(bytes, 0);
    }

    /// Adds bytes, their number, and a tag.
    #[inline]
    pub fn tagged(&mut self, bytes: &[u8], tag: u8) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word), 0));
        // With their number, these determine the bytes that are left.
        let last = match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
            (Some(first), Some(last)) => {
                u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
            }
            _ => rest.iter().fold(0, |last, byte| last << 8 | u64::from(*byte)),
        };
        self.mix(last, (bytes.len() as u64) << 8 | u64::from(tag));
    }

    /// The two halves of the product together depend on every bit of both factors.
    #[inline]
    fn mix(&mut self, word: u64, extra: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(0x9E37_79B9_7F4A_7C15 ^ extra << 1);
        self.0 = (product as u64).rotate_left(23) ^ (product >> 64) as u64;
    }

    /// The hash so far.
    #[inline]
    pub fn value(self) -> u64 {
        self.0
    }

    /// The key.
    pub fn finish(self) -> NonZeroU64 {
        NonZeroU64::new(self.0).unwrap_or(NonZeroU64::MIN)
    }
}

impl Default for ShapeHasher {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_key_depends_on_every_byte_and_on_where_a_name_ends() {
        let key = |name: &str, resource: &str| {
            QueryShape::of_names(name, resource, QueryRole::Other).key.unwrap()
        };
        assert_eq!(key("find", "shop.orders"), key("find", "shop.orders"));
        let all = [
            ("find", "shop.orders"),
            ("findshop", ".orders"),
            ("find", "shop.order"),
            ("", ""),
            ("a", "\0"),
            ("a\0", ""),
        ];
        let keys: HashSet<_> = all.iter().map(|(name, resource)| key(name, resource)).collect();
        assert_eq!(keys.len(), all.len());
    }

    #[test]
    fn short_names_do_not_collide() {
        let names = (0..200_000).map(|number| format!("c{number}"));
        let keys: HashSet<_> =
            names.map(|name| ShapeHasher::of_names("find", &name).finish()).collect();
        assert_eq!(keys.len(), 200_000);
    }
}
