//! The proxy, as protocols see it that end both connections themselves.

use cluster::PreconnectPool;
use operation::{
    Close, ConnectionInfo, Decision, Gate, Operation, Outcome, Rejection, Settlement, Ticket,
    Verdict, Violation,
};
use session::Session;
use std::{
    any::Any,
    collections::BTreeMap,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;
pub use tollgate_http::{ClusterSettings as Pooling, Pools, Server};
use tollgate_http::{
    Connecting, Dialed, Lease, Phase, PoolPlan, Timeouts, Unreachable, UpstreamCluster,
    UpstreamEndpoint, Way, Whom, Wish,
};

/// The clusters of these names, as the HTTP server reaches them; `http2` unless their settings say
/// otherwise.
pub(super) fn reached<'a>(
    names: &'a [Arc<str>],
    clusters: &'a BTreeMap<Arc<str>, Rc<PreconnectPool>>,
    pooling: &'a BTreeMap<Arc<str>, Pooling>,
    http2: bool,
) -> impl Iterator<Item = (Rc<dyn UpstreamCluster>, PoolPlan)> + 'a {
    let usual = Pooling::default();
    names.iter().filter_map(|name| clusters.get(name)).map(move |preconnects| {
        let plan = pool(pooling.get(preconnects.cluster().name()).unwrap_or(&usual), http2);
        (Rc::new(Upstreams(Rc::clone(preconnects))) as Rc<dyn UpstreamCluster>, plan)
    })
}

/// Serves a connection until it ends.
pub fn host(
    server: &Rc<Server>,
    session: Rc<dyn Session>,
    client: TcpStream,
) -> Pin<Box<dyn Future<Output = Close>>> {
    Rc::clone(server).serve(Rc::new(Visited(session)), client)
}

/// Answers the first request on this connection with a rejection, and closes the connection.
pub fn refuse(
    server: &Rc<Server>,
    session: Rc<dyn Session>,
    client: TcpStream,
    no: Rejection,
) -> Pin<Box<dyn Future<Output = Close>>> {
    Rc::clone(server).reject(Rc::new(Visited(session)), client, no)
}

/// How connections to a cluster's endpoints are kept; `http2` where nothing is said of that.
fn pool(settings: &Pooling, http2: bool) -> PoolPlan {
    PoolPlan {
        http2: settings.version.map_or(http2, |version| version.get() == 2),
        max_requests: settings.max_requests_per_connection.0.map_or(u64::MAX, |it| it.0 as u64),
        max_streams: settings.max_concurrent_streams.get(),
        idle_timeout: settings.idle_timeout.0,
        max_idle: settings.max_idle.get(),
        max_head: usize::try_from(settings.max_head.bytes()).unwrap_or(usize::MAX),
    }
}

/// A cluster, as one worker reaches it.
struct Upstreams(Rc<PreconnectPool>);

impl UpstreamCluster for Upstreams {
    fn name(&self) -> &Arc<str> {
        self.0.cluster().name()
    }

    fn hash(&self, client: IpAddr) -> Option<u64> {
        self.0.cluster().hash_client(client)
    }

    fn pick(&self, hash: Option<u64>, tried: &[UpstreamEndpoint]) -> Option<UpstreamEndpoint> {
        let except = known(tried);
        let ask = cluster::PickOptions { hash, exclude: &except };
        self.0.cluster().pick(ask).map(|endpoint| UpstreamEndpoint(endpoint))
    }

    fn connect(self: Rc<Self>, whom: Whom) -> Connecting {
        Box::pin(async move {
            let Whom { hash, first, tried } = whom;
            let first = first.and_then(|first| known(&[first]).pop());
            let whom = cluster::ConnectOptions { hash, preferred: first, tried: known(&tried) };
            match self.0.connect(whom).await {
                Ok(cluster::UpstreamConnection { stream, lease, queued }) => {
                    let endpoint = UpstreamEndpoint(Arc::clone(lease.endpoint()) as _);
                    Ok(Dialed { stream, lease: Rc::new(EndpointLease { lease, endpoint }), queued })
                }
                Err(error) => {
                    let (reason, message) = error.client_error();
                    tracing::debug!(%error, "a request found no upstream");
                    Err(Unreachable { reason, message, close: error.close_reason() })
                }
            }
        })
    }

