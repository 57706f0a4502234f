//! TLS for both sides of the proxy: certificates and their checks, the handshake, and the connection.
//!
//! This crate knows sockets and files. It knows no config, no policy and no protocol above TLS.
//!
//! - `engine`: the TLS state of one connection without I/O; the only file that knows rustls' unbuffered API.
//! - `stream`: the same over a socket, as `AsyncRead` and `AsyncWrite`.
//! - `client_hello`: what a client asks for, read before the handshake.
//! - `starttls`: requests for TLS in the protocol that runs inside it.
//! - `server`, `client`: what was made of the settings of either side, and its reload.
//! - `identity`, `certificate`: certificates with their keys, and what they say.
//! - `revocation`: lists of revoked certificates.
//! - `settings`, `admin_settings`: the keys of a config.
//! - `failure`: why a handshake failed, in words.
//! - `info`: what a handshake has led to.
//! - `provider`: the cryptography.

mod admin_settings;
mod certificate;
mod client;
mod client_hello;
mod engine;
mod failure;
mod identity;
mod info;
mod provider;
mod revocation;
mod server;
mod settings;
mod starttls;
mod stream;

pub use admin_settings::AdminSettings;
pub use certificate::{CertificateInfo, key_digest, name_matches};
pub use client::{ClientTls, ClientTlsPlan};
pub use client_hello::{ClientHello, FirstBytes, MAX_CLIENT_HELLO, read_client_hello};
pub use failure::{HandshakeFailure, Plaintext};
pub use identity::{CertificateFiles, Identity, LoadError};
pub use info::TlsInfo;
pub use provider::MinVersion;
pub use server::{ClientCertificates, ServerTls, ServerTlsPlan};
pub use settings::{
    CertificateSettings, ClientCertificateMode, ClusterSettings, CrlSettings, ListenerSettings,
    OnRevoked, Pin, PlaintextMode, SniMode,
};
pub use starttls::{StartTls, StartTlsRequest};
pub use stream::TlsStream;
