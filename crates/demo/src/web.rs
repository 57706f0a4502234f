//! The demonstration's web shop: an HTTP/1.1 service, and its visitors.

#[cfg(test)]
mod tests;

use super::{
    accept,
    traffic::{self, REPLY_TIMEOUT},
    xorshift::Xorshift,
};
use anyhow::Context;
use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use hyper::{client, server, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::{cell::RefCell, convert::Infallible, net::SocketAddr, rc::Rc, time::Duration};
use tokio::{net::TcpListener, task::JoinSet, time};
use tokio_util::sync::CancellationToken;

/// How many things the shop sells. Visitors ask for some that it does not.
const PRODUCTS: i64 = 280;

/// The health of a shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It responds.
    Well,
    /// It responds with 503 to everything in some seconds of each round.
    IllNowAndThen,
}

/// From when to when of each round an unhealthy shop fails.
const ILL: std::ops::Range<Duration> = Duration::from_secs(6)..Duration::from_secs(12);
/// How long a round is.
const ROUND: Duration = Duration::from_secs(40);

impl Health {
    /// Whether it fails at this time after its start.
    fn is_ill(self, running: Duration) -> bool {
        let round = Duration::from_secs(running.as_secs() % ROUND.as_secs());
        self == Health::IllNowAndThen && ILL.contains(&round)
    }
}

/// Serves every connection until dropped. Must run in a `LocalRuntime` or a `LocalSet`.
pub async fn serve(listener: TcpListener, health: Health) {
    let began = time::Instant::now();
    let rng = Rc::new(RefCell::new(Xorshift(17)));
    let serve = |stream| {
        let rng = rng.clone();
        async move {
            let service = service_fn(|request| async {
                if health.is_ill(began.elapsed()) {
                    return Ok(said(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": "ill" })));
                }
                answer(request, &rng).await
            });
            let mut builder = server::conn::http1::Builder::new();
            let connection = builder.timer(TokioTimer::new());
            // The result is ignored: the connection has ended either way.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        }
    };
    accept::each(listener, serve).await;
}

async fn answer<B>(
    request: Request<B>,
    rng: &RefCell<Xorshift>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, takes, told) =
        decide(request.method(), request.uri().path(), &mut rng.borrow_mut());
    time::sleep(takes).await;
    Ok(said(status, &told))
}

fn said(status: StatusCode, told: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(told.to_string().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The response to a request, and how long it takes.
fn decide(method: &Method, path: &str, rng: &mut Xorshift) -> (StatusCode, Duration, Value) {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let lost = |what| (StatusCode::NOT_FOUND, json!({ "error": what }));
    let (takes, (status, said)) = match (method, &parts[..]) {
        (&Method::GET, ["cart", customer]) => {
            let cart = json!({ "customer": customer, "items": rng.roll(5) });
            (rng.between(1, 5), (StatusCode::OK, cart))
        }
        (&Method::POST, ["cart", customer, "items"]) => {
            (rng.between(3, 9), (StatusCode::CREATED, json!({ "customer": customer })))
        }
        (&Method::GET, ["products", id]) => match id.parse() {
            Ok(0..PRODUCTS) => {
                let product = json!({ "id": id, "text": "It does what it says. ".repeat(20) });
                (rng.between(1, 4), (StatusCode::OK, product))
            }
            _ => (1, lost("no such product")),
        },
        (&Method::GET, ["search"]) if rng.roll(40) == 0 => {
            let broken = json!({ "error": "the index is gone" });
            (rng.between(1, 4), (StatusCode::INTERNAL_SERVER_ERROR, broken))
        }
        (&Method::GET, ["search"]) => {
            let found: Vec<_> = (0..20).map(|_| rng.roll(PRODUCTS.unsigned_abs())).collect();
            (rng.between(15, 60), (StatusCode::OK, json!({ "found": found })))
        }
        _ => (1, lost("no such page")),
    };
    (status, Duration::from_millis(takes), said)
}

/// A visitor of the shop: its user agent, and its pause between requests.
#[derive(Clone, Copy, Debug)]
struct Visitor {
    agent: &'static str,
    pause: Duration,
    next: fn(&mut Xorshift) -> (Method, String),
}

const VISITORS: [Visitor; 3] = [
    Visitor { agent: "storefront/3.1", pause: Duration::from_millis(10), next: buy },
    Visitor { agent: "mobile-app/7.0", pause: Duration::from_millis(16), next: browse },
    Visitor { agent: "crawler/1.0", pause: Duration::from_millis(250), next: crawl },
];

fn buy(rng: &mut Xorshift) -> (Method, String) {
    let customer = rng.roll(500);
    match rng.roll(3) {
        0 => (Method::POST, format!("/cart/{customer}/items")),
        _ => (Method::GET, format!("/cart/{customer}")),
    }
}

fn browse(rng: &mut Xorshift) -> (Method, String) {
    match rng.roll(10) {
        0 => (Method::GET, format!("/search?q=word{}", rng.roll(50))),
        _ => (Method::GET, format!("/products/{}", rng.roll(300))),
    }
}

fn crawl(rng: &mut Xorshift) -> (Method, String) {
    (Method::GET, format!("/archive/{}", rng.roll(1000)))
}

/// Sends requests to `server`, some hundred a second, until stopped. Must run in a `LocalRuntime`
/// or a `LocalSet`.
pub async fn run(server: SocketAddr, until: CancellationToken) {
    let mut tasks = JoinSet::new();
    for (seed, visitor) in (1..).zip(VISITORS) {
        let until = until.clone();
        tasks.spawn_local(async move {
            let mut rng = Xorshift(seed);
            traffic::keep_at(until, async || visit(server, visitor, &mut rng).await).await;
        });
    }
    tasks.join_all().await;
}

/// Visits the shop over one connection, until that is lost.
async fn visit(server: SocketAddr, visitor: Visitor, rng: &mut Xorshift) -> anyhow::Result<()> {
    let stream = TokioIo::new(traffic::connect(server).await?);
    let (mut requests, connection) = client::conn::http1::handshake(stream).await?;
    // Dropped, and so closed, together with the visit.
    let mut connected = JoinSet::new();
    connected.spawn_local(connection);
    loop {
        let (method, target) = (visitor.next)(rng);
        let request = Request::builder().method(method).uri(target);
        let request = request.header(HOST, "shop.example.com").header(USER_AGENT, visitor.agent);
        let exchange = async {
            requests.ready().await?;
            let mut answer = requests.send_request(request.body(Full::<Bytes>::default())?).await?;
            while let Some(frame) = answer.frame().await {
                frame?;
            }
            anyhow::Ok(())
        };
        time::timeout(REPLY_TIMEOUT, exchange).await.context("no answer")??;
        traffic::rest(visitor.pause, rng).await;
    }
}
