//! The server that clients of a pooled listener see: their `hello` is answered by the proxy, from what
//! the handshakes of pooled connections have shown.
//!
//! Source of the fields: the driver specifications `server-discovery-and-monitoring` (with "Streaming
//! protocol"), `mongodb-handshake` and `load-balancers`.

use crate::{
    bson_writer::{BsonWriter, string_array},
    element::{Element, elements, kind},
    header::{MAX_MESSAGE_LEN, flag},
    hello,
    message_view::MessageView,
    settings::PresentAs,
};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

/// An `ObjectId`, in bytes.
type ObjectId = [u8; 12];

/// What all clients of a pooled listener see.
#[derive(Debug)]
pub(crate) struct Presentation {
    present_as: PresentAs,
    /// The address that clients should dial; `None`: the one that each client has reached.
    advertise: Option<String>,
    /// Identifies this process in `topologyVersion`, and the listener as one service behind a load
    /// balancer.
    identity: ObjectId,
    /// What the newest pooled connection has shown of its server.
    server: ArcSwapOption<ServerDescription>,
    /// Monitors follow the members, and show more than a single connection.
    has_monitors: AtomicBool,
    /// Numbers the clients, and the proxy's own messages.
    numbers: AtomicU32,
    /// The name of the replica set that clients have seen first. They know no other, whatever the cluster is
    /// switched to.
    shown_set: OnceLock<String>,
    /// Clients see no `$clusterTime`.
    strips_time: bool,
}

/// What kind of server clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShownKind {
    Standalone,
    Set,
    Router,
}

impl ShownKind {
    fn as_str(self) -> &'static str {
        match self {
            ShownKind::Standalone => "a standalone server",
            ShownKind::Set => "a replica set",
            ShownKind::Router => "a mongos",
        }
    }
}

/// A server's limits and kind, from its reply to `hello`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerDescription {
    min_wire_version: i32,
    max_wire_version: i32,
    max_document: i32,
    max_message: i32,
    max_batch: i32,
    session_timeout_minutes: Option<i32>,
    /// The name of its replica set.
    set: Option<String>,
    mongos: bool,
    /// The encoded `$clusterTime`.
    cluster_time: Option<Vec<u8>>,
}

/// What a client asks with its `hello`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HelloRequest {
    /// It is spelled `hello`, not `isMaster`.
    is_modern: bool,
    /// The client expects a load balancer.
    pub(crate) load_balanced: bool,
    /// How long the reply is awaited if nothing changes; `None`: it is sent at once.
    max_await: Option<Duration>,
    /// The client knows the state that this process describes.
    knows_state: bool,
    /// Replies may follow one another without a request.
    exhaust: bool,
    /// It begins or prepares a log-in, which only the server can answer.
    pub(crate) needs_server: bool,
}

impl Presentation {
    /// For clients that see the service so.
    pub(crate) fn new(present_as: PresentAs, advertise: Option<String>) -> Self {
        Self {
            present_as,
            advertise,
            identity: random_id(),
            server: ArcSwapOption::empty(),
            has_monitors: AtomicBool::new(false),
            numbers: AtomicU32::new(0),
            shown_set: OnceLock::new(),
            strips_time: false,
        }
    }

    /// The same, without `$clusterTime` if `strips`.
    pub(crate) fn stripping_time(self, strips: bool) -> Self {
        Self { strips_time: strips, ..self }
    }

    /// Whether the clients can go on with the server that has sent this reply.
    pub(crate) fn check_successor(&self, hello_reply: &[u8]) -> Result<(), String> {
        let Some(before) = self.server.load_full() else { return Ok(()) };
        let kinds = [&before, &ServerDescription::read(hello_reply)].map(|it| self.shown_kind(it));
        let [before, after] = kinds.map(ShownKind::as_str);
        if before == after {
            return Ok(());
        }
        Err(format!("clients have seen {before} so far, and would drop {after}"))
    }

    /// Describes another server from now on.
    pub(crate) fn switched(&self, hello_reply: &[u8]) {
        self.has_monitors.store(false, Relaxed);
        self.server.store(Some(Arc::new(ServerDescription::read(hello_reply))));
    }

    fn shown_kind(&self, server: &ServerDescription) -> ShownKind {
        match (&server.set, self.present_as) {
            // A standalone server has no retryable writes, which drivers expect of the others.
            (None, _) if !server.mongos => ShownKind::Standalone,
            (Some(_), PresentAs::Primary) => ShownKind::Set,
            _ => ShownKind::Router,
        }
    }

