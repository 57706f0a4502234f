//! What the proxy knows about one client's connection: the [`Session`] that serves it.

use super::{
    connections::Connections,
    preface_attributes::{outgoing_header, preface_attribute},
    session_info::SessionInfo,
};
use crate::listener::{Upstreams, WorkerListener};
use cluster::{Cluster, ConnectOptions, ConnectionPool, Endpoint, TakeOptions};
use config::plan::{ListenerPlan, OnViolation};
use operation::{
    AttributeValue, Attributes, Close, ConnectionInfo, Decision, Direction, Gate, LookupRun,
    Operation, Rejection, Revision, Settlement, Ticket, Verdict, Violation,
};
use policy::{
    attributes::ConnectPhase,
    gate::{ConnectVerdict, ConnectionPermits},
};
use proxy_protocol::Header;
use session::{HeldBytesBudget, Phase, Session, Timeouts};
use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};
use tls::TlsInfo;

/// One client's connection, with its listener's gate.
pub struct ClientSession {
    /// The connections of its worker.
    connections: Rc<Connections>,
    info: Rc<SessionInfo>,
    /// The permits that policies granted to the connection.
    permits: RefCell<ConnectionPermits>,
    /// The generation of the policies that granted the permits.
    generation: Cell<u64>,
    /// The connection's key among them.
    key: usize,
    /// Whether the connection's waker is registered with the worker.
    has_waker: Cell<bool>,
    /// The lookups that the client has sent last.
    lookups: Cell<LookupRun>,
}

impl ClientSession {
    /// A connection that was accepted, and has no upstream yet.
    pub fn new(
        connections: &Rc<Connections>,
        listener: &Rc<WorkerListener>,
        info: ConnectionInfo,
        accepted: Instant,
    ) -> Self {
        let info = SessionInfo::new(listener, info, accepted);
        Self {
            connections: Rc::clone(connections),
            key: connections.register(&info),
            info,
            permits: RefCell::default(),
            generation: Cell::new(listener.gate().generation()),
            has_waker: Cell::new(false),
            lookups: Cell::default(),
        }
    }

    /// Asks the policies about connections that know enough in this phase, and keeps their permits.
    /// Returns how long they delay the connection.
    ///
    /// # Errors
    /// The rejection, if one of them rejects the connection.
    pub(super) fn ask_policies(&self, phase: ConnectPhase) -> Result<Duration, Rejection> {
        match self.listener().gate().connect(self, phase, Instant::now()) {
            ConnectVerdict::Accept(delay, permits) => {
                self.permits.borrow_mut().extend(permits);
                Ok(delay)
            }
            ConnectVerdict::Reject(rejection) => Err(rejection),
        }
    }

    /// Sets the endpoint of the upstream connection.
    pub fn set_endpoint(&self, endpoint: &Endpoint) {
        // It is set once.
        let _ = self.info.endpoint.set(Arc::clone(endpoint.name()));
    }

    /// Sets the name that the client asked for (SNI), and what the TLS handshake has led to.
    pub fn set_tls(&self, server_name: Option<String>, tls: Option<TlsInfo>) {
        // Each is set once.
        if let Some(name) = server_name {
            let _ = self.info.server_name.set(name);
        }
        if let Some(tls) = tls {
            let _ = self.info.tls.set(Box::new(tls));
        }
    }

    /// The name that the client asked for (SNI).
    pub(super) fn server_name(&self) -> Option<&str> {
        self.info.server_name.get().map(String::as_str)
    }

    /// Sets what a load balancer has said of the client, and its own address.
    pub fn set_proxy_header(&self, header: Header, sender: SocketAddr) {
        // It is set once.
        let _ = self.info.proxy.set(Box::new((header, sender)));
    }

    /// How to connect to this cluster for the client: by the hash of its key, if the cluster picks by
    /// one, and with a PROXY header, if endpoints expect one.
    pub(super) fn connect_options(&self, cluster: &Cluster) -> ConnectOptions {
        // The address without the port, which differs with each connection.
        let hash = cluster.hash_client(self.info.link.peer.ip());
        let header = cluster.proxy_protocol().map(|version| outgoing_header(&self.info, version));
        ConnectOptions { header, ..hash.into() }
    }

    /// How operations take a connection of the pool: by the hash of the client's key, if the cluster
    /// picks by one.
    pub(super) fn take_options(&self, pool: &ConnectionPool) -> TakeOptions {
        let hash = pool.cluster().hash_client(self.info.link.peer.ip());
        TakeOptions { hash, ..TakeOptions::default() }
    }

    fn listener(&self) -> &WorkerListener {
        self.info.listener()
    }

    fn plan(&self) -> &Arc<ListenerPlan> {
        self.listener().plan()
    }

    /// The name of the cluster that the connection leads to.
    fn cluster(&self) -> Option<&str> {
        self.info.cluster.get().map(|name| &**name).or(self.plan().cluster.as_deref())
    }

    /// Sets the cluster, which was chosen by the name that the client asked for.
    pub(super) fn set_cluster(&self, cluster: &Arc<str>) {
        // It is set once.
        let _ = self.info.cluster.set(Arc::clone(cluster));
    }

    /// The name of the upstream connection's endpoint.
    fn endpoint(&self) -> Option<&str> {
        self.info.endpoint.get().map(|name| &**name)
    }
}

/// The attributes of the connection itself, for policies about connections.
impl Attributes for ClientSession {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        self.attribute(name)
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.info.link.peer.ip())
    }
}

impl Gate for ClientSession {
    fn admit(&self, operation: &Operation<'_>, now: Instant) -> Verdict {
        self.listener().gate().admit(operation, now)
    }

