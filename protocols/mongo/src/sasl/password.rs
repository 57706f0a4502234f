//! A user's password, as the mechanisms use it.

use super::{Mechanism, keys::Secret};
use md5::{Digest, Md5};
use std::fmt;
use zeroize::Zeroizing;

/// A password. It is zeroed when it is dropped, and never shown.
#[derive(Clone)]
pub(crate) struct Password(Zeroizing<String>);

impl Password {
    pub(crate) fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The bytes that are salted and hashed.
    ///
    /// SCRAM-SHA-1 uses the hexadecimal MD5 digest of `user:mongo:password` (driver specification `auth`).
    /// SCRAM-SHA-256 uses SASLprep (RFC 4013); a password that this forbids is used as it is, as some drivers
    /// do. Such a user can log in as long as both sides do so.
    pub(super) fn prepared(&self, mechanism: Mechanism, user: &str) -> Secret {
        match mechanism {
            Mechanism::ScramSha1 => {
                let text = Zeroizing::new(format!("{user}:mongo:{}", *self.0));
                let digest = Zeroizing::new(Md5::digest(text.as_bytes()).to_vec());
                let hex = digest.iter().map(|byte| format!("{byte:02x}"));
                Zeroizing::new(hex.collect::<String>().into_bytes())
            }
            Mechanism::ScramSha256 => {
                let prepared = stringprep::saslprep(&self.0);
                let prepared = prepared.as_deref().unwrap_or(&self.0);
                Zeroizing::new(prepared.as_bytes().to_vec())
            }
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}
