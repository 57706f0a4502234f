//! A TLS connection whose records a test writes itself, after a handshake in good order.

use crate::support::{PATIENCE, certificates::Certificates};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ExtractedSecrets, ServerConfig,
    ServerConnection, StreamOwned, SupportedProtocolVersion, crypto::aws_lc_rs::default_provider,
};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

/// Types of records (RFC 8446, 5.1).
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const PAYLOAD: u8 = 23;

/// One end of a connection after its handshake.
pub(crate) struct Records {
    pub(crate) socket: TcpStream,
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    is_1_3: bool,
}

impl Records {
    /// A client that has got back the first byte that it has sent.
    pub(crate) fn connect(
        certificates: &Certificates,
        address: SocketAddr,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        prepare(&socket);
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(certificates.roots())
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        let secrets = stream.conn.dangerous_extract_secrets().unwrap();
        Self::new(stream.sock, secrets, version)
    }

    /// A server that has read a first byte and sent it back.
    pub(crate) fn accept(
        certificates: &Certificates,
        socket: TcpStream,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        prepare(&socket);
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(certificates.identity("server"));
        config.enable_secret_extraction = true;
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(&byte).unwrap();
        stream.flush().unwrap();
        let secrets = stream.conn.dangerous_extract_secrets().unwrap();
        Self::new(stream.sock, secrets, version)
    }

    fn new(
        socket: TcpStream,
        secrets: ExtractedSecrets,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        let (sequence, secrets) = secrets.tx;
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => panic!("the cipher is not AES"),
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap());
        let iv = iv.as_ref().try_into().unwrap();
        Self { socket, key, iv, sequence, is_1_3: version == &rustls::version::TLS13 }
    }

    /// The next record, encrypted.
    pub(crate) fn record(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let sequence = self.sequence.to_be_bytes();
        self.sequence += 1;
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(sequence).for_each(|(byte, part)| *byte ^= part);
        let seal = |aad: &[u8], mut bytes: Vec<u8>| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            self.key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut bytes).unwrap();
            bytes
        };
        let length = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
        if self.is_1_3 {
            // The type stands behind the payload (RFC 8446, 5.2).
            let inner = [payload, &[kind]].concat();
            let head = [&[PAYLOAD, 3, 3][..], &length(inner.len() + 16)].concat();
            let sealed = seal(&head, inner);
            return [head, sealed].concat();
        }
        // The nonce's second part stands before the payload (RFC 5288, 3).
        let aad = [&sequence[..], &[kind, 3, 3], &length(payload.len())].concat();
        let sealed = seal(&aad, payload.to_vec());
        let head = [&[kind, 3, 3][..], &length(8 + sealed.len())].concat();
        [&head, &nonce[4..], &sealed].concat()
    }

    /// Writes a record. An error if the other side has closed.
    pub(crate) fn send(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let record = self.record(kind, payload);
        self.socket.write_all(&record)
    }

    /// The type of the next record that comes, whose payload stays encrypted. `None` at the end.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let mut head = [0; 5];
        self.socket.read_exact(&mut head).ok()?;
        let length = u16::from_be_bytes([head[3], head[4]]);
        self.socket.read_exact(&mut vec![0; length.into()]).ok()?;
        Some(head[0])
    }
}

fn prepare(socket: &TcpStream) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
}
