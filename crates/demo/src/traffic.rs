//! Traffic for the demonstration's MongoDB: four applications with typical good and bad habits.
//! They use raw sockets, because a driver would be a large dependency.

#[cfg(test)]
mod tests;

use super::{
    wire::{self, WireError, WireMessage},
    xorshift::Xorshift,
};
use bson::{Document, doc};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::sync::CancellationToken;

/// How long an application waits before it connects again.
const RECONNECT: Duration = Duration::from_millis(500);
/// How long an application waits for a reply.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// An application: its name, and the pause between two operations.
#[derive(Clone, Copy, Debug)]
struct App {
    name: &'static str,
    pause: Duration,
    next: fn(&mut Xorshift) -> Document,
}

const APPS: [App; 4] = [
    App { name: "checkout", pause: Duration::from_millis(6), next: checkout },
    App { name: "search", pause: Duration::from_millis(8), next: search },
    App { name: "billing", pause: Duration::from_millis(14), next: billing },
    App { name: "reports", pause: Duration::from_millis(60), next: reports },
];

/// How many connections each application holds.
const CONNECTIONS: u64 = 2;

/// Sends operations to `server`, some hundred a second, until stopped. Must run in a `LocalRuntime`
/// or a `LocalSet`.
pub async fn run(server: SocketAddr, until: CancellationToken) {
    let mut tasks = tokio::task::JoinSet::new();
    for (seed, app) in (1..).zip(APPS.iter().cycle().take(APPS.len() * CONNECTIONS as usize)) {
        let until = until.clone();
        tasks.spawn_local(async move {
            until.run_until_cancelled(keep_running(server, *app, Xorshift(seed))).await;
        });
    }
    tasks.join_all().await;
}

