//! The services of `tollgate demo`: small servers for MongoDB's protocol, HTTP and gRPC, and clients
//! that keep them busy.
//!
//! It knows no configuration and no proxy: the command in the proxy's crate puts a proxy before these
//! services.

pub mod accept;
mod command_error;
pub mod commands;
pub mod pipeline;
pub mod query;
pub mod rpc;
pub mod server;
pub mod store;
pub mod traffic;
pub mod update;
pub mod value;
pub mod web;
pub mod wire;
pub mod xorshift;

use std::{future::Future, io, net::SocketAddr, pin::Pin};
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
};
use tokio_util::sync::CancellationToken;

/// A service of the demonstration, and the clients that use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemoService {
    /// A small server that speaks MongoDB's protocol.
    Mongo,
    /// A web shop, which speaks HTTP.
    Web,
    /// Its prices, by gRPC.
    Rpc,
}

impl DemoService {
    /// All of them.
    pub const ALL: [DemoService; 3] = [DemoService::Mongo, DemoService::Web, DemoService::Rpc];

    /// The name of its listener and its cluster.
    pub fn name(self) -> &'static str {
        match self {
            DemoService::Mongo => "mongo",
            DemoService::Web => "web",
            DemoService::Rpc => "rpc",
        }
    }

    /// Starts one that is well, as [`start_as`](Self::start_as).
    pub fn start(self) -> io::Result<SocketAddr> {
        self.start_as(web::Health::Well)
    }

    /// Starts it on a thread of its own, where it runs until the process ends. Returns its loopback
    /// address.
    pub fn start_as(self, health: web::Health) -> io::Result<SocketAddr> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        on_its_own_thread("demo-server", move || {
            Box::pin(async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => self.serve(listener, health).await,
                    Err(error) => tracing::error!(%error, "a demonstration service can't listen"),
                }
            })
        })?;
        Ok(address)
    }

    async fn serve(self, listener: TcpListener, health: web::Health) {
        match self {
            DemoService::Mongo => server::serve(listener).await,
            DemoService::Web => web::serve(listener, health).await,
            DemoService::Rpc => rpc::serve(listener).await,
        }
    }

    /// How many endpoints it has, and the health of each.
    pub fn endpoints(self) -> &'static [web::Health] {
        match self {
            DemoService::Web => &[web::Health::Well, web::Health::Well, web::Health::IllNowAndThen],
            DemoService::Mongo | DemoService::Rpc => &[web::Health::Well],
        }
    }

    /// Sends it operations through `proxy`, from a thread of its own, until stopped.
    pub fn spawn_traffic(self, proxy: SocketAddr, until: CancellationToken) -> io::Result<()> {
        on_its_own_thread("demo-traffic", move || match self {
            DemoService::Mongo => Box::pin(traffic::run(proxy, until)),
            DemoService::Web => Box::pin(web::run(proxy, until)),
            DemoService::Rpc => Box::pin(rpc::run(proxy, until)),
        })
    }
}

/// Runs the services on threads of their own, so that they and the proxy do not slow each other.
fn on_its_own_thread(
    name: &str,
    work: impl FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send + 'static,
) -> io::Result<()> {
    let run = move || match Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
    {
        Ok(runtime) => runtime.block_on(work()),
        Err(error) => tracing::error!(%error, "a part of the demonstration can't start"),
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(())
}
