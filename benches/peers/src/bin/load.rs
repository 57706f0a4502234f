//! Clients in a closed loop: `load KIND ADDRESS PID SECONDS CONNECTIONS [CERTIFICATE]` asks through a
//! proxy and prints, as a line of JSON, what that cost the process PID. With a proxy's certificate
//! (PEM) the clients speak TLS.
#![expect(clippy::print_stdout, reason = "a command line talks to people")]

use peers::{
    client::{Client, quantile},
    cost::Process,
    tls, wire,
};
use std::{
    cell::Cell,
    error::Error,
    io,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::LocalRuntime,
    task::{JoinHandle, spawn_local},
};
use tokio_rustls::TlsConnector;

/// What a connection asks, by the request's id.
type Ask = fn(i32) -> Vec<u8>;

/// How many operations a connection does before anything is measured.
const WARM_UP: usize = 200;

/// How many connections are opened at a time where many are opened.
const AT_ONCE: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(([kind, address, pid, seconds, connections], certificate)) =
        arguments.split_first_chunk()
    else {
        return Err("usage: load KIND ADDRESS PID SECONDS CONNECTIONS [CERTIFICATE]".into());
    };
    let resumes = kind == "resume";
    let tls = certificate.first().map(|path| tls::connector(Path::new(path), resumes));
    let proxy = Rc::new(Target { address: address.clone(), tls: tls.transpose()?, resumes });
    let process = Process::new(pid.parse()?);
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let connections = connections.parse()?;
    let ask: Ask = match kind.as_str() {
        "find" => wire::find,
        "query" => wire::query,
        "insert-1k" => |id| wire::insert(id, 1024),
        "insert-64k" => |id| wire::insert(id, 64 * 1024),
        "reply-1m" => wire::find_large,
        "churn" | "resume" | "idle" => wire::ping,
        _ => return Err(format!("no such kind of load: {kind}").into()),
    };
    let found = LocalRuntime::new()?.block_on(async {
        match kind.as_str() {
            "churn" | "resume" => churn(&proxy, &process, seconds, connections).await,
            "idle" => idle(&proxy, &process, connections).await,
            _ => steady(&proxy, &process, ask, seconds, connections).await,
        }
    })?;
    println!("{found}");
    Ok(())
}

/// The proxy that clients connect to.
struct Target {
    address: String,
    tls: Option<TlsConnector>,
    /// Connections resume the sessions of earlier ones.
    resumes: bool,
}

impl Target {
    async fn connect(&self) -> io::Result<Client> {
        match &self.tls {
            Some(tls) => Client::connect_tls(&self.address, tls).await,
            None => Client::connect(&self.address).await,
        }
    }
}

/// When to measure: clients run until `stop`, and record latencies while `measuring` is set.
#[derive(Default)]
struct Signals {
    warm: Cell<usize>,
    measuring: Cell<bool>,
    stop: Cell<bool>,
}

