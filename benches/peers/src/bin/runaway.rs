//! Honest clients beside a runaway: `runaway ADDRESS ROUNDS SECONDS RATE` has 64 connections insert
//! at five times RATE a second, and measures what 50 paced clients that read wait for their answers,
//! alone and beside it. Prints a line of JSON a round. The proxy is to limit inserts to RATE.
#![expect(clippy::print_stdout, reason = "a command line talks to people")]

use peers::{
    client::Client,
    honest::{honest, told},
    wire,
};
use serde_json::json;
use std::{cell::Cell, error::Error, io, rc::Rc, time::Duration};
use tokio::{
    runtime::LocalRuntime,
    task::{JoinHandle, spawn_local},
    time::{Instant, interval_at, sleep},
};

const CLIENTS: u32 = 64;
/// How many times its limit it wants.
const GREED: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, rounds, seconds, rate] = &arguments[..] else {
        return Err("usage: runaway ADDRESS ROUNDS SECONDS RATE".into());
    };
    let (rounds, seconds) = (rounds.parse()?, Duration::from_secs_f64(seconds.parse()?));
    let pace = Duration::from_secs(1) * CLIENTS / (GREED * rate.parse::<u32>()?);
    LocalRuntime::new()?.block_on(async {
        for _ in 0..rounds {
            let alone = honest(address, seconds).await?;
            let runaway = Runaway::begin(address, pace);
            // What it may take at once is no part of the rate.
            sleep(Duration::from_millis(500)).await;
            let (before, begun) = (runaway.served.get(), Instant::now());
            let beside = honest(address, seconds).await?;
            let served = f64::from(runaway.served.get() - before) / begun.elapsed().as_secs_f64();
            let refused = runaway.refused.get();
            runaway.end();
            println!(
                "{}",
                json!({
                    "alone": told(&alone), "beside": told(&beside),
                    "runaway": { "served_a_second": served, "refused": refused },
                })
            );
        }
        Ok(())
    })
}

/// Clients that insert at a fixed rate and never back off.
struct Runaway {
    clients: Vec<JoinHandle<io::Result<()>>>,
    served: Rc<Cell<u32>>,
    refused: Rc<Cell<u32>>,
}

impl Runaway {
    fn begin(address: &str, pace: Duration) -> Self {
        let (served, refused) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let clients = (0..CLIENTS)
            .map(|number| {
                let address = address.to_owned();
                let (served, refused) = (Rc::clone(&served), Rc::clone(&refused));
                spawn_local(async move {
                    let mut client = Client::connect(&address).await?;
                    client.ask(&mut wire::hello(0)).await?;
                    let mut insert = wire::insert(0, 1024);
                    let mut pace = interval_at(Instant::now() + pace * number / CLIENTS, pace);
                    loop {
                        pace.tick().await;
                        client.ask(&mut insert).await?;
                        let ended = if client.refused { &refused } else { &served };
                        ended.set(ended.get() + 1);
                    }
                })
            })
            .collect();
        Self { clients, served, refused }
    }

    fn end(self) {
        self.clients.iter().for_each(JoinHandle::abort);
    }
}
