//! The cryptography that all connections use.

use rustls::{
    ALL_VERSIONS, CipherSuite, SupportedProtocolVersion,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, kx_group},
    },
    version::TLS13,
};
use std::sync::{Arc, LazyLock};

/// aws-lc-rs with rustls' AEAD suites. The groups are named here, since the default order depends on
/// a feature of rustls: X25519 is first, so that a hello fits into one packet; ML-KEM is taken from
/// clients that send a share for it.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        kx_groups: vec![
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
            kx_group::X25519MLKEM768,
        ],
        ..aws_lc_rs::default_provider()
    })
});

/// The provider of all configs.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// The lowest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2, with AEAD suites only.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl MinVersion {
    pub(crate) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static FROM_1_3: [&SupportedProtocolVersion; 1] = [&TLS13];
        match self {
            Self::Tls12 => ALL_VERSIONS,
            Self::Tls13 => &FROM_1_3,
        }
    }
}

/// A cipher suite's name, as IANA has it.
pub(crate) fn suite_name(suite: CipherSuite) -> &'static str {
    suite.as_str().unwrap_or("unknown")
}
