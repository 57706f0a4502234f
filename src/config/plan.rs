//! Plans: checked and resolved configs with defaults. Nothing in a plan is invalid.

mod admin;

use crate::{
    policy::Rule,
    protocols::{Pooling, Protocol},
};
pub use admin::{AdminPlan, ControlAddress};
use cluster::ClusterPlan;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// A whole proxy.
#[derive(Debug)]
pub struct Plan {
    /// The admin interface; `None` switches it off.
    pub admin: Option<AdminPlan>,
    /// How many worker threads.
    pub workers: usize,
    /// How many client connections at once, over all listeners.
    pub max_connections: usize,
    /// How long connections are still accepted after a drain was asked for; `None`: not at all.
    pub drain_wait: Option<Duration>,
    /// How long a drain waits for operations to end.
    pub drain_timeout: Duration,
    /// How many series (operation × resource) a listener keeps apart; the rest share `other`.
    pub max_series: usize,
    /// The zone that the proxy is in.
    pub zone: Option<Arc<str>>,
    /// Where clients connect.
    pub listeners: Vec<Arc<ListenerPlan>>,
    /// Where operations go.
    pub clusters: Vec<Arc<ClusterPlan>>,
    /// How each cluster's endpoints are spoken to, where operations share connections.
    pub pooling: BTreeMap<Arc<str>, Pooling>,
    /// The policies, in order.
    pub policies: Vec<Arc<Rule>>,
    /// Where operations are logged; `None` switches it off.
    pub access_log: Option<AccessLogPlan>,
    /// The file for endpoint events; `None` switches it off.
    pub event_log: Option<PathBuf>,
}

/// One place where clients connect.
#[derive(Debug)]
pub struct ListenerPlan {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Where it listens. With port 0 the kernel picks.
    pub address: SocketAddr,
    /// What its clients speak.
    pub protocol: Protocol,
    /// The name of the cluster that its operations go to, but for those that the protocol sends
    /// elsewhere; `None` where it sends them all.
    pub cluster: Option<Arc<str>>,
    /// How many connections at once.
    pub max_connections: usize,
    /// How many connections other listeners can't take from it, at most `max_connections`; those
    /// of all listeners together are at most the proxy's `max_connections`.
    pub reserved_connections: usize,
    /// When a connection's upstream is connected to.
    pub upstream_connect_mode: UpstreamConnectMode,
    /// How long a connection may rest; `None` means for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may live; `None` means for ever.
    pub max_connection_duration: Option<Duration>,
    /// How long both peers may say nothing at first; `None` means for ever.
    pub first_byte_timeout: Option<Duration>,
    /// How long a client may take until its first message can be read; `None` means for ever.
    pub handshake_timeout: Option<Duration>,
    /// How long a client may take to end a message that it began; `None` means for ever.
    pub message_timeout: Option<Duration>,
    /// How long a peer may accept none of the bytes for it; `None`: no limit.
    pub write_timeout: Option<Duration>,
    /// How long nothing may move once one side has ended.
    pub half_close_timeout: Option<Duration>,
    /// How long bytes sent to a client may stay unacknowledged; `None` leaves that to the system.
    pub tcp_user_timeout: Option<Duration>,
    /// How many bytes of requests may be held, over all its connections, until policies can
    /// decide about them.
    pub max_held_bytes: usize,
    /// What to do when bytes can no longer be parsed.
    pub on_violation: OnViolation,
}

impl ListenerPlan {
    /// The names of all clusters that its operations may go to.
    pub fn clusters(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.cluster.iter().cloned().collect();
        for name in self.protocol.clusters() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// A listener with every default of a `tcp` listener, and nothing reserved.
    pub fn new(name: &str, address: SocketAddr, protocol: Protocol, cluster: &str) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            name: name.into(),
            address,
            protocol,
            cluster: Some(cluster.into()),
            max_connections: 10_000,
            reserved_connections: 0,
            upstream_connect_mode: UpstreamConnectMode::Immediate,
            idle_timeout: Some(60 * MINUTE),
            max_connection_duration: None,
            first_byte_timeout: Some(MINUTE),
            handshake_timeout: Some(MINUTE),
            message_timeout: Some(5 * MINUTE),
            write_timeout: Some(5 * MINUTE),
            half_close_timeout: Some(5 * MINUTE),
            tcp_user_timeout: Some(2 * MINUTE),
            max_held_bytes: 64 << 20,
            on_violation: OnViolation::Pass,
        }
    }
}

/// When the upstream of a connection is connected to, where each connection has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamConnectMode {
    /// As soon as the client has connected: services that greet first need it.
    Immediate,
    /// With the client's first byte: a client that says nothing costs the service nothing.
    OnClientData,
}

/// What to do with a connection whose bytes can no longer be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnViolation {
    /// Pass everything on unread, unless not one message could be read before.
    Pass,
    /// Close it.
    Close,
}

/// Where and which operations are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogPlan {
    /// The file; `/dev/stdout` and `/dev/stderr` work.
    pub path: PathBuf,
    /// Only operations that took at least this long are logged, and with their query's shape.
    pub slower_than: Option<Duration>,
    /// Show the values in queries too.
    pub values: bool,
}
