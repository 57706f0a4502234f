//! The proxy as a process, and what can be seen of it from outside.

use super::{
    PATIENCE, eventually,
    metrics::{self, Sample},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

/// A running proxy. Killed when dropped.
pub struct Tollgate {
    child: Child,
    directory: tempfile::TempDir,
    admin: SocketAddr,
    stderr: Arc<Mutex<String>>,
}

impl Tollgate {
    /// Runs the proxy with this config, and waits until it is ready.
    ///
    /// `config` holds listeners, clusters and whatever else the test is about: the admin
    /// interface, unless it begins with one, and an access log of every operation are added here.
    pub fn start(config: &str) -> Self {
        Self::start_as(program(), "", config)
    }

    /// The same for a config that begins with `admin`, whose clients are encrypted: it may not be ready
    /// yet.
    pub fn start_with_encrypted_admin(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("tollgate.yaml");
        std::fs::write(&file, config).expect("a config");
        Self::launch(program().args(["run", "-c"]).arg(&file).stdout(Stdio::null()), directory)
    }

    /// The same as another `program` that takes the same arguments (a shell that limits the
    /// process first, or one with variables set), and with more settings for the access log.
    pub fn start_as(mut program: Command, log_settings: &str, config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("tollgate.yaml");
        let log = directory.path().join("access.log");
        let log = format!("access_log: {{ path: {}, {log_settings} }}", log.display());
        let admin = if config.starts_with("admin:") { "" } else { "admin: 127.0.0.1:0\n" };
        let whole = format!("{admin}{log}\n{config}");
        std::fs::write(&file, whole).expect("a config");
        program.args(["run", "-c"]).arg(&file).stdout(Stdio::null());
        Self::spawn(&mut program, directory)
    }

    /// Runs the proxy with this whole config, as one that upgrades another.
    pub fn start_upgrade(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("tollgate.yaml");
        std::fs::write(&file, config).expect("a config");
        let mut program = program();
        program.args(["run", "--upgrade", "-c"]).arg(&file).stdout(Stdio::null());
        Self::spawn(&mut program, directory)
    }

    /// Runs the proxy before this server with no config file. Its one listener is called like
    /// the protocol.
    pub fn without_file(protocol: &str, upstream: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // It logs operations to stdout.
        let log = File::create(directory.path().join("access.log")).expect("a log");
        let mut program = program();
        program.args(["proxy", protocol, "127.0.0.1:0", &upstream.to_string()]);
        Self::spawn(program.args(["--admin", "127.0.0.1:0"]).stdout(log), directory)
    }

    fn spawn(program: &mut Command, directory: tempfile::TempDir) -> Self {
        let this = Self::launch(program, directory);
        eventually("the proxy to be ready", || (this.get("/ready").0 == 200).then_some(()));
        this
    }

    fn launch(program: &mut Command, directory: tempfile::TempDir) -> Self {
        let program = program.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = program.spawn().expect("the binary runs");
        let stderr = Arc::new(Mutex::new(String::new()));
        let lines = child.stderr.take().expect("its stderr");
        let Some(admin) = watch(lines, &stderr) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("no admin interface: {}", stderr.lock().unwrap());
        };
        Self { child, directory, admin, stderr }
    }

    /// A proxy with one MongoDB listener, `db`, before this server.
    pub fn mongo(upstream: SocketAddr) -> Self {
        Self::mongo_with(upstream, "")
    }

    /// The same; `settings` are the listener's further keys, such as `idle_timeout: 1s`.
    pub fn mongo_with(upstream: SocketAddr, settings: &str) -> Self {
        Self::start(&mongo_config(upstream, settings))
    }

    /// The same with `policies`, a list's items in lines of their own.
    pub fn mongo_guarded(upstream: SocketAddr, settings: &str, policies: &str) -> Self {
        Self::start(&format!("{}policies:\n{policies}", mongo_config(upstream, settings)))
    }

    /// A proxy with one TCP listener, `wire`, before this server; `settings` are the listener's
    /// further keys, such as `idle_timeout: 1s`.
    pub fn tcp(upstream: SocketAddr, settings: &str) -> Self {
        Self::start(&tcp_config(upstream, settings))
    }

    /// The config file.
    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("tollgate.yaml")
    }

    /// Replaces the config by this one, with the same access log and an admin interface that stays, and does
    /// not reload it.
    pub fn write_config(&self, config: &str) {
        let log = format!("access_log: {{ path: {} }}", self.log_path().display());
        let whole = format!("admin: 127.0.0.1:0\n{log}\n{config}");
        std::fs::write(self.config_file(), whole).expect("a config");
    }

    /// Replaces the config by this one and reloads it. Returns the report.
    pub fn reload(&self, config: &str) -> Value {
        self.write_config(config);
        let (status, report) = self.post("/config");
        assert_eq!(status, 200, "{report}");
        serde_json::from_str(&report).expect("a report")
    }

    /// The address that a listener bound.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let report = self.listener_report(name);
        let address = report["address"].as_str().and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("no address in {report}"))
    }

    /// What `/listeners` returns about a listener.
    pub fn listener_report(&self, name: &str) -> Value {
        let listeners = self.json("/listeners");
        let found = listeners.as_array().into_iter().flatten().find(|l| l["name"] == name);
        found.unwrap_or_else(|| panic!("no listener {name} in {listeners}")).clone()
    }

    /// Where the admin interface is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Every sample of `/metrics`.
    pub fn metrics(&self) -> Vec<Sample> {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200, "{body}");
        metrics::parse(&body)
    }

    /// The sum of a metric's samples that have these labels; 0 if there is none.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.metrics();
        samples.iter().filter(|s| s.is(name, labels)).map(|s| s.value).sum()
    }

    /// Waits until [`metric`](Self::metric) has this value.
    pub fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name}{labels:?} to become {value}");
        eventually(&what, || (self.metric(name, labels) == value).then_some(()));
    }

    /// The rows of `/operations`.
    pub fn operations(&self) -> Vec<Value> {
        match self.json("/operations") {
            Value::Array(rows) => rows,
            other => panic!("not a list of operations: {other}"),
        }
    }

    /// Every whole line of the access log so far.
    pub fn access_log(&self) -> Vec<Value> {
        let text = self.access_log_text();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The access log as it stands in its file.
    pub fn access_log_text(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default()
    }

    /// Waits for `count` lines of the access log for which `wanted` holds, and returns them.
    pub fn logged(&self, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        eventually(&format!("{count} lines in {}", self.log_path().display()), || {
            let lines: Vec<_> = self.access_log().into_iter().filter(&wanted).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// Everything that the proxy says about itself, and where: for tests of what it must not say.
    pub fn outputs(&self) -> Vec<(&'static str, String)> {
        vec![
            ("access log", self.access_log_text()),
            ("stderr", self.stderr()),
            ("metrics", self.get("/metrics").1),
            ("operations", self.get("/operations").1),
            ("call sites", self.get("/callsites").1),
            ("config", self.get("/config").1),
            ("listeners", self.get("/listeners").1),
            ("clusters", self.get("/clusters").1),
        ]
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// The most memory that the process ever had resident, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that the process has resident, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("a process's status");
        let found = status.lines().find_map(|line| line.strip_prefix(key));
        let kilobytes = found.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kilobytes.expect("a size") * 1024
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many descriptors the process has open.
    pub fn descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        open.expect("a process's descriptors").count()
    }

    /// Asks it to drain, and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a process to signal");
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        eventually("the proxy to end", || self.child.try_wait().expect("a child"))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// GETs a page of the admin interface: its status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        page(self.admin, "GET", path, "").unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// POSTs nothing to a page of the admin interface: its status and body.
    pub fn post(&self, path: &str) -> (u16, String) {
        self.send("POST", path, "")
    }

    /// Sends a request with this JSON to the admin interface: the answer's status and body.
    pub fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        page(self.admin, method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// What a path of the admin interface returns.
    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Where the access log is.
    pub fn log_path(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }
}

impl Drop for Tollgate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the proxy's stderr:\n{}", self.stderr.lock().unwrap());
        }
    }
}

/// The config of [`Tollgate::mongo`], for tests that add to it.
pub fn mongo_config(upstream: SocketAddr, settings: &str) -> String {
    format!(
        "listeners:\n  db: {{ address: \"127.0.0.1:0\", protocol: mongo, cluster: db, {settings} }}\n\
         clusters:\n  db: {{ endpoints: [\"{upstream}\"] }}\n"
    )
}

/// The config of [`Tollgate::tcp`], for tests that add to it.
pub fn tcp_config(upstream: SocketAddr, settings: &str) -> String {
    format!(
        "listeners:\n  wire: {{ address: \"127.0.0.1:0\", protocol: tcp, cluster: wire, {settings} }}\n\
         clusters:\n  wire: {{ endpoints: [\"{upstream}\"] }}\n"
    )
}

/// The binary under test.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
}