    /// Records what a new connection has shown of its server.
    pub(crate) fn record(&self, hello_reply: &[u8]) {
        let mut server = ServerDescription::read(hello_reply);
        if let Some(before) = &*self.server.load() {
            server.keep_newest_time(before);
            if self.has_monitors.load(Relaxed) {
                let cluster_time = server.cluster_time;
                server = ServerDescription { cluster_time, ..ServerDescription::clone(before) };
            }
        }
        self.server.store(Some(Arc::new(server)));
    }

    /// Records what the members of a replica set have answered to their monitors: clients see the limits
    /// that all of them have.
    pub(crate) fn record_members(&self, replies: &[Bytes]) {
        let members = replies.iter().map(|reply| ServerDescription::read(reply));
        let Some(mut server) = members.reduce(ServerDescription::common) else { return };
        self.has_monitors.store(true, Relaxed);
        if let Some(before) = &*self.server.load() {
            server.keep_newest_time(before);
        }
        self.server.store(Some(Arc::new(server)));
    }

    /// Whether clients are shown a router, or there are routers behind the listener.
    pub(crate) fn is_router(&self) -> bool {
        self.server.load().as_ref().is_some_and(|server| server.mongos)
    }

    /// Whether the servers may support retryable writes: members of replica sets and routers do.
    pub(crate) fn has_retryable_writes(&self) -> bool {
        let server = self.server.load();
        server.as_ref().is_some_and(|it| {
            it.session_timeout_minutes.is_some() && (it.mongos || it.set.is_some())
        })
    }

    /// Whether the members of a replica set are followed, so that another one takes over from a member that
    /// has lost its role.
    pub(crate) fn is_followed(&self) -> bool {
        self.has_monitors.load(Relaxed)
    }

    /// Whether a pooled connection has shown what the server is.
    pub(crate) fn is_known(&self) -> bool {
        self.server.load().is_some()
    }

    /// A number that no client, and no message of the proxy, has got lately; it is positive as an
    /// `int32`.
    pub(crate) fn next_number(&self) -> u32 {
        self.numbers.fetch_add(1, Relaxed) & (u32::MAX >> 1)
    }

    /// The reply to a `hello`, without an end, so that more elements may follow. `local` is the address
    /// that the client has reached.
    pub(crate) fn describe(
        &self,
        hello: &HelloRequest,
        local: SocketAddr,
        connection: u32,
    ) -> BsonWriter {
        let server = self.server.load_full().unwrap_or_default();
        let mut reply = BsonWriter::new();
        let writable = if hello.is_modern { "isWritablePrimary" } else { "ismaster" };
        reply.boolean("helloOk", true);
        reply.boolean(writable, true);
        self.write_kind(hello, &server, local, &mut reply);
        reply.int32("maxBsonObjectSize", server.max_document);
        reply.int32("maxMessageSizeBytes", server.max_message);
        reply.int32("maxWriteBatchSize", server.max_batch);
        if let Some(minutes) = server.session_timeout_minutes {
            reply.int32("logicalSessionTimeoutMinutes", minutes);
        }
        reply.int32("connectionId", connection.cast_signed());
        reply.int32("minWireVersion", server.min_wire_version);
        reply.int32("maxWireVersion", server.max_wire_version);
        reply.boolean("readOnly", false);
        if let Some(time) = server.cluster_time.as_ref().filter(|_| !self.strips_time) {
            reply.element(kind::DOCUMENT, b"$clusterTime", time);
        }
        reply.double("ok", 1.0);
        reply
    }

    /// What kind of server it is: a load balancer, a mongos, a primary, or a standalone server.
    fn write_kind(
        &self,
        hello: &HelloRequest,
        server: &ServerDescription,
        local: SocketAddr,
        reply: &mut BsonWriter,
    ) {
        if hello.load_balanced {
            reply.string("msg", "isdbgrid");
            reply.element(kind::OBJECT_ID, b"serviceId", &self.identity);
            return;
        }
        let mut version = BsonWriter::new();
        version.element(kind::OBJECT_ID, b"processId", &self.identity);
        version.int64("counter", 0);
        reply.element(kind::DOCUMENT, b"topologyVersion", &version.finish());
        match (self.shown_kind(server), &server.set) {
            (ShownKind::Standalone, _) => {}
            (ShownKind::Set, Some(set)) => {
                let set = self.shown_set.get_or_init(|| set.clone());
                let me = hello::shown_address(self.advertise.as_deref(), local);
                reply.string("setName", set);
                reply.int32("setVersion", 1);
                reply.boolean("secondary", false);
                reply.array("hosts", string_array([&*me]));
                reply.string("primary", &me);
                reply.string("me", &me);
            }
            _ => reply.string("msg", "isdbgrid"),
        }
    }

