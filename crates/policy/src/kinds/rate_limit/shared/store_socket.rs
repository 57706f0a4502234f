//! The connection to a store, encrypted if its plan says so.

use http::uri::Uri;
use hyper_util::rt::TokioIo;
use net::Stream;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use tls::ClientTls;
use tokio::net::TcpStream;
use tower_service::Service;
use values::Target;

/// How long before the end of its certificate a connection is closed.
const LEAD: Duration = Duration::from_secs(1);

/// The port of a name without one.
const REDIS_PORT: u16 = 6379;

/// Where a store is, and how connections to it are encrypted.
#[derive(Clone, Debug)]
pub(super) struct StoreSocket {
    pub(super) address: Target,
    pub(super) tls: Option<Arc<ClientTls>>,
}

impl StoreSocket {
    /// How long connections that are opened now may be used: until a second before the end of the
    /// certificate that they show. `None` if they show none, or one that has ended.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        let certificate = self.tls.as_ref()?.identity()?;
        let left = certificate.info.expires().duration_since(SystemTime::now()).ok()?;
        Some(left.saturating_sub(LEAD))
    }

    /// Opens a connection. The caller sets the time-out.
    ///
    /// # Errors
    /// The store can't be reached, or the TLS handshake failed.
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        let (host, port) = match &self.address {
            Target::Host(host, port) => (&**host, *port),
            Target::Srv(name) => (&**name, REDIS_PORT),
        };
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None => Ok(socket.into()),
            Some(tls) => {
                let name = tls.plan().server_name.as_deref().unwrap_or(host);
                Ok(tls.connect(socket, name).await?.into())
            }
        }
    }
}

/// Connects a client of gRPC, whatever URI that has.
impl Service<Uri> for StoreSocket {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let socket = self.clone();
        Box::pin(async move { socket.connect().await.map(TokioIo::new) })
    }
}
