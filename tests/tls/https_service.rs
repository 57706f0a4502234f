//! A service of HTTP over TLS that agrees on what a test says, for each connection.

use super::Certificates;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tls::TlsStream;
use tokio::net::{TcpListener, TcpStream};

/// The service. It runs as long as the test's process.
pub(crate) struct HttpsService {
    pub(crate) certificates: &'static Certificates,
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

/// The application protocols that a connection may agree upon, by the connection's number.
pub(crate) type Alpn = fn(usize) -> &'static [&'static str];

impl HttpsService {
    /// A service for `localhost` that answers with the version and the scheme of each request.
    pub(crate) fn start(certificates: &'static Certificates, alpn: Alpn) -> Self {
        Self::with(certificates, alpn, false)
    }

    /// The same; clients must have a certificate.
    pub(crate) fn start_asking(certificates: &'static Certificates, alpn: Alpn) -> Self {
        Self::with(certificates, alpn, true)
    }

    fn with(certificates: &'static Certificates, alpn: Alpn, asks: bool) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            tokio::task::LocalSet::new().block_on(&runtime.unwrap(), async {
                listener.set_nonblocking(true).unwrap();
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((socket, _)) = listener.accept().await {
                    let alpn = alpn(counted.fetch_add(1, Ordering::SeqCst));
                    tokio::task::spawn_local(serve(
                        socket,
                        certificates.server_config("server", asks, alpn),
                    ));
                }
            });
        });
        Self { certificates, address, accepted }
    }

    /// How many connections it has accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its endpoint, with the name that its certificate has.
    pub(crate) fn endpoint(&self) -> String {
        format!("localhost:{}", self.address.port())
    }
}

async fn serve(socket: TcpStream, config: ServerConfig) {
    let mut stream = TlsStream::server(socket, Arc::new(config)).unwrap();
    if stream.handshake().await.is_err() {
        return;
    }
    let http2 = stream.alpn() == Some(b"h2");
    let service = service_fn(async |request: Request<Incoming>| {
        let scheme = request.uri().scheme_str().unwrap_or("-");
        let text = format!("{:?} {scheme}", request.version());
        Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from(text))))
    });
    // How a connection ends does not matter here.
    let io = TokioIo::new(stream);
    if http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(io, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    }
}
