//! Plans: checked and resolved configs with defaults. Nothing in a plan is invalid.

mod admin;

use super::show;
pub use admin::{AdminPlan, ControlAddress};
use cluster::ClusterPlan;
use policy::matching::PeerMatcher;
use policy::{Rule, access_log::AccessLogPlan};
use protocols::{ListenerProtocol, Pooling};
use serde::Serialize;
use session::Timeouts;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tls::{ServerTls, StartTls};
use traces::TracesPlan;
use values::{Keyword, ObjectSource, shown, shown_size};

/// A whole proxy. It is serialized as in a config, with all defaults and without secrets.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The admin interface; `None` switches it off.
    #[serde(serialize_with = "show::admin")]
    pub admin: Option<AdminPlan>,
    /// The number of worker threads.
    pub workers: usize,
    /// The most client connections at a time, over all listeners.
    pub max_connections: usize,
    /// How long connections are still accepted after a drain was requested; `None`: not at all.
    #[serde(rename = "drain", serialize_with = "show::drain")]
    pub drain_wait: Option<Duration>,
    /// How long a drain waits for operations to end.
    #[serde(serialize_with = "shown")]
    pub drain_timeout: Duration,
    /// The time over which a drain closes idle connections whose clients are served elsewhere.
    #[serde(serialize_with = "shown")]
    pub drain_spread: Duration,
    /// Whether the config is read again when one of its files changes.
    pub watch: bool,
    /// The Unix socket where the next process asks for the listening sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_socket: Option<PathBuf>,
    /// The most series (operation × resource) of a listener; the rest share `other`.
    pub max_series: usize,
    /// The proxy's zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// Where clients connect.
    #[serde(skip)]
    pub listeners: Vec<Arc<ListenerPlan>>,
    /// How many connections each listener may have. Not in its own plan: what is reserved for one depends on
    /// all, and another one must not change it.
    #[serde(skip)]
    pub connection_limits: BTreeMap<Arc<str>, ConnectionLimits>,
    /// Where operations go.
    #[serde(skip)]
    pub clusters: Vec<Arc<ClusterPlan>>,
    /// How connections to each cluster are pooled, if operations share them.
    #[serde(skip)]
    pub pooling: BTreeMap<Arc<str>, Pooling>,
    /// The policies, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "show::policies")]
    pub policies: Vec<Arc<Rule>>,
    /// Where operations are logged; `None` switches it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLogPlan>,
    /// The file for endpoint events; `None` switches it off.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "show::event_log")]
    pub event_log: Option<PathBuf>,
    /// Where spans are sent, and which; `None`: none are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<TracesPlan>,
}

impl ConnectionLimits {
    /// The keys of a listener that have them.
    pub const KEYS: [&str; 2] = ["max_connections", "reserved_connections"];
}

/// How many connections a listener may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionLimits {
    /// The most connections at a time.
    #[serde(rename = "max_connections")]
    pub max: usize,
    /// How many connections are reserved for it, at most `max`; the sum over all listeners is at most the
    /// proxy's `max_connections`.
    #[serde(rename = "reserved_connections")]
    pub reserved: usize,
}

/// An address where clients connect.
#[derive(Debug, Serialize)]
pub struct ListenerPlan {
    /// Its name in logs and metrics.
    #[serde(skip)]
    pub name: Arc<str>,
    /// The address to listen on. With port 0 the kernel picks.
    pub address: SocketAddr,
    /// The protocol of its clients.
    #[serde(serialize_with = "show::protocol")]
    pub protocol: Arc<dyn ListenerProtocol>,
    /// The name of the cluster for its operations, unless the protocol selects another; `None` if
    /// the protocol selects all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Arc<str>>,
    /// How its clients are encrypted; `None`: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Arc<ServerTls>>,
    /// The protocol in which its clients ask for TLS; `None`: they begin with TLS.
    #[serde(serialize_with = "shown", skip_serializing_if = "Option::is_none")]
    pub starttls: Option<StartTls>,
    /// The clusters of clients that ask for these names by TLS (SNI): a name, or a wildcard of one label.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sni: BTreeMap<Arc<str>, Arc<str>>,
    /// From whom connections begin with a header of the PROXY protocol; `None`: from nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocolPlan>,
    /// When the upstream of a connection is connected; `None`: with the client's first byte, because
    /// the protocol's clients always speak first.
    #[serde(serialize_with = "shown", skip_serializing_if = "Option::is_none")]
    pub upstream_connect_mode: Option<UpstreamConnectMode>,
    /// The time limits of its connections.
    #[serde(flatten)]
    pub timeouts: Timeouts,
    /// How long bytes sent to a client may stay unacknowledged; `None` leaves that to the system.
    #[serde(serialize_with = "shown")]
    pub tcp_user_timeout: Option<Duration>,
    /// The most bytes of requests held, over all its connections, until policies can decide.
    #[serde(serialize_with = "shown_size")]
    pub max_held_bytes: usize,
    /// How open connections end when a reload changes the listener.
    #[serde(serialize_with = "shown")]
    pub on_reload: OnReload,
    /// What to do when bytes can no longer be parsed.
    #[serde(serialize_with = "shown")]
    pub on_violation: OnViolation,
    /// As it was written. Settings of the whole proxy and of its clusters, which defaults are taken
    /// from, are no part of it.
    #[serde(skip)]
    pub source: ObjectSource,
}

