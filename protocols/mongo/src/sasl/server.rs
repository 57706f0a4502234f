//! The server's side of an exchange: a client proves that it knows the password, and the proof yields the
//! key with which the proxy can log in as the same user.

use super::{
    BASE64, ClientFirst, ClientSecret, SaslError, Verifier,
    keys::{Secret, xor},
    message::{ClientFinal, ServerFirst, signed_text},
};
use base64::Engine;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// An exchange that waits for the client's proof. It is good for one proof.
#[derive(Debug)]
pub(crate) struct ServerExchange {
    verifier: Arc<Verifier>,
    first_bare: String,
    nonce: String,
    server_first: String,
}

/// A successful exchange.
pub(crate) struct ProvenLogin {
    /// The server's last message.
    pub(crate) server_final: Vec<u8>,
    /// What the proxy logs in with as this user.
    pub(crate) secret: ClientSecret,
}

impl ServerExchange {
    /// Answers the client's first message. `nonce`: this side's random part.
    pub(crate) fn begin(first: &ClientFirst, verifier: Arc<Verifier>, nonce: &str) -> Self {
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = verifier.salt.clone();
        let server_first =
            ServerFirst { nonce: &nonce, salt, iterations: verifier.iterations }.encode();
        Self { verifier, first_bare: first.bare.clone(), nonce, server_first }
    }

    /// The server's first message.
    pub(crate) fn server_first(&self) -> &[u8] {
        self.server_first.as_bytes()
    }

    /// The verifier that the proof is checked against.
    pub(crate) fn verifier(&self) -> &Arc<Verifier> {
        &self.verifier
    }

    /// Checks the client's last message, in constant time for the proof.
    ///
    /// # Errors
    /// Why the log-in is refused.
    pub(crate) fn finish(self, client_final: &[u8]) -> Result<ProvenLogin, SaslError> {
        let last = ClientFinal::parse(client_final)?;
        if last.nonce != self.nonce {
            return Err(SaslError::Nonce);
        }
        let Verifier { mechanism, stored_key, server_key, .. } = &*self.verifier;
        if last.proof.len() != stored_key.len() {
            return Err(SaslError::Malformed);
        }
        let signed = signed_text(&self.first_bare, &self.server_first, last.without_proof);
        let client_key: Secret = xor(&last.proof, &mechanism.hmac(stored_key, &signed));
        let is_right = mechanism.hash(&client_key).ct_eq(stored_key.as_slice());
        if !bool::from(is_right) {
            return Err(SaslError::WrongProof);
        }
        let signature = BASE64.encode(&*mechanism.hmac(server_key, &signed));
        let secret = ClientSecret::from_proof(&self.verifier, client_key);
        Ok(ProvenLogin { server_final: format!("v={signature}").into_bytes(), secret })
    }
}
