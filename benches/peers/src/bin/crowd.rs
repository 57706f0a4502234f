//! Honest clients among a crowd: `crowd ADDRESS ROUNDS SECONDS` measures what 50 paced clients
//! wait for their answers, alone and beside 4,000 connections of which half trickle a message,
//! one byte every ten seconds, and the others do nothing. Prints a line of JSON a round.
#![expect(clippy::print_stdout, reason = "a command line talks to people")]

use peers::{
    client::Client,
    honest::{honest, told},
    wire,
};
use serde_json::json;
use std::{error::Error, io, rc::Rc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    runtime::LocalRuntime,
    sync::Notify,
    task::{JoinHandle, spawn_local},
    time::{Instant, interval_at, sleep},
};

const CROWD: usize = 4000;
/// How many of the crowd connect at a time.
const AT_ONCE: usize = 100;
/// The time between two bytes of those who trickle.
const TRICKLE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, rounds, seconds] = &arguments[..] else {
        return Err("usage: crowd ADDRESS ROUNDS SECONDS".into());
    };
    let (rounds, seconds) = (rounds.parse()?, Duration::from_secs_f64(seconds.parse()?));
    LocalRuntime::new()?.block_on(async {
        for _ in 0..rounds {
            let alone = honest(address, seconds).await?;
            let crowd = Crowd::gather(address).await?;
            let beside = honest(address, seconds).await?;
            if !crowd.stands() {
                return Err("a connection of the crowd ended before its time".into());
            }
            crowd.disperse().await;
            println!("{}", json!({ "alone": told(&alone), "beside": told(&beside) }));
        }
        Ok(())
    })
}

/// Connections that are there, and hardly anything else.
struct Crowd {
    members: Vec<JoinHandle<io::Result<()>>>,
    leave: Rc<Notify>,
}

impl Crowd {
    async fn gather(address: &str) -> io::Result<Self> {
        let leave = Rc::new(Notify::new());
        let mut members = Vec::new();
        while members.len() < CROWD {
            let mut connecting = Vec::new();
            for _ in 0..AT_ONCE {
                let address = address.to_owned();
                connecting.push(spawn_local(async move {
                    let mut client = Client::connect(&address).await?;
                    client.ask(&mut wire::hello(0)).await?;
                    client.read = Vec::new();
                    io::Result::Ok(client)
                }));
            }
            for client in connecting {
                let client = client.await.map_err(io::Error::other)??;
                let (leave, number) = (Rc::clone(&leave), members.len());
                members.push(spawn_local(async move {
                    tokio::select! {
                        () = leave.notified() => Ok(()),
                        ended = loiter(client, number) => ended,
                    }
                }));
            }
        }
        Ok(Self { members, leave })
    }

    /// Whether all members are still connected, as far as their own tasks have noticed.
    fn stands(&self) -> bool {
        !self.members.iter().any(JoinHandle::is_finished)
    }

    async fn disperse(self) {
        self.leave.notify_waiters();
        for member in self.members {
            let _ = member.await;
        }
        // The proxy's own share of the leave-taking is no part of the next measurement.
        sleep(Duration::from_millis(500)).await;
    }
}

/// Every second one does nothing; the others send a message one byte at a time.
async fn loiter(mut client: Client, number: usize) -> io::Result<()> {
    if number.is_multiple_of(2) {
        return std::future::pending().await;
    }
    let phase = TRICKLE.mul_f64(number as f64 / CROWD as f64);
    let mut pace = interval_at(Instant::now() + phase, TRICKLE);
    for byte in wire::find(1) {
        pace.tick().await;
        client.socket.write_all(&[byte]).await?;
    }
    std::future::pending().await
}
