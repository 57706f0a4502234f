//! The attributes of a request, for policies and the access log.

use crate::{
    h1_validator::is_odd,
    header_policy::{self, Authority, HeaderPolicy, PeerAddress, RequestIdentity, lookalikes},
    normalize,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header, request};
use operation::{
    Attempt, AttributeValue, Attributes, ConnectionInfo, OpenSpan, TRACEPARENT, TRACESTATE,
};
use session::Session;
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
    net::IpAddr,
    rc::Rc,
    sync::{Arc, LazyLock},
    time::Duration,
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
    /// Where it was sent last, while it is in flight…
    pub(crate) target: Cell<Option<UpstreamTarget>>,
    /// …and once it has ended.
    pub(crate) final_target: OnceCell<UpstreamTarget>,
    pub(crate) status: Cell<Option<StatusCode>>,
    pub(crate) attempts: Cell<u32>,
    pub(crate) wait_times: Cell<WaitTimes>,
    pub(crate) flags: Cell<RequestFlags>,
}

/// Where a request was sent.
pub(crate) struct UpstreamTarget {
    pub(crate) cluster: Arc<str>,
    /// `None` if no endpoint was available.
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) version: Option<Version>,
}

/// Time that a request spent before it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WaitTimes {
    /// Waiting for policies and for a connection slot of the cluster.
    pub(crate) queue: Duration,
    /// Connecting.
    pub(crate) connect: Duration,
}

/// Events of a request, for the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestFlags(u16);

impl RequestFlags {
    /// Sent again on a new connection, since the pooled one was closed before any response.
    pub(crate) const STALE: RequestFlags = RequestFlags(1);
    /// Retried by its route's policy.
    pub(crate) const RETRIED: RequestFlags = RequestFlags(1 << 1);
    /// Not retried: its body was too large to be kept.
    pub(crate) const TOO_LARGE_TO_RETRY: RequestFlags = RequestFlags(1 << 2);
    /// Not retried: the retry budget is spent.
    pub(crate) const RETRY_BUDGET: RequestFlags = RequestFlags(1 << 3);
    /// A second attempt was started before the first ended.
    pub(crate) const HEDGED: RequestFlags = RequestFlags(1 << 4);
    /// Copied to a mirror cluster.
    pub(crate) const MIRRORED: RequestFlags = RequestFlags(1 << 5);
    /// The response started and was cut short.
    pub(crate) const ANSWER_CUT: RequestFlags = RequestFlags(1 << 6);
    /// The connection changed its protocol.
    pub(crate) const UPGRADED: RequestFlags = RequestFlags(1 << 7);
    /// The response arrived before the request was sent completely.
    pub(crate) const EARLY_ANSWER: RequestFlags = RequestFlags(1 << 8);
    /// Not retried: the service asked for a longer pause than allowed.
    pub(crate) const PUSHED_BACK: RequestFlags = RequestFlags(1 << 9);

    /// Not mirrored: its body was too large to be kept, or had not arrived when the response did.
    pub(crate) const NOT_MIRRORED: RequestFlags = RequestFlags(1 << 10);
    /// The origin of the calling page is not allowed.
    pub(crate) const ORIGIN_REFUSED: RequestFlags = RequestFlags(1 << 11);

    const WORDS: [(RequestFlags, &'static str); 12] = [
        (RequestFlags::STALE, "stale_connection"),
        (RequestFlags::RETRIED, "retried"),
        (RequestFlags::TOO_LARGE_TO_RETRY, "too_large_to_retry"),
        (RequestFlags::RETRY_BUDGET, "retry_budget"),
        (RequestFlags::HEDGED, "hedged"),
        (RequestFlags::MIRRORED, "mirrored"),
        (RequestFlags::ANSWER_CUT, "answer_cut"),
        (RequestFlags::UPGRADED, "upgraded"),
        (RequestFlags::EARLY_ANSWER, "early_answer"),
        (RequestFlags::PUSHED_BACK, "pushed_back"),
        (RequestFlags::NOT_MIRRORED, "not_mirrored"),
        (RequestFlags::ORIGIN_REFUSED, "origin_refused"),
    ];

    /// These flags and another one.
    pub(crate) fn with(self, flag: RequestFlags) -> Self {
        RequestFlags(self.0 | flag.0)
    }

    /// Their names; `None` if there is none.
    pub(crate) fn names(self) -> Option<String> {
        let words = Self::WORDS.iter().filter(|(flag, _)| self.0 & flag.0 != 0);
        let words: Vec<&str> = words.map(|(_, word)| *word).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
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
            target: Cell::new(None),
            final_target: OnceCell::new(),
            status: Cell::new(None),
            attempts: Cell::new(0),
            wait_times: Cell::default(),
            flags: Cell::default(),
        }
    }

    /// Keeps the span that was opened for it, if the listener handles traces.
    pub(crate) fn set_span(&self, span: OpenSpan, policy: &HeaderPolicy) {
        if policy.trace {
            // It is opened once.
            let _ = self.span.set(span);
        }
    }