/// Runs an application, which reconnects when its connection is lost.
async fn keep_running(server: SocketAddr, app: App, mut rng: Xorshift) {
    loop {
        if let Ok(mut client) = Client::connect(server, app.name).await {
            while client.operate((app.next)(&mut rng), &mut rng).await.is_ok() {
                rest(app.pause, &mut rng).await;
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Repeats `work` with pauses, because it only ends when its connection is lost; until stopped.
/// Errors are visible in the live table.
pub(crate) async fn keep_at(
    until: CancellationToken,
    mut work: impl AsyncFnMut() -> anyhow::Result<()>,
) {
    let work = async {
        loop {
            let _ = work().await;
            tokio::time::sleep(RECONNECT).await;
        }
    };
    until.run_until_cancelled(work).await;
}

/// Connects, with a time-out.
pub async fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(REPLY_TIMEOUT, TcpStream::connect(server)).await;
    let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Pauses between two operations for a random time, so that the applications are not in step.
pub async fn rest(pause: Duration, rng: &mut Xorshift) {
    tokio::time::sleep(pause.mul_f64(0.5 + rng.roll(100) as f64 / 100.0)).await;
}

/// One connection of an application.
struct Client {
    stream: TcpStream,
    last_id: i32,
}

impl Client {
    async fn connect(server: SocketAddr, app: &str) -> Result<Self, WireError> {
        let mut client = Self { stream: connect(server).await?, last_id: 0 };
        let hello = doc! {
            "hello": 1, "helloOk": true, "$db": "admin",
            "client": {
                "application": { "name": app },
                "driver": { "name": "tollgate-demo", "version": env!("CARGO_PKG_VERSION") },
                "os": { "type": std::env::consts::OS, "architecture": std::env::consts::ARCH },
            },
        };
        client.ask(hello).await?;
        Ok(client)
    }

    /// Sends a command, and returns its reply, also an error.
    async fn ask(&mut self, command: Document) -> Result<Document, WireError> {
        self.last_id = self.last_id.wrapping_add(1);
        let bytes = WireMessage::new(self.last_id, 0, command).to_bytes()?;
        self.stream.write_all(&bytes).await?;
        let reply = tokio::time::timeout(REPLY_TIMEOUT, wire::read(&mut self.stream)).await;
        let reply = reply.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let reply = reply.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        if reply.reply_to != self.last_id {
            return Err(WireError::Malformed("a reply to something else"));
        }
        Ok(reply.body)
    }

    /// Sends a command, and reads its cursor to the end or, sometimes, abandons it.
    async fn operate(&mut self, command: Document, rng: &mut Xorshift) -> Result<(), WireError> {
        let db = command.get_str("$db").unwrap_or("shop").to_owned();
        let mut reply = self.ask(command).await?;
        while let Some((id, collection)) = open_cursor(&reply) {
            let abandoned = rng.roll(10) == 0;
            let next = if abandoned {
                doc! { "killCursors": collection, "cursors": [id], "$db": &db }
            } else {
                doc! { "getMore": id, "collection": collection, "batchSize": 50, "$db": &db }
            };
            reply = self.ask(next).await?;
        }
        Ok(())
    }
}

/// The cursor that a reply leaves open, and its collection.
fn open_cursor(reply: &Document) -> Option<(i64, String)> {
    let cursor = reply.get_document("cursor").ok()?;
    let id = cursor.get_i64("id").ok().filter(|id| *id != 0)?;
    let (_, collection) = cursor.get_str("ns").ok()?.split_once('.')?;
    Some((id, collection.to_owned()))
}

/// The function that an operation comes from, as a comment that the proxy can read.
fn from(function: &str) -> String {
    format!(r#"{{"callingFunction":"{function}"}}"#)
}

const ORDERS: u64 = 2000;

fn checkout(rng: &mut Xorshift) -> Document {
    let customer = rng.roll(500);
    match rng.roll(100) {
        0..40 => doc! {
            "find": "carts", "filter": { "_id": customer }, "limit": 1, "singleBatch": true,
            "comment": from("cart.load"), "$db": "shop",
        },
        40..70 => doc! {
            "update": "carts",
            "updates": [{
                "q": { "_id": customer },
                "u": {
                    "$inc": { "items": 1, "total": rng.roll(90) + 10 },
                    "$set": { "sku": format!("sku-{}", rng.roll(300)) },
                },
                "upsert": true,
            }],
            "comment": from("cart.add"), "$db": "shop",
        },
        // Order numbers are from a small range: some are taken already.
        70..88 => doc! {
            "insert": "orders",
            "documents": [{
                "_id": rng.roll(ORDERS), "customer": customer, "total": rng.roll(400) + 5,
                "status": if rng.roll(3) == 0 { "paid" } else { "new" },
            }],
            "comment": from("order.place"), "$db": "shop",
        },
        88..95 => doc! {
            "findAndModify": "orders", "query": { "_id": rng.roll(ORDERS), "status": "new" },
            "update": { "$set": { "status": "paid" } }, "new": true,
            "comment": from("order.pay"), "$db": "shop",
        },
        _ => doc! {
            "delete": "carts", "deletes": [{ "q": { "_id": customer }, "limit": 1 }],
            "comment": from("cart.clear"), "$db": "shop",
        },
    }
}

fn search(rng: &mut Xorshift) -> Document {
    let product = rng.roll(300);
    match rng.roll(100) {
        0..60 => doc! {
            "find": "products", "filter": { "_id": { "$in": [product, product + 1, product + 2] } },
            "projection": { "name": 1, "price": 1 },
            "comment": from("product.show"), "$db": "catalog",
        },
        60..80 => doc! {
            "find": "products", "filter": { "price": { "$lt": rng.roll(100) } },
            "sort": { "price": -1 }, "batchSize": 20,
            "comment": from("search.by_price"), "$db": "catalog",
        },
        80..95 => doc! {
            "update": "products",
            "updates": [{
                "q": { "_id": product },
                "u": { "$set": {
                    "name": format!("product {product}"), "price": rng.roll(100),
                    "text": "It does what it says. ".repeat(10),
                } },
                "upsert": true,
            }],
            "comment": from("index.refresh"), "$db": "catalog",
        },
        _ => doc! {
            "distinct": "products", "key": "price", "query": {},
            "comment": from("search.facets"), "$db": "catalog",
        },
    }
}

fn billing(rng: &mut Xorshift) -> Document {
    match rng.roll(100) {
        0..50 => doc! {
            "find": "orders", "filter": { "status": "paid" }, "limit": 10, "singleBatch": true,
            "comment": from("invoice.collect"), "$db": "shop",
        },
        50..85 => doc! {
            "update": "invoices",
            "updates": [{
                "q": { "_id": rng.roll(1000) },
                "u": { "$inc": { "sum": rng.roll(50) }, "$set": { "open": rng.roll(2) == 0 } },
                "upsert": true,
            }],
            "comment": from("invoice.write"), "$db": "billing",
        },
        85..98 => doc! {
            "count": "invoices", "query": { "open": true },
            "comment": from("invoice.open"), "$db": "billing",
        },
        // Two with one number: always a duplicate.
        _ => doc! {
            "insert": "invoices", "documents": [{ "_id": -1 }, { "_id": -1 }],
            "comment": from("invoice.import"), "$db": "billing",
        },
    }
}

fn reports(rng: &mut Xorshift) -> Document {
    match rng.roll(100) {
        0..55 => doc! {
            "aggregate": "orders",
            "pipeline": [
                { "$match": { "total": { "$gte": rng.roll(200) } } },
                { "$group": {
                    "_id": "$status", "orders": { "$sum": 1 }, "average": { "$avg": "$total" },
                } },
                { "$sort": { "orders": -1 } },
            ],
            "cursor": {}, "comment": from("report.by_status"), "$db": "shop",
        },
        55..80 => doc! {
            "find": "orders", "filter": {}, "batchSize": 50,
            "comment": from("report.export"), "$db": "shop",
        },
        // Not supported by an index: this query is meant to be found in the live table.
        80..95 => doc! {
            "find": "orders", "filter": { "$where": format!("sleep({}) || true", 80 + rng.roll(150)) },
            "limit": 5, "singleBatch": true, "comment": from("report.scan"), "$db": "shop",
        },
        _ => doc! {
            "find": "orders", "filter": { "$where": "sleep(400) || true" }, "maxTimeMS": 120,
            "comment": from("report.scan_all"), "$db": "shop",
        },
    }
}
