//! What is known of a request, for policies that ask and for the log.

use crate::hygiene::{self, Hygiene, Peer, Traced};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header, request};
use operation::{Attributes, Fact, Link};
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell},
    net::IpAddr,
    rc::Rc,
    sync::{Arc, LazyLock},
};

/// Every attribute that a request has, whatever travels by it.
pub const ATTRIBUTES: &[&str] = &[
    "header.",
    "host",
    "path",
    "query",
    "version",
    "user_agent",
    "client",
    "request_id",
    "trace_id",
    "status",
    "attempts",
    "flags",
    "upstream_version",
];

/// What is known of a request only once it has gone on: policies are asked before.
pub const LATE: &[&str] = &[
    "endpoint",
    "cluster",
    "request_id",
    "trace_id",
    "status",
    "attempts",
    "flags",
    "upstream_version",
];

/// Those that a line of the access log carries.
pub const LOGGED: &[&str] = &[
    "status",
    "host",
    "path",
    "version",
    "user_agent",
    "request_id",
    "client",
    "attempts",
    "flags",
    "upstream_version",
];

/// What is known of a request, kept until its operation settles.
pub(crate) struct Facts {
    pub(crate) link: Link,
    /// The client's address, in words that are made once for its connection.
    pub(crate) peer: Rc<str>,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    /// The authority's host, in lower case.
    pub(crate) host: Box<str>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) traced: OnceCell<Traced>,
    /// Where it went last, while it is under way…
    pub(crate) went: Cell<Option<Went>>,
    /// …and once it is over.
    pub(crate) arrived: OnceCell<Went>,
    pub(crate) status: Cell<Option<StatusCode>>,
    pub(crate) attempts: Cell<u32>,
    pub(crate) flags: Cell<Flags>,
}

/// Where a request went.
pub(crate) struct Went {
    pub(crate) cluster: Arc<str>,
    /// `None` where no endpoint was found.
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) version: Option<Version>,
}

/// What happened to a request on its way, beyond its outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    /// It was tried again on another connection, since the first was closed before any answer.
    pub(crate) const STALE: Flags = Flags(1);
    /// It was tried again, as its route has it.
    pub(crate) const RETRIED: Flags = Flags(1 << 1);
    /// It was not tried again, though its route has it, since its body was too large to be kept.
    pub(crate) const TOO_LARGE_TO_RETRY: Flags = Flags(1 << 2);
    /// It was not tried again, though its route has it, since too many are already.
    pub(crate) const RETRY_BUDGET: Flags = Flags(1 << 3);
    /// A second attempt was begun before the first one ended.
    pub(crate) const HEDGED: Flags = Flags(1 << 4);
    /// It was sent to another cluster as well.
    pub(crate) const MIRRORED: Flags = Flags(1 << 5);
    /// The answer began, and was cut short.
    pub(crate) const ANSWER_CUT: Flags = Flags(1 << 6);
    /// It became a connection of another protocol.
    pub(crate) const UPGRADED: Flags = Flags(1 << 7);
    /// The answer came before the whole request had gone.
    pub(crate) const EARLY_ANSWER: Flags = Flags(1 << 8);
    /// It was not tried again, though its route has it, since the service does not want that soon
    /// enough.
    pub(crate) const PUSHED_BACK: Flags = Flags(1 << 9);

    const WORDS: [(Flags, &'static str); 10] = [
        (Flags::STALE, "stale_connection"),
        (Flags::RETRIED, "retried"),
        (Flags::TOO_LARGE_TO_RETRY, "too_large_to_retry"),
        (Flags::RETRY_BUDGET, "retry_budget"),
        (Flags::HEDGED, "hedged"),
        (Flags::MIRRORED, "mirrored"),
        (Flags::ANSWER_CUT, "answer_cut"),
        (Flags::UPGRADED, "upgraded"),
        (Flags::EARLY_ANSWER, "early_answer"),
        (Flags::PUSHED_BACK, "pushed_back"),
    ];

    fn words(self) -> Option<String> {
        let words = Self::WORDS.iter().filter(|(flag, _)| self.0 & flag.0 != 0);
        let words: Vec<&str> = words.map(|(_, word)| *word).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

impl Facts {
    /// Of a request that has just come.
    pub(crate) fn new(link: Link, peer: Rc<str>, head: &request::Parts, host: &str) -> Self {
        Self {
            link,
            peer,
            uri: head.uri.clone(),
            version: head.version,
            host: host.into(),
            user_agent: user_agent(&head.headers),
            traced: OnceCell::new(),
            went: Cell::new(None),
            arrived: OnceCell::new(),
            status: Cell::new(None),
            attempts: Cell::new(0),
            flags: Cell::default(),
        }
    }

    pub(crate) fn flag(&self, flag: Flags) {
        self.flags.set(Flags(self.flags.get().0 | flag.0));
    }

    /// Where it went, now that it is over.
    fn went(&self) -> Option<&Went> {
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

    fn find<'a>(&'a self, name: &str) -> Option<Cow<'a, str>> {
        match name {
            "peer" => Some(Cow::from(&*self.peer)),
            "local" => Some(self.link.local.to_string().into()),
            "endpoint" => self.went()?.endpoint.as_deref().map(Cow::from),
            "cluster" => self.went().map(|went| Cow::from(&*went.cluster)),
            "host" => Some(Cow::from(&*self.host)).filter(|host| !host.is_empty()),
            "path" => Some(self.uri.path().into()),
            "query" => self.uri.query().map(Cow::from),
            "version" => Some(version(self.version).into()),
            "upstream_version" => Some(version(self.went()?.version?).into()),
            "user_agent" => self.user_agent.as_ref().and_then(|it| it.to_str().ok()).map(Cow::from),
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
            "flags" => self.flags.get().words().map(Cow::from),
            _ => None,
        }
    }
}

impl Attributes for Facts {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> Fact<'a> {
        self.find(name).into()
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.link.peer.ip())
    }
}

/// The same, as long as the request's headers are still here.
pub(crate) struct WithHeaders<'h> {
    pub(crate) facts: &'h Facts,
    pub(crate) headers: &'h HeaderMap,
    pub(crate) hygiene: &'h Hygiene,
    pub(crate) from: &'h Peer,
}

impl Attributes for WithHeaders<'_> {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> Fact<'a> {
        if name == "client" {
            let client = hygiene::client(self.headers, self.hygiene, self.from);
            return Fact::Is(self.facts.client(client));
        }
        let Some(header) = name.strip_prefix("header.") else {
            return self.facts.find(name).into();
        };
        // A name that was written in lower case, as nearly all are, is found without a copy.
        let value = self.headers.get(header);
        value.map(|value| String::from_utf8_lossy(value.as_bytes())).into()
    }

    fn peer(&self) -> Option<IpAddr> {
        self.facts.peer()
    }
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
