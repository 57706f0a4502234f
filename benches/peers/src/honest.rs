//! Clients that ask at a modest pace, whatever goes on beside them.

use crate::{
    client::{Client, quantile},
    wire,
};
use serde_json::json;
use std::{io, time::Duration};
use tokio::{
    task::{JoinHandle, spawn_local},
    time::{Instant, interval_at},
};

/// How many there are.
const CLIENTS: usize = 50;

/// The time between two operations of one of them.
const PACE: Duration = Duration::from_millis(10);

/// What they waited, for people.
pub fn told(times: &[Duration]) -> serde_json::Value {
    let micros = |share| quantile(times, share).as_secs_f64() * 1e6;
    json!({ "operations": times.len(), "p50_us": micros(0.5), "p99_us": micros(0.99) })
}

/// Runs honest clients for `seconds`; returns their latencies, sorted.
///
/// # Errors
/// When a connection ends, or a reply is to another request.
pub async fn honest(address: &str, seconds: Duration) -> io::Result<Vec<Duration>> {
    let begin = Instant::now() + Duration::from_millis(200);
    let clients: Vec<JoinHandle<io::Result<Vec<Duration>>>> = (0..CLIENTS)
        .map(|number| {
            let address = address.to_owned();
            spawn_local(async move {
                let mut client = Client::connect(&address).await?;
                client.ask(&mut wire::hello(0)).await?;
                let mut request = wire::find(0);
                let mut times = Vec::new();
                // Clients start one after the other, so that none queues behind another.
                let mut pace =
                    interval_at(begin + PACE.mul_f64(number as f64 / CLIENTS as f64), PACE);
                while begin.elapsed() < seconds {
                    pace.tick().await;
                    times.push(client.ask(&mut request).await?);
                }
                Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.append(&mut client.await.map_err(io::Error::other)??);
    }
    times.sort_unstable();
    Ok(times)
}
