//! Certificates that are made for a test, and blocking TLS for both ends of a connection.

use super::PATIENCE;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
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
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    /// Writes `NAME.crt` and `NAME.key`, for these names.
    pub fn issue(&self, name: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|&it| it.to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        // Renamed into place, as certificate managers do it.
        for (file, pem) in [("crt", certificate.pem()), ("key", key.serialize_pem())] {
            let path = self.path(&format!("{name}.{file}"));
            let new = path.with_extension("new");
            fs::write(&new, pem).unwrap();
            fs::rename(new, path).unwrap();
        }
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

    fn key(&self, name: &str) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap()
    }

    fn roots(&self) -> Arc<RootCertStore> {
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
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        Arc::new(match own {
            Some(own) => config.with_client_auth_cert(self.chain(own), self.key(own)).unwrap(),
            None => config.with_no_client_auth(),
        })
    }

    /// The server's side of an accepted connection, which asks for a client's certificate if
    /// `asks`. The handshake is made by the first read or write.
    pub fn accept(&self, socket: TcpStream, name: &str, asks: bool) -> ServerStream {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
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
        let config = config.with_single_cert(self.chain(name), self.key(name)).unwrap();
        StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket)
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
