//! SCRAM log-ins without I/O: the server's side, for clients of the proxy, and the client's side, for the
//! proxy's own log-ins.
//!
//! Sources: RFC 5802 (SCRAM), RFC 7677 (SCRAM-SHA-256), RFC 4013 (SASLprep), and the driver specification
//! `auth` for MongoDB's conventions. Channel binding is not supported, and requests for it are refused.

mod client;
mod keys;
mod message;
mod password;
mod server;
mod verifier;

pub(crate) use client::{ClientExchange, ClientSecret};
pub(crate) use message::ClientFirst;
pub(crate) use password::Password;
pub(crate) use server::ServerExchange;
pub(crate) use verifier::Verifier;

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use std::{error, fmt};

/// The longest message of an exchange that is read, in bytes.
pub(crate) const MAX_SASL_MESSAGE: usize = 2048;

/// How many random bytes a nonce has.
const NONCE_LEN: usize = 24;

/// A mechanism that the proxy supports on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mechanism {
    /// SCRAM-SHA-1, with MongoDB's digest of the password.
    ScramSha1,
    /// SCRAM-SHA-256.
    ScramSha256,
}

impl Mechanism {
    /// All, the best one first.
    pub(crate) const ALL: [Self; 2] = [Self::ScramSha256, Self::ScramSha1];

    /// Its name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }

    /// The mechanism with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// The length of its keys, in bytes.
    fn key_len(self) -> usize {
        match self {
            Self::ScramSha1 => 20,
            Self::ScramSha256 => 32,
        }
    }

    /// How often new salted passwords are hashed: as servers do by default.
    fn default_iterations(self) -> u32 {
        match self {
            Self::ScramSha1 => 10_000,
            Self::ScramSha256 => 15_000,
        }
    }
}

/// Why an exchange ends without a log-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaslError {
    /// A message breaks the grammar of RFC 5802, or is too long.
    Malformed,
    /// The peer asks for channel binding.
    ChannelBinding,
    /// The client asks to act as another user.
    AuthorizationIdentity,
    /// The nonce is not the one of this exchange.
    Nonce,
    /// The proof does not fit the password.
    WrongProof,
    /// The salt or the number of iterations is not the one of the key: the password was changed.
    OtherPassword,
    /// The server asks for fewer than 4096 iterations, or for more than a million.
    Iterations,
    /// The server does not know the user's keys.
    ServerSignature,
    /// The server has ended the exchange with an error.
    Refused,
}

impl fmt::Display for SaslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a message of the log-in is malformed",
            Self::ChannelBinding => "channel binding is not supported",
            Self::AuthorizationIdentity => "the log-in asks for another user's rights",
            Self::Nonce => "the nonce is not the one of this log-in",
            Self::WrongProof => "the password is wrong",
            Self::OtherPassword => "the password was changed",
            Self::Iterations => "the number of iterations is not between 4096 and a million",
            Self::ServerSignature => "the server does not prove that it knows the user",
            Self::Refused => "the server refuses the log-in",
        })
    }
}

impl error::Error for SaslError {}

/// A nonce that cannot be guessed.
///
/// # Errors
/// The system has no random bytes.
pub(crate) fn new_nonce() -> Result<String, getrandom::Error> {
    let mut bytes = [0; NONCE_LEN];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64.encode(bytes))
}

#[cfg(test)]
mod tests;
