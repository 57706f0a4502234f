//! The settings of the admin interface's TLS.

use crate::{
    CertificateSettings, ClientCertificateMode, CrlSettings, ListenerSettings, MinVersion,
    ServerTls,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use values::{Diagnostic, OneOrMore, Text};

/// How the clients of the admin interface are encrypted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "keys and values, such as `{ certificates: { chain: tls.crt, key: tls.key } }`"
)]
#[schemars(rename = "AdminTls")]
pub struct AdminSettings {
    /// The certificates, one or a list. A client gets the one for the name that it asks for (SNI), and
    /// else the first.
    pub certificates: OneOrMore<CertificateSettings>,
    /// The authorities of clients' certificates (PEM). Clients are asked for a certificate then.
    /// Default: no client is asked.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Whether clients must have a certificate: `required` or `optional`. Default: `required`, if there
    /// is a `client_ca`.
    #[serde(default)]
    pub client_certificate: Option<Text<ClientCertificateMode>>,
    /// Revoked certificates of clients (PEM). Default: none.
    #[serde(default)]
    pub crl: Option<CrlSettings>,
    /// The lowest version: `1.2` or `1.3`. Default: `1.2`.
    #[serde(default)]
    pub min_version: Option<Text<MinVersion>>,
}

impl AdminSettings {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with the settings or with a file, at the key that names it.
    pub fn load(self) -> Result<ServerTls, Diagnostic> {
        let Self { certificates, client_ca, client_certificate, crl, min_version } = self;
        let settings = ListenerSettings {
            certificates,
            client_ca,
            client_certificate,
            crl,
            min_version,
            on_revoked: None,
            plaintext: None,
            sni: None,
        };
        settings.load(vec![b"http/1.1".to_vec()])
    }
}
