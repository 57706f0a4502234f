//! What is known of a request, for policies that ask and for the log.

use crate::{
    hygiene::{self, Authority, HeaderPolicy, PeerAddress, RequestIdentity, folded},
    normal,
    screen::is_odd,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header, request};
use operation::{Attributes, Fact, Link};
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell},
    net::IpAddr,
    rc::Rc,
    sync::{Arc, LazyLock},
    time::Duration,
};

/// Every attribute that a request has, whatever travels by it.
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
    "status",
    "attempts",
    "queue_ms",
    "connect_ms",
    "flags",
    "upstream_version",
];

/// What no policy can go by: what is known of a request only once it has gone on, and what would
/// let one spelling of a request pass where another does not.
pub const LATE: &[&str] = &[
    "raw_path",
    "raw_query",
    "endpoint",
    "cluster",
    "request_id",
    "trace_id",
    "status",
    "attempts",
    "queue_ms",
    "connect_ms",
    "flags",
    "upstream_version",
];

/// Those that a line of the access log carries.
pub const LOGGED: &[&str] = &[
    "status",
    "host",
    "path",
    "raw_path",
    "version",
    "user_agent",
    "request_id",
    "client",
    "attempts",
    "queue_ms",
    "connect_ms",
    "flags",
    "upstream_version",
];

/// Those that a line carries only where the operator asked for values.
pub(crate) const LOGGED_WITH_VALUES: &[&str] = &["query", "raw_query"];

/// What is known of a request, kept until its operation settles.
pub(crate) struct RequestAttributes {
    pub(crate) link: Link,
    /// The client's address, in words that are made once for its connection.
    pub(crate) peer: Rc<str>,
    pub(crate) uri: Uri,
    normal_path: OnceCell<Option<Box<str>>>,
    pub(crate) version: Version,
    /// The authority's host, in normal form.
    pub(crate) host: Box<str>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) traced: OnceCell<RequestIdentity>,
    /// Where it went last, while it is under way…
    pub(crate) went: Cell<Option<UpstreamTarget>>,
    /// …and once it is over.
    pub(crate) arrived: OnceCell<UpstreamTarget>,
    pub(crate) status: Cell<Option<StatusCode>>,
    pub(crate) attempts: Cell<u32>,
    pub(crate) waits: Cell<WaitTimes>,
    pub(crate) flags: Cell<RequestFlags>,
}

/// Where a request went.
pub(crate) struct UpstreamTarget {
    pub(crate) cluster: Arc<str>,
    /// `None` where no endpoint was found.
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) version: Option<Version>,
}

/// Where a request's time went before it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WaitTimes {
    /// It waited its turn: for policies, and for a place among the cluster's connections.
    pub(crate) queue: Duration,
    /// A connection was made for it.
    pub(crate) connect: Duration,
}

/// What happened to a request on its way, beyond its outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestFlags(u16);

impl RequestFlags {
    /// It was tried again on another connection, since the first was closed before any answer.
    pub(crate) const STALE: RequestFlags = RequestFlags(1);
    /// It was tried again, as its route has it.
    pub(crate) const RETRIED: RequestFlags = RequestFlags(1 << 1);
    /// It was not tried again, though its route has it, since its body was too large to be kept.
    pub(crate) const TOO_LARGE_TO_RETRY: RequestFlags = RequestFlags(1 << 2);
    /// It was not tried again, though its route has it, since too many are already.
    pub(crate) const RETRY_BUDGET: RequestFlags = RequestFlags(1 << 3);
    /// A second attempt was begun before the first one ended.
    pub(crate) const HEDGED: RequestFlags = RequestFlags(1 << 4);
    /// It was sent to another cluster as well.
    pub(crate) const MIRRORED: RequestFlags = RequestFlags(1 << 5);
    /// The answer began, and was cut short.
    pub(crate) const ANSWER_CUT: RequestFlags = RequestFlags(1 << 6);
    /// It became a connection of another protocol.
    pub(crate) const UPGRADED: RequestFlags = RequestFlags(1 << 7);
    /// The answer came before the whole request had gone.
    pub(crate) const EARLY_ANSWER: RequestFlags = RequestFlags(1 << 8);
    /// It was not tried again, though its route has it, since the service does not want that soon
    /// enough.
    pub(crate) const PUSHED_BACK: RequestFlags = RequestFlags(1 << 9);

