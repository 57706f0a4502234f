//! Python scripts of `tests/drivers`: clients that hold what they see against what they expect,
//! and services that they call.

use super::tools;
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A script of `tests/drivers`, in the environment that speaks HTTP and gRPC. `None` where that
/// can't be installed.
fn script(name: &str) -> Option<Command> {
    tools::web_python().map(|programs| script_by(&programs, name))
}

/// A script of `tests/drivers`, run by the Python among these programs.
fn script_by(programs: &Path, name: &str) -> Command {
    let mut command = Command::new(programs.join("python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(drivers().join(name));
    command
}

/// Where scripts are.
pub fn drivers() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/drivers")
}

/// Runs a script to its end, and returns what it said.
///
/// # Panics
/// If it fails: then something was not as it expected.
pub fn run(name: &str, arguments: &[&str]) -> Option<String> {
    let output = script(name)?.args(arguments).output().expect("python runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {error}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// A service that a script is, until dropped. It says its port, and ends when its stdin does.
pub struct Service {
    process: Child,
    address: SocketAddr,
}

impl Service {
    /// Starts one.
    pub fn start(name: &str, arguments: &[&str]) -> Option<Self> {
        script(name).map(|script| Self::run(script, arguments))
    }

    /// Starts one that needs Werkzeug.
    pub fn start_with_werkzeug(name: &str) -> Option<Self> {
        tools::python_with_werkzeug().map(|programs| Self::run(script_by(&programs, name), &[]))
    }

    /// Starts one that needs OpenTelemetry's definitions. As [`tools::python`] otherwise.
    pub fn start_with_traces(name: &str, arguments: &[&str]) -> Option<Self> {
        tools::python_with_traces().map(|programs| Self::run(script_by(&programs, name), arguments))
    }

    /// Starts one in the environment with pymongo. As [`tools::python`] otherwise.
    pub fn with_pymongo(name: &str) -> Option<Self> {
        tools::python().map(|programs| Self::run(script_by(&programs, name), &[]))
    }

    fn run(mut script: Command, arguments: &[&str]) -> Self {
        let mut process = script
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut said = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut said).expect("a line");
        let port: u16 = said.trim().parse().unwrap_or_else(|_| panic!("no port: {said}"));
        Self { process, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it at once, whatever it is at.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.kill();
    }
}