    pub(crate) fn has_flag(&self, flag: RequestFlags) -> bool {
        self.flags.get().0 & flag.0 != 0
    }

    pub(crate) fn add_flag(&self, flag: RequestFlags) {
        self.flags.set(self.flags.get().with(flag));
    }

    /// Where an ended request was sent.
    fn reached(&self) -> Option<&UpstreamTarget> {
        self.final_target.get()
    }

    /// Fixes the target for the log; the request has ended.
    pub(crate) fn finish(&self) {
        if let Some(went) = self.target.take() {
            let _ = self.final_target.set(went);
        }
    }

    /// The client's address as text; nearly always the peer's, whose text exists.
    fn client(&self, ip: IpAddr) -> Cow<'_, str> {
        let port = self.peer_text.rfind(':').filter(|_| ip == self.link.peer.ip());
        match port.and_then(|port| self.peer_text.get(..port)) {
            Some(own) => own.trim_matches(['[', ']']).into(),
            None => ip.to_string().into(),
        }
    }

    /// The path in normal form, if that differs from the raw path.
    fn normal_path(&self) -> Option<&str> {
        let normal = self.normal_path.get_or_init(|| match normalize::path(self.uri.path()) {
            Cow::Borrowed(_) => None,
            Cow::Owned(normal) => Some(normal.into()),
        });
        normal.as_deref()
    }

    fn find<'a>(&'a self, name: &str) -> Option<Cow<'a, str>> {
        match name {
            "peer" => Some(Cow::from(&*self.peer_text)),
            "local" => Some(self.link.local.to_string().into()),
            "endpoint" => self.reached()?.endpoint.as_deref().map(Cow::from),
            "cluster" => self.reached().map(|went| Cow::from(&*went.cluster)),
            "host" => Some(Cow::from(&*self.host)).filter(|host| !host.is_empty()),
            "path" => Some(self.normal_path().unwrap_or_else(|| self.uri.path()).into()),
            "raw_path" => self.normal_path().map(|_| self.uri.path().into()),
            "query" => self.uri.query().map(|query| normalize::query(query).into()),
            "raw_query" => {
                self.uri.query().filter(|query| normalize::query(query) != *query).map(Cow::from)
            }
            "version" => Some(version_name(self.version).into()),
            "upstream_version" => Some(version_name(self.reached()?.version?).into()),
            "user_agent" => self.user_agent.as_ref().map(text),
            "client" => self.identity.get().map(|traced| self.client(traced.client)),
            "request_id" => {
                let id = self.identity.get()?.request_id.as_ref()?;
                id.to_str().ok().map(Cow::from)
            }
            "trace_id" => {
                let trace = self.identity.get()?.trace?;
                Some(format!("{:032x}", trace.trace_id).into())
            }
            "span_id" => Some(format!("{:016x}", self.span.get()?.context.span_id).into()),
            "scheme" => Some(if self.encrypted { "https" } else { "http" }.into()),
            "status" => self.status.get().and_then(status_name).map(Cow::from),
            "attempts" => {
                Some(self.attempts.get()).filter(|n| *n > 1).map(|n| n.to_string().into())
            }
            "queue_ms" => millis(self.wait_times.get().queue),
            "connect_ms" => millis(self.wait_times.get().connect),
            "flags" => self.flags.get().names().map(Cow::from),
            _ => None,
        }
    }
}

impl Attributes for RequestAttributes {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        match (self.find(name), &self.preface) {
            (None, Some(session)) => session.attribute(name),
            (found, _) => found.into(),
        }
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
            return first.map(text).into();
        }
        let mut lines: Vec<_> = all.iter().map(text).collect();
        if self.odd_names || is_odd(name) {
            lines.extend(lookalikes::lookalikes(self.headers, name).map(text));
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
                AttributeValue::Known(self.attributes.client(client))
            }
            "path" => normalize::path_fact(self.attributes.uri.path()),
            "query" => {
                self.attributes.uri.query().map_or(AttributeValue::Absent, normalize::query_fact)
            }
            TRACEPARENT => header_policy::traceparent(self.headers).map(text).into(),
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

/// Milliseconds with three decimals; `None` for zero.
pub(crate) fn millis<'a>(time: Duration) -> Option<Cow<'a, str>> {
    let micros = time.as_micros();
    (micros > 0).then(|| format!("{}.{:03}", micros / 1000, micros % 1000).into())
}

/// A header's value; invalid UTF-8 is replaced by U+FFFD.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    value.to_str().map_or_else(|_| String::from_utf8_lossy(value.as_bytes()), Cow::Borrowed)
}

/// Texts of the statuses from 100.
static STATUSES: LazyLock<Vec<String>> =
    LazyLock::new(|| (100_u16..1000).map(|status| status.to_string()).collect());

/// A status as text.
pub(crate) fn status_name(status: StatusCode) -> Option<&'static str> {
    STATUSES.get(usize::from(status.as_u16()).checked_sub(100)?).map(String::as_str)
}

/// The version as logged.
pub(crate) fn version_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
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
