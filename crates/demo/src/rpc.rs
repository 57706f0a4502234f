//! The demonstration's prices: a gRPC service, and its clients.

#[cfg(test)]
mod tests;

use super::{
    accept,
    traffic::{self, REPLY_TIMEOUT},
    xorshift::Xorshift,
};
use anyhow::Context;
use bytes::Bytes;
use grpc::{
    frame::{FrameDecoder, framed},
    status::{Code, Status},
};
use http::{
    HeaderMap, Method, Request, Response,
    header::{CONTENT_TYPE, HeaderValue, TE},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    client, server,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prost::Message;
use std::{
    cell::RefCell, convert::Infallible, future::ready, net::SocketAddr, rc::Rc, time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet, time};
use tokio_util::sync::CancellationToken;

/// What the service is asked: the price of a thing.
const QUOTE: &str = "/shop.Prices/Quote";
/// The same of a thing with a discount to be worked out, which takes longer.
const DISCOUNT: &str = "/shop.Prices/Discount";
/// How many things have a price. Callers ask for some that have none.
const PRODUCTS: u64 = 280;
/// How many bytes a request may have.
const MAX_REQUEST: usize = 64 << 10;

/// Both the question, of which product, and the answer, with its price.
#[derive(Clone, PartialEq, Eq, Message)]
struct Price {
    #[prost(uint32, tag = "1")]
    product: u32,
    #[prost(uint32, tag = "2")]
    cents: u32,
}

/// Serves every connection until dropped. Must run in a `LocalRuntime` or a `LocalSet`.
pub async fn serve(listener: TcpListener) {
    let rng = Rc::new(RefCell::new(Xorshift(23)));
    let serve = |stream| {
        let rng = rng.clone();
        async move {
            let service = service_fn(move |request| answer(request, rng.clone()));
            let mut builder = server::conn::http2::Builder::new(Here);
            let connection = builder.timer(TokioTimer::new());
            // The result is ignored: the connection has ended either way.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        }
    };
    accept::each(listener, serve).await;
}

async fn answer(
    request: Request<Incoming>,
    rng: Rc<RefCell<Xorshift>>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let asked = Limited::new(body, MAX_REQUEST).collect().await;
    let asked = asked.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (takes, result) = decide(head.uri.path(), &asked, &mut rng.borrow_mut());
    time::sleep(takes).await;
    let mut trailers = HeaderMap::new();
    let (message, status) = match result {
        Ok(price) => (framed(0, &price.encode_to_vec()), Status::new(Code::Ok, "")),
        Err(status) => (Bytes::new(), status),
    };
    status.write(&mut trailers);
    let body = Full::new(message).with_trailers(ready(Some(Ok(trailers))));
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// The reply to a call, and how long it takes.
fn decide(path: &str, asked: &[u8], rng: &mut Xorshift) -> (Duration, Result<Price, Status>) {
    let takes = match path {
        QUOTE => rng.between(1, 4),
        DISCOUNT => rng.between(5, 30),
        _ => return (Duration::ZERO, Err(Status::new(Code::Unimplemented, "no such method"))),
    };
    let result = match read(asked) {
        Some(Price { product, .. }) if u64::from(product) < PRODUCTS => {
            Ok(Price { product, cents: 100 + product * 7 })
        }
        Some(_) => Err(Status::new(Code::NotFound, "no such product")),
        None => Err(Status::new(Code::InvalidArgument, "not one message, or not a price")),
    };
    (Duration::from_millis(takes), result)
}

/// The one message of a body.
fn read(body: &[u8]) -> Option<Price> {
    let mut frames = FrameDecoder::new(MAX_REQUEST);
    frames.push(body);
    Price::decode(frames.next_frame().ok()??.message).ok()
}

/// A client: its method, and the pause between two calls.
type Caller = (&'static str, Duration);

const CALLERS: [Caller; 3] = [
    (QUOTE, Duration::from_millis(12)),
    (QUOTE, Duration::from_millis(18)),
    (DISCOUNT, Duration::from_millis(40)),
];

/// Calls `server` some hundred times a second, until stopped. Must run in a `LocalRuntime` or a
/// `LocalSet`.
pub async fn run(server: SocketAddr, until: CancellationToken) {
    let mut tasks = JoinSet::new();
    for (seed, caller) in (1..).zip(CALLERS) {
        let until = until.clone();
        tasks.spawn_local(async move {
            let mut rng = Xorshift(seed);
            traffic::keep_at(until, async || call(server, caller, &mut rng).await).await;
        });
    }
    tasks.join_all().await;
}

/// Calls over one connection, until that is lost.
async fn call(
    server: SocketAddr,
    (method, pause): Caller,
    rng: &mut Xorshift,
) -> anyhow::Result<()> {
    let stream = TokioIo::new(traffic::connect(server).await?);
    let (mut requests, connection) = client::conn::http2::handshake(Here, stream).await?;
    // Dropped, and so closed, together with the calls.
    let mut connected = JoinSet::new();
    connected.spawn_local(connection);
    loop {
        let asked = Price { product: rng.between(0, PRODUCTS + 8) as u32, cents: 0 };
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://prices.example.com{method}"))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .header("grpc-timeout", "5S")
            .body(Full::new(framed(0, &asked.encode_to_vec())))?;
        let exchange = async {
            requests.ready().await?;
            let mut answer = requests.send_request(request).await?;
            while let Some(frame) = answer.frame().await {
                frame?;
            }
            anyhow::Ok(())
        };
        time::timeout(REPLY_TIMEOUT, exchange).await.context("no answer")??;
        traffic::rest(pause, rng).await;
    }
}

/// Runs hyper's background tasks on this thread.
#[derive(Clone, Copy, Debug)]
struct Here;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, work: F) {
        tokio::task::spawn_local(work);
    }
}