    /// It was not sent to another cluster, though its route has it: its body was too large to be kept,
    /// or was not all here when the answer came.
    pub(crate) const NOT_MIRRORED: RequestFlags = RequestFlags(1 << 10);
    /// A page of another site asked, which may not read the answer.
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

    fn words(self) -> Option<String> {
        let words = Self::WORDS.iter().filter(|(flag, _)| self.0 & flag.0 != 0);
        let words: Vec<&str> = words.map(|(_, word)| *word).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

impl RequestAttributes {
    /// Of a request that has just come.
    pub(crate) fn new(link: Link, peer: Rc<str>, head: &request::Parts, host: &str) -> Self {
        Self {
            link,
            peer,
            uri: head.uri.clone(),
            normal_path: OnceCell::new(),
            version: head.version,
            host: normal::host(host).into(),
            user_agent: user_agent(&head.headers),
            traced: OnceCell::new(),
            went: Cell::new(None),
            arrived: OnceCell::new(),
            status: Cell::new(None),
            attempts: Cell::new(0),
            waits: Cell::default(),
            flags: Cell::default(),
        }
    }

    pub(crate) fn flag(&self, flag: RequestFlags) {
        self.flags.set(RequestFlags(self.flags.get().0 | flag.0));
    }

    /// Where it went, now that it is over.
    fn went(&self) -> Option<&UpstreamTarget> {
        self.arrived.get()
    }

    /// It is over.
    pub(crate) fn over(&self) {
        if let Some(went) = self.went.take() {
            let _ = self.arrived.set(went);
        }
    }

    /// Who asks, who nearly always is the peer.
    fn client(&self, ip: IpAddr) -> Cow<'_, str> {
        let port = self.peer.rfind(':').filter(|_| ip == self.link.peer.ip());
        match port.and_then(|port| self.peer.get(..port)) {
            Some(own) => own.trim_matches(['[', ']']).into(),
            None => ip.to_string().into(),
        }
    }

    /// The path in normal form, where that is not how it was written.
    fn normal_path(&self) -> Option<&str> {
        let normal = self.normal_path.get_or_init(|| match normal::path(self.uri.path()) {
            Cow::Borrowed(_) => None,
            Cow::Owned(normal) => Some(normal.into()),
        });
        normal.as_deref()
    }

    fn find<'a>(&'a self, name: &str) -> Option<Cow<'a, str>> {
        match name {
            "peer" => Some(Cow::from(&*self.peer)),
            "local" => Some(self.link.local.to_string().into()),
            "endpoint" => self.went()?.endpoint.as_deref().map(Cow::from),
            "cluster" => self.went().map(|went| Cow::from(&*went.cluster)),
            "host" => Some(Cow::from(&*self.host)).filter(|host| !host.is_empty()),
            "path" => Some(self.normal_path().unwrap_or_else(|| self.uri.path()).into()),
            "raw_path" => self.normal_path().map(|_| self.uri.path().into()),
            "query" => self.uri.query().map(|query| normal::query(query).into()),
            "raw_query" => {
                self.uri.query().filter(|query| normal::query(query) != *query).map(Cow::from)
            }
            "version" => Some(version(self.version).into()),
            "upstream_version" => Some(version(self.went()?.version?).into()),
            "user_agent" => self.user_agent.as_ref().map(text),
            "client" => self.traced.get().map(|traced| self.client(traced.client)),
            "request_id" => {
                let id = self.traced.get()?.request_id.as_ref()?;
                id.to_str().ok().map(Cow::from)
            }
            "trace_id" => self.traced.get()?.trace.as_ref().map(|it| it.to_string().into()),
            "status" => self.status.get().and_then(named).map(Cow::from),
            "attempts" => {
                Some(self.attempts.get()).filter(|n| *n > 1).map(|n| n.to_string().into())
            }
            "queue_ms" => millis(self.waits.get().queue),
            "connect_ms" => millis(self.waits.get().connect),
            "flags" => self.flags.get().words().map(Cow::from),
            _ => None,
        }
    }
}