    fn admit(&self) -> Result<Option<Box<dyn Any>>, String> {
        let cluster = self.0.cluster();
        if !cluster.limits_operations() {
            return Ok(None);
        }
        match cluster.admit_operation() {
            Some(permit) => Ok(Some(Box::new(permit))),
            None => Err(cluster.overloaded().to_owned()),
        }
    }

    fn is_awaited(&self) -> bool {
        self.0.cluster().has_waiters()
    }
}

/// The endpoints as clusters know them.
fn known(endpoints: &[UpstreamEndpoint]) -> Vec<Arc<cluster::Endpoint>> {
    endpoints.iter().filter_map(|it| Arc::clone(&it.0).downcast().ok()).collect()
}

/// A connection's being counted at its endpoint.
struct EndpointLease {
    lease: cluster::Lease,
    endpoint: UpstreamEndpoint,
}

impl Lease for EndpointLease {
    fn endpoint(&self) -> &UpstreamEndpoint {
        &self.endpoint
    }

    fn name(&self) -> &Arc<str> {
        self.lease.endpoint().name()
    }

    fn began(&self) {
        self.lease.operation_started();
    }

    fn ended(&self, outcome: Outcome, took: Duration) {
        self.lease.operation_ended(outcome, took);
    }

    fn wish(&self) -> Wish {
        match self.lease.close_request() {
            cluster::CloseRequest::None => Wish::Stay,
            cluster::CloseRequest::WhenIdle => Wish::Rest,
            cluster::CloseRequest::Unhealthy => Wish::Close(Close::EndpointUnhealthy),
            cluster::CloseRequest::Removed => Wish::Close(Close::EndpointRemoved),
        }
    }
}

/// One client's connection.
struct Visited(Rc<dyn Session>);

impl Gate for Visited {
    fn admit(&self, operation: &Operation<'_>, now: Instant) -> Verdict {
        self.0.admit(operation, now)
    }

    fn resume(
        &self,
        ticket: Ticket,
        answer: Decision,
        operation: &Operation<'_>,
        now: Instant,
    ) -> Verdict {
        self.0.resume(ticket, answer, operation, now)
    }

    fn record_rejected(&self, operation: &Operation<'_>, began: Instant, how: &Settlement<'_>) {
        self.0.record_rejected(operation, began, how);
    }
}

impl tollgate_http::Door for Visited {
    fn link(&self) -> ConnectionInfo {
        self.0.info()
    }

    fn patience(&self) -> Timeouts {
        let timeouts = self.0.timeouts();
        Timeouts {
            first_byte: timeouts.first_byte,
            handshake: timeouts.handshake,
            message: timeouts.message,
            write: timeouts.write,
            half_close: timeouts.half_close,
            idle: timeouts.idle,
            life: timeouts.max_duration,
        }
    }

    fn wakes(&self, waker: &Waker) {
        self.0.set_waker(waker);
    }

    fn is_killed(&self) -> bool {
        self.0.is_killed()
    }

    fn moved(&self, way: Way, bytes: usize, now: Instant) {
        self.0.record_read(direction(way), bytes, now);
    }

    fn nudges(&self) -> u64 {
        self.0.generation()
    }

    fn phase(&self) -> Phase {
        match self.0.phase() {
            session::Phase::Running => Phase::Working,
            session::Phase::Draining => Phase::Draining,
            session::Phase::Closing => Phase::Leaving,
        }
    }

    fn violation(&self, violation: Violation) {
        self.0.count_violation(violation);
    }

    fn overloaded(&self) -> &'static str {
        self.0.count_overloaded()
    }

    fn refuse_unreadable(&self) -> Option<Rejection> {
        self.0.reject_unreadable()
    }

    fn is_paced(&self) -> bool {
        self.0.refresh_limits();
        self.0.is_limited()
    }

    fn most(&self, way: Way) -> usize {
        self.0.max_chunk(direction(way))
    }

    fn passed(&self, way: Way, bytes: usize, now: Instant) -> Option<Instant> {
        self.0.record_passed(direction(way), bytes, now, None)
    }
}

fn direction(way: Way) -> operation::Direction {
    match way {
        Way::Up => operation::Direction::Up,
        Way::Down => operation::Direction::Down,
    }
}