/// Long-lived connections, each with one operation under way.
async fn steady(
    proxy: &Rc<Target>,
    process: &Process,
    ask: Ask,
    seconds: Duration,
    connections: usize,
) -> Result<serde_json::Value, Box<dyn Error>> {
    let signals = Rc::new(Signals::default());
    let mut clients: Vec<JoinHandle<io::Result<Vec<Duration>>>> = Vec::new();
    for _ in 0..connections {
        let mut client = proxy.connect().await?;
        // Servers of today need not know the commands of yesterday, and the other way round.
        client.ask(&mut wire::hello(0)).await?;
        let signals = Rc::clone(&signals);
        clients.push(spawn_local(async move {
            let mut request = ask(0);
            let mut times = Vec::new();
            for done in 0.. {
                let took = client.ask(&mut request).await?;
                if done == WARM_UP {
                    signals.warm.set(signals.warm.get() + 1);
                }
                if signals.measuring.get() {
                    times.push(took);
                }
                if signals.stop.get() {
                    break;
                }
            }
            Ok(times)
        }));
    }
    while signals.warm.get() < connections {
        if clients.iter().any(JoinHandle::is_finished) {
            return Err("a connection ended before its time".into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = process.cpu()?;
    signals.measuring.set(true);
    tokio::time::sleep(seconds).await;
    signals.measuring.set(false);
    let cpu = process.cpu()? - before;
    signals.stop.set(true);
    let rss = process.rss()?;
    let mut times = Vec::new();
    for client in clients {
        times.append(&mut client.await??);
    }
    Ok(report(times, cpu, rss))
}

/// Connections that live for one operation. Those with TLS do a full handshake each, or all but the
/// first ones resume a session.
async fn churn(
    proxy: &Rc<Target>,
    process: &Process,
    seconds: Duration,
    connections: usize,
) -> Result<serde_json::Value, Box<dyn Error>> {
    let before = process.cpu()?;
    let end = Instant::now() + seconds;
    let resumed = Rc::new(Cell::new(0));
    let clients: Vec<JoinHandle<io::Result<Vec<Duration>>>> = (0..connections)
        .map(|_| {
            let resumed = Rc::clone(&resumed);
            let proxy = Rc::clone(proxy);
            spawn_local(async move {
                let mut request = wire::ping(0);
                let mut times = Vec::new();
                while Instant::now() < end {
                    let began = Instant::now();
                    let mut client = proxy.connect().await?;
                    client.ask(&mut request).await?;
                    times.push(began.elapsed());
                    resumed.set(resumed.get() + usize::from(client.resumed));
                    client.socket.shutdown().await?;
                    // The end of the proxy's side: all its work on this connection is in the sum.
                    // Some proxies end TLS without close_notify, which is an error here.
                    let _ = client.socket.read(&mut [0; 16]).await;
                }
                Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.append(&mut client.await??);
    }
    let cpu = process.cpu()? - before;
    let full = times.len() - resumed.get();
    if proxy.resumes && full > connections {
        return Err(format!("{full} of {} sessions were not resumed", times.len()).into());
    }
    Ok(report(times, cpu, process.rss()?))
}

/// Connections that have done a little and now do nothing.
async fn idle(
    proxy: &Rc<Target>,
    process: &Process,
    connections: usize,
) -> Result<serde_json::Value, Box<dyn Error>> {
    // What the first connection makes a process load is no connection's own.
    drop(open(proxy, AT_ONCE).await?);
    let before = process.rss()?;
    let mut clients = Vec::new();
    while clients.len() < connections {
        clients.append(&mut open(proxy, AT_ONCE.min(connections - clients.len())).await?);
    }
    let rss = process.rss()?;
    let each = rss.saturating_sub(before) / connections as u64;
    Ok(serde_json::json!({ "rss": rss, "idle_bytes": each, "operations": connections }))
}

/// Opens `connections` connections; each has sent a hello and one ping.
async fn open(proxy: &Rc<Target>, connections: usize) -> Result<Vec<Client>, Box<dyn Error>> {
    let opening: Vec<JoinHandle<io::Result<Client>>> = (0..connections)
        .map(|_| {
            let proxy = Rc::clone(proxy);
            spawn_local(async move {
                let mut client = proxy.connect().await?;
                client.ask(&mut wire::hello(0)).await?;
                client.ask(&mut wire::ping(0)).await?;
                client.read = Vec::new();
                Ok(client)
            })
        })
        .collect();
    let mut clients = Vec::new();
    for client in opening {
        clients.push(client.await??);
    }
    Ok(clients)
}

fn report(mut times: Vec<Duration>, cpu: u64, rss: u64) -> serde_json::Value {
    times.sort_unstable();
    let micros = |share: f64| quantile(&times, share).as_secs_f64() * 1e6;
    serde_json::json!({
        "operations": times.len(),
        "cpu_us": cpu as f64 / 1e3 / times.len().max(1) as f64,
        "p50_us": micros(0.5),
        "p99_us": micros(0.99),
        "rss": rss,
    })
}
