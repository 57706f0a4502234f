//! The name of a key in a store: the same on every machine, without secrets, and of bounded length.

use super::AttributeLookup;
use crate::key::is_common;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::{borrow::Cow, fmt, fmt::Write as _, sync::Arc};

/// Names beyond this many bytes are cut, and end in a hash of what they were.
const MAX_NAME: usize = 256;

/// The key of the hash where the config gives none. It is public.
const PUBLIC_KEY: &[u8] = b"tollgate";

/// A secret of fewer bytes could be guessed.
pub(super) const LEAST_KEY: usize = 16;

/// How many hexadecimal digits of a hash are shown: 128 bits.
const DIGITS: usize = 32;

/// Makes the names of keys in a store from the values of attributes.
///
/// Most values are not meant for all readers of a store: tokens, cookies, people's names. A store
/// sees an HMAC-SHA-256 (RFC 2104) of those, cut to 128 bits.
#[derive(Clone)]
pub struct AttributeHasher {
    mac: Hmac<Sha256>,
    /// Whether the key of the hash is secret.
    secret: bool,
    /// Attributes whose values are shown as they are, beside those that are always.
    plain: Arc<[Box<str>]>,
}

impl Default for AttributeHasher {
    fn default() -> Self {
        Self::new(None, Vec::new())
    }
}

/// The key stays out.
impl fmt::Debug for AttributeHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttributeHasher")
            .field("secret", &self.secret)
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}

impl AttributeHasher {
    /// Hashes values with this key, except those of the `plain` attributes.
    pub fn new(key: Option<&[u8]>, plain: Vec<Box<str>>) -> Self {
        let key_or_public = key.unwrap_or(PUBLIC_KEY);
        // HMAC takes keys of any length: the error can't occur, and a key of zeros is no secret.
        let made = Hmac::new_from_slice(key_or_public);
        let secret = key.is_some() && made.is_ok();
        let mac = made.unwrap_or_else(|_| Hmac::new(&Default::default()));
        Self { mac, secret, plain: plain.into() }
    }

    /// Whether the key of the hash is a secret.
    pub(super) fn is_secret(&self) -> bool {
        self.secret
    }

    /// The attributes that the config names to be shown as they are.
    pub(super) fn plain(&self) -> &[Box<str>] {
        &self.plain
    }

    /// Whether a store sees an attribute's value as it is.
    pub(super) fn shows(&self, attribute: &str) -> bool {
        is_common(attribute) || self.plain.iter().any(|name| **name == *attribute)
    }

