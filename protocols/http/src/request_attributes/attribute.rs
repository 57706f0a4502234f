//! The attributes of a request by name and by number.

use super::ATTRIBUTES;
use operation::ResolvedAttribute;
use std::sync::LazyLock;

/// An attribute of a request that is kept until its operation settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Peer,
    Local,
    Endpoint,
    Cluster,
    Scheme,
    Host,
    Path,
    RawPath,
    Query,
    RawQuery,
    Version,
    UpstreamVersion,
    UserAgent,
    Client,
    RequestId,
    TraceId,
    SpanId,
    Status,
    Attempts,
    QueueTime,
    ConnectTime,
    Flags,
}

/// The attributes of the list [`ATTRIBUTES`], by their place in it.
static NUMBERED: LazyLock<Vec<Option<Attribute>>> =
    LazyLock::new(|| ATTRIBUTES.iter().map(|name| Attribute::named(name)).collect());

impl Attribute {
    /// The attribute with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "peer" => Self::Peer,
            "local" => Self::Local,
            "endpoint" => Self::Endpoint,
            "cluster" => Self::Cluster,
            "scheme" => Self::Scheme,
            "host" => Self::Host,
            "path" => Self::Path,
            "raw_path" => Self::RawPath,
            "query" => Self::Query,
            "raw_query" => Self::RawQuery,
            "version" => Self::Version,
            "upstream_version" => Self::UpstreamVersion,
            "user_agent" => Self::UserAgent,
            "client" => Self::Client,
            "request_id" => Self::RequestId,
            "trace_id" => Self::TraceId,
            "span_id" => Self::SpanId,
            "status" => Self::Status,
            "attempts" => Self::Attempts,
            "queue_ms" => Self::QueueTime,
            "connect_ms" => Self::ConnectTime,
            "flags" => Self::Flags,
            _ => return None,
        })
    }

    /// The attribute with this number, or with this name if it has none.
    pub(crate) fn resolved(attribute: ResolvedAttribute) -> Option<Self> {
        match attribute.number {
            Some(number) => NUMBERED.get(usize::from(number)).copied().flatten(),
            None => Self::named(attribute.name),
        }
    }
}
