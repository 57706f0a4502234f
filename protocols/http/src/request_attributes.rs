//! The attributes of a request, for policies and the access log.

mod attribute;
mod request_facts;
mod request_progress;

use crate::{
    h1_validator::is_odd,
    header_policy::{self, Authority, HeaderPolicy, PeerAddress, RequestIdentity, lookalikes},
    normalize,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header, request};
use operation::{
    Attempt, AttributeValue, Attributes, ConnectionInfo, LoggedValue, OpenSpan, ResolvedAttribute,
    TRACEPARENT, TRACESTATE, is_plain,
};
pub(crate) use request_facts::{RequestFacts, plain, text, version_name, without_port};
pub(crate) use request_progress::{RequestFlags, RequestProgress, WaitTimes};
use session::Session;
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::LazyLock,
};

/// All attributes of requests over HTTP.
pub const ATTRIBUTES: &[&str] = &[
    "header.",
    "host",
    "path",
    "raw_path",
    "query",
    "raw_query",
    "version",
    "user_agent",
    "client",
    "request_id",
    "trace_id",
    "span_id",
    "status",
    "attempts",
    "queue_ms",
    "connect_ms",
    "flags",
    "upstream_version",
];

/// Attributes that no policy can match: those known only after forwarding, and raw spellings, by
/// which a client could evade a match.
pub const LATE: &[&str] = &[
    "raw_path",
    "raw_query",
    "endpoint",
    "cluster",
    "request_id",
    "trace_id",
    "span_id",
    "status",
    "attempts",
    "queue_ms",
    "connect_ms",
    "flags",
    "upstream_version",
];

/// Attributes in access log lines.
pub const LOGGED: &[&str] = &[
    "status",
    "host",
    "path",
    "raw_path",
    "version",
    "user_agent",
    "request_id",
    "span_id",
    "client",
    "attempts",
    "queue_ms",
    "connect_ms",
    "flags",
    "upstream_version",
];

/// Attributes in access log lines only if the operator enabled values.
pub(crate) const LOGGED_WITH_VALUES: &[&str] = &["query", "raw_query"];

/// The attributes of a request, kept until its operation settles.
pub(crate) struct RequestAttributes {
    pub(crate) link: ConnectionInfo,
    /// The session, if it has attributes of TLS or of a PROXY protocol header.
    preface: Option<Rc<dyn Session>>,
    /// The client's address as text, made once per connection.
    pub(crate) peer_text: Rc<str>,
    pub(crate) uri: Uri,
    normal_path: OnceCell<Option<Box<str>>>,
    pub(crate) version: Version,
    /// The authority's host in normal form.
    pub(crate) host: Box<str>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) identity: OnceCell<RequestIdentity>,
    /// Whether the client's connection is encrypted.
    encrypted: bool,
    /// Its span, if the proxy makes spans.
    pub(crate) span: OnceCell<OpenSpan>,
    /// The attempts that have ended, if they are recorded.
    pub(crate) ended_attempts: RefCell<Vec<Attempt>>,
    /// The id of the last attempt's span.
    pub(crate) last_attempt: Cell<u64>,
    pub(crate) progress: RequestProgress,
}

impl RequestAttributes {
    /// The attributes of a new request.
    pub(crate) fn new(
        session: &Rc<dyn Session>,
        peer: Rc<str>,
        head: &request::Parts,
        host: &str,
    ) -> Self {
        Self {
            link: session.info(),
            preface: session.has_preface().then(|| Rc::clone(session)),
            peer_text: peer,
            uri: head.uri.clone(),
            normal_path: OnceCell::new(),
            version: head.version,
            host: normalize::host(host).into(),
            user_agent: user_agent(&head.headers),
            identity: OnceCell::new(),
            encrypted: session.is_encrypted(),
            span: OnceCell::new(),
            ended_attempts: RefCell::default(),
            last_attempt: Cell::default(),
            progress: RequestProgress::default(),
        }
    }

    /// Keeps the span that was opened for it, if the listener handles traces.
    pub(crate) fn set_span(&self, span: OpenSpan, policy: &HeaderPolicy) {
        if policy.trace {
            // It is opened once.
            let _ = self.span.set(span);
        }
    }

    /// A client's address; nearly always the peer's, whose text exists.
    fn address(&self, ip: IpAddr) -> LoggedValue<'_> {
        match ip == self.link.peer.ip() {
            true => plain(without_port(&self.peer_text)),
            false => LoggedValue::Ip(ip),
        }
    }
}

impl RequestFacts for RequestAttributes {
    fn preface(&self) -> Option<&dyn Session> {
        self.preface.as_deref()
    }

    fn peer_text(&self) -> &str {
        &self.peer_text
    }

    fn local(&self) -> SocketAddr {
        self.link.local
    }

    fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    fn version(&self) -> Version {
        self.version
    }

