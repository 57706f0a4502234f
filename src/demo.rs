//! What `tollgate demo` brings along: small services that speak MongoDB's protocol, HTTP and gRPC,
//! applications that keep them busy, and the table that shows it all. It is the one place besides
//! the registry of protocols that may name one.

pub mod accept;
pub mod commands;
pub mod dice;
pub mod failure;
pub mod pipeline;
pub mod query;
pub mod rpc;
pub mod server;
pub mod store;
pub mod story;
pub mod traffic;
pub mod update;
pub mod value;
pub mod web;
pub mod wire;

use crate::{
    config::{self, plan::Plan},
    top,
};
use std::{future::Future, io, net::SocketAddr, pin::Pin, time::Duration};
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
    time::Instant,
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
    fn endpoints(self) -> &'static [web::Health] {
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

/// Starts every service. Gives the plan of a proxy before them, with a listener for each, whose
/// admin interface is at `admin`.
pub fn start_services(admin: &str) -> anyhow::Result<Plan> {
    // As a string of YAML, so that whatever stands there is an address or a mistake in one.
    let mut config = format!("admin: {}\n{CONFIG}", serde_json::Value::from(admin));
    for service in Service::ALL {
        let mut addresses = Vec::new();
        for health in service.endpoints() {
            addresses.push(format!("\"{}\"", service.start_as(*health)?));
        }
        let (name, addresses) = (service.name(), addresses.join(", "));
        config.push_str(&format!("  {name}: {{ endpoints: [{addresses}]{EJECT} }}\n"));
    }
    config::parse("demo", &config).map_err(|problems| anyhow::anyhow!("{problems}"))
}

/// An endpoint that fails five times in a row is out of use for ten seconds.
const EJECT: &str =
    ", outlier_detection: { consecutive_failures: 5, base_ejection_time: 10s, interval: 1s }";

/// The proxy of the demonstration; the clusters come last, when their addresses are known.
const CONFIG: &str = r#"
listeners:
  mongo: { address: "127.0.0.1:0", protocol: mongo, cluster: mongo }
  web:
    address: "127.0.0.1:0"
    protocol:
      http:
        routes:
          - { name: cart, match: { path_prefix: /cart }, cluster: web }
          - { name: rest, cluster: web }
  rpc: { address: "127.0.0.1:0", protocol: grpc, cluster: rpc }
policies:
  - name: slow-reports
    enabled: false
    match: { protocol: mongo, app: reports, operation: find }
    rate_limit: { rate: 1/s, burst: 1 }
clusters:
"#;

/// Shows what passes through the proxy whose admin interface is at `admin`, in a table drawn every
/// second, until told to stop, by `until`, by `q` or by Ctrl-C, or until `duration` is over. At the
/// end prints a summary, while the proxy is still there to ask, and then cancels `until`.
pub async fn show(
    admin: SocketAddr,
    until: CancellationToken,
    duration: Option<Duration>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let options = top::Options {
        admin: admin.to_string(),
        interval: Duration::from_secs(1),
        tables: None,
        title: format!("tollgate demo  http://{admin}/"),
        choice: top::choice::Choice::default(),
        story: Some(story::STORY),
    };
    let table = top::show(options, until.child_token());
    let shown = match duration {
        Some(duration) => tokio::time::timeout(duration, table).await.unwrap_or(Ok(())),
        None => table.await,
    };
    let summed = top::summary(&admin.to_string(), "tollgate demo", began.elapsed()).await;
    // Whoever cancelled may have stopped the proxy as well, so that there is nothing to sum up.
    let summed = if until.is_cancelled() { Ok(()) } else { summed };
    until.cancel();
    shown.and(summed)
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
