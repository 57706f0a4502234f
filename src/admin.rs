//! The admin interface: state, metrics and control over HTTP, on a thread of its own so that a scrape
//! of many series never holds up a worker.

mod clusters;
mod entrance;
mod guard;
mod listen;
mod pages;
mod policies;
mod sessions;
#[cfg(test)]
mod tests;
mod token;

use crate::{
    handover::{Offer, Sockets},
    threads::Starter,
    worker::Sessions,
};
use anyhow::{Context as _, bail};
use axum::{
    Json, Router,
    extract::State,
    http::{Method, StatusCode, Uri, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use cluster::Cluster;
use config::{Scope, plan::AdminPlan};
use entrance::{Entrance, Listening, Opened, SocketPath};
use guard::Rules;
use listen::{Guarded, Limits};
use policy::Live;
use serde_json::{Value, json};
use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::oneshot,
    task::JoinSet,
};
use tollgate_metrics::Metrics;

/// How often it is seen to that nothing stays that has ended.
const SWEEP: Duration = Duration::from_secs(1);

/// Answers a question with JSON, at any time and from any thread, without waiting.
pub type Tell = Arc<dyn Fn() -> Value + Send + Sync>;

/// What the admin interface can show and do.
#[derive(Clone)]
pub struct View {
    /// For `/metrics`, `/operations` and `/callsites`.
    pub metrics: Metrics,
    /// For `/config`, without secrets. Built per request: every route has its own view, and a plan with a
    /// thousand clusters is some megabytes of JSON.
    pub config: Tell,
    /// Whether the proxy is ready, for `/ready`.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// For `/listeners`.
    pub listeners: Tell,
    /// For `/clusters`, which can also take endpoints out of use and back.
    pub clusters: Arc<dyn Fn() -> Vec<Arc<Cluster>> + Send + Sync>,
    /// The policies in force, which `/policies` and `/faults` show and change.
    pub policies: Arc<Live>,
    /// What such a policy can be about.
    pub scope: Scope,
    /// The open connections, which `/sessions` lists and closes.
    pub sessions: Sessions,
    /// Begins a drain, and returns at once.
    pub drain: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

/// The admin interface while it runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    path: Option<SocketPath>,
    offer: Arc<Offer>,
}

impl Server {
    /// Where it is read.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(path) = self.path.take().filter(|_| self.offer.is_taken()) {
            path.leave();
        }
    }
}

/// Opens the sockets that `plan` says, and serves `view` there.
///
/// # Errors
/// When a socket can't be opened, the token can't be read, or the thread or its runtime can't start.
pub fn serve(
    plan: &AdminPlan,
    view: View,
    threads: &Starter,
    handed: Sockets,
) -> anyhow::Result<Server> {
    serve_within(plan, view, Limits::default(), threads, handed)
}

fn serve_within(
    plan: &AdminPlan,
    view: View,
    limits: Limits,
    threads: &Starter,
    mut handed: Sockets,
) -> anyhow::Result<Server> {
    let Opened { address, entrances, path } = entrance::open(plan, &mut handed)?;
    let offer = handed.offer();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("the admin interface can't start")?;
    let (mut serving, mut replacing) = (JoinSet::new(), JoinSet::new());
    {
        let _entered = runtime.enter();
        for entrance in entrances {
            let serves = serve_at(entrance, &view, limits, &offer, &mut serving);
            serves.context("the admin interface can't start")?;
        }
        if let Some(meeting) = handed.in_use()? {
            meeting.set_nonblocking(true)?;
            let (meeting, offer) = (UnixListener::from_std(meeting)?, Arc::clone(&offer));
            replacing.spawn(offer.serve(meeting));
        }
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let run = move |_| {
        runtime.block_on(async {
            // Who takes this process's place is served for as long as others are.
            let _replacing = replacing;
            tokio::select! {
                () = sweep(Arc::clone(&view.policies)) => {}
                _ = serving.join_all() => {}
                _ = stopped => return Ok(()),
            }
            bail!("it serves no more");
        })
    };
    let thread = threads.start("admin", run)?;
    Ok(Server { address, stop: Some(stop), thread: Some(thread), path, offer })
}

/// Has a task serve one socket.
fn serve_at(
    Entrance { socket, rules }: Entrance,
    view: &View,
    limits: Limits,
    offer: &Offer,
    serving: &mut JoinSet<io::Result<()>>,
) -> io::Result<()> {
    let router = router(view.clone(), Arc::new(rules));
    match socket {
        Listening::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let listener = Guarded::new(TcpListener::from_std(listener)?, limits, offer.replaced());
            serving.spawn(axum::serve(listener, router).into_future());
        }
        Listening::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let listener =
                Guarded::new(UnixListener::from_std(listener)?, limits, offer.replaced());
            serving.spawn(axum::serve(listener, router).into_future());
        }
    }
    Ok(())
}

/// Drops faults once they have ended.
async fn sweep(policies: Arc<Live>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        policies.expire(Instant::now());
    }
}

fn router(view: View, rules: Arc<Rules>) -> Router {
    let index = pages::index(&rules);
    Router::new()
        .route("/", get(async || index))
        .route("/ready", get(ready))
        .route("/live", get(async || "live\n"))
        .route("/metrics", get(metrics))
        .route("/listeners", get(async |State(view): State<View>| Json((view.listeners)())))
        .route("/clusters", get(clusters::list))
        .route("/clusters/{cluster}/endpoints/{endpoint}", post(clusters::steer))
        .route("/operations", get(pages::operations))
        .route("/callsites", get(pages::callsites))
        .route("/config", get(policies::config))
        .route("/policies", get(policies::list))
        .route("/policies/{name}", put(policies::change).delete(policies::remove))
        .route("/faults", get(policies::faults).post(policies::add_fault))
        .route("/faults/{id}", delete(policies::remove_fault))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", delete(sessions::end))
        .route("/drain", post(drain))
        .fallback(async |uri: Uri| {
            error(
                StatusCode::NOT_FOUND,
                format!("there is no {}; / lists what there is", uri.path()),
            )
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let text = format!("{} does not take {method}", uri.path());
            error(StatusCode::METHOD_NOT_ALLOWED, text)
        })
        .layer(from_fn_with_state(rules, guard::guard))
        .with_state(view)
}

async fn ready(State(view): State<View>) -> Response {
    if (view.ready)() {
        ready_words(&(view.clusters)()).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
    }
}

/// The text of `/ready`, with the number of clusters without endpoints. The proxy stays ready: one
/// failed dependency must not take it out. Clusters are not named, since no token is required.
fn ready_words(clusters: &[Arc<Cluster>]) -> String {
    match clusters.iter().filter(|cluster| cluster.is_empty()).count() {
        0 => "ready\n".to_owned(),
        empty => {
            let all = clusters.len();
            format!("ready; {empty} of {all} clusters have no endpoint: /clusters shows why\n")
        }
    }
}

async fn metrics(State(view): State<View>) -> impl IntoResponse {
    let mut text = String::new();
    view.metrics.render(&mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn drain(State(view): State<View>) -> impl IntoResponse {
    (view.drain)();
    (StatusCode::ACCEPTED, Json(json!({ "draining": true })))
}

fn error(status: StatusCode, text: impl Into<String>) -> Response {
    let text = text.into();
    // The request may contain a URI with a password, and the response may be logged.
    (status, Json(json!({ "error": values::hide(&text) }))).into_response()
}