    fn host(&self) -> Option<LoggedValue<'_>> {
        Some(&*self.host).filter(|host| !host.is_empty()).map(text)
    }

    fn path(&self) -> LoggedValue<'_> {
        text(self.uri.path())
    }

    fn normal_path(&self) -> Option<&str> {
        let path = self.uri.path();
        let normal = self.normal_path.get_or_init(|| match normalize::path(path) {
            Cow::Owned(normal) if normal != path => Some(normal.into()),
            _ => None,
        });
        normal.as_deref()
    }

    fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    fn user_agent(&self) -> Option<&[u8]> {
        self.user_agent.as_ref().map(HeaderValue::as_bytes)
    }

    fn client(&self) -> Option<LoggedValue<'_>> {
        self.identity.get().map(|identity| self.address(identity.client))
    }

    fn request_id(&self) -> Option<LoggedValue<'_>> {
        let id = self.identity.get()?.request_id.as_ref()?;
        match id.as_bytes() {
            id if is_plain(id) => Some(LoggedValue::Plain(id)),
            _ => id.to_str().ok().map(text),
        }
    }

    fn trace_id(&self) -> Option<u128> {
        Some(self.identity.get()?.trace?.trace_id)
    }

    fn span_id(&self) -> Option<u64> {
        Some(self.span.get()?.context.span_id)
    }

    fn progress(&self) -> &RequestProgress {
        &self.progress
    }
}

impl Attributes for RequestAttributes {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        self.named(name)
    }

    fn logged<'a>(&'a self, _: &'a [u8], attribute: ResolvedAttribute) -> Option<LoggedValue<'a>> {
        self.resolved(attribute)
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.link.peer.ip())
    }

    fn span(&self) -> Option<(&OpenSpan, Vec<Attempt>)> {
        Some((self.span.get()?, self.ended_attempts.take()))
    }
}

/// Request attributes together with the request's headers.
pub(crate) struct AttributesWithHeaders<'h> {
    pub(crate) attributes: &'h RequestAttributes,
    pub(crate) headers: &'h HeaderMap,
    pub(crate) policy: &'h HeaderPolicy,
    pub(crate) peer: &'h PeerAddress,
    pub(crate) authority: &'h Authority,
    /// Whether a header name has characters other than letters, digits and `-`.
    pub(crate) odd_names: bool,
}

impl AttributesWithHeaders<'_> {
    /// All lines of a header, and of headers that a service may read as this one.
    fn header(&self, name: &str) -> AttributeValue<'_> {
        let all = self.headers.get_all(name);
        let mut own = all.iter();
        let alone = (own.next(), own.next());
        if let (first, None) = alone
            && !self.odd_names
            && !is_odd(name)
        {
            return first.map(header_text).into();
        }
        let mut lines: Vec<_> = all.iter().map(header_text).collect();
        if self.odd_names || is_odd(name) {
            lines.extend(lookalikes::lookalikes(self.headers, name).map(header_text));
        }
        match lines.len() {
            0 => AttributeValue::Absent,
            // HTTP/2 clients may split it (RFC 9113, 8.2.3).
            _ if name.eq_ignore_ascii_case("cookie") => {
                AttributeValue::Known(lines.join("; ").into())
            }
            1 => AttributeValue::Known(lines.swap_remove(0)),
            _ => AttributeValue::Repeated(lines),
        }
    }

    /// `host`, or what HTTP/2 clients send as `:authority`.
    fn host(&self) -> AttributeValue<'_> {
        let (host, written) = (&*self.attributes.host, self.authority.as_str());
        match host {
            "" => AttributeValue::Absent,
            host if host == written => AttributeValue::known(host),
            host => {
                AttributeValue::Repeated(vec![host.into(), written.to_ascii_lowercase().into()])
            }
        }
    }
}

impl Attributes for AttributesWithHeaders<'_> {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        match name {
            "client" => {
                let client = header_policy::client(self.headers, self.policy, self.peer);
                AttributeValue::Known(self.attributes.address(client).text())
            }
            "path" => normalize::path_fact(self.attributes.uri.path()),
            "query" => {
                self.attributes.uri.query().map_or(AttributeValue::Absent, normalize::query_fact)
            }
            TRACEPARENT => header_policy::traceparent(self.headers).map(header_text).into(),
            TRACESTATE => self.header(TRACESTATE),
            _ => match name.strip_prefix("header.") {
                Some(name) if name.eq_ignore_ascii_case("host") => self.host(),
                Some(name) => self.header(name),
                None => self.attributes.get(b"", name),
            },
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        self.attributes.peer()
    }
}

/// A header's value; invalid UTF-8 is replaced by U+FFFD.
fn header_text(value: &HeaderValue) -> Cow<'_, str> {
    value.to_str().map_or_else(|_| String::from_utf8_lossy(value.as_bytes()), Cow::Borrowed)
}

/// Texts of the statuses from 100.
static STATUSES: LazyLock<Vec<String>> =
    LazyLock::new(|| (100_u16..1000).map(|status| status.to_string()).collect());

/// A status as text.
pub(crate) fn status_name(status: StatusCode) -> Option<&'static str> {
    STATUSES.get(usize::from(status.as_u16()).checked_sub(100)?).map(String::as_str)
}

/// Approximate size of a head in HTTP/1 encoding, in bytes.
pub(crate) fn head_size(first_line: usize, headers: &HeaderMap) -> u64 {
    let of = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    (first_line + headers.iter().map(of).sum::<usize>() + 4) as u64
}

/// The `user-agent` header.
pub(crate) fn user_agent(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::USER_AGENT).cloned()
}

#[cfg(test)]
pub(crate) mod tests;
