//! Where spans go, and which are made.

use crate::Sampler;
use http::{HeaderName, HeaderValue, Uri};
use serde::{Serialize, Serializer};
use std::{fmt, path::Path, path::PathBuf, str::FromStr, sync::Arc, time::Duration};
use tls::ClientTls;
use values::{Diagnostic, FromText, Keyword, Show, open_regular, read_at_most, shown};

/// The path of OTLP over HTTP.
const TRACES_PATH: &str = "/v1/traces";

/// The usual ports.
const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;

/// The longest file of headers, in bytes.
const MAX_HEADERS: u64 = 64 * 1024;

/// Where spans go, and which are made.
#[derive(Clone, Debug, Serialize)]
pub struct TracesPlan {
    /// The collector.
    pub otlp: OtlpEndpoint,
    /// The protocol to the collector.
    #[serde(serialize_with = "shown")]
    pub protocol: OtlpProtocol,
    /// How connections to the collector are encrypted, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Arc<ClientTls>>,
    /// The share of traces that begin here which are recorded.
    #[serde(serialize_with = "shown")]
    pub sample: Sample,
    /// Operations whose spans are made whatever was decided.
    pub always: Always,
    /// The name of the proxy in traces.
    pub service: Arc<str>,
    /// More attributes of the proxy.
    #[serde(skip)]
    pub resource: Vec<(String, String)>,
    /// The file that the headers come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<PathBuf>,
    /// Headers of requests to the collector.
    #[serde(skip)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The most spans in a second.
    pub max_spans_per_second: u32,
    /// Whether connections that are one operation make spans.
    pub sessions: bool,
    /// How long it may take to hand a batch to the collector, with all retries.
    #[serde(skip)]
    pub timeout: Duration,
}

impl TracesPlan {
    /// Whether another plan is the same, headers included.
    pub fn is_same(&self, other: &TracesPlan) -> bool {
        let shown = [self, other].map(|plan| serde_json::to_value(plan).ok());
        let rest = |plan: &TracesPlan| (plan.resource.clone(), plan.headers.clone(), plan.timeout);
        shown[0] == shown[1] && rest(self) == rest(other)
    }

    /// The decision about traces that begin here.
    pub fn sampler(&self) -> Sampler {
        Sampler::new(self.sample.0)
    }
}

/// Operations whose spans are made whatever was decided about their traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Always {
    /// Those that failed, or were lost.
    pub errors: bool,
    /// Those that took at least this long.
    #[serde(serialize_with = "shown")]
    pub slower_than: Option<Duration>,
}

impl Always {
    /// Whether any operation is such a one.
    pub fn is_any(self) -> bool {
        self.errors || self.slower_than.is_some()
    }
}

/// A share of all traces: 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample(pub f64);

impl FromText for Sample {
    const EXPECTED: &str = "a percentage such as `1%`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let range = "0 to 100 with a percent sign: `1%`, `0.1%`, `100%`";
        let Some(number) = text.strip_suffix('%').map(str::trim_end) else {
            return Err(Diagnostic::new(format!("`{text}` is not a percentage"), range));
        };
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match number.parse::<f64>() {
            Ok(percent @ 0.0..=100.0) if plain => Ok(Self(percent / 100.0)),
            Ok(_) if plain => Err(Diagnostic::new(format!("`{text}` is out of range"), range)),
            _ => Err(Diagnostic::new(format!("`{text}` is not a percentage"), range)),
        }
    }

    fn schema() -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)? *%$",
            "examples": ["1%", "0.1%"],
        })
    }
}

impl Show for Sample {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // Ten digits are more than any share has, and fewer than the error of the division.
        let percent = (self.0 * 1e12).round() / 1e10;
        to.collect_str(&format_args!("{percent}%"))
    }
}

/// The protocol to the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, with messages of protobuf.
    Http,
}

