//! The thread that follows the world outside: names, endpoints' health, and certificate files.

use super::NO_RUNTIME;
use crate::{
    certificates::Certificates,
    threads::{Started, Threads},
};
use anyhow::Context;
use cluster::Cluster;
use process::panics::{Panic, caught};
use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    runtime::LocalRuntime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{JoinSet, spawn_local},
};
use tokio_util::sync::CancellationToken;

/// The delay before a cluster's task is restarted after a panic.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// How often it is looked whether a cluster that is gone has drained.
const DRAINED_INTERVAL: Duration = Duration::from_secs(1);

/// Adds clusters to the thread, and removes them.
#[derive(Clone)]
pub(super) struct Discovery(UnboundedSender<DiscoveryRequest>);

enum DiscoveryRequest {
    /// Follow these clusters, and report when the first look-up of all has ended.
    Follow(Vec<Arc<Cluster>>, mpsc::Sender<()>),
    /// The config does not have this cluster any more.
    Leave(Arc<Cluster>),
}

impl Discovery {
    /// Follows new clusters. Returns after the first look-up of their names, which may fail.
    pub(super) fn follow(&self, clusters: Vec<Arc<Cluster>>) {
        if clusters.is_empty() {
            return;
        }
        let (done, ended) = mpsc::channel();
        if self.0.send(DiscoveryRequest::Follow(clusters, done)).is_ok() {
            // The thread has ended if there is no answer.
            let _ = ended.recv();
        }
    }

    /// Leaves a cluster that the config does not have any more, once it has drained.
    pub(super) fn leave(&self, cluster: Arc<Cluster>) {
        let _ = self.0.send(DiscoveryRequest::Leave(cluster));
    }
}

/// Starts the thread that resolves the names of all clusters and checks their endpoints. Returns after
/// the first look-up.
pub(super) fn start_discovery(
    clusters: Vec<Arc<Cluster>>,
    certificates: Certificates,
    stop: CancellationToken,
    threads: &Threads,
) -> anyhow::Result<(Discovery, JoinHandle<()>)> {
    let (requests, inbox) = unbounded_channel();
    let run = move |started: Started| {
        let runtime = LocalRuntime::new().context(NO_RUNTIME)?;
        runtime.block_on(async {
            for cluster in &clusters {
                cluster.resolve().await;
            }
            started.report();
            spawn_local(certificates.watch());
            tokio::select! {
                () = follow(clusters, inbox) => {}
                () = stop.cancelled() => {}
            }
        });
        // A read from a file system that hangs must not block the exit.
        runtime.shutdown_background();
        Ok(())
    };
    let thread = threads.starter().start("discovery", run);
    let thread = thread.context("can't start the discovery thread")?;
    // The first look-up precedes the first connection; if it fails, the proxy starts all the same.
    threads.wait_started(1)?;
    Ok((Discovery(requests), thread))
}

/// Runs the tasks of all clusters until no request can come any more.
async fn follow(clusters: Vec<Arc<Cluster>>, mut inbox: UnboundedReceiver<DiscoveryRequest>) {
    let mut tasks = BTreeMap::new();
    let key = |cluster: &Arc<Cluster>| Arc::as_ptr(cluster).addr();
    tasks.extend(clusters.into_iter().map(|cluster| (key(&cluster), run_tasks(cluster))));
    while let Some(request) = inbox.recv().await {
        match request {
            DiscoveryRequest::Follow(clusters, done) => {
                for cluster in &clusters {
                    cluster.resolve().await;
                }
                tasks.extend(clusters.into_iter().map(|it| (key(&it), run_tasks(it))));
                let _ = done.send(());
            }
            DiscoveryRequest::Leave(cluster) => {
                let running = tasks.remove(&key(&cluster));
                spawn_local(async move {
                    while cluster.is_draining() {
                        tokio::time::sleep(DRAINED_INTERVAL).await;
                    }
                    drop(running);
                });
            }
        }
    }
}

/// Runs the tasks of a cluster until the result is dropped.
fn run_tasks(cluster: Arc<Cluster>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let mut run = |task| {
        tasks.spawn_local(run_restarting(Arc::clone(&cluster), task));
    };
    run(|it| Box::pin(it.follow_plan(Cluster::warm_up)));
    run(|it| Box::pin(it.follow_plan(Cluster::check_health)));
    run(|it| Box::pin(it.follow_plan(Cluster::sweep)));
    run(|it| Box::pin(it.follow_plan(Cluster::close_expired)));
    run(|it| Box::pin(it.monitor_members()));
    run(|it| Box::pin(it.end_forgotten_pauses()));
    run(|it| Box::pin(it.discover()));
    tasks
}

/// A task of a cluster.
type ClusterTask = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// Runs a cluster's task, and restarts it after a panic: an endpoint's reply must not end it.
pub(super) async fn run_restarting(cluster: Arc<Cluster>, task: fn(Arc<Cluster>) -> ClusterTask) {
    while let Err(Panic { message, place }) = caught(task(Arc::clone(&cluster))).await {
        tracing::error!(
            cluster = &**cluster.name(),
            place,
            message,
            "a panic ended a task of this cluster, which is a bug in Tollgate: it is restarted"
        );
        tokio::time::sleep(RESTART_DELAY).await;
    }
}
