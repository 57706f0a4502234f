//! What a key is called in a store: the same on every machine, legible, and of bounded length.

use super::Attribute;
use std::{fmt::Write as _, hash::Hasher, sync::Arc};
use twox_hash::XxHash64;

/// Names beyond this many bytes are cut, and end in hashes of what they were.
const MAX_NAME: usize = 256;
/// Two hashes with fixed seeds, so that every machine has the same.
const SEEDS: [u64; 2] = [0x746f_6c6c, 0x6761_7465];

/// `tollgate:POLICY:peer=10.0.0.1,user=ann`. An attribute that the operation does not have, or
/// that is empty, is left out.
pub(super) fn name(policy: &str, key: &[Arc<str>], attribute: &Attribute<'_>) -> Box<str> {
    let mut name = format!("tollgate:{policy}:");
    let mut first = true;
    for part in key {
        let Some(value) = attribute(part).filter(|value| !value.is_empty()) else { continue };
        if !std::mem::take(&mut first) {
            name.push(',');
        }
        escape(&mut name, part);
        name.push('=');
        escape(&mut name, &value);
    }
    if name.len() > MAX_NAME {
        let hashes = SEEDS.map(|seed| {
            let mut hasher = XxHash64::with_seed(seed);
            hasher.write(name.as_bytes());
            hasher.finish()
        });
        name.truncate(MAX_NAME - 33);
        let _ = write!(name, "~{:016x}{:016x}", hashes[0], hashes[1]);
    }
    name.into()
}

/// Writes what is no letter, digit or common sign as `%xx`, so that no value looks like two parts.
fn escape(name: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b':' | b'-' | b'_' | b'/' | b'@' => {
                name.push(char::from(byte));
            }
            _ => {
                let _ = write!(name, "%{byte:02x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn named(parts: &[(&str, &str)]) -> String {
        let key: Vec<Arc<str>> = ["peer", "user"].map(Into::into).into();
        let value = |name: &str| {
            let (_, value) = parts.iter().find(|(part, _)| *part == name)?;
            Some(Cow::Borrowed(*value))
        };
        name("per-peer", &key, &value).into()
    }

    #[test]
    fn a_key_has_one_name_that_people_can_read() {
        let both = named(&[("peer", "10.0.0.1"), ("user", "ann")]);
        assert_eq!(both, "tollgate:per-peer:peer=10.0.0.1,user=ann");
        assert_eq!(named(&[("peer", "::1"), ("user", "")]), "tollgate:per-peer:peer=::1");
        assert_eq!(named(&[]), "tollgate:per-peer:");
    }

    #[test]
    fn a_value_can_not_pass_for_another_key() {
        let forged = named(&[("peer", "10.0.0.1,user=ann")]);
        assert_eq!(forged, "tollgate:per-peer:peer=10.0.0.1%2cuser%3dann");
        assert_eq!(named(&[("user", "a%2cé\n")]), "tollgate:per-peer:user=a%252c%c3%a9%0a");
    }

    #[test]
    fn a_long_name_is_bounded_and_still_one_of_its_own() {
        let (a, b) = ("x".repeat(5000), "x".repeat(5001));
        let (a, b) = (named(&[("user", &a)]), named(&[("user", &b)]));
        assert_eq!((a.len(), b.len()), (MAX_NAME, MAX_NAME));
        assert_ne!(a, b);
    }
}
