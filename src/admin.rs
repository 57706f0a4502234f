//! The admin interface: state, metrics and control over HTTP, on a thread of its own so that a scrape
//! of many series never holds up a worker.

mod clusters;
mod listen;
mod pages;
mod policies;
#[cfg(test)]
mod tests;

use crate::{cluster::Cluster, config::Scope, metrics::Metrics, policy::Live};
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use listen::{Guarded, Limits};
use serde_json::{Value, json};
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How often it is seen to that nothing stays that has ended.
const SWEEP: Duration = Duration::from_secs(1);

/// Answers a question with JSON, at any time and from any thread, without waiting.
pub type Tell = Arc<dyn Fn() -> Value + Send + Sync>;

/// What the admin interface can see and do.
#[derive(Clone)]
pub struct View {
    /// What `/metrics`, `/operations` and `/callsites` tell.
    pub metrics: Metrics,
    /// What `/config` tells; secrets are left out already.
    pub config: Value,
    /// Whether new connections are welcome: what `/ready` tells.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What `/listeners` tells.
    pub listeners: Tell,
    /// Those that `/clusters` tells of, whose endpoints can be taken out and brought back.
    pub clusters: Arc<dyn Fn() -> Vec<Arc<Cluster>> + Send + Sync>,
    /// The policies in force, which `/policies` and `/faults` tell of and change.
    pub policies: Arc<Live>,
    /// What such a policy can be about.
    pub scope: Scope,
    /// Begins a drain, and returns at once.
    pub drain: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The admin interface while it runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Where it listens.
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
    }
}

/// Serves `view` to whoever connects to `listener`. Fails if the thread or its runtime can't start.
pub fn serve(listener: TcpListener, view: View) -> io::Result<Server> {
    serve_within(listener, view, Limits::default())
}

fn serve_within(listener: TcpListener, view: View, limits: Limits) -> io::Result<Server> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _entered = runtime.enter();
        Guarded::new(tokio::net::TcpListener::from_std(listener)?, limits)
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let run = move || {
        runtime.block_on(async {
            tokio::select! {
                () = sweep(Arc::clone(&view.policies)) => {}
                _ = axum::serve(listener, router(view)) => {}
                _ = stopped => {}
            }
        });
    };
    let thread =
        thread::Builder::new().name("admin".into()).stack_size(crate::worker::STACK).spawn(run)?;
    Ok(Server { address, stop: Some(stop), thread: Some(thread) })
}

/// Drops faults once they have ended.
async fn sweep(policies: Arc<Live>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        policies.expire(Instant::now());
    }
}

fn router(view: View) -> Router {
    Router::new()
        .route("/", get(pages::index))
        .route("/ready", get(ready))
        .route("/live", get(async || "live\n"))
        .route("/metrics", get(metrics))
        .route("/listeners", get(async |State(view): State<View>| Json((view.listeners)())))
        .route("/clusters", get(clusters::list))
        .route("/clusters/{cluster}/endpoints/{endpoint}", post(clusters::steer))
        .route("/operations", get(pages::operations))
        .route("/callsites", get(pages::callsites))
        .route("/config", get(async |State(view): State<View>| Json(view.config)))
        .route("/policies", get(policies::list))
        .route("/policies/{name}", put(policies::change))
        .route("/faults", get(policies::faults).post(policies::add_fault))
        .route("/faults/{id}", delete(policies::remove_fault))
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
        .layer(from_fn(guard))
        .with_state(view)
}

async fn ready(State(view): State<View>) -> Response {
    if (view.ready)() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
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
    (status, Json(json!({ "error": text.into() }))).into_response()
}

/// What holds for every request: a page of another site can't change anything, nothing is kept, and
/// a connection serves one request, so that its age alone bounds it.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = if request.method().is_safe() || from_here(request.headers()) {
        next.run(request).await
    } else {
        error(StatusCode::FORBIDDEN, "a page of another site may not ask for this")
    };
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whether a request comes from no browser, or from a page that this interface itself served.
///
/// The same host is not enough where it is a name: whoever owns a name can point it at this address
/// once the page is loaded (DNS rebinding). An address, or `localhost`, can't be pointed elsewhere.
fn from_here(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let (Ok(origin), Some(Ok(host))) =
        (origin.to_str(), headers.get(header::HOST).map(|h| h.to_str()))
    else {
        return false;
    };
    let same = origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host));
    same && is_fixed(host)
}

/// Whether `host`, with or without a port, is an address or `localhost`.
fn is_fixed(host: &str) -> bool {
    if host.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}
