//! The admin interface: state, metrics and control over HTTP. It has a thread of its own, so that a
//! scrape of many series never delays a worker.

mod clusters;
mod cutover;
mod dashboard;
mod exposition;
mod guard;
mod listen;
mod live;
mod pages;
mod policies;
mod reloads;
mod sessions;
mod shapes;
mod sockets;
#[cfg(test)]
mod tests;
mod tls;
mod token;

use self::tls::TlsListener;
use crate::{
    certificates::Certificates,
    handover::{Offer, Sockets},
    reload::Reloader,
    threads::Starter,
    worker::{QueryShapes, Sessions},
};
use anyhow::{Context as _, bail};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use cluster::Cluster;
use config::{Scope, plan::AdminPlan};
use dashboard::Dashboard;
use guard::Rules;
use listen::{LimitedListener, Limits};
use policy::{Live, live_tap::LiveTap};
use serde_json::{Value, json};
use sockets::{AdminSocket, AnyListener, OpenedSockets, SocketPath};
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

/// The interval at which expired faults are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Returns JSON, on any thread, without blocking.
pub type JsonSource = Arc<dyn Fn() -> Value + Send + Sync>;

/// What the admin interface shows and controls.
#[derive(Clone)]
pub struct View {
    /// For `/metrics`, `/operations` and `/callsites`.
    pub metrics: Metrics,
    /// For `/config`, without secrets. Built per request: every route has its own view, and a plan with a
    /// thousand clusters is some megabytes of JSON.
    pub config: JsonSource,
    /// Whether the proxy is ready, for `/ready`.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The result of the last reload, for `/dashboard`: `null` before the first one.
    pub last_reload: JsonSource,
    /// For `/listeners`.
    pub listeners: JsonSource,
    /// For `/clusters`, which also ejects, drains and restores endpoints.
    pub clusters: Arc<dyn Fn() -> Vec<Arc<Cluster>> + Send + Sync>,
    /// For `/tls`.
    pub certificates: Certificates,
    /// The policies in force, which `/policies` and `/faults` show and change.
    pub policies: Arc<Live>,
    /// The names that a changed policy may refer to.
    pub scope: Arc<dyn Fn() -> Scope + Send + Sync>,
    /// The open connections, which `/sessions` lists and closes.
    pub sessions: Sessions,
    /// For `/operations/live`.
    pub tap: Arc<LiveTap>,
    /// For `/shapes` and `/findings`.
    pub shapes: QueryShapes,
    /// For `/reloads`, and reloads of the config.
    pub reloader: Reloader,
    /// Begins a drain without blocking.
    pub drain: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

/// The running admin interface; stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    path: Option<SocketPath>,
    offer: Arc<Offer>,
}

impl Server {
    /// The address of its first socket.
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
            path.keep_file();
        }
    }
}

/// Opens the configured sockets, and serves `view` there.
///
/// # Errors
/// A socket can't be opened, the token can't be read, or the thread or its runtime can't start.
pub fn serve(
    plan: &AdminPlan,
    view: View,
    threads: &Starter,
    handover: &mut Sockets,
) -> anyhow::Result<Server> {
    serve_with_limits(plan, view, Limits::default(), threads, handover)
}

