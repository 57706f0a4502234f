//! What a server stores of a password: enough to check a proof, not enough to make one.

use super::{
    BASE64, Mechanism, Password,
    keys::Secret,
    message::{MAX_ITERATIONS, decode},
};
use base64::Engine;
use std::fmt;
use zeroize::Zeroizing;

/// The verifier of one user for one mechanism.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Verifier {
    pub(crate) mechanism: Mechanism,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    pub(super) stored_key: Secret,
    pub(super) server_key: Secret,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({}, ***)", self.mechanism.name())
    }
}

impl Verifier {
    /// That of a password.
    pub(crate) fn of_password(
        mechanism: Mechanism,
        user: &str,
        password: &Password,
        salt: Vec<u8>,
    ) -> Self {
        let iterations = mechanism.default_iterations();
        let password = password.prepared(mechanism, user);
        let salted = mechanism.salted_password(&password, &salt, iterations);
        Self {
            mechanism,
            iterations,
            stored_key: mechanism.hash(&mechanism.client_key(&salted)),
            server_key: mechanism.server_key(&salted),
            salt,
        }
    }

    /// The verifier with these parts, the binary ones in base64; `None` if they don't fit the mechanism.
    pub(crate) fn of_parts(
        mechanism: Mechanism,
        salt: &str,
        iterations: u32,
        [stored_key, server_key]: [&str; 2],
    ) -> Option<Self> {
        let key = |text| decode(text).filter(|key| key.len() == mechanism.key_len());
        let salt = decode(salt).filter(|salt| !salt.is_empty())?;
        let is_valid = (1..=MAX_ITERATIONS).contains(&iterations);
        is_valid.then_some(())?;
        let stored_key = Zeroizing::new(key(stored_key)?);
        let server_key = Zeroizing::new(key(server_key)?);
        Some(Self { mechanism, salt, iterations, stored_key, server_key })
    }

    /// Reads `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, the format of RFC 5803.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let [mechanism, salting, keys] = parts(text, '$')?;
        let [iterations, salt] = parts(salting, ':')?;
        let mechanism = Mechanism::from_name(mechanism)?;
        Self::of_parts(mechanism, salt, iterations.parse().ok()?, parts(keys, ':')?)
    }

    /// A random salt, as long as those of servers.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub(crate) fn new_salt(mechanism: Mechanism) -> Result<Vec<u8>, getrandom::Error> {
        let mut salt = vec![0; mechanism.key_len() - 4];
        getrandom::fill(&mut salt)?;
        Ok(salt)
    }

    /// The salt in base64.
    pub(super) fn encoded_salt(&self) -> String {
        BASE64.encode(&self.salt)
    }
}

/// The parts of a text between separators, if there are exactly this many.
fn parts<const N: usize>(text: &str, separator: char) -> Option<[&str; N]> {
    text.split(separator).collect::<Vec<_>>().try_into().ok()
}
