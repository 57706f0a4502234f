//! The client's side of an exchange: the proxy logs in at the server, with a password or with the key that
//! a client's proof has yielded.

use super::{
    BASE64, ClientFirst, Mechanism, Password, SaslError, Verifier,
    keys::{Secret, xor},
    message::{ServerFirst, client_final_without_proof, parse_server_final, signed_text},
};
use base64::Engine;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use subtle::ConstantTimeEq;

/// What proves that a client is the user. It is zeroed when it is dropped, and never shown.
pub(crate) enum ClientSecret {
    /// The password, and the keys that the last exchange has derived from it.
    Password(Password, Mutex<Option<Arc<ScramKeys>>>),
    /// The keys themselves.
    Keys(Arc<ScramKeys>),
}

/// The keys of a salted password.
pub(crate) struct ScramKeys {
    mechanism: Mechanism,
    /// In base64.
    salt: String,
    iterations: u32,
    client_key: Secret,
    server_key: Secret,
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(..) => "Password(***)",
            Self::Keys(_) => "Keys(***)",
        })
    }
}

impl From<Password> for ClientSecret {
    fn from(password: Password) -> Self {
        Self::Password(password, Mutex::default())
    }
}

impl ClientSecret {
    /// The keys that the proof of a client has yielded, which the verifier has accepted.
    pub(super) fn from_proof(verifier: &Verifier, client_key: Secret) -> Self {
        Self::Keys(Arc::new(ScramKeys {
            mechanism: verifier.mechanism,
            salt: verifier.encoded_salt(),
            iterations: verifier.iterations,
            client_key,
            server_key: verifier.server_key.clone(),
        }))
    }

    /// The only mechanism that it serves; `None`: any.
    pub(crate) fn mechanism(&self) -> Option<Mechanism> {
        match self {
            Self::Password(..) => None,
            Self::Keys(keys) => Some(keys.mechanism),
        }
    }

    /// The keys for a salt. Deriving them takes milliseconds, so they are kept for the next exchange.
    fn keys(
        &self,
        mechanism: Mechanism,
        user: &str,
        first: &ServerFirst<'_>,
    ) -> Result<Arc<ScramKeys>, SaslError> {
        let salt = BASE64.encode(&first.salt);
        let fits = |keys: &ScramKeys| {
            keys.mechanism == mechanism && keys.salt == salt && keys.iterations == first.iterations
        };
        match self {
            Self::Keys(keys) if fits(keys) => Ok(Arc::clone(keys)),
            Self::Keys(_) => Err(SaslError::OtherPassword),
            Self::Password(password, derived) => {
                let mut derived = derived.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(keys) = derived.as_ref().filter(|keys| fits(keys)) {
                    return Ok(Arc::clone(keys));
                }
                let password = password.prepared(mechanism, user);
                let iterations = first.iterations;
                let salted = mechanism.salted_password(&password, &first.salt, iterations);
                let client_key = mechanism.client_key(&salted);
                let server_key = mechanism.server_key(&salted);
                let keys = ScramKeys { mechanism, salt, iterations, client_key, server_key };
                Ok(Arc::clone(derived.insert(Arc::new(keys))))
            }
        }
    }
}

/// An exchange of the proxy with a server.
pub(crate) struct ClientExchange {
    mechanism: Mechanism,
    first: ClientFirst,
    /// What the server's last message must be, once the proof was sent.
    signature: Option<Secret>,
}

impl fmt::Debug for ClientExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientExchange({}, {})", self.mechanism.name(), self.first.user)
    }
}

impl ClientExchange {
    /// Begins one. `nonce`: this side's random part.
    pub(crate) fn begin(mechanism: Mechanism, user: &str, nonce: String) -> Self {
        Self { mechanism, first: ClientFirst::new(user, nonce), signature: None }
    }

    /// The mechanism.
    pub(crate) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The first message.
    pub(crate) fn client_first(&self) -> Vec<u8> {
        self.first.encode()
    }

    /// Answers the server's first message with the proof.
    ///
    /// # Errors
    /// Why the server is not answered.
    pub(crate) fn prove(
        &mut self,
        server_first: &[u8],
        secret: &ClientSecret,
    ) -> Result<Vec<u8>, SaslError> {
        let first = ServerFirst::parse(server_first)?;
        let added = first.nonce.strip_prefix(&*self.first.nonce).ok_or(SaslError::Nonce)?;
        if added.is_empty() {
            return Err(SaslError::Nonce);
        }
        let keys = secret.keys(self.mechanism, &self.first.user, &first)?;
        let without_proof = client_final_without_proof(first.nonce);
        let server_first = std::str::from_utf8(server_first).map_err(|_| SaslError::Malformed)?;
        let signed = signed_text(&self.first.bare, server_first, &without_proof);
        let stored_key = self.mechanism.hash(&keys.client_key);
        let proof = xor(&keys.client_key, &self.mechanism.hmac(&stored_key, &signed));
        self.signature = Some(self.mechanism.hmac(&keys.server_key, &signed));
        Ok(format!("{without_proof},p={}", BASE64.encode(&*proof)).into_bytes())
    }

    /// Checks the server's last message, in constant time.
    ///
    /// # Errors
    /// Why the server is not trusted.
    pub(crate) fn finish(&self, server_final: &[u8]) -> Result<(), SaslError> {
        let claimed = parse_server_final(server_final)?;
        let expected = self.signature.as_ref().ok_or(SaslError::ServerSignature)?;
        let is_right = bool::from(claimed.ct_eq(expected.as_slice()));
        if is_right { Ok(()) } else { Err(SaslError::ServerSignature) }
    }
}
