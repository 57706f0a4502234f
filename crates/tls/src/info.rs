//! What both sides of a connection have agreed upon: for policies and logs.

use crate::{certificate::CertificateInfo, provider::suite_name};
use rustls::{CommonState, HandshakeKind, ProtocolVersion, pki_types::CertificateDer};

/// What a handshake has led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// The version: `1.2` or `1.3`.
    pub version: &'static str,
    /// The cipher suite, as IANA has it.
    pub cipher: &'static str,
    /// The application protocol (ALPN).
    pub alpn: Option<String>,
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
    /// A session was resumed.
    pub resumed: bool,
    /// The peer's certificate.
    pub peer: Option<Box<CertificateInfo>>,
    /// The peer's certificate and its issuers, where open connections are verified again.
    pub chain: Vec<CertificateDer<'static>>,
}

impl TlsInfo {
    /// What a connection has agreed upon. `server_name` is what the client asked for.
    pub(crate) fn new(state: &CommonState, server_name: Option<String>) -> Self {
        let suite = state.negotiated_cipher_suite();
        let peer = state.peer_certificates().and_then(|chain| chain.first());
        Self {
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "1.3",
                _ => "1.2",
            },
            cipher: suite.map_or("unknown", |suite| suite_name(suite.suite())),
            alpn: state.alpn_protocol().map(|it| String::from_utf8_lossy(it).into_owned()),
            server_name,
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
            peer: peer.and_then(|der| CertificateInfo::read(der)).map(Box::new),
            chain: Vec::new(),
        }
    }
}
