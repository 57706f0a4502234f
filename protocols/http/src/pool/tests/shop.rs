//! A cluster of one endpoint and its service, on the test's own thread.

use crate::pool::connector::{Connecting, Connector};
use cluster::{
    Cluster, ClusterPlan, ConnectError, ConnectOptions, Endpoint, EndpointPlan, PreconnectPool,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    cell::Cell,
    convert::Infallible,
    net::Ipv4Addr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::Notify,
    task::spawn_local,
};
use tollgate_metrics::Metrics;
use values::Target;

/// Runs hyper's tasks on this thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// A cluster of one endpoint, with connects that tests delay, fail and count.
pub(super) struct Shop {
    cluster: Rc<PreconnectPool>,
    /// Number of connection attempts.
    pub(super) dials: Cell<usize>,
    /// Whether connecting fails, and whether it waits for `go`.
    pub(super) fails: Cell<bool>,
    pub(super) slow: Cell<bool>,
    pub(super) go: Notify,
    pub(super) awaited: Cell<bool>,
    pub(super) service: Rc<Service>,
}

pub(super) struct Service {
    /// The service ends its connections gracefully, and answers `/held`.
    pub(super) ends: Notify,
    pub(super) answers: Notify,
    /// Number of requests to `/early` that were cut short.
    pub(super) cut_uploads: Cell<usize>,
}

impl Connector for Shop {
    fn cluster(&self) -> &Arc<Cluster> {
        self.cluster.cluster()
    }

    fn connect(self: Rc<Self>, options: ConnectOptions) -> Connecting {
        Box::pin(async move {
            self.dials.set(self.dials.get() + 1);
            if self.slow.get() {
                self.go.notified().await;
            }
            if self.fails.get() {
                let cluster = Arc::clone(self.cluster().name());
                return Err(ConnectError::NoEndpoint { cluster, why: None });
            }
            PreconnectPool::connect(&self.cluster, options).await
        })
    }

    fn has_waiters(&self) -> bool {
        self.awaited.get()
    }
}

impl Shop {
    /// Starts one with this limit of streams per HTTP/2 connection.
    pub(super) async fn open(http2: bool, streams: u32) -> Rc<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let service = Rc::new(Service {
            ends: Notify::new(),
            answers: Notify::new(),
            cut_uploads: Cell::new(0),
        });
        let (address, kept) = (listener.local_addr().unwrap(), Rc::clone(&service));
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn_local(serve(TokioIo::new(stream), http2, streams, Rc::clone(&kept)));
            }
        });
        let target = Target::Host(address.ip().to_string(), address.port());
        let plan = ClusterPlan::new("shop", vec![EndpointPlan::new(target)]);
        Rc::new(Self {
            cluster: PreconnectPool::start(Cluster::new(Arc::new(plan), &Metrics::new())),
            dials: Cell::new(0),
            fails: Cell::new(false),
            slow: Cell::new(false),
            go: Notify::new(),
            awaited: Cell::new(false),
            service,
        })
    }

    /// The only endpoint.
    pub(super) fn endpoint(&self) -> Arc<Endpoint> {
        self.cluster().endpoints().remove(0)
    }

    pub(super) fn open_connections(&self) -> usize {
        self.endpoint().active_connections()
    }
}

async fn serve(io: TokioIo<TcpStream>, http2: bool, streams: u32, shop: Rc<Service>) {
    let kept = Rc::clone(&shop);
    let service = service_fn(move |request: Request<Incoming>| {
        let shop = Rc::clone(&kept);
        async move {
            match request.uri().path() {
                "/held" => shop.answers.notified().await,
                "/early" => drop(spawn_local(async move {
                    let cut = request.into_body().collect().await.is_err();
                    shop.cut_uploads.set(shop.cut_uploads.get() + usize::from(cut));
                })),
                _ => {}
            }
            Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from_static(b"ok"))))
        }
    });
    // The pool handles how a connection ends.
    if http2 {
        let mut builder = http2::Builder::new(LocalExecutor);
        let connection = builder.max_concurrent_streams(streams).serve_connection(io, service);
        until_told(connection, &shop.ends, http2::Connection::graceful_shutdown).await;
    } else {
        let connection = http1::Builder::new().serve_connection(io, service);
        until_told(connection, &shop.ends, http1::Connection::graceful_shutdown).await;
    }
}

async fn until_told<C: Future>(connection: C, told: &Notify, end: fn(Pin<&mut C>)) {
    let mut connection = pin!(connection);
    select! {
        _ = &mut connection => return,
        () = told.notified() => end(connection.as_mut()),
    }
    connection.await;
}
