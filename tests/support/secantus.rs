//! SecantusDB: a real server that speaks MongoDB's protocol, as a process.

use super::{
    certificates::Certificates,
    free_address,
    tollgate::{Tollgate, mongo_config},
    tools,
};
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    time::Duration,
};

/// The user of a server that was started with authentication.
pub const USER: &str = "alice";
/// That user's password: nothing may ever show it.
pub const PASSWORD: &str = "hunter-two-secret";

/// It imports half of Python first, while other tests use the machine.
const START: Duration = Duration::from_secs(60);

/// Runs the server until this script's stdin ends, which it does however the test ends.
const WATCHDOG: &str = r#""$@" 2>&1 & server=$!; exec >/dev/null; cat; kill $server; wait $server"#;

/// A running server: a replica set `secantus` with this one member, unless it stands alone.
pub struct Secantus {
    process: Child,
    address: SocketAddr,
    /// Whether it is inside TLS, and demands a certificate of its clients.
    encrypted: bool,
    /// Holds the data of a server with users, for as long as it runs.
    _data: Option<tempfile::TempDir>,
}

impl Secantus {
    /// The server that all tests of one binary share. `None` where none can be installed.
    pub fn shared() -> Option<&'static Secantus> {
        static SHARED: OnceLock<Option<Secantus>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(false, false)).as_ref()
    }

    /// The same, and one inside TLS.
    pub fn shared_plain_and_encrypted() -> Vec<&'static Secantus> {
        static ENCRYPTED: OnceLock<Option<Secantus>> = OnceLock::new();
        let encrypted = ENCRYPTED.get_or_init(|| Self::start_encrypted(false)).as_ref();
        Self::shared().into_iter().chain(encrypted).collect()
    }

    /// A server that users must log in to, and one inside TLS. None where they can't be installed.
    pub fn with_login() -> Vec<Secantus> {
        Self::start(true, false).into_iter().chain(Self::start_encrypted(true)).collect()
    }

    /// Starts one. With `auth`, [`USER`] exists and everybody must log in.
    pub fn start(auth: bool, standalone: bool) -> Option<Secantus> {
        let standalone = if standalone { vec!["--standalone".to_owned()] } else { Vec::new() };
        Self::start_with(auth, &standalone)
    }

    /// Starts one inside TLS that demands a certificate of its clients.
    pub fn start_encrypted(auth: bool) -> Option<Secantus> {
        let certificates = Certificates::shared();
        let mut flags = vec!["--tls-require-client-cert".to_owned()];
        for (flag, file) in [
            ("--tls-cert-file", "server.crt"),
            ("--tls-key-file", "server.key"),
            ("--tls-ca-file", "ca.crt"),
        ] {
            flags.push(flag.to_owned());
            flags.push(certificates.path(file).display().to_string());
        }
        let mut server = Self::start_with(auth, &flags)?;
        server.encrypted = true;
        Some(server)
    }

    fn start_with(auth: bool, more: &[String]) -> Option<Secantus> {
        let bin = tools::python()?;
        let test_commands = ["--enable-test-commands".to_owned()];
        let mut flags = [&test_commands, more].concat();
        if !auth {
            return Some(Self::spawn(&bin, Path::new(":memory:"), &flags, None));
        }
        // Users are made before the doors are locked: there is no exception for localhost.
        let data = tempfile::tempdir().expect("a directory");
        Self::spawn(&bin, data.path(), &test_commands, None).create_user(&bin);
        flags.push("--auth".to_owned());
        let path = data.path().to_owned();
        Some(Self::spawn(&bin, &path, &flags, Some(data)))
    }

    /// A proxy with a listener `db` before it. Before a server inside TLS the listener is inside
    /// TLS as well, and both demand certificates.
    pub fn proxy(&self) -> Tollgate {
        if !self.encrypted {
            return Tollgate::mongo(self.address);
        }
        let certificates = Certificates::shared();
        let (server, client) = (certificates.pair("server"), certificates.pair("client"));
        let ca = certificates.path("ca.crt").display().to_string();
        let listener = format!("tls: {{ certificates: {server}, client_ca: {ca} }}");
        let endpoints = format!("endpoints: [\"{}\"]", self.address);
        let tls = format!("{endpoints}, tls: {{ ca: {ca}, certificate: {client} }}");
        let config = mongo_config(self.address, &listener);
        Tollgate::start(&config.replace(&endpoints, &tls))
    }

    /// A proxy with a listener `db` before it whose clients share at most four connections, and see a
    /// replica set of one member.
    pub fn pooled_proxy(&self) -> Tollgate {
        let endpoints = format!("endpoints: [\"{}\"]", self.address);
        let config = mongo_config(self.address, "")
            .replace("protocol: mongo", "protocol: { mongo: { present_as: primary } }")
            .replace(&endpoints, &format!("{endpoints}, pool: {{ max_pool_size: 4 }}"));
        Tollgate::start(&format!("workers: 1\n{config}"))
    }

    /// What a connection string needs for it, or for its proxy.
    pub fn uri_options(&self) -> String {
        if !self.encrypted {
            return String::new();
        }
        let path = |file| Certificates::shared().path(file).display().to_string();
        let (ca, own) = (path("ca.crt"), path("client.pem"));
        format!("tls=true&tlsCAFile={ca}&tlsCertificateKeyFile={own}")
    }

    /// Whether it is inside TLS.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn spawn(bin: &Path, data: &Path, flags: &[String], kept: Option<tempfile::TempDir>) -> Self {
        // Another process may take the port between picking and using it.
        let (process, address) =
            (0..3).find_map(|_| Self::attempt(bin, data, flags)).expect("the server starts");
        Self { process, address, encrypted: false, _data: kept }
    }

    fn attempt(bin: &Path, data: &Path, flags: &[String]) -> Option<(Child, SocketAddr)> {
        let address = free_address();
        let mut process = Command::new("sh")
            .args(["-c", WATCHDOG, "sh"])
            .arg(bin.join("secantusd-py"))
            .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
            .arg("--storage-path")
            .arg(data)
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = lines.by_ref().map_while(Result::ok);
            if lines.any(|line| line.contains("secantus listening on")) {
                let _ = ready.send(());
            }
            // They are not used, but a full pipe would stop the server.
            lines.for_each(drop);
        });
        if is_ready.recv_timeout(START).is_ok() {
            return Some((process, address));
        }
        end(&mut process);
        None
    }

    fn create_user(&self, bin: &Path) {
        let script = "import pymongo, sys; pymongo.MongoClient(sys.argv[1]).admin.command(\
                      'createUser', sys.argv[2], pwd=sys.argv[3], roles=['root'])";
        let status = Command::new(bin.join("python"))
            .args(["-c", script, &format!("mongodb://{}", self.address), USER, PASSWORD])
            .status()
            .expect("python runs");
        assert!(status.success(), "a user could not be made");
    }
}

impl Drop for Secantus {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

fn end(process: &mut Child) {
    drop(process.stdin.take());
    let _ = process.wait();
}
