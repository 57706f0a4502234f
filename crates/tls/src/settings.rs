//! The settings under `tls` of a listener and of a cluster.
//!
//! Everything here serializes to what it was parsed from, for `/config`. Files are read when a
//! [`ServerTls`] or a [`ClientTls`] is made of the settings.

use crate::{
    CertificateFiles, ClientCertificates, ClientTls, ClientTlsPlan, LoadError, MinVersion,
    ServerTls, ServerTlsPlan,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use std::path::PathBuf;
use values::{Diagnostic, FromText, Keyword, OneOrMore, Show, Text, parse_keyword};

/// How the clients of a listener are encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "keys and values, such as `{ certificates: { chain: tls.crt, key: tls.key } }`"
)]
#[schemars(rename = "ListenerTls")]
pub struct ListenerSettings {
    /// The certificates, one or a list. A client gets the one for the name that it asks for (SNI), and
    /// else the first.
    pub certificates: OneOrMore<CertificateSettings>,
    /// The authorities of clients' certificates (PEM). Clients are asked for a certificate then.
    /// Default: no client is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Whether clients must have a certificate: `required` or `optional`. Default: `required`, if there
    /// is a `client_ca`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<Text<ClientCertificateMode>>,
    /// Revoked certificates of clients (PEM). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<CrlSettings>,
    /// Whether open connections stay whose certificate is no longer accepted, once `client_ca` or `crl` has
    /// changed: `keep` or `close`. Default: `keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_revoked: Option<Text<OnRevoked>>,
    /// The lowest version: `1.2` or `1.3`. Default: `1.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<Text<MinVersion>>,
    /// What becomes of clients without TLS: `refuse` or `allow`. Default: `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<Text<PlaintextMode>>,
    /// What becomes of clients that ask for a name without a certificate, or for none: `default` gives
    /// them the first certificate, `strict` refuses them. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<Text<SniMode>>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "keys and values, such as `{ chain: tls.crt, key: tls.key }`"
)]
#[schemars(rename = "Certificate")]
pub struct CertificateSettings {
    /// The file of the certificate and of those that issued it, in this order (PEM).
    pub chain: PathBuf,
    /// The file of its private key (PEM).
    pub key: PathBuf,
}

/// Revoked certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ file: revoked.pem }`")]
#[schemars(rename = "RevocationList")]
pub struct CrlSettings {
    /// The file of the lists (PEM).
    pub file: PathBuf,
    /// Refuse certificates about which no list says anything, and lists that have expired. Default:
    /// `false`.
    #[serde(default)]
    pub strict: bool,
}

/// How connections to a cluster's endpoints, or to the store of a shared limit, are encrypted. Every key
/// is optional.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "keys and values, such as `{ ca: ca.crt }`, or `{}`"
)]
#[schemars(rename = "ClusterTls")]
pub struct ClusterSettings {
    /// The authorities that are trusted (PEM). Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The name that is asked for (SNI) and that the certificate must have. Default: the endpoint's host
    /// as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The certificate that is shown to endpoints which ask for one. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateSettings>,
    /// SHA-256 digests of public keys (base64), of which the endpoint must have one beside a valid
    /// certificate. Default: any key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Text<Pin>>,
    /// The lowest version: `1.2` or `1.3`. Default: `1.2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<Text<MinVersion>>,
    /// Verify the endpoint's certificate. With `false` anybody on the way can read and change
    /// everything. Default: `true`.
    pub verify: bool,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            ca: None,
            server_name: None,
            certificate: None,
            pins: Vec::new(),
            min_version: None,
            verify: true,
        }
    }
}

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificateMode {
    /// Clients without one are refused.
    Required,
    /// Clients without one are served.
    Optional,
}

/// Whether open connections stay whose certificate is no longer accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRevoked {
    /// They stay open.
    #[default]
    Keep,
    /// They are closed at once.
    Close,
}

/// What becomes of clients without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaintextMode {
    /// They are refused.
    #[default]
    Refuse,
    /// They are served.
    Allow,
}

/// What becomes of clients that ask for a name without a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SniMode {
    /// They get the first certificate.
    #[default]
    Default,
    /// They are refused.
    Strict,
}

const MIN_VERSION: [(&str, MinVersion); 2] =
    [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];

