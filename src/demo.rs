//! What `tollgate demo` brings along: a small server that speaks MongoDB's protocol, applications
//! that keep it busy, and the table that shows both. It is the one place besides the registry of
//! protocols that may name one.

pub mod commands;
pub mod failure;
pub mod pipeline;
pub mod query;
pub mod server;
pub mod store;
pub mod traffic;
pub mod update;
pub mod value;
pub mod wire;

use crate::top;
use std::{future::Future, io, net::SocketAddr, pin::Pin, time::Duration};
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// What the demonstration server speaks, as a config says it.
pub const PROTOCOL: &str = "mongo";

/// Starts the demonstration server on a thread of its own, where it stays until the process ends.
/// Gives the address on the loopback that it listens at.
pub fn start_server() -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    on_its_own_thread("demo-server", move || {
        Box::pin(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => server::serve(listener).await,
                Err(error) => tracing::error!(%error, "the demonstration server can't listen"),
            }
        })
    })?;
    Ok(address)
}

/// Sends the applications' operations to `proxy` from a thread of its own, until told to stop.
pub fn spawn_traffic(proxy: SocketAddr, until: CancellationToken) -> io::Result<()> {
    on_its_own_thread("demo-traffic", move || Box::pin(traffic::run(proxy, until)))
}

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
