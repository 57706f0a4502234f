//! What a log line asks operations for: attributes by number, and values in the form in which they are at hand.

use crate::{AttributeValue, Protocol};
use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

/// An attribute that many operations are asked for: its name is resolved once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedAttribute {
    /// Its name.
    pub name: &'static str,
    /// Its number: its place in [`Protocol::attributes`]. `None` if it is not listed there.
    pub number: Option<u8>,
}

impl ResolvedAttribute {
    /// The attribute with this name of a protocol's operations.
    pub fn new(protocol: &Protocol, name: &'static str) -> Self {
        let number = protocol.attributes.iter().position(|own| *own == name);
        Self { name, number: number.and_then(|number| u8::try_from(number).ok()) }
    }
}

/// A set of a protocol's attributes, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributeSet(u32);

impl AttributeSet {
    /// A set of one attribute, by its number. Larger numbers than 31 are in no set.
    pub const fn of(number: u8) -> Self {
        Self(if number < u32::BITS as u8 { 1 << number } else { 0 })
    }

    /// All attributes of both sets.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the attribute with this number is in the set.
    pub fn contains(self, number: u8) -> bool {
        self.0 & Self::of(number).0 != 0
    }
}

/// The value of an attribute, in the form in which it is at hand: a log line needs no string of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedValue<'a> {
    /// A text that is known to be [plain](is_plain).
    Plain(&'a [u8]),
    /// The bytes of any text. Invalid UTF-8 stands for U+FFFD.
    Bytes(&'a [u8]),
    /// Any text.
    Text(Cow<'a, str>),
    /// A number.
    Number(u64),
    /// A time in microseconds, shown as milliseconds with three decimals.
    Micros(u64),
    /// An id, shown as this many hexadecimal digits.
    Hex {
        /// The id.
        id: u128,
        /// How many digits it has, at most 32.
        digits: usize,
    },
    /// An address with a port.
    Address(SocketAddr),
    /// An address without a port.
    Ip(IpAddr),
}

impl<'a> LoggedValue<'a> {
    /// The value as text.
    pub fn text(self) -> Cow<'a, str> {
        match self {
            LoggedValue::Plain(bytes) | LoggedValue::Bytes(bytes) => String::from_utf8_lossy(bytes),
            LoggedValue::Text(text) => text,
            LoggedValue::Number(number) => number.to_string().into(),
            LoggedValue::Micros(time) => format!("{}.{:03}", time / 1000, time % 1000).into(),
            LoggedValue::Hex { id, digits } => format!("{id:0digits$x}").into(),
            LoggedValue::Address(address) => address.to_string().into(),
            LoggedValue::Ip(ip) => ip.to_string().into(),
        }
    }
}

impl<'a> From<Option<LoggedValue<'a>>> for AttributeValue<'a> {
    fn from(value: Option<LoggedValue<'a>>) -> Self {
        value.map(LoggedValue::text).into()
    }
}

/// Whether a text is printable ASCII without quotes and backslashes: then it is the same in JSON.
pub fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks();
    // Few texts are not plain. A check of all bytes is faster than one that stops early.
    let unplain = words.iter().fold(0, |any, word| any | unplain_bytes(*word));
    match text.last_chunk() {
        // The last word overlaps the one before.
        Some(last) => unplain | unplain_bytes(*last) == 0,
        None => !rest.iter().fold(false, |any, byte| {
            any | !matches!(byte, b' '..=b'~') | (*byte == b'"') | (*byte == b'\\')
        }),
    }
}

/// Not 0 if one of eight bytes is not plain.
fn unplain_bytes(word: [u8; 8]) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    let word = u64::from_ne_bytes(word);
    // The high bit of a byte is set if the byte is outside ASCII or DEL, less than a blank, a quote or a
    // backslash. A borrow or a carry only comes from a byte that is not plain itself.
    let above = word | word.wrapping_add(EACH);
    let below = word.wrapping_sub(EACH * 0x20);
    let quote = (word ^ (EACH * 0x22)).wrapping_sub(EACH);
    let backslash = (word ^ (EACH * 0x5c)).wrapping_sub(EACH);
    (above | below | quote | backslash) & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_plain_if_each_of_its_bytes_is() {
        for len in 0..40 {
            assert!(is_plain(&vec![b'a'; len]));
            for (at, byte) in (0..len).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                for around in [b' ', b'~'] {
                    let mut text = vec![around; len];
                    text[at] = byte;
                    let plain = matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
                    assert_eq!(is_plain(&text), plain, "{byte} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn a_value_has_the_text_that_a_line_shows() {
        let shown: [(LoggedValue<'_>, &str); 9] = [
            (LoggedValue::Plain(b"1.1"), "1.1"),
            (LoggedValue::Bytes(b"a\xff"), "a\u{fffd}"),
            (LoggedValue::Text("\"".into()), "\""),
            (LoggedValue::Number(3), "3"),
            (LoggedValue::Micros(12_007), "12.007"),
            (LoggedValue::Hex { id: 0xab, digits: 16 }, "00000000000000ab"),
            (LoggedValue::Address(([10, 0, 0, 7], 80).into()), "10.0.0.7:80"),
            (LoggedValue::Address(([0; 16], 80).into()), "[::]:80"),
            (LoggedValue::Ip([10, 0, 0, 7].into()), "10.0.0.7"),
        ];
        for (value, text) in shown {
            assert_eq!(value.text(), text);
        }
    }

    #[test]
    fn an_attribute_has_the_number_of_its_place() {
        let protocol = Protocol { attributes: &["app", "user"], ..Protocol::plain("toy") };
        let number = |name| ResolvedAttribute::new(&protocol, name).number;
        assert_eq!(["app", "user", "peer"].map(number), [Some(0), Some(1), None]);
        let set = AttributeSet::of(1).with(AttributeSet::of(40));
        assert_eq!(
            [0, 1, 2, 31, 33, 40].map(|number| set.contains(number)),
            [false, true, false, false, false, false]
        );
    }
}
