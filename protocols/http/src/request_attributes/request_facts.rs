//! The facts that attributes are read from: the same for each path of a request through the proxy.

use super::{attribute::Attribute, request_progress::RequestProgress};
use crate::normalize;
use http::Version;
use operation::{AttributeValue, LoggedValue, ResolvedAttribute};
use session::Session;
use std::{borrow::Cow, net::SocketAddr, time::Duration};

/// What is known of a request, wherever its head is kept.
pub(crate) trait RequestFacts {
    /// The client's session, if it has attributes of TLS or of a PROXY protocol header.
    fn preface(&self) -> Option<&dyn Session>;
    /// The peer's address and port.
    fn peer_text(&self) -> &str;
    /// The proxy's address.
    fn local(&self) -> SocketAddr;
    /// Whether the client's connection is encrypted.
    fn is_encrypted(&self) -> bool;
    fn version(&self) -> Version;
    /// The authority's host in normal form.
    fn host(&self) -> Option<LoggedValue<'_>>;
    /// The path as the client wrote it.
    fn path(&self) -> LoggedValue<'_>;
    /// The path in normal form, if that differs.
    fn normal_path(&self) -> Option<&str>;
    /// The query as the client wrote it.
    fn query(&self) -> Option<&str>;
    fn user_agent(&self) -> Option<&[u8]>;
    /// The client's address: the peer's, or one that trusted proxies report.
    fn client(&self) -> Option<LoggedValue<'_>>;
    fn request_id(&self) -> Option<LoggedValue<'_>>;
    fn trace_id(&self) -> Option<u128>;
    /// The id of the span that the proxy makes.
    fn span_id(&self) -> Option<u64>;
    fn progress(&self) -> &RequestProgress;

    /// The value of an attribute; `None` if the request does not have it.
    fn find(&self, attribute: Attribute) -> Option<LoggedValue<'_>> {
        let progress = self.progress();
        match attribute {
            Attribute::Peer => Some(plain(self.peer_text())),
            Attribute::Local => Some(LoggedValue::Address(self.local())),
            Attribute::Endpoint => progress.reached()?.endpoint.as_deref().map(text),
            Attribute::Cluster => progress.reached().map(|target| text(&target.cluster)),
            Attribute::Scheme => Some(plain(if self.is_encrypted() { "https" } else { "http" })),
            Attribute::Host => self.host(),
            Attribute::Path => Some(self.normal_path().map_or_else(|| self.path(), text)),
            Attribute::RawPath => self.normal_path().map(|_| self.path()),
            Attribute::Query => {
                self.query().map(|query| LoggedValue::Text(normalize::query(query).into()))
            }
            Attribute::RawQuery => {
                self.query().filter(|query| normalize::query(query) != *query).map(text)
            }
            Attribute::Version => Some(plain(version_name(self.version()))),
            Attribute::UpstreamVersion => Some(plain(version_name(progress.reached()?.version?))),
            Attribute::UserAgent => self.user_agent().map(LoggedValue::Bytes),
            Attribute::Client => self.client(),
            Attribute::RequestId => self.request_id(),
            Attribute::TraceId => self.trace_id().map(|id| LoggedValue::Hex { id, digits: 32 }),
            Attribute::SpanId => {
                self.span_id().map(|id| LoggedValue::Hex { id: id.into(), digits: 16 })
            }
            Attribute::Status => {
                progress.status.get().map(|status| LoggedValue::Number(status.as_u16().into()))
            }
            Attribute::Attempts => {
                let attempts = Some(progress.attempts.get()).filter(|count| *count > 1);
                attempts.map(|count| LoggedValue::Number(count.into()))
            }
            Attribute::QueueTime => millis(progress.wait_times.get().queue),
            Attribute::ConnectTime => millis(progress.wait_times.get().connect),
            Attribute::Flags => progress.flags().names(),
        }
    }

    /// The attribute with this name, of the request or of the client's connection.
    fn named(&self, name: &str) -> AttributeValue<'_> {
        match (Attribute::named(name).and_then(|own| self.find(own)), self.preface()) {
            (None, Some(session)) => session.attribute(name),
            (found, _) => found.into(),
        }
    }

    /// The same for a log line.
    fn resolved(&self, attribute: ResolvedAttribute) -> Option<LoggedValue<'_>> {
        if let Some(own) = Attribute::resolved(attribute)
            && let Some(found) = self.find(own)
        {
            return Some(found);
        }
        self.preface()?.attribute(attribute.name).text().map(LoggedValue::Text)
    }
}

/// Any text.
pub(crate) fn text(text: &str) -> LoggedValue<'_> {
    LoggedValue::Text(Cow::Borrowed(text))
}

/// A text that is known to be printable ASCII without quotes and backslashes.
pub(crate) fn plain(text: &str) -> LoggedValue<'_> {
    LoggedValue::Plain(text.as_bytes())
}

/// The address in a text of an address and a port.
pub(crate) fn without_port(peer: &str) -> &str {
    let end = peer.bytes().rposition(|byte| byte == b':').unwrap_or(peer.len());
    let ip = peer.get(..end).unwrap_or_default();
    // IPv6 has brackets.
    ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip)
}

/// A time; `None` for less than a microsecond.
fn millis(time: Duration) -> Option<LoggedValue<'static>> {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    (micros > 0).then_some(LoggedValue::Micros(micros))
}

/// The version as logged.
pub(crate) fn version_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}