/// The word for a value.
fn word<T: Copy + PartialEq>(value: T, words: &[(&'static str, T)]) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

impl Keyword for ClientCertificateMode {
    const EXPECTED: &str = "`required` or `optional`";

    const WORDS: &[(&str, Self)] = &[
        ("required", ClientCertificateMode::Required),
        ("optional", ClientCertificateMode::Optional),
    ];
}

impl Keyword for OnRevoked {
    const EXPECTED: &str = "`keep` or `close`";

    const WORDS: &[(&str, Self)] = &[("keep", OnRevoked::Keep), ("close", OnRevoked::Close)];
}

impl Keyword for PlaintextMode {
    const EXPECTED: &str = "`refuse` or `allow`";

    const WORDS: &[(&str, Self)] =
        &[("refuse", PlaintextMode::Refuse), ("allow", PlaintextMode::Allow)];
}

impl Keyword for SniMode {
    const EXPECTED: &str = "`default` or `strict`";

    const WORDS: &[(&str, Self)] = &[("default", SniMode::Default), ("strict", SniMode::Strict)];
}

impl FromText for MinVersion {
    const EXPECTED: &str = "`1.2` or `1.3`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, &MIN_VERSION).map_err(|error| match text {
            "1.0" | "1.1" => Diagnostic::new(
                format!("TLS {text} is not spoken"),
                "it has been broken for years: write `1.2` or `1.3`",
            ),
            _ => error,
        })
    }

    fn schema() -> Schema {
        // YAML reads it as a number.
        json_schema!({ "enum": ["1.2", "1.3", 1.2, 1.3] })
    }
}

impl Show for MinVersion {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(word(*self, &MIN_VERSION))
    }
}

/// SHA-256 of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl FromText for Pin {
    const EXPECTED: &str = "the base64 of a SHA-256 digest";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let digest = text.strip_prefix("sha256/").unwrap_or(text);
        let bytes = STANDARD.decode(digest).ok().and_then(|it| it.try_into().ok());
        bytes.map(Pin).ok_or_else(|| {
            Diagnostic::new(
                format!("`{text}` is not the base64 of a SHA-256 digest"),
                "it has 44 characters: `openssl x509 -in CERTIFICATE -pubkey -noout | openssl pkey \
                 -pubin -outform der | openssl dgst -sha256 -binary | base64`",
            )
        })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^(sha256/)?[A-Za-z0-9+/]{43}=$" })
    }
}

impl Show for Pin {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(self.0))
    }
}

impl CertificateSettings {
    fn files(&self) -> CertificateFiles {
        CertificateFiles { chain: self.chain.clone(), key: self.key.clone() }
    }
}

impl ListenerSettings {
    /// Reads the files. `alpn` has the application protocols that the listener speaks, best first.
    ///
    /// # Errors
    /// What is wrong with the settings or with a file, at the key that names it.
    pub fn load(&self, alpn: Vec<Vec<u8>>) -> Result<ServerTls, Diagnostic> {
        let client_certificates = self.client_certificates()?;
        let plan = ServerTlsPlan {
            certificates: self.certificates.0.iter().map(CertificateSettings::files).collect(),
            client_certificates,
            min_version: self.min_version.map_or(MinVersion::default(), |it| it.0),
            alpn,
            strict_names: self.sni == Some(Text(SniMode::Strict)),
            allow_plaintext: self.plaintext == Some(Text(PlaintextMode::Allow)),
        };
        ServerTls::load(plan).map_err(|error| self.locate(error))
    }

    fn client_certificates(&self) -> Result<Option<ClientCertificates>, Diagnostic> {
        let Some(ca) = &self.client_ca else {
            let needs = |key: &str| {
                let message = format!("`{key}` needs a `client_ca`");
                let hint = "name the file of the authorities that issue clients' certificates";
                Diagnostic::at(&[key], message, hint)
            };
            let written = [
                ("client_certificate", self.client_certificate.is_some()),
                ("crl", self.crl.is_some()),
                ("on_revoked", self.on_revoked.is_some()),
            ];
            let first = written.iter().find(|(_, is_written)| *is_written);
            return first.map_or(Ok(None), |(key, _)| Err(needs(key)));
        };
        Ok(Some(ClientCertificates {
            ca: ca.clone(),
            required: self.client_certificate != Some(Text(ClientCertificateMode::Optional)),
            crl: self.crl.as_ref().map(|crl| crl.file.clone()),
            strict_crl: self.crl.as_ref().is_some_and(|crl| crl.strict),
            close_revoked: self.on_revoked == Some(Text(OnRevoked::Close)),
        }))
    }

