//! The collector of the tests: a script made of OpenTelemetry's own definitions.

use crate::support::{certificates::Certificates, eventually, python::Service, tollgate::Tollgate};
use serde_json::Value;
use std::{fs, path::PathBuf};

/// A running collector, and the file that it writes spans to.
pub(crate) struct Collector {
    service: Service,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Collector {
    /// Starts one for `grpc` or `http`. `None` where it can't be installed.
    pub(crate) fn start(protocol: &str) -> Option<Self> {
        Self::rejecting(protocol, 0)
    }

    /// The same; it says that it has not accepted this many spans of each request.
    pub(crate) fn rejecting(protocol: &str, spans: u32) -> Option<Self> {
        Self::run(protocol, &[spans.to_string()])
    }

    /// Starts one for gRPC inside TLS, with the certificate of this name.
    pub(crate) fn encrypted(certificates: &Certificates, name: &str) -> Option<Self> {
        let file = |end: &str| certificates.path(&format!("{name}.{end}")).display().to_string();
        Self::run("grpc", &["0".to_owned(), file("crt"), file("key")])
    }

    fn run(protocol: &str, more: &[String]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("spans");
        let path = file.display().to_string();
        let more = more.iter().map(String::as_str);
        let arguments: Vec<&str> = [protocol, &path].into_iter().chain(more).collect();
        let service = Service::start_with_traces("trace_collector.py", &arguments)?;
        Some(Self { service, file, _directory: directory })
    }

    /// The value of `tracing` for this collector, with further keys.
    pub(crate) fn tracing(&self, protocol: &str, more: &str) -> String {
        let address = self.service.address();
        format!("tracing: {{ otlp: \"http://{address}\", protocol: {protocol}, {more} }}\n")
    }

    /// The value of `tracing` for this collector inside TLS, with further keys.
    pub(crate) fn encrypted_tracing(&self, more: &str) -> String {
        format!("tracing: {{ otlp: \"https://{}\", {more} }}\n", self.service.address())
    }

    /// Every span that has come so far.
    pub(crate) fn spans(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        // The last line may be on its way.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The spans, once there are `count`.
    pub(crate) fn wait(&self, count: usize) -> Vec<Value> {
        let what = format!("{count} spans");
        let spans = eventually(&what, || Some(self.spans()).filter(|spans| spans.len() >= count));
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }

    /// All spans of a proxy, which ends.
    pub(crate) fn after(&self, mut tollgate: Tollgate) -> Vec<Value> {
        assert!(tollgate.stop().success());
        self.spans()
    }
}

/// The span with this name and kind.
pub(crate) fn named<'s>(spans: &'s [Value], kind: &str, name: &str) -> &'s Value {
    let found: Vec<_> =
        spans.iter().filter(|span| span["name"] == name && span["kind"] == kind).collect();
    let [span] = found[..] else { panic!("not one {kind} span {name}: {spans:#?}") };
    span
}