    /// What a store sees of an attribute's value.
    pub(super) fn value<'v>(&self, attribute: &str, value: Cow<'v, str>) -> Cow<'v, str> {
        if value.is_empty() || self.shows(attribute) {
            return value;
        }
        Cow::Owned(self.hash(&[attribute.as_bytes(), b"=", value.as_bytes()]))
    }

    /// `tollgate:POLICY:peer=10.0.0.1,resource=shop.orders`. An attribute that the operation does
    /// not have, or that is empty, is left out.
    pub(super) fn name(
        &self,
        policy: &str,
        key: &[Arc<str>],
        attribute: &AttributeLookup<'_>,
    ) -> Box<str> {
        let mut name = format!("tollgate:{policy}:");
        let mut first = true;
        for part in key {
            let Some(value) = attribute(part).filter(|value| !value.is_empty()) else { continue };
            if !std::mem::take(&mut first) {
                name.push(',');
            }
            escape(&mut name, part);
            name.push('=');
            escape(&mut name, &self.value(part, value));
        }
        if name.len() > MAX_NAME {
            let hash = self.hash(&[name.as_bytes()]);
            name.truncate(MAX_NAME - DIGITS - 1);
            name.push('~');
            name.push_str(&hash);
        }
        name.into()
    }

    fn hash(&self, pieces: &[&[u8]]) -> String {
        let mut mac = self.mac.clone();
        pieces.iter().for_each(|piece| mac.update(piece));
        let bytes = mac.finalize().into_bytes();
        let mut text = String::with_capacity(DIGITS);
        for byte in bytes.iter().take(DIGITS / 2) {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
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

    const TOKEN: &str = "Bearer eyJhbGciOi.SECRET-TOKEN.sig";

    fn named_by(hasher: &AttributeHasher, parts: &[(&str, &str)]) -> String {
        let key: Vec<Arc<str>> =
            ["peer", "resource", "user", "header.authorization"].map(Into::into).into();
        let value = |name: &str| {
            let (_, value) = parts.iter().find(|(part, _)| *part == name)?;
            Some(Cow::Borrowed(*value))
        };
        hasher.name("per-peer", &key, &value).into()
    }

    fn named(parts: &[(&str, &str)]) -> String {
        named_by(&AttributeHasher::default(), parts)
    }

    #[test]
    fn a_key_has_one_name_that_people_can_read() {
        let both = named(&[("peer", "10.0.0.1"), ("resource", "shop.orders")]);
        assert_eq!(both, "tollgate:per-peer:peer=10.0.0.1,resource=shop.orders");
        assert_eq!(named(&[("peer", "::1"), ("user", "")]), "tollgate:per-peer:peer=::1");
        assert_eq!(named(&[]), "tollgate:per-peer:");
    }

    #[test]
    fn a_value_can_not_pass_for_another_key() {
        let forged = named(&[("peer", "10.0.0.1,resource=ann")]);
        assert_eq!(forged, "tollgate:per-peer:peer=10.0.0.1%2cresource%3dann");
        assert_eq!(named(&[("resource", "a%2cé\n")]), "tollgate:per-peer:resource=a%252c%c3%a9%0a");
    }

    #[test]
    fn a_sensitive_value_is_hashed() {
        let name = named(&[("header.authorization", TOKEN)]);
        // printf 'header.authorization=Bearer …' | openssl dgst -sha256 -hmac tollgate
        let hash = "f757a41d0e470aeff73654f47caac465";
        assert_eq!(name, format!("tollgate:per-peer:header.authorization={hash}"));
        assert_ne!(named(&[("user", "ann")]), named(&[("user", "bob")]));
        assert_ne!(
            named(&[("user", TOKEN)]).rsplit('=').next(),
            name.rsplit('=').next(),
            "a value of one attribute tells nothing of another"
        );
    }

    #[test]
    fn machines_agree_on_a_name_if_they_have_the_same_secret() {
        let secret = |text: &str| AttributeHasher::new(Some(text.as_bytes()), Vec::new());
        let parts = [("user", "ann"), ("peer", "10.0.0.1")];
        let one = named_by(&secret("0123456789abcdef"), &parts);
        assert_eq!(one, named_by(&secret("0123456789abcdef"), &parts));
        assert_ne!(one, named_by(&secret("0123456789abcdeF"), &parts));
        assert_ne!(one, named(&parts));
        assert!(!format!("{:?}", secret("0123456789abcdef")).contains("0123456789"));
    }

    #[test]
    fn a_plain_attribute_is_shown_as_it_is() {
        let hasher = AttributeHasher::new(None, vec!["user".into()]);
        assert_eq!(named_by(&hasher, &[("user", "ann")]), "tollgate:per-peer:user=ann");
        for (attribute, shown) in [("peer/64", true), ("user", true), ("app", false)] {
            assert_eq!(hasher.shows(attribute), shown, "{attribute}");
        }
    }

    #[test]
    fn a_long_name_is_bounded_and_still_one_of_its_own() {
        let (a, b) = ("x".repeat(5000), "x".repeat(5001));
        let (a, b) = (named(&[("resource", &a)]), named(&[("resource", &b)]));
        assert_eq!((a.len(), b.len()), (MAX_NAME, MAX_NAME));
        assert_ne!(a, b);
    }
}