impl ListenerPlan {
    /// The names of all clusters that its operations may use.
    pub fn clusters(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.cluster.iter().cloned().collect();
        for name in self.sni.values().cloned().chain(self.protocol.clusters()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Whether its connections have attributes of TLS or of PROXY headers.
    pub fn has_preface(&self) -> bool {
        self.tls.is_some() || !self.sni.is_empty() || self.proxy_protocol.is_some()
    }

    /// A listener with the defaults of `tcp`.
    pub fn new(
        name: &str,
        address: SocketAddr,
        protocol: Arc<dyn ListenerProtocol>,
        cluster: &str,
    ) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            name: name.into(),
            address,
            protocol,
            cluster: Some(cluster.into()),
            tls: None,
            starttls: None,
            sni: BTreeMap::new(),
            proxy_protocol: None,
            upstream_connect_mode: Some(UpstreamConnectMode::Immediate),
            timeouts: Timeouts {
                idle: Some(60 * MINUTE),
                max_duration: None,
                first_byte: Some(MINUTE),
                handshake: Some(MINUTE),
                message: Some(5 * MINUTE),
                write: Some(5 * MINUTE),
                half_close: Some(5 * MINUTE),
            },
            tcp_user_timeout: Some(2 * MINUTE),
            max_held_bytes: 64 << 20,
            on_reload: OnReload::Keep,
            on_violation: OnViolation::Pass,
            source: ObjectSource::default(),
        }
    }
}

/// From whom connections begin with a header of the PROXY protocol.
#[derive(Debug, Serialize)]
pub struct ProxyProtocolPlan {
    /// The settings.
    #[serde(flatten)]
    pub settings: proxy_protocol::ListenerSettings,
    /// Those who send it.
    #[serde(skip)]
    pub from: Vec<PeerMatcher>,
}

impl ProxyProtocolPlan {
    /// Whether this peer sends a header.
    pub fn expects(&self, peer: IpAddr) -> bool {
        self.from.iter().any(|peers| peers.contains(peer))
    }
}

/// When the upstream of a connection is connected, if each connection has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamConnectMode {
    /// When the client has connected: needed by services that greet first.
    Immediate,
    /// With the client's first byte: a silent client costs the service nothing.
    OnClientData,
}

/// How a listener's open connections end when a reload changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReload {
    /// They end with the config that they began with.
    Keep,
    /// They close when they are idle, and at the latest after `drain_timeout`.
    Rest,
}

impl OnReload {
    /// The key of a listener that has it.
    pub(crate) const KEY: &str = "on_reload";
}

/// What to do with a connection whose bytes can no longer be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnViolation {
    /// Pass everything on unparsed, unless no message could be parsed before.
    Pass,
    /// Close it.
    Close,
}

impl Keyword for UpstreamConnectMode {
    const EXPECTED: &str = "`immediate` or `on_client_data`";
    const WORDS: &[(&str, Self)] = &[
        ("immediate", UpstreamConnectMode::Immediate),
        ("on_client_data", UpstreamConnectMode::OnClientData),
    ];
}

impl Keyword for OnReload {
    const EXPECTED: &str = "`keep` or `rest`";
    const WORDS: &[(&str, Self)] = &[("keep", OnReload::Keep), ("rest", OnReload::Rest)];
}

impl Keyword for OnViolation {
    const EXPECTED: &str = "`pass` or `close`";
    const WORDS: &[(&str, Self)] = &[("pass", OnViolation::Pass), ("close", OnViolation::Close)];
}