impl OtlpProtocol {
    /// The protocol that TLS agrees on.
    pub fn alpn(self) -> Vec<u8> {
        match self {
            OtlpProtocol::Grpc => b"h2".to_vec(),
            OtlpProtocol::Http => b"http/1.1".to_vec(),
        }
    }
}

impl Keyword for OtlpProtocol {
    const EXPECTED: &str = "`grpc` or `http`";
    const WORDS: &[(&str, Self)] = &[("grpc", OtlpProtocol::Grpc), ("http", OtlpProtocol::Http)];
}

/// The collector: a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint {
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// The host, an IPv6 address without brackets.
    pub host: String,
    /// The port; `None`: the protocol's.
    port: Option<u16>,
    /// The path, if one is written.
    path: Option<String>,
}

impl OtlpEndpoint {
    /// The protocol that the URL stands for: HTTP by the port 4318 or by a path.
    pub fn protocol(&self) -> OtlpProtocol {
        match (self.port, &self.path) {
            (Some(HTTP_PORT), _) | (_, Some(_)) => OtlpProtocol::Http,
            _ => OtlpProtocol::Grpc,
        }
    }

    /// The port.
    pub(crate) fn port(&self, protocol: OtlpProtocol) -> u16 {
        self.port.unwrap_or(match protocol {
            OtlpProtocol::Grpc => GRPC_PORT,
            OtlpProtocol::Http => HTTP_PORT,
        })
    }

    /// The path of requests over HTTP.
    pub(crate) fn path(&self) -> &str {
        self.path.as_deref().unwrap_or(TRACES_PATH)
    }

    /// The same collector with the path of traces below its own path: a URL that is not for traces
    /// alone names what all signals have in common.
    pub(crate) fn for_all_signals(mut self) -> Self {
        self.path = self.path.map(|path| format!("{}{TRACES_PATH}", path.trim_end_matches('/')));
        self
    }

    /// `host:port`, an IPv6 address in brackets.
    pub(crate) fn authority(&self, protocol: OtlpProtocol) -> String {
        let port = self.port(protocol);
        match self.host.contains(':') {
            true => format!("[{}]:{port}", self.host),
            false => format!("{}:{port}", self.host),
        }
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]", self.host)?,
            false => write!(f, "{scheme}://{}", self.host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.path.as_deref().unwrap_or_default())
    }
}

impl Serialize for OtlpEndpoint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl FromText for OtlpEndpoint {
    const EXPECTED: &str = "a URL such as `http://collector:4317`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let hint = "write `http://HOST:4317` for OTLP over gRPC, `http://HOST:4318` for OTLP over HTTP; \
                    with `https` the connection is encrypted";
        let wrong = |what: &str| Diagnostic::new(format!("`{}` {what}", values::hide(text)), hint);
        let uri: Uri = text.parse().map_err(|_| wrong("is not a URL"))?;
        let encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("is not the URL of a collector")),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(wrong(
                "names a user, which belongs into a header: write it into `headers_file`",
            ));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        // A port that is not a number would be left out unsaid.
        let wrote_port = !authority.ends_with(host) && !authority.ends_with(']');
        if host.is_empty() || uri.query().is_some() || wrote_port && uri.port_u16().is_none() {
            return Err(wrong("is not the URL of a collector"));
        }
        let path = Some(uri.path()).filter(|path| !matches!(*path, "" | "/"));
        let (host, path) = (host.to_owned(), path.map(str::to_owned));
        Ok(Self { encrypted, host, port: uri.port_u16(), path })
    }

    fn schema() -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^https?://",
            "examples": ["http://collector:4317", "http://collector:4318"],
        })
    }
}

