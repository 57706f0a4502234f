//! What is known of a request, for policies that ask and for the log.

use crate::hygiene::Traced;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use operation::{Attributes, Link};
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell},
    net::IpAddr,
    sync::Arc,
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
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    /// The authority's host, in lower case.
    pub(crate) host: Box<str>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) traced: OnceCell<Traced>,
    /// Where it went last.
    pub(crate) went: Cell<Option<Went>>,
    pub(crate) status: Cell<Option<StatusCode>>,
    pub(crate) attempts: Cell<u32>,
    pub(crate) flags: Cell<Flags>,
}

/// Where a request went.
#[derive(Clone)]
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

    const WORDS: [(Flags, &'static str); 9] = [
        (Flags::STALE, "stale_connection"),
        (Flags::RETRIED, "retried"),
        (Flags::TOO_LARGE_TO_RETRY, "too_large_to_retry"),
        (Flags::RETRY_BUDGET, "retry_budget"),
        (Flags::HEDGED, "hedged"),
        (Flags::MIRRORED, "mirrored"),
        (Flags::ANSWER_CUT, "answer_cut"),
        (Flags::UPGRADED, "upgraded"),
        (Flags::EARLY_ANSWER, "early_answer"),
    ];

    fn words(self) -> Option<String> {
        let words = Self::WORDS.iter().filter(|(flag, _)| self.0 & flag.0 != 0);
        let words: Vec<&str> = words.map(|(_, word)| *word).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

impl Facts {
    pub(crate) fn flag(&self, flag: Flags) {
        self.flags.set(Flags(self.flags.get().0 | flag.0));
    }

    pub(crate) fn went(&self) -> Option<Went> {
        let went = self.went.take();
        self.went.set(went.clone());
        went
    }

    fn find<'a>(&'a self, name: &str) -> Option<Cow<'a, str>> {
        match name {
            "peer" => Some(self.link.peer.to_string().into()),
            "local" => Some(self.link.local.to_string().into()),
            "endpoint" => self.went()?.endpoint.map(|name| name.to_string().into()),
            "cluster" => self.went().map(|went| went.cluster.to_string().into()),
            "host" => Some(Cow::from(&*self.host)).filter(|host| !host.is_empty()),
            "path" => Some(self.uri.path().into()),
            "query" => self.uri.query().map(Cow::from),
            "version" => Some(version(self.version).into()),
            "upstream_version" => Some(version(self.went()?.version?).into()),
            "user_agent" => self.user_agent.as_ref().and_then(|it| it.to_str().ok()).map(Cow::from),
            "client" => self.traced.get().map(|traced| traced.client.to_string().into()),
            "request_id" => {
                let id = self.traced.get()?.request_id.as_ref()?;
                id.to_str().ok().map(Cow::from)
            }
            "trace_id" => self.traced.get()?.trace.map(|it| format!("{:032x}", it.id).into()),
            "status" => self.status.get().map(|status| status.as_str().to_owned().into()),
            "attempts" => {
                Some(self.attempts.get()).filter(|n| *n > 1).map(|n| n.to_string().into())
            }
            "flags" => self.flags.get().words().map(Cow::from),
            _ => None,
        }
    }
}

impl Attributes for Facts {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
        self.find(name)
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.link.peer.ip())
    }
}

/// The same, as long as the request's headers are still here.
pub(crate) struct WithHeaders<'h> {
    pub(crate) facts: &'h Facts,
    pub(crate) headers: &'h HeaderMap,
}

impl Attributes for WithHeaders<'_> {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
        let Some(header) = name.strip_prefix("header.") else { return self.facts.find(name) };
        // A name that was written in lower case, as nearly all are, is found without a copy.
        let value = self.headers.get(header)?;
        Some(String::from_utf8_lossy(value.as_bytes()))
    }

    fn peer(&self) -> Option<IpAddr> {
        self.facts.peer()
    }
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
