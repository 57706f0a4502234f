//! Live data of an open connection for the admin interface, and the request to close it.

use crate::listener::WorkerListener;
use operation::{Close, ConnectionInfo, Direction};
use proxy_protocol::Header;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    cell::{Cell, OnceCell},
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tls::TlsInfo;

/// The number of the next connection, over all listeners and workers.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Live data of a connection, shared on one worker by the connection and the admin queries.
pub struct SessionInfo {
    pub(super) id: u64,
    /// The connection's two ends on the client's side.
    pub link: ConnectionInfo,
    /// When the connection was accepted.
    pub accepted: Instant,
    listener: Rc<WorkerListener>,
    /// The endpoint, once connected.
    pub endpoint: OnceCell<Arc<str>>,
    /// The name that the client asked for (SNI).
    pub server_name: OnceCell<String>,
    /// The cluster, if it was chosen by that name.
    pub cluster: OnceCell<Arc<str>>,
    /// What the TLS handshake has led to, if the connection is encrypted.
    pub tls: OnceCell<Box<TlsInfo>>,
    /// What a load balancer has said of the client, and its own address.
    pub proxy: OnceCell<Box<(Header, SocketAddr)>>,
    /// Bytes read, by direction.
    bytes: [Cell<u64>; 2],
    /// Time of the last read.
    last_read: Cell<Instant>,
    /// The gate's slot of the oldest operation in flight.
    pub operation: Cell<Option<u32>>,
    kill_reason: Cell<Option<Close>>,
}

impl SessionInfo {
    /// A new connection.
    pub fn new(listener: &Rc<WorkerListener>, link: ConnectionInfo, accepted: Instant) -> Rc<Self> {
        Rc::new(Self {
            id: NEXT_ID.fetch_add(1, Relaxed),
            link,
            accepted,
            listener: Rc::clone(listener),
            endpoint: OnceCell::new(),
            server_name: OnceCell::new(),
            cluster: OnceCell::new(),
            tls: OnceCell::new(),
            proxy: OnceCell::new(),
            bytes: Default::default(),
            last_read: Cell::new(accepted),
            operation: Cell::default(),
            kill_reason: Cell::default(),
        })
    }

    /// The listener of the connection.
    pub fn listener(&self) -> &Rc<WorkerListener> {
        &self.listener
    }

    /// Counts bytes read in this direction.
    #[inline]
    pub fn count_read(&self, direction: Direction, bytes: usize, now: Instant) {
        let all = &self.bytes[direction as usize];
        all.set(all.get() + bytes as u64);
        self.last_read.set(now);
    }

    /// Why it is to be closed at once, if it is.
    pub fn kill_reason(&self) -> Option<Close> {
        self.kill_reason.get()
    }

    /// Marks it to be closed at once, unless it is already.
    pub fn kill(&self, reason: Close) {
        self.kill_reason.set(self.kill_reason.get().or(Some(reason)));
    }

    fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_read.get())
    }

    fn all_bytes(&self) -> u64 {
        self.bytes.iter().map(Cell::get).sum()
    }

    fn report(&self, now: Instant) -> SessionReport {
        let plan = self.listener.plan();
        let slot = self.operation.get();
        let operation = slot.and_then(|slot| self.listener.gate().operation(slot));
        let (operation, resource) = operation.map_or((None, None), |(name, resource)| {
            (Some(name), (!resource.is_empty()).then_some(resource))
        });
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        SessionReport {
            id: self.id,
            listener: Arc::clone(&plan.name),
            protocol: plan.protocol.name(),
            peer: self.link.peer,
            cluster: self.cluster.get().or(plan.cluster.as_ref()).cloned(),
            endpoint: self.endpoint.get().cloned(),
            age_ms: millis(now.saturating_duration_since(self.accepted)),
            idle_ms: millis(self.idle(now)),
            request_bytes: self.bytes[0].get(),
            reply_bytes: self.bytes[1].get(),
            operation,
            resource,
        }
    }
}

/// An open connection, as the admin interface reports it.
#[derive(Clone, Debug)]
pub struct SessionReport {
    /// Its id, unique in the process.
    pub id: u64,
    listener: Arc<str>,
    protocol: &'static str,
    peer: SocketAddr,
    cluster: Option<Arc<str>>,
    endpoint: Option<Arc<str>>,
    age_ms: u64,
    idle_ms: u64,
    request_bytes: u64,
    reply_bytes: u64,
    /// The operation in flight, if known.
    operation: Option<Box<str>>,
    resource: Option<Box<str>>,
}

impl SessionReport {
    /// The JSON of the admin interface.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "id": self.id,
            "listener": &*self.listener,
            "protocol": self.protocol,
            "peer": self.peer.to_string(),
            "age_ms": self.age_ms,
            "idle_ms": self.idle_ms,
            "request_bytes": self.request_bytes,
            "reply_bytes": self.reply_bytes,
        });
        for (key, value) in [
            ("cluster", self.cluster.as_deref()),
            ("endpoint", self.endpoint.as_deref()),
            ("operation", self.operation.as_deref()),
            ("resource", self.resource.as_deref()),
        ] {
            if let Some(value) = value {
                json[key] = value.into();
            }
        }
        json
    }
}

/// Filter and order of connections: `?listener=db&sort=bytes&limit=10`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionQuery {
    /// Only this listener's connections; all if absent.
    listener: Option<String>,
    sort: SortBy,
    limit: usize,
}

impl Default for SessionQuery {
    fn default() -> Self {
        Self { listener: None, sort: SortBy::Age, limit: 1000 }
    }
}

/// The sort order.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SortBy {
    /// The oldest first.
    Age,
    /// The longest idle first.
    Idle,
    /// The most bytes first.
    Bytes,
}

impl SessionQuery {
    /// Selects and sorts one worker's connections.
    pub fn select<'s>(
        &self,
        all: impl Iterator<Item = &'s Rc<SessionInfo>>,
        now: Instant,
    ) -> Vec<SessionReport> {
        let wanted = self.listener.as_deref();
        let is_wanted =
            |info: &&Rc<SessionInfo>| wanted.is_none_or(|name| *info.listener.plan().name == *name);
        let mut chosen: Vec<_> = all.filter(is_wanted).collect();
        chosen.sort_by_cached_key(|info| match self.sort {
            SortBy::Age => (0, info.id),
            SortBy::Idle => (u64::MAX - info.idle(now).as_millis() as u64, info.id),
            SortBy::Bytes => (u64::MAX - info.all_bytes(), info.id),
        });
        chosen.into_iter().take(self.limit).map(|info| info.report(now)).collect()
    }

    /// Merges the reports of all workers.
    pub fn merge(&self, mut all: Vec<SessionReport>) -> Vec<SessionReport> {
        all.sort_by_key(|report| match self.sort {
            SortBy::Age => (0, report.id),
            SortBy::Idle => (u64::MAX - report.idle_ms, report.id),
            SortBy::Bytes => (u64::MAX - report.request_bytes - report.reply_bytes, report.id),
        });
        all.truncate(self.limit);
        all
    }
}