impl Attributes for RequestAttributes {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> Fact<'a> {
        self.find(name).into()
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.link.peer.ip())
    }
}

/// The same, as long as the request's headers are still here.
pub(crate) struct AttributesWithHeaders<'h> {
    pub(crate) facts: &'h RequestAttributes,
    pub(crate) headers: &'h HeaderMap,
    pub(crate) hygiene: &'h HeaderPolicy,
    pub(crate) from: &'h PeerAddress,
    pub(crate) authority: &'h Authority,
    /// Whether some header has a name that is not of letters, digits and `-` alone.
    pub(crate) odd_names: bool,
}

impl AttributesWithHeaders<'_> {
    /// All lines of a header, and of those whose name a service may read as this one.
    fn header(&self, name: &str) -> Fact<'_> {
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
            lines.extend(folded::twins(self.headers, name).map(text));
        }
        match lines.len() {
            0 => Fact::Absent,
            // RFC 9113, 8.2.3: clients of HTTP/2 may send it in pieces.
            _ if name.eq_ignore_ascii_case("cookie") => Fact::Is(lines.join("; ").into()),
            1 => Fact::Is(lines.swap_remove(0)),
            _ => Fact::Lines(lines),
        }
    }

    /// Clients of HTTP/2 need not send this header: what they tell in its place counts.
    fn host(&self) -> Fact<'_> {
        let (host, written) = (&*self.facts.host, self.authority.as_str());
        match host {
            "" => Fact::Absent,
            host if host == written => Fact::is(host),
            host => Fact::Lines(vec![host.into(), written.to_ascii_lowercase().into()]),
        }
    }
}

impl Attributes for AttributesWithHeaders<'_> {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> Fact<'a> {
        match name {
            "client" => {
                let client = hygiene::client(self.headers, self.hygiene, self.from);
                Fact::Is(self.facts.client(client))
            }
            "path" => normal::path_fact(self.facts.uri.path()),
            "query" => self.facts.uri.query().map_or(Fact::Absent, normal::query_fact),
            _ => match name.strip_prefix("header.") {
                Some(name) if name.eq_ignore_ascii_case("host") => self.host(),
                Some(name) => self.header(name),
                None => self.facts.find(name).into(),
            },
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        self.facts.peer()
    }
}

/// Milliseconds with three digits behind the point; `None` for none.
fn millis<'a>(time: Duration) -> Option<Cow<'a, str>> {
    let micros = time.as_micros();
    (micros > 0).then(|| format!("{}.{:03}", micros / 1000, micros % 1000).into())
}

/// A header's value, in which bytes that are no UTF-8 are replaced by U+FFFD.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    value.to_str().map_or_else(|_| String::from_utf8_lossy(value.as_bytes()), Cow::Borrowed)
}

/// The names of statuses, from 100.
static STATUSES: LazyLock<Vec<String>> =
    LazyLock::new(|| (100_u16..1000).map(|status| status.to_string()).collect());

/// The name of a status.
pub(crate) fn named(status: StatusCode) -> Option<&'static str> {
    STATUSES.get(usize::from(status.as_u16()).checked_sub(100)?).map(String::as_str)
}

/// A version as logs tell it.
pub(crate) fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// About how many bytes a head has on the wire of HTTP/1.
pub(crate) fn size(first_line: usize, headers: &HeaderMap) -> u64 {
    let of = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    (first_line + headers.iter().map(of).sum::<usize>() + 4) as u64
}

/// The client's own name for itself.
pub(crate) fn user_agent(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::USER_AGENT).cloned()
}