/// What the binary says with these arguments until it ends, which it must do by itself.
pub fn output_of(arguments: &[&str]) -> CommandOutput {
    let child = program()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let pid = Pid::from_child(&child);
    let (ended, wait) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    let Ok(output) = wait.recv_timeout(PATIENCE) else {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{arguments:?} doesn't end");
    };
    let output = output.expect("its output");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    CommandOutput { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// What a process that has ended left behind.
#[derive(Clone, Debug)]
pub struct CommandOutput {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

/// Keeps what the process says, and returns the address of its admin interface once it says so.
fn watch(stderr: ChildStderr, kept: &Arc<Mutex<String>>) -> Option<SocketAddr> {
    let kept = kept.clone();
    let (found, admin) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(address) = admin_address(&line) {
                let _ = found.send(address);
            }
            let mut kept = kept.lock().unwrap();
            kept.push_str(&line);
            kept.push('\n');
        }
    });
    admin.recv_timeout(PATIENCE).ok()
}

fn admin_address(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    // The fields of an event stand either beside its level, or in an object of their own.
    let fields = line.get("fields").unwrap_or(&line);
    (fields["message"] == "admin listening").then(|| fields["address"].as_str()?.parse().ok())?
}

/// Asks the admin interface at this address for a page: the answer's status and body.
pub fn page(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    page_over(stream, &address.to_string(), method, path, body)
}

/// The same on this connection, of this host.
pub fn page_over(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Ok((status, unchunked(body)));
    }
    Ok((status, body.to_owned()))
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
