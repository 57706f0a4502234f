//! The hashes and keys of SCRAM (RFC 5802, section 3). Keys are zeroed when they are dropped.

use super::Mechanism;
use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes that are zeroed when they are dropped.
pub(super) type Secret = Zeroizing<Vec<u8>>;

impl Mechanism {
    /// `HMAC(key, text)`.
    pub(super) fn hmac(self, key: &[u8], text: &[u8]) -> Secret {
        fn sign<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Secret {
            // A key of HMAC may have any length.
            let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return Secret::default() };
            mac.update(text);
            Zeroizing::new(mac.finalize().into_bytes().to_vec())
        }
        match self {
            Self::ScramSha1 => sign::<Hmac<Sha1>>(key, text),
            Self::ScramSha256 => sign::<Hmac<Sha256>>(key, text),
        }
    }

    /// `H(bytes)`.
    pub(super) fn hash(self, bytes: &[u8]) -> Secret {
        Zeroizing::new(match self {
            Self::ScramSha1 => Sha1::digest(bytes).to_vec(),
            Self::ScramSha256 => Sha256::digest(bytes).to_vec(),
        })
    }

    /// `Hi(password, salt, iterations)`: the salted password.
    pub(super) fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Secret {
        let mut salted = Zeroizing::new(vec![0; self.key_len()]);
        match self {
            Self::ScramSha1 => pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut salted),
            Self::ScramSha256 => pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted),
        }
        salted
    }

    /// The key with which a client proves that it knows the password.
    pub(super) fn client_key(self, salted_password: &[u8]) -> Secret {
        self.hmac(salted_password, b"Client Key")
    }

    /// The key with which a server proves that it knows the user.
    pub(super) fn server_key(self, salted_password: &[u8]) -> Secret {
        self.hmac(salted_password, b"Server Key")
    }
}

/// `one XOR other`; both have the same length.
pub(super) fn xor(one: &[u8], other: &[u8]) -> Secret {
    Zeroizing::new(one.iter().zip(other).map(|(a, b)| a ^ b).collect())
}