    /// What a client asks with this `hello`.
    pub(crate) fn read_request(&self, message: &MessageView<'_>) -> HelloRequest {
        let mut hello = HelloRequest::default();
        let mut first = true;
        for field in elements(message.body) {
            match field.name {
                b"hello" if first => hello.is_modern = true,
                b"loadBalanced" => hello.load_balanced = field.truthy(),
                b"maxAwaitTimeMS" => {
                    let limit = field.number().and_then(|millis| u64::try_from(millis).ok());
                    hello.max_await = limit.map(Duration::from_millis);
                }
                b"topologyVersion" => hello.knows_state = self.is_current(&field),
                b"speculativeAuthenticate" | b"saslSupportedMechs" => hello.needs_server = true,
                _ => {}
            }
            first = false;
        }
        hello.exhaust = message.flags & flag::EXHAUST_ALLOWED != 0;
        hello
    }

    fn is_current(&self, version: &Element<'_>) -> bool {
        let process = version.elements().into_iter().flatten();
        process
            .filter(|field| field.name == b"processId")
            .any(|field| field.kind == kind::OBJECT_ID && field.value == self.identity)
    }
}

impl HelloRequest {
    /// How long the next reply is awaited.
    pub(crate) fn awaits(&self) -> Option<Duration> {
        self.max_await.filter(|_| self.knows_state)
    }

    /// How long after a reply the next one is due, if replies follow one another.
    pub(crate) fn follows_after(&self) -> Option<Duration> {
        self.max_await.filter(|_| self.exhaust && !self.load_balanced)
    }
}

impl ServerDescription {
    /// What both servers can do.
    fn common(self, other: Self) -> Self {
        let newer = time_of_option(&self.cluster_time) >= time_of_option(&other.cluster_time);
        let timeouts = (self.session_timeout_minutes, other.session_timeout_minutes);
        Self {
            min_wire_version: self.min_wire_version.max(other.min_wire_version),
            max_wire_version: self.max_wire_version.min(other.max_wire_version),
            max_document: self.max_document.min(other.max_document),
            max_message: self.max_message.min(other.max_message),
            max_batch: self.max_batch.min(other.max_batch),
            session_timeout_minutes: timeouts.0.zip(timeouts.1).map(|(one, two)| one.min(two)),
            set: self.set.or(other.set),
            mongos: self.mongos || other.mongos,
            cluster_time: if newer { self.cluster_time } else { other.cluster_time },
        }
    }

    /// Keeps the cluster time of `before` if it is newer.
    fn keep_newest_time(&mut self, before: &Self) {
        if time_of_option(&before.cluster_time) > time_of_option(&self.cluster_time) {
            self.cluster_time.clone_from(&before.cluster_time);
        }
    }

    /// What a server says of itself, with the limits of servers that do not say theirs.
    fn read(hello_reply: &[u8]) -> Self {
        let mut server = Self {
            max_document: 16 << 20,
            max_message: MAX_MESSAGE_LEN.cast_signed(),
            max_batch: 100_000,
            ..Self::default()
        };
        for field in elements(hello_reply) {
            let number = field.number().and_then(|number| i32::try_from(number).ok());
            let slot = match field.name {
                b"minWireVersion" => &mut server.min_wire_version,
                b"maxWireVersion" => &mut server.max_wire_version,
                b"maxBsonObjectSize" => &mut server.max_document,
                b"maxMessageSizeBytes" => &mut server.max_message,
                b"maxWriteBatchSize" => &mut server.max_batch,
                b"logicalSessionTimeoutMinutes" => {
                    server.session_timeout_minutes = number;
                    continue;
                }
                b"setName" => {
                    server.set = field.text().map(str::to_owned);
                    continue;
                }
                b"msg" => {
                    server.mongos = field.text() == Some("isdbgrid");
                    continue;
                }
                b"$clusterTime" if field.kind == kind::DOCUMENT => {
                    server.cluster_time = Some(field.value.to_vec());
                    continue;
                }
                _ => continue,
            };
            *slot = number.unwrap_or(*slot);
        }
        server
    }
}

fn time_of_option(cluster_time: &Option<Vec<u8>>) -> Option<u64> {
    cluster_time.as_deref().map(time_of)
}

/// The time in a `$clusterTime`: seconds, and a counter in the low half.
fn time_of(cluster_time: &[u8]) -> u64 {
    let field = elements(cluster_time).find(|field| field.name == b"clusterTime");
    let value = field.filter(|field| field.kind == kind::TIMESTAMP);
    value.and_then(|field| field.value.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// An id that no other process has.
fn random_id() -> ObjectId {
    let mut id = ObjectId::default();
    fastrand::fill(&mut id);
    id
}

#[cfg(test)]
mod tests;
