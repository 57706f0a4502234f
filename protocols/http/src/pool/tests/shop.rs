//! A cluster of one endpoint and its service, on the test's own thread.

use crate::{
    proxy::{
        Connecting, Dialed, Lease, Unreachable, UpstreamCluster, UpstreamEndpoint, Whom, Wish,
    },
    upstream_conn::LocalExecutor,
};
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use operation::{Close, Outcome, RejectReason};
use std::{
    any::Any,
    cell::Cell,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::Notify,
    task::spawn_local,
};

/// A cluster of one endpoint.
pub(super) struct Shop {
    pub(super) name: Arc<str>,
    pub(super) endpoint: UpstreamEndpoint,
    pub(super) address: SocketAddr,
    /// Number of connection attempts.
    pub(super) dials: Cell<usize>,
    /// Whether connecting fails, and whether it waits for `go`.
    pub(super) fails: Cell<bool>,
    pub(super) slow: Cell<bool>,
    pub(super) go: Notify,
    pub(super) awaited: Cell<bool>,
    pub(super) counts: Rc<Counts>,
}

pub(super) struct Counts {
    /// Number of counted connections.
    pub(super) open: Cell<usize>,
    pub(super) wish: Cell<Wish>,
    /// The service ends its connections gracefully, and answers `/held`.
    pub(super) ends: Notify,
    pub(super) answers: Notify,
}

impl UpstreamCluster for Shop {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn hash(&self, _: IpAddr) -> Option<u64> {
        None
    }

    fn pick(&self, _: Option<u64>, tried: &[UpstreamEndpoint]) -> Option<UpstreamEndpoint> {
        (!tried.contains(&self.endpoint)).then(|| self.endpoint.clone())
    }

    fn connect(self: Rc<Self>, _: Whom) -> Connecting {
        Box::pin(async move {
            self.dials.set(self.dials.get() + 1);
            if self.slow.get() {
                self.go.notified().await;
            }
            if self.fails.get() {
                let (reason, close) = (RejectReason::NoEndpoint, Close::ConnectFailed);
                return Err(Unreachable { reason, message: "refused".to_owned(), close });
            }
            let stream = TcpStream::connect(self.address).await.unwrap();
            self.counts.open.set(self.counts.open.get() + 1);
            Ok(Dialed { stream, lease: Rc::new(Held(self)), queued: Duration::ZERO })
        })
    }

    fn admit(&self) -> Result<Option<Box<dyn Any>>, String> {
        Ok(None)
    }

    fn is_awaited(&self) -> bool {
        self.awaited.get()
    }
}

/// Counts a connection.
struct Held(Rc<Shop>);

impl Lease for Held {
    fn endpoint(&self) -> &UpstreamEndpoint {
        &self.0.endpoint
    }

    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn began(&self) {}

    fn ended(&self, _: Outcome, _: Duration) {}

    fn wish(&self) -> Wish {
        self.0.counts.wish.get()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.counts.open.set(self.0.counts.open.get() - 1);
    }
}

impl Shop {
    /// Starts one with this limit of streams per HTTP/2 connection.
    pub(super) async fn open(http2: bool, streams: u32) -> Rc<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let counts = Rc::new(Counts {
            open: Cell::new(0),
            wish: Cell::new(Wish::Stay),
            ends: Notify::new(),
            answers: Notify::new(),
        });
        let (address, kept) = (listener.local_addr().unwrap(), Rc::clone(&counts));
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn_local(serve(TokioIo::new(stream), http2, streams, Rc::clone(&kept)));
            }
        });
        Rc::new(Self {
            name: "shop".into(),
            endpoint: UpstreamEndpoint(Arc::new(1_u8)),
            address,
            dials: Cell::new(0),
            fails: Cell::new(false),
            slow: Cell::new(false),
            go: Notify::new(),
            awaited: Cell::new(false),
            counts,
        })
    }

    pub(super) fn open_connections(&self) -> usize {
        self.counts.open.get()
    }
}

async fn serve(io: TokioIo<TcpStream>, http2: bool, streams: u32, counts: Rc<Counts>) {
    let kept = Rc::clone(&counts);
    let service = service_fn(move |request: Request<Incoming>| {
        let counts = Rc::clone(&kept);
        async move {
            if request.uri().path() == "/held" {
                counts.answers.notified().await;
            }
            Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from_static(b"ok"))))
        }
    });
    // The pool handles how a connection ends.
    if http2 {
        let mut builder = http2::Builder::new(LocalExecutor);
        let connection = builder.max_concurrent_streams(streams).serve_connection(io, service);
        until_told(connection, &counts.ends, http2::Connection::graceful_shutdown).await;
    } else {
        let connection = http1::Builder::new().serve_connection(io, service);
        until_told(connection, &counts.ends, http1::Connection::graceful_shutdown).await;
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
