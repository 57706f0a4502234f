//! The services of `tollgate demo`: small servers for MongoDB's protocol, HTTP and gRPC, and clients
//! that keep them busy.
//!
//! It knows no configuration and no proxy: the command in the proxy's crate puts a proxy before these
//! services.

pub mod accept;
pub mod commands;
pub mod dice;
pub mod failure;
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

use std::{future::Future, io, net::SocketAddr, pin::Pin};
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
};
use tokio_util::sync::CancellationToken;

/// A service of the demonstration, and who keeps it busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// A small server that speaks MongoDB's protocol.
    Mongo,
    /// A web shop, which speaks HTTP.
    Web,
    /// Its prices, by gRPC.
    Rpc,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 3] = [Service::Mongo, Service::Web, Service::Rpc];

    /// What its listener and its cluster are called.
    pub fn name(self) -> &'static str {
        match self {
            Service::Mongo => "mongo",
            Service::Web => "web",
            Service::Rpc => "rpc",
        }
    }

    /// Starts one that is well, as [`start_as`](Self::start_as).
    pub fn start(self) -> io::Result<SocketAddr> {
        self.start_as(web::Health::Well)
    }

    /// Starts it on a thread of its own, where it stays until the process ends. Gives the address
    /// on the loopback that it listens at.
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
            Service::Mongo => server::serve(listener).await,
            Service::Web => web::serve(listener, health).await,
            Service::Rpc => rpc::serve(listener).await,
        }
    }

    /// How many endpoints it has, and how well each is.
    pub fn endpoints(self) -> &'static [web::Health] {
        match self {
            Service::Web => &[web::Health::Well, web::Health::Well, web::Health::IllNowAndThen],
            Service::Mongo | Service::Rpc => &[web::Health::Well],
        }
    }

    /// Sends it operations by `proxy`, from a thread of its own, until told to stop.
    pub fn spawn_traffic(self, proxy: SocketAddr, until: CancellationToken) -> io::Result<()> {
        on_its_own_thread("demo-traffic", move || match self {
            Service::Mongo => Box::pin(traffic::run(proxy, until)),
            Service::Web => Box::pin(web::run(proxy, until)),
            Service::Rpc => Box::pin(rpc::run(proxy, until)),
        })
    }
}

/// Runs what is to be shown apart from what shows it, so that neither slows the other.
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