/// Reads a file of headers, `name: value` a line; empty lines and those that begin with `#` are
/// skipped.
///
/// # Errors
/// The file can't be read, or a line is no header.
pub fn read_headers(path: &Path) -> Result<Vec<(HeaderName, HeaderValue)>, Diagnostic> {
    let hint = "each line has a header, `name: value`: `authorization: Bearer …`";
    let unreadable = |error: &dyn fmt::Display| {
        Diagnostic::new(format!("can't read {}: {error}", path.display()), hint)
    };
    let bytes = open_regular(path).and_then(|file| read_at_most(file, MAX_HEADERS));
    let bytes = bytes.map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| unreadable(&error))?;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let read = |(at, line): (usize, &str)| {
        // The line is not shown: it is a secret.
        let wrong =
            || Diagnostic::new(format!("line {at} of {} is no header", path.display()), hint);
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        header(name, value).ok_or_else(wrong)
    };
    lines.map(read).collect()
}

/// A header; its value is a secret.
pub(crate) fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_str(name.trim()).ok()?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use values::Text;

    fn endpoint(text: &str) -> Result<OtlpEndpoint, String> {
        OtlpEndpoint::from_text(text).map_err(|error| error.message)
    }

    #[test]
    fn a_url_says_the_protocol() {
        for (url, protocol, authority, path) in [
            ("http://collector:4317", OtlpProtocol::Grpc, "collector:4317", "/v1/traces"),
            ("http://collector", OtlpProtocol::Grpc, "collector:4317", "/v1/traces"),
            ("http://collector:4318", OtlpProtocol::Http, "collector:4318", "/v1/traces"),
            ("http://collector:4318/", OtlpProtocol::Http, "collector:4318", "/v1/traces"),
            ("https://c/otlp/v1/traces", OtlpProtocol::Http, "c:4318", "/otlp/v1/traces"),
            ("http://[::1]:99", OtlpProtocol::Grpc, "[::1]:99", "/v1/traces"),
        ] {
            let read = endpoint(url).unwrap();
            assert_eq!(read.protocol(), protocol, "{url}");
            assert_eq!(read.authority(protocol), authority, "{url}");
            assert_eq!(read.path(), path, "{url}");
            assert_eq!(read.to_string(), url.trim_end_matches('/'));
        }
        let all = endpoint("http://c:1/otlp/").unwrap().for_all_signals();
        assert_eq!(all.path(), "/otlp/v1/traces");
    }

    #[test]
    fn what_is_no_url_of_a_collector_is_an_error() {
        for wrong in [
            "collector:4317",
            "grpc://c:4317",
            "http://",
            "http://c:x",
            "http://c/?a=b",
            "http://:1",
        ] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
        let secret = endpoint("http://ann:pw@c:4317").unwrap_err();
        assert!(secret.contains("headers_file") && !secret.contains("pw"), "{secret}");
    }

    #[test]
    fn a_sample_is_written_as_it_was_read() {
        for (text, share) in
            [("1%", 0.01), ("0.1%", 0.001), ("100%", 1.0), ("0%", 0.0), ("33.3%", 0.333)]
        {
            let sample = Sample::from_text(text).unwrap();
            assert!((sample.0 - share).abs() < 1e-12, "{text}");
            assert_eq!(serde_json::to_value(Text(sample)).unwrap(), text);
        }
        for wrong in ["1", "0.5", "101%", "-1%", "%", "NaN%", "1e1%"] {
            assert!(Sample::from_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_come_from_lines_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("headers");
        std::fs::write(&path, "# from the vault\nAuthorization: Bearer a:b\n\nx-team: edge\n")
            .unwrap();
        let headers = read_headers(&path).unwrap();
        assert_eq!(headers[0].0, "authorization");
        assert_eq!(headers[0].1.to_str().unwrap(), "Bearer a:b");
        assert_eq!(headers[1].1.to_str().unwrap(), "edge");
        std::fs::write(&path, "x-a: b\nsecret\n").unwrap();
        let error = read_headers(&path).unwrap_err().message;
        assert!(error.starts_with("line 2 of ") && !error.contains("secret"), "{error}");
    }
}