    fn resume(
        &self,
        ticket: Ticket,
        answer: Decision,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Verdict {
        self.listener().gate().resume(ticket, answer, operation, now)
    }

    fn record_rejected(&self, operation: &Operation<'_>, began: Instant, how: &Settlement<'_>) {
        self.listener().gate().record_rejected(operation, began, how);
    }
}

impl Session for ClientSession {
    fn info(&self) -> ConnectionInfo {
        self.info.link
    }

    fn accepted_at(&self) -> Instant {
        self.info.accepted
    }

    fn timeouts(&self) -> &Timeouts {
        &self.plan().timeouts
    }

    fn attribute(&self, name: &str) -> AttributeValue<'_> {
        match name {
            "peer" => self.info.link.peer.to_string().into(),
            "local" => self.info.link.local.to_string().into(),
            "endpoint" => self.endpoint().into(),
            "cluster" => self.cluster().into(),
            _ => preface_attribute(&self.info, name),
        }
    }

    fn has_preface(&self) -> bool {
        let info = &self.info;
        info.tls.get().is_some() || info.server_name.get().is_some() || info.proxy.get().is_some()
    }

    fn lookups(&self) -> Option<&Cell<LookupRun>> {
        Some(&self.lookups)
    }

    fn is_encrypted(&self) -> bool {
        self.info.tls.get().is_some()
    }

    fn phase(&self) -> Phase {
        self.connections.phase_of(&self.info)
    }

    fn generation(&self) -> u64 {
        self.connections.generation()
    }

    fn set_waker(&self, waker: &Waker) {
        if !self.has_waker.replace(true) {
            self.connections.set_waker(self.key, waker);
        }
    }

    fn kill_reason(&self) -> Option<Close> {
        self.info.kill_reason()
    }

    fn record_read(&self, direction: Direction, bytes: usize, now: Instant) {
        self.info.count_read(direction, bytes, now);
    }

    fn set_operation(&self, slot: Option<u32>) {
        self.info.operation.set(slot);
    }

    fn refresh_limits(&self) -> bool {
        let gate = self.listener().gate();
        let generation = gate.generation();
        let changed = self.generation.replace(generation) != generation;
        if changed {
            gate.refresh_permits(self, &mut self.permits.borrow_mut(), Instant::now());
        }
        changed
    }

    fn is_limited(&self) -> bool {
        !self.permits.borrow().is_empty()
    }

    fn max_chunk(&self, direction: Direction) -> usize {
        self.permits.borrow().max_chunk(direction)
    }

    fn record_passed(
        &self,
        direction: Direction,
        bytes: usize,
        now: Instant,
        slot: Option<u32>,
    ) -> Option<Instant> {
        let gate = self.listener().gate();
        self.permits.borrow().record(direction, bytes, now, |policy, first| match slot {
            Some(slot) => gate.record_throttled(policy, slot),
            None if first => policy.count_throttled(),
            None => {}
        })
    }

    fn revise(&self, slot: u32, operation: &Operation<'_>, now: Instant) -> Option<Revision> {
        self.listener().gate().revise(slot, operation, now)
    }

    fn is_guarded(&self) -> bool {
        self.listener().gate().guards()
    }

    fn closes_on_violation(&self) -> bool {
        self.plan().on_violation == OnViolation::Close
    }

    fn reject_unreadable(&self) -> Option<Rejection> {
        self.listener().gate().reject_unreadable()
    }

    fn count_violation(&self, violation: Violation) {
        self.listener().count_violation(violation);
    }

    fn log_violation(&self, violation: Violation, done: &str) {
        let Some(unlogged) = self.listener().handshakes().unlogged(violation.0) else { return };
        tracing::warn!(
            listener = &*self.plan().name,
            protocol = self.plan().protocol.name(),
            peer = %self.info.link.peer,
            endpoint = self.endpoint(),
            violation = violation.0,
            unlogged,
            "the bytes can't be read as the listener's protocol: connection {done}"
        );
    }

    fn wrong_protocol(&self, protocol: &str, violation: Violation) -> String {
        let cluster = self.plan().cluster.as_deref().unwrap_or_default();
        let endpoint = self.endpoint().unwrap_or_default();
        format!("endpoint {endpoint} of `{cluster}` does not speak {protocol}: {violation}")
    }

    fn log_notice(&self, notice: &str) {
        tracing::warn!(
            listener = &*self.plan().name,
            cluster = self.plan().cluster.as_deref(),
            endpoint = self.endpoint(),
            "{notice}"
        );
    }

    fn held_bytes(&self) -> &Arc<HeldBytesBudget> {
        self.listener().held_bytes()
    }

    fn report_not_held(&self) {
        self.listener().report_not_held();
    }

    fn count_overloaded(&self) -> &'static str {
        self.listener().count_overloaded();
        policy::BREAKER
    }

    fn is_cluster_connected(&self) -> bool {
        match self.listener().upstreams() {
            Upstreams::Cluster(preconnects) => preconnects.cluster().is_connected(),
            Upstreams::Pool { pool, .. } => pool.cluster().is_connected(),
            Upstreams::Server(_) | Upstreams::ByServerName(_) => false,
        }
    }
}

impl Drop for ClientSession {
    fn drop(&mut self) {
        self.connections.deregister(self.key);
        if let Some(shapes) = self.listener().gate().shapes() {
            let (peer, life) = (self.info.link.peer.ip(), self.info.accepted.elapsed());
            shapes.connection_ended(&self.plan().name, peer, self.lookups.get(), life);
        }
    }
}
