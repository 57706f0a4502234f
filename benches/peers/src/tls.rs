//! TLS on the clients' side.

use rustls::{
    ClientConfig, Error, RootCertStore,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite::TLS13_AES_256_GCM_SHA384, kx_group::X25519},
    },
    pki_types::{CertificateDer, pem::PemObject},
    version::TLS13,
};
use std::{path::Path, sync::Arc};
use tokio_rustls::TlsConnector;

/// The name in the certificates of all proxies.
pub const SERVER_NAME: &str = "localhost";

/// A connector that trusts the certificate in this file (PEM). `resumes`: a connection resumes the
/// session of an earlier one. The cipher suite and the group are fixed, so that all proxies do the
/// same work.
///
/// # Errors
/// The file can't be read, or has no certificate.
pub fn connector(certificate: &Path, resumes: bool) -> Result<TlsConnector, Error> {
    let certificate = CertificateDer::from_pem_file(certificate)
        .map_err(|error| Error::General(format!("{}: {error}", certificate.display())))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let provider = CryptoProvider {
        cipher_suites: vec![TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(TlsConnector::from(Arc::new(config)))
}
