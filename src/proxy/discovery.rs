//! The thread that follows the world outside: names, endpoints' health, and certificate files.

use super::NO_RUNTIME;
use crate::{
    certificates::Certificates,
    threads::{Started, Threads},
};
use anyhow::Context;
use cluster::Cluster;
use process::panics::{Panic, caught};
use std::{sync::Arc, thread::JoinHandle, time::Duration};
use tokio::{runtime::LocalRuntime, task::spawn_local};
use tokio_util::sync::CancellationToken;

/// The delay before a cluster's task is restarted after a panic.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Starts the thread that resolves the names of all clusters and checks their endpoints. Returns after
/// the first look-up.
pub(super) fn start_discovery(
    clusters: Vec<Arc<Cluster>>,
    certificates: Certificates,
    stop: CancellationToken,
    threads: &Threads,
) -> anyhow::Result<JoinHandle<()>> {
    let run = move |started: Started| {
        let runtime = LocalRuntime::new().context(NO_RUNTIME)?;
        runtime.block_on(async {
            for cluster in &clusters {
                cluster.resolve().await;
            }
            started.report();
            spawn_local(certificates.watch());
            for cluster in clusters {
                spawn_local(run_restarting(Arc::clone(&cluster), Cluster::warm_up));
                spawn_local(run_restarting(Arc::clone(&cluster), Cluster::check_health));
                spawn_local(run_restarting(Arc::clone(&cluster), Cluster::monitor_members));
                spawn_local(run_restarting(Arc::clone(&cluster), Cluster::sweep));
                spawn_local(run_restarting(Arc::clone(&cluster), Cluster::end_forgotten_pauses));
                spawn_local(run_restarting(Arc::clone(&cluster), Cluster::close_expired));
                spawn_local(run_restarting(cluster, Cluster::discover));
            }
            stop.cancelled().await;
        });
        // A read from a file system that hangs must not block the exit.
        runtime.shutdown_background();
        Ok(())
    };
    let thread = threads.starter().start("discovery", run);
    let thread = thread.context("can't start the discovery thread")?;
    // The first look-up precedes the first connection; if it fails, the proxy starts all the same.
    threads.wait_started(1)?;
    Ok(thread)
}

/// Runs a cluster's task, and restarts it after a panic: an endpoint's reply must not end it.
pub(super) async fn run_restarting<F>(cluster: Arc<Cluster>, task: fn(Arc<Cluster>) -> F)
where
    F: Future<Output = ()>,
{
    while let Err(Panic { message, place }) = caught(Box::pin(task(Arc::clone(&cluster)))).await {
        tracing::error!(
            cluster = &**cluster.name(),
            place,
            message,
            "a panic ended a task of this cluster, which is a bug in Tollgate: it is restarted"
        );
        tokio::time::sleep(RESTART_DELAY).await;
    }
}
