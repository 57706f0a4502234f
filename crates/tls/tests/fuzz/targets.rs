//! Entry points of the fuzzer, also used for replays.

#[path = "../../src/engine.rs"]
#[allow(dead_code, reason = "what a socket's side needs beside it is not used here")]
mod engine;

use engine::{Engine, Outgoing, Output};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::Resumption,
    crypto::aws_lc_rs::default_provider,
    pki_types::{PrivateKeyDer, ServerName},
    version::{TLS12, TLS13},
};
use std::sync::{Arc, LazyLock};
use tls::{FirstBytes, read_client_hello};

/// The first bytes of a connection must have one result, however they are cut.
pub(crate) fn client_hello(bytes: &[u8]) {
    let whole = read_client_hello(bytes);
    // Every cut of a short input, and some 500 of a long one.
    for end in (0..bytes.len()).step_by(1 + bytes.len() / 500) {
        let cut = read_client_hello(&bytes[..end]);
        assert!(cut == FirstBytes::Incomplete || cut == whole, "{end}: {cut:?}, {whole:?}");
    }
}

/// Two ends that are connected by a host which changes, drops, repeats and cuts their records. What is
/// delivered must be the beginning of what was written, and all of it as long as nothing was changed.
pub(crate) fn records(script: &[u8]) {
    let mut script = script.iter().copied();
    let Some(first) = script.next() else { return };
    let configs = if first & 1 == 0 { &CONFIGS[0] } else { &CONFIGS[1] };
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = End::new(Engine::client(Arc::clone(&configs.0), name).unwrap());
    let mut server = End::new(Engine::server(Arc::clone(&configs.1)).unwrap());
    client.read();
    if first & 2 == 0 {
        for _ in 0..4 {
            pass(&mut client, &mut server, usize::MAX);
            pass(&mut server, &mut client, usize::MAX);
        }
        assert!(client.established && server.established, "an undisturbed handshake");
    }
    while let Some(step) = script.next() {
        let number = usize::from(script.next().unwrap_or_default());
        let (from, to) =
            if step & 1 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
        match step >> 1 & 7 {
            0 => from.write(number * 97),
            1 => from.close(),
            2 => pass(from, to, number),
            3 => pass(from, to, usize::MAX),
            4 => from.change(|output| {
                let at = number * output.len() / 256;
                output[at] ^= 1 << (step >> 4 & 7);
            }),
            5 => from.change(|output| output.truncate(number * output.len() / 256)),
            6 => from.change(|output| {
                let again = output[number * output.len() / 256..].to_vec();
                output.extend(again);
            }),
            _ => from.change(|output| {
                let at = number * output.len() / 256;
                output.splice(at..at, [step, 3, 3, 0, 1, step]);
            }),
        }
    }
    pass(&mut client, &mut server, usize::MAX);
    pass(&mut server, &mut client, usize::MAX);
    check(&client, &server);
    check(&server, &client);
}

/// Compares what one end has written with what the other one has delivered.
fn check(from: &End, to: &End) {
    assert!(from.written.starts_with(&to.delivered), "bytes were changed");
    if !from.changed && !to.changed && !to.failed {
        assert_eq!(from.written.len(), to.delivered.len(), "bytes are missing");
    }
}

type Configs = (Arc<ClientConfig>, Arc<ServerConfig>);

static CONFIGS: LazyLock<[Configs; 2]> = LazyLock::new(|| {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let roots = Arc::new(roots);
    let provider = Arc::new(default_provider());
    [&TLS12, &TLS13].map(|version: &'static SupportedProtocolVersion| {
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        (Arc::new(client), Arc::new(server))
    })
});

/// One end of the connection.
struct End {
    engine: Engine,
    input: Vec<u8>,
    output: Vec<u8>,
    written: Vec<u8>,
    delivered: Vec<u8>,
    established: bool,
    closed: bool,
    failed: bool,
    /// The other end gets something else than this one has sent.
    changed: bool,
}

impl End {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            input: Vec::new(),
            output: Vec::new(),
            written: Vec::new(),
            delivered: Vec::new(),
            established: false,
            closed: false,
            failed: false,
            changed: false,
        }
    }

    /// Reads what has arrived. As over a socket, nothing is read after a failure.
    fn read(&mut self) {
        if self.failed {
            return;
        }
        let delivered = &mut self.delivered;
        let deliver = &mut |bytes: &[u8]| delivered.extend_from_slice(bytes);
        let mut output = Output::default();
        let read = self.engine.read(&mut self.input, &mut output, deliver);
        self.output.extend_from_slice(output.bytes());
        match read {
            Ok(progress) => {
                self.established |= progress.established;
                self.input.drain(..progress.used);
            }
            Err(_) => self.failed = true,
        }
    }

    fn write(&mut self, length: usize) {
        if !self.established || self.failed || self.closed {
            return;
        }
        let payload: Vec<u8> =
            (self.written.len()..).take(length).map(|number| (number % 251) as u8).collect();
        self.send(Outgoing::Payload(&payload));
        self.written.extend(payload);
    }

    fn close(&mut self) {
        if !self.established || self.failed || self.closed {
            return;
        }
        self.closed = true;
        self.send(Outgoing::CloseNotify);
    }

    fn send(&mut self, outgoing: Outgoing<'_>) {
        let mut output = Output::default();
        let sent = self.engine.write(outgoing, &mut self.input, &mut output);
        sent.expect("an open connection can be written to");
        self.output.extend_from_slice(output.bytes());
    }

    /// Changes what is on its way, if there is anything.
    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        if !self.output.is_empty() {
            self.changed = true;
            change(&mut self.output);
        }
    }
}

/// Passes at most `most` bytes.
fn pass(from: &mut End, to: &mut End, most: usize) {
    let passed = from.output.len().min(most);
    to.input.extend(from.output.drain(..passed));
    // rustls 0.23 asserts, with debug assertions, that no alert follows its close_notify.
    if !(to.closed && from.changed) {
        to.read();
    }
}