    /// The error at the key that names the file.
    fn locate(&self, error: LoadError) -> Diagnostic {
        let certificates = self.certificates.0.iter().enumerate();
        let pairs = certificates.flat_map(|(number, it)| {
            let path = |key: &str| match self.certificates.0.len() {
                1 => vec!["certificates".to_owned(), key.to_owned()],
                _ => vec!["certificates".to_owned(), number.to_string(), key.to_owned()],
            };
            [(path("chain"), &it.chain), (path("key"), &it.key)]
        });
        let client_ca = self.client_ca.iter().map(|it| (vec!["client_ca".to_owned()], it));
        let crl = self.crl.iter().map(|it| (vec!["crl".to_owned(), "file".to_owned()], &it.file));
        let mut all = pairs.chain(client_ca).chain(crl);
        let path = all.find(|(_, path)| **path == error.path).map(|(keys, _)| keys);
        diagnostic(path, error)
    }
}

impl ClusterSettings {
    /// Reads the files. `alpn` has the application protocols that are spoken, best first.
    ///
    /// # Errors
    /// What is wrong with a file, at the key that names it.
    pub fn load(&self, alpn: Vec<Vec<u8>>) -> Result<ClientTls, Diagnostic> {
        let plan = ClientTlsPlan {
            ca: self.ca.clone(),
            server_name: self.server_name.clone(),
            certificate: self.certificate.as_ref().map(CertificateSettings::files),
            pins: self.pins.iter().map(|pin| pin.0.0).collect(),
            min_version: self.min_version.map_or(MinVersion::default(), |it| it.0),
            verify: self.verify,
            alpn,
        };
        if let Some(name) = &self.server_name
            && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            let message = format!("`{name}` is no name that a certificate can have");
            let hint = "write a host name without a port: `db.example.net`";
            return Err(Diagnostic::at(&["server_name"], message, hint));
        }
        ClientTls::load(plan).map_err(|error| {
            let own = self.certificate.as_ref();
            let keys = |keys: &[&str]| Some(keys.iter().map(|&key| key.to_owned()).collect());
            let path = if self.ca.as_ref() == Some(&error.path) {
                keys(&["ca"])
            } else if own.is_some_and(|it| it.chain == error.path) {
                keys(&["certificate", "chain"])
            } else if own.is_some_and(|it| it.key == error.path) {
                keys(&["certificate", "key"])
            } else {
                None
            };
            diagnostic(path, error)
        })
    }
}

/// The settings that lead to a plan; what is as by default is left out.
impl From<&ServerTlsPlan> for ListenerSettings {
    fn from(plan: &ServerTlsPlan) -> Self {
        let clients = plan.client_certificates.as_ref();
        let optional = clients.is_some_and(|clients| !clients.required);
        Self {
            certificates: OneOrMore(plan.certificates.iter().map(Into::into).collect()),
            client_ca: clients.map(|clients| clients.ca.clone()),
            client_certificate: optional.then_some(Text(ClientCertificateMode::Optional)),
            crl: clients.and_then(|clients| {
                let file = clients.crl.clone()?;
                Some(CrlSettings { file, strict: clients.strict_crl })
            }),
            on_revoked: clients
                .is_some_and(|clients| clients.close_revoked)
                .then_some(Text(OnRevoked::Close)),
            min_version: shown(plan.min_version),
            plaintext: plan.allow_plaintext.then_some(Text(PlaintextMode::Allow)),
            sni: plan.strict_names.then_some(Text(SniMode::Strict)),
        }
    }
}

/// The settings that lead to a plan; what is as by default is left out.
impl From<&ClientTlsPlan> for ClusterSettings {
    fn from(plan: &ClientTlsPlan) -> Self {
        Self {
            ca: plan.ca.clone(),
            server_name: plan.server_name.clone(),
            certificate: plan.certificate.as_ref().map(Into::into),
            pins: plan.pins.iter().map(|digest| Text(Pin(*digest))).collect(),
            min_version: shown(plan.min_version),
            verify: plan.verify,
        }
    }
}

impl From<&CertificateFiles> for CertificateSettings {
    fn from(files: &CertificateFiles) -> Self {
        Self { chain: files.chain.clone(), key: files.key.clone() }
    }
}

fn shown(version: MinVersion) -> Option<Text<MinVersion>> {
    (version != MinVersion::default()).then_some(Text(version))
}

fn diagnostic(path: Option<Vec<String>>, error: LoadError) -> Diagnostic {
    let path = path.unwrap_or_default();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    Diagnostic::at(&path, error.to_string(), error.hint)
}
