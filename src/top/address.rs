//! Where a proxy's admin interface is, and how it is reached.

use anyhow::{anyhow, bail};
use std::{fmt, path::PathBuf, sync::Arc};
use tls::{CertificateFiles, ClientTls, ClientTlsPlan};

/// Where a proxy's admin interface is.
#[derive(Clone, Debug)]
pub struct AdminAddress {
    /// `HOST:PORT`, or `unix:/PATH`.
    address: String,
    /// How the connection is encrypted.
    tls: Option<Arc<ClientTls>>,
}

/// The files for an encrypted connection.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The authorities that are trusted (PEM). `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown, and its key (PEM).
    pub certificate: Option<PathBuf>,
}

impl AdminAddress {
    /// Reads `HOST:PORT`, `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`.
    ///
    /// # Errors
    /// It is none of these, there are files and it is not encrypted, or a file can't be used.
    pub fn parse(text: &str, files: TlsFiles) -> anyhow::Result<Self> {
        let encrypted = text.strip_prefix("https://");
        let address = encrypted.or(text.strip_prefix("http://")).unwrap_or(text);
        let address = address.trim_end_matches('/').to_owned();
        // A socket's path has none, and an IPv6 address is full of colons.
        let port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !port && !address.starts_with("unix:") {
            let shown = values::hide(&address);
            bail!("`{shown}` has no port: write HOST:PORT, such as `{shown}:9901`");
        }
        let TlsFiles { ca, certificate } = files;
        if encrypted.is_none() {
            if ca.is_some() || certificate.is_some() {
                let shown = values::hide(&address);
                bail!("--ca and --certificate are for TLS: write `https://{shown}`");
            }
            return Ok(Self { address, tls: None });
        }
        let certificate = certificate.map(|it| CertificateFiles { chain: it.clone(), key: it });
        let plan = ClientTlsPlan { ca, certificate, ..ClientTlsPlan::default() };
        let tls = ClientTls::load(plan).map_err(|error| anyhow!("{error}: {}", error.hint))?;
        Ok(Self { address, tls: Some(Arc::new(tls)) })
    }

    /// A host with a port, without TLS.
    pub fn plain(address: impl fmt::Display) -> Self {
        Self { address: address.to_string(), tls: None }
    }

    /// The path of a Unix socket.
    pub(super) fn socket(&self) -> Option<&str> {
        self.address.strip_prefix("unix:")
    }

    /// The host and the port.
    pub(super) fn host_and_port(&self) -> &str {
        &self.address
    }

    /// How the connection is encrypted, and the name that the certificate must have.
    pub(super) fn tls(&self) -> Option<(&ClientTls, &str)> {
        let name = self.address.rsplit_once(':').map_or(&*self.address, |(name, _)| name);
        Some((self.tls.as_deref()?, name))
    }
}

/// Without a scheme.
impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        let read = AdminAddress::parse(text, TlsFiles::default());
        read.map(|it| it.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_has_a_port_or_is_a_socket() {
        assert_eq!(parse("http://db-proxy:9901/").as_deref(), Ok("db-proxy:9901"));
        assert_eq!(parse("[::1]:9901").as_deref(), Ok("[::1]:9901"));
        assert_eq!(parse("unix:/run/a.sock").as_deref(), Ok("unix:/run/a.sock"));
        for text in ["db-proxy", "https://db-proxy", "/run/a.sock"] {
            assert!(parse(text).unwrap_err().contains("no port"), "{text}");
        }
    }

    #[test]
    fn files_are_for_encrypted_addresses() {
        let files = TlsFiles { ca: Some("nowhere.crt".into()), certificate: None };
        let plain = AdminAddress::parse("db-proxy:9901", files.clone()).unwrap_err().to_string();
        assert!(plain.contains("https://db-proxy:9901"), "{plain}");
        let missing = AdminAddress::parse("https://db-proxy:9901", files).unwrap_err().to_string();
        assert!(missing.contains("nowhere.crt"), "{missing}");
    }
}
