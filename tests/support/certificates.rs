//! Certificates that are made for a test, and blocking TLS for both ends of a connection.

use super::PATIENCE;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, date_time_ymd,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// An authority, and the certificates that it has issued, in files of one directory.
pub struct Certificates {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

/// A client's or a server's encrypted connection.
pub type ClientStream = StreamOwned<ClientConnection, TcpStream>;
pub type ServerStream = StreamOwned<ServerConnection, TcpStream>;

impl Certificates {
    pub fn new() -> Self {
        let params = authority("authority of a test");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    /// Writes `NAME.crt` and `NAME.key`, for these names.
    pub fn issue(&self, name: &str, names: &[&str]) {
        self.issue_with(name, names, |_| {});
    }

    /// The same, for names that are URIs.
    pub fn issue_for_uris(&self, name: &str, uris: &[&str]) {
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        let uris = uris.iter().map(uri).collect();
        self.issue_with(name, &[], |params| params.subject_alt_names = uris);
    }

    /// The same of a certificate that `change` has changed before it is signed.
    pub fn issue_with(
        &self,
        name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let mut params = params(names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(name, &certificate.pem(), &key.serialize_pem());
    }

    /// Writes `NAME.crt` and `NAME.key`, which have this content, and `NAME.pem` with both.
    pub fn write(&self, name: &str, chain: &str, key: &str) {
        let both = format!("{chain}{key}");
        // Renamed into place, as certificate managers do it.
        for (file, pem) in [("crt", chain), ("key", key), ("pem", &both)] {
            let path = self.path(&format!("{name}.{file}"));
            let new = path.with_extension("new");
            fs::write(&new, pem).unwrap();
            fs::rename(new, path).unwrap();
        }
    }

    /// The authority, to sign with.
    pub fn issuer(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.issuer
    }

    /// Writes `revoked.pem`, which revokes the certificate with this serial number.
    pub fn revoke(&self, serial: u64) {
        let now = date_time_ymd(2026, 1, 1);
        let revoked = RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: date_time_ymd(2096, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap();
        fs::write(self.path("revoked.pem"), list.pem().unwrap()).unwrap();
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// `{ chain: …, key: … }` of a config.
    pub fn pair(&self, name: &str) -> String {
        let at = self.directory.path().display();
        format!("{{ chain: {at}/{name}.crt, key: {at}/{name}.key }}")
    }

    fn chain(&self, name: &str) -> Vec<CertificateDer<'static>> {
        let pem = fs::read(self.path(&format!("{name}.crt"))).unwrap();
        CertificateDer::pem_slice_iter(&pem).map(Result::unwrap).collect()
    }

    /// A certificate and a key, which need not belong together.
    pub fn identity(&self, name: &str) -> Arc<SingleCertAndKey> {
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(self.chain(name), key)))
    }

    /// Its authority, to trust it.
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.chain("ca"));
        Arc::new(roots)
    }

    /// Connects to `address` and asks for `host`, with the certificate `own` if there is one. The
    /// handshake is made by the first read or write.
    pub fn connect(&self, address: SocketAddr, host: &str, own: Option<&str>) -> ClientStream {
        connect(address, host, &self.client_config(own))
    }

    /// How a client connects, with the certificate `own` if there is one. It remembers the sessions that it
    /// could resume.
    pub fn client_config(&self, own: Option<&str>) -> Arc<ClientConfig> {
        Arc::new(self.client_config_with_alpn(own, &[]))
    }

    /// The same with these protocols (ALPN).
    pub fn client_config_with_alpn(&self, own: Option<&str>, alpn: &[&str]) -> ClientConfig {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match own {
            Some(own) => config.with_client_cert_resolver(self.identity(own)),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
        config
    }

    /// The server's side of an accepted connection, which asks for a client's certificate if
    /// `asks`. The handshake is made by the first read or write.
    pub fn accept(&self, socket: TcpStream, name: &str, asks: bool) -> ServerStream {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = Arc::new(self.server_config(name, asks, &[]));
        StreamOwned::new(ServerConnection::new(config).unwrap(), socket)
    }

    /// The config of a server with this certificate and these protocols (ALPN). It asks for a
    /// client's certificate if `asks`.
    pub fn server_config(&self, name: &str, asks: bool, alpn: &[&str]) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = if asks {
            let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            config.with_no_client_auth()
        };
        let mut config = config.with_cert_resolver(self.identity(name));
        config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
        config
    }

    /// An authority with the certificates `server`, for `localhost` and 127.0.0.1, and `client`,
    /// for `app.example.net`, which all tests of one binary share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Certificates> = OnceLock::new();
        SHARED.get_or_init(|| {
            let certificates = Self::new();
            certificates.issue("server", &["localhost", "127.0.0.1"]);
            certificates.issue("client", &["app.example.net"]);
            certificates
        })
    }
}

/// Connects to `address` and asks for `host`. The handshake is made by the first read or write.
pub fn connect(address: SocketAddr, host: &str, config: &Arc<ClientConfig>) -> ClientStream {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    let name = host.to_owned().try_into().unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), socket)
}

/// A certificate for these names.
pub fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&it| it.to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

/// An authority's certificate.
pub fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
