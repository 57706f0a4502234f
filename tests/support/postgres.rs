//! PostgreSQL, as a process: a server that offers TLS, and psql.

use super::{certificates::Certificates, eventually, free_address, tools};
use std::{
    fs,
    net::SocketAddr,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

/// A user without rights, in place of root: PostgreSQL refuses to run as root.
const UNPRIVILEGED: u32 = 65_534;

/// A running server with the certificate `server`, until dropped. It accepts clients with TLS and without.
pub struct Postgres {
    process: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Postgres {
    /// Starts one. `None` where there is none.
    pub fn start(certificates: &Certificates) -> Option<Self> {
        let (mut create, mut serve) = (tools::program("initdb")?, tools::program("postgres")?);
        let directory = tempfile::tempdir().expect("a directory");
        let is_root = fs::metadata(directory.path()).map(|it| is_owned_by_root(&it)).unwrap();
        let path = |name: &str| directory.path().join(name);
        for file in ["server.crt", "server.key"] {
            fs::copy(certificates.path(file), path(file)).unwrap();
            fs::set_permissions(path(file), fs::Permissions::from_mode(0o600)).unwrap();
        }
        if is_root {
            for owned in [path(""), path("server.crt"), path("server.key")] {
                chown(owned, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
            }
            for command in [&mut create, &mut serve] {
                command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
            }
        }
        create.args(["-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-D"]);
        let output = create.arg(path("data")).current_dir(directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let address = free_address();
        let log = fs::File::create(path("log")).unwrap();
        serve.current_dir(directory.path()).arg("-D").arg(path("data"));
        for (name, value) in [
            ("port", address.port().to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", String::new()),
            ("ssl", "on".to_owned()),
            ("ssl_cert_file", path("server.crt").display().to_string()),
            ("ssl_key_file", path("server.key").display().to_string()),
            ("fsync", "off".to_owned()),
        ] {
            serve.arg("-c").arg(format!("{name}={value}"));
        }
        let process = serve.stdout(Stdio::null()).stderr(log).spawn().expect("postgres runs");
        let this = Self { process, address, directory };
        eventually("PostgreSQL", || psql(address, "sslmode=disable", "select 1").ok());
        Some(this)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            println!("PostgreSQL's log:\n{log}");
        }
        // A fast shutdown: a server that is killed leaves shared memory behind.
        let id = self.process.id().to_string();
        if !Command::new("kill").args(["-INT", &id]).status().is_ok_and(|status| status.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// Runs SQL by psql, which connects to `localhost` with these options. Returns its output, or its errors.
pub fn psql(address: SocketAddr, options: &str, sql: &str) -> Result<String, String> {
    let output = psql_command(address, options, sql).output().expect("psql runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The command that runs SQL.
pub fn psql_command(address: SocketAddr, options: &str, sql: &str) -> Command {
    let mut command = tools::program("psql").expect("psql is installed beside postgres");
    let port = address.port();
    command.env("HOME", "/nonexistent").args(["-X", "-A", "-t", "-c", sql]).arg(format!(
        "host=localhost hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres \
         connect_timeout=20 {options}"
    ));
    command
}

fn is_owned_by_root(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(metadata) == 0
}
