//! The thread that reports the status of the proxy, its drain, and that all workers answer.

use super::{notify, watchdog_period};
use crate::worker::{ConnectionCounts, WorkerTimeout};
use anyhow::Context;
use std::{env, thread, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The shortest time between two status lines.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// Signs of life in each period of the watchdog: one that is late does not end the process.
const PER_PERIOD: u32 = 3;

/// What is reported of a running proxy.
pub struct Vitals {
    /// Open connections, which every worker counts itself.
    pub connections: ConnectionCounts,
    /// Counts the endpoints that are out of use.
    pub endpoints_down: Box<dyn Fn() -> usize + Send>,
    /// Cancelled when a drain is requested.
    pub draining: CancellationToken,
}

impl Vitals {
    fn status(&self, connections: usize) -> String {
        let noun = if connections == 1 { "connection" } else { "connections" };
        let down = match (self.endpoints_down)() {
            0 => String::new(),
            1 => ", 1 endpoint down".to_owned(),
            count => format!(", {count} endpoints down"),
        };
        let draining = if self.draining.is_cancelled() { "draining: " } else { "" };
        format!("{draining}{connections} {noun}{down}")
    }
}

/// Reports to the service manager from now on, if there is one.
///
/// # Errors
/// The thread can't start.
pub fn start_reporter(vitals: Vitals) -> anyhow::Result<()> {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.context("the reports to the service manager can't start")?;
    let run = move || runtime.block_on(report(vitals, watchdog_period(), notify));
    thread::Builder::new().name("service-manager".into()).spawn(run)?;
    Ok(())
}

/// Reports until the process ends.
async fn report(vitals: Vitals, watchdog: Option<Duration>, notify: impl Fn(&str)) {
    let tick = watchdog.map_or(STATUS_INTERVAL, |period| STATUS_INTERVAL.min(period / PER_PERIOD));
    let mut ticks = interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut stopping, mut shown) = (false, None::<(String, Instant)>);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = vitals.draining.cancelled(), if !stopping => {
                stopping = true;
                notify("STOPPING=1");
            }
        }
        let status = match vitals.connections.total().await {
            Ok(connections) => {
                if watchdog.is_some() {
                    notify("WATCHDOG=1");
                }
                vitals.status(connections)
            }
            Err(WorkerTimeout) => {
                tracing::warn!("a worker does not answer: the watchdog gets no sign of life");
                "a worker does not answer".to_owned()
            }
        };
        let due = shown
            .as_ref()
            .is_none_or(|(last, at)| *last != status && at.elapsed() >= STATUS_INTERVAL);
        if due {
            notify(&format!("STATUS={status}"));
            shown = Some((status, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests;