fn serve_with_limits(
    plan: &AdminPlan,
    view: View,
    limits: Limits,
    threads: &Starter,
    handover: &mut Sockets,
) -> anyhow::Result<Server> {
    let OpenedSockets { address, sockets, path } = sockets::open(plan, handover)?;
    let offer = handover.offer();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("the admin interface can't start")?;
    let mut serving = JoinSet::new();
    {
        let _entered = runtime.enter();
        for socket in sockets {
            let started = serve_at(socket, &view, limits, &offer, &mut serving);
            started.context("the admin interface can't start")?;
        }
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let run = move |_| {
        runtime.block_on(async {
            tokio::select! {
                () = sweep(Arc::clone(&view.policies)) => {}
                _ = serving.join_all() => {}
                _ = stopped => return Ok(()),
            }
            bail!("every socket has stopped accepting");
        })
    };
    let thread = threads.start("admin", run)?;
    Ok(Server { address, stop: Some(stop), thread: Some(thread), path, offer })
}

/// Spawns a task that serves one socket.
fn serve_at(
    AdminSocket { listener, rules }: AdminSocket,
    view: &View,
    limits: Limits,
    offer: &Offer,
    serving: &mut JoinSet<io::Result<()>>,
) -> io::Result<()> {
    let router = router(view.clone(), Arc::new(rules));
    match listener {
        AnyListener::Tcp(listener, tls) => {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            match tls {
                None => {
                    let listener = LimitedListener::new(listener, limits, offer.replaced());
                    serving.spawn(axum::serve(listener, router).into_future());
                }
                Some(tls) => {
                    let listener = TlsListener::new(listener, tls);
                    let listener = LimitedListener::new(listener, limits, offer.replaced());
                    serving.spawn(axum::serve(listener, router).into_future());
                }
            }
        }
        AnyListener::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let listener =
                LimitedListener::new(UnixListener::from_std(listener)?, limits, offer.replaced());
            serving.spawn(axum::serve(listener, router).into_future());
        }
    }
    Ok(())
}

/// Removes expired faults.
async fn sweep(policies: Arc<Live>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        policies.expire(Instant::now());
    }
}

/// The connections that operations share, for each cluster with a pool.
fn pools(view: &View) -> serde_json::Value {
    (view.clusters)().iter().filter_map(|cluster| cluster.pool_report()).collect()
}

fn router(view: View, rules: Arc<Rules>) -> Router {
    let (index, paths) = (pages::paths(&rules), pages::paths(&rules));
    let index = async |headers: HeaderMap| match pages::is_browser(&headers) {
        true => pages::page().into_response(),
        false => index.into_response(),
    };
    let dashboard = Dashboard::new(Arc::clone(&rules));
    let dashboard = async move |State(view): State<View>, headers: HeaderMap| {
        Json(dashboard.report(&view, &headers))
    };
    Router::new()
        .route("/", get(index))
        .route("/page.js", get(pages::script))
        .route("/page.css", get(pages::style))
        .route("/paths", get(async || paths))
        .route("/dashboard", get(dashboard))
        .route("/ready", get(ready))
        .route("/live", get(async || "live\n"))
        .route("/metrics", get(exposition::metrics))
        .route("/listeners", get(async |State(view): State<View>| Json((view.listeners)())))
        .route("/clusters", get(clusters::list))
        .route("/clusters/{cluster}/endpoints/{endpoint}", post(clusters::set_state))
        .route("/clusters/{cluster}/pause", post(cutover::pause))
        .route("/clusters/{cluster}/switch", post(cutover::switch))
        .route("/clusters/{cluster}/resume", post(cutover::resume))
        .route("/pools", get(async |State(view): State<View>| Json(pools(&view))))
        .route("/tls", get(async |State(view): State<View>| Json(view.certificates.report())))
        .route("/operations", get(pages::operations))
        .route("/operations/live", get(live::list))
        .route("/callsites", get(pages::callsites))
        .route("/shapes", get(shapes::list).delete(shapes::reset))
        .route("/findings", get(shapes::findings))
        .route("/config", get(policies::config).post(reloads::reload))
        .route("/reloads", get(reloads::list))
        .route("/policies", get(policies::list))
        .route("/policies/{name}", put(policies::change).delete(policies::remove))
        .route("/faults", get(policies::faults).post(policies::add_fault))
        .route("/faults/{id}", delete(policies::remove_fault))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", delete(sessions::kill))
        .route("/drain", post(drain))
        .fallback(async |uri: Uri| {
            error(
                StatusCode::NOT_FOUND,
                format!("there is no {}; /paths lists what there is", uri.path()),
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

async fn drain(State(view): State<View>) -> impl IntoResponse {
    (view.drain)();
    (StatusCode::ACCEPTED, Json(json!({ "draining": true })))
}

fn error(status: StatusCode, text: impl Into<String>) -> Response {
    let text = text.into();
    // The request may contain a URI with a password, and the response may be logged.
    (status, Json(json!({ "error": values::hide(&text) }))).into_response()
}
