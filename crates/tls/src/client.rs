//! The side that opens connections: whom it trusts, and which certificate it shows.

use crate::{
    certificate::key_digest,
    failure::HandshakeFailure,
    identity::{CertificateFiles, Content, Identity, LoadError, certificates, read, read_pair},
    provider::{MinVersion, provider},
    server::add_root,
    stream::TlsStream,
};
use arc_swap::ArcSwap;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde::{Serialize, Serializer};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};
use tokio::net::TcpStream;

/// How connections to a cluster's endpoints are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTlsPlan {
    /// The authorities that are trusted (PEM). `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The name that endpoints are asked for and verified by, instead of their hosts.
    pub server_name: Option<String>,
    /// The certificate that is shown to servers which ask for one.
    pub certificate: Option<CertificateFiles>,
    /// SHA-256 digests of public keys, one of which the server must have, beside a valid certificate.
    pub pins: Vec<[u8; 32]>,
    /// The lowest version.
    pub min_version: MinVersion,
    /// Whether the server's certificate is verified.
    pub verify: bool,
    /// The application protocols (ALPN) that are offered, best first. Servers may ignore them, unless
    /// HTTP/1.1 is not among them.
    pub alpn: Vec<Vec<u8>>,
}

impl Default for ClientTlsPlan {
    fn default() -> Self {
        Self {
            ca: None,
            server_name: None,
            certificate: None,
            pins: Vec::new(),
            min_version: MinVersion::default(),
            verify: true,
            alpn: Vec::new(),
        }
    }
}

/// The TLS side of a cluster. All workers share it.
pub struct ClientTls {
    plan: ClientTlsPlan,
    loaded: ArcSwap<Loaded>,
}

struct Loaded {
    config: Arc<ClientConfig>,
    identity: Option<Identity>,
    contents: Contents,
}

/// What the files had.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    ca: Option<Content>,
    pair: Option<(Content, Content)>,
}

impl Contents {
    fn read(plan: &ClientTlsPlan) -> Result<Self, LoadError> {
        Ok(Self {
            ca: plan.ca.as_deref().map(read).transpose()?,
            pair: plan.certificate.as_ref().map(read_pair).transpose()?,
        })
    }
}

/// As in a config.
impl Serialize for ClientTls {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        crate::ClusterSettings::from(&self.plan).serialize(to)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file can't be used, or the system has no authorities.
    pub fn load(plan: ClientTlsPlan) -> Result<Self, LoadError> {
        let loaded = Loaded::new(&plan, Contents::read(&plan)?)?;
        Ok(Self { plan, loaded: ArcSwap::from_pointee(loaded) })
    }

    /// Reads the files again. New connections use what they have now. Returns whether anything has
    /// changed.
    ///
    /// # Errors
    /// A file can't be used; nothing has changed then.
    pub fn reload(&self) -> Result<bool, LoadError> {
        let contents = Contents::read(&self.plan)?;
        if contents == self.loaded.load().contents {
            return Ok(false);
        }
        self.loaded.store(Arc::new(Loaded::new(&self.plan, contents)?));
        Ok(true)
    }

    /// Completes the handshake with a server that is asked for this name, and must have it. The name
    /// is a DNS name or an address, which may be in brackets.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(
        &self,
        socket: TcpStream,
        name: &str,
    ) -> Result<TlsStream, HandshakeFailure> {
        let loaded = self.loaded.load_full();
        let mut stream = TlsStream::client(socket, Arc::clone(&loaded.config), server_name(name)?)?;
        stream.certificate_end = loaded.identity.as_ref().map(|identity| identity.info.expires());
        stream.handshake().await?;
        self.check_alpn(stream.alpn())?;
        Ok(stream)
    }

    /// Checks the application protocol that a server has agreed upon. A server without ALPN agrees on
    /// none, and speaks HTTP/1.1; so it must agree if only other protocols are offered.
    fn check_alpn(&self, agreed: Option<&[u8]>) -> Result<(), HandshakeFailure> {
        let offered = &self.plan.alpn;
        let optional = offered.is_empty() || offered.iter().any(|it| it == b"http/1.1");
        if agreed.is_some() || optional { Ok(()) } else { Err(HandshakeFailure::Alpn) }
    }

    /// The certificate that is shown to servers.
    pub fn identity(&self) -> Option<Identity> {
        self.loaded.load().identity.clone()
    }

    /// What it was made from.
    pub fn plan(&self) -> &ClientTlsPlan {
        &self.plan
    }
}

/// The name of a server, as certificates have it.
fn server_name(name: &str) -> Result<ServerName<'static>, HandshakeFailure> {
    let name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    ServerName::try_from(name.to_owned()).map_err(|_| {
        HandshakeFailure::Internal(format!("`{name}` is no name that a certificate can have"))
    })
}

/// The authorities that the system trusts, read once: that takes up to hundreds of milliseconds.
static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

impl Loaded {
    fn new(plan: &ClientTlsPlan, contents: Contents) -> Result<Self, LoadError> {
        let path = plan.ca.as_deref().unwrap_or(Path::new("the system's authorities"));
        let failed = |error: &dyn std::fmt::Display| LoadError::new(path, error.to_string(), "");
        let identity = match (&plan.certificate, &contents.pair) {
            (Some(files), Some((chain, key))) => Some(Identity::from_content(files, chain, key)?),
            _ => None,
        };
        let verifier: Arc<dyn ServerCertVerifier> = if plan.verify {
            let roots = roots(plan.ca.as_deref(), contents.ca.as_deref())?;
            let builder = WebPkiServerVerifier::builder_with_provider(roots, provider());
            builder.build().map_err(|error| failed(&error))?
        } else {
            Arc::new(AcceptAny(provider()))
        };
        let verifier = Arc::new(Pinned { inner: verifier, pins: plan.pins.clone() });
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(plan.min_version.versions())
            .map_err(|error| failed(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &identity {
            Some(identity) => {
                let one = rustls::sign::SingleCertAndKey::from(Arc::clone(&identity.key));
                builder.with_client_cert_resolver(Arc::new(one))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&plan.alpn);
        Ok(Self { config: Arc::new(config), identity, contents })
    }
}

fn roots(path: Option<&Path>, content: Option<&[u8]>) -> Result<Arc<RootCertStore>, LoadError> {
    let (Some(path), Some(content)) = (path, content) else {
        if SYSTEM.is_empty() {
            let path = Path::new("the system's authorities");
            let hint = "install the package `ca-certificates`, or name a file: `ca: FILE`";
            return Err(LoadError::new(path, "there are none", hint));
        }
        return Ok(Arc::clone(&SYSTEM));
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(path, content)? {
        add_root(&mut roots, path, authority)?;
    }
    Ok(Arc::new(roots))
}

/// Accepts certificates that have one of these keys, and that `inner` accepts.
#[derive(Debug)]
struct Pinned {
    inner: Arc<dyn ServerCertVerifier>,
    pins: Vec<[u8; 32]>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(certificate, issuers, name, ocsp, now)?;
        let pinned = || key_digest(certificate).is_some_and(|key| self.pins.contains(&key));
        if self.pins.is_empty() || pinned() {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts any certificate whose key the server has (`verify: false`).
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _issuers: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
