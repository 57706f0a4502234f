//! A redis-server of a test's own.

use crate::support::certificates::Certificates;
use policy::kinds::rate_limit::shared::{RedisPlan, StorePlan};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};
use values::Target;

/// A running server, with a port of its own and nothing on disk.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with more arguments.
    pub fn with(arguments: &[&str]) -> Self {
        Self::starting(|_| arguments.iter().map(|&it| it.to_owned()).collect())
    }

    /// Starts one that speaks TLS with the certificate `server`, and asks clients for theirs.
    pub fn encrypted(certificates: &Certificates) -> Self {
        let path = |file: &str| certificates.path(file).display().to_string();
        Self::starting(|address| {
            let port = address.port().to_string();
            let files = [("cert", "server.crt"), ("key", "server.key"), ("ca-cert", "ca.crt")];
            let files = files.map(|(key, file)| [format!("--tls-{key}-file"), path(file)]);
            let ports = ["--port", "0", "--tls-port", &port].map(str::to_owned);
            ports.into_iter().chain(files.into_iter().flatten()).collect()
        })
    }

    fn starting(arguments: impl Fn(SocketAddr) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Another process may take the port between picking and using it.
        let found = (0..5).find_map(|_| {
            let address = free_address();
            Some((spawn(address, directory.path(), &arguments(address))?, address))
        });
        let (process, address) = found.expect("redis-server starts");
        Self { process, address, directory }
    }

    /// Where it is, as a config would say.
    pub fn store(&self) -> StorePlan {
        StorePlan::Redis(RedisPlan {
            address: Target::Host(self.address.ip().to_string(), self.address.port()),
            database: 0,
            user: None,
            password_file: None,
            tls: None,
        })
    }

    /// Stops its answers, and keeps all connections open.
    pub fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again where it was, and empty.
    pub fn restart(&mut self) {
        let again = (0..50).find_map(|_| spawn(self.address, self.directory.path(), &[]));
        self.process = again.expect("redis-server starts again");
    }

    /// Sends a command; returns the first kilobytes of the answer.
    pub fn command(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// `None` if it ends at once, which it does if another process has the port.
fn spawn(address: SocketAddr, directory: &std::path::Path, arguments: &[String]) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(directory).args(arguments);
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("these tests need redis-server: apt-get install redis-server");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("Ready to accept"));
    if !ready {
        let _ = process.wait();
        return None;
    }
    // It must not stop at a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Some(process)
}
