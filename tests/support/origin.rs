//! A service of HTTP/1.1 or HTTP/2 on hyper, in the test's own process.

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION, SET_COOKIE},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    thread,
};
use tokio::{net::TcpListener, runtime, task};

/// What it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
}

/// Runs hyper's tasks on the service's thread.
#[derive(Clone, Copy)]
struct Here;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, future: F) {
        task::spawn_local(future);
    }
}

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Starts one, which runs as long as the process.
pub fn start(speaks: Speaks) -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let serving = serve(listener, speaks);
        task::LocalSet::new().block_on(&runtime.expect("a runtime"), serving);
    });
    address
}

async fn serve(listener: std::net::TcpListener, speaks: Speaks) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        let io = TokioIo::new(stream);
        task::spawn_local(async move {
            let service = service_fn(async |request| Ok::<_, Infallible>(answer(request).await));
            // A client that goes away is no matter.
            let _ = match speaks {
                Speaks::Http1 => http1::Builder::new().serve_connection(io, service).await,
                Speaks::Http2 => {
                    let builder = http2::Builder::new(Here);
                    builder.serve_connection(io, service).await
                }
            };
        });
    }
}

async fn answer(request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    // Over HTTP/2 nobody but the service itself keeps an answer to this without a body.
    if request.method() == Method::HEAD {
        let mut answer = text("");
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("1234"));
        return answer;
    }
    match parts[..] {
        ["seen"] => seen(&request),
        ["never", ..] => std::future::pending().await,
        ["no"] => with_status(StatusCode::FORBIDDEN, "no, without a look at it\n"),
        ["status", code] => with_status(code.parse().expect("a status"), "as asked\n"),
        ["bytes", length] => text(vec![b'x'; length.parse().expect("a length")]),
        ["lines", count] => lines(count.parse().expect("a number")),
        ["read"] => text(request.into_body().collect().await.expect("a body").to_bytes()),
        ["moved"] => {
            let mut answer = with_status(StatusCode::FOUND, "");
            answer.headers_mut().insert(LOCATION, HeaderValue::from_static("/seen"));
            answer
        }
        ["cookie"] => {
            let mut answer = text("kept?\n");
            for cookie in ["a=1; Path=/", "b=2; Path=/"] {
                answer.headers_mut().append(SET_COOKIE, HeaderValue::from_static(cookie));
            }
            answer
        }
        _ => echo(request),
    }
}

fn text(content: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(content.into()).map_err(|never| match never {});
    Response::new(body.boxed_unsync())
}

fn with_status(status: StatusCode, words: &'static str) -> Response<Body> {
    let mut answer = text(words);
    *answer.status_mut() = status;
    answer
}

/// Tells what it sees of a request.
fn seen(request: &Request<Incoming>) -> Response<Body> {
    let headers = request.headers().iter();
    let headers: serde_json::Map<_, _> = headers
        .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    let told = json!({
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "version": format!("{:?}", request.version()),
        "headers": headers,
    });
    text(told.to_string())
}

/// Sends a request's body back as it comes, its trailers too.
fn echo(request: Request<Incoming>) -> Response<Body> {
    let kind = request.headers().get(CONTENT_TYPE).cloned();
    let mut answer = Response::new(request.into_body().boxed_unsync());
    if let Some(kind) = kind {
        answer.headers_mut().insert(CONTENT_TYPE, kind);
    }
    answer
}

/// Some lines, each a chunk of its own, and a trailer.
fn lines(count: usize) -> Response<Body> {
    let lines = (0..count).map(|n| Frame::data(Bytes::from(format!("line {n}\n"))));
    let mut trailers = HeaderMap::new();
    trailers.insert("x-count", HeaderValue::from(count));
    let frames = lines.chain([Frame::trailers(trailers)]).map(Ok);
    let mut answer = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
    answer.headers_mut().insert("trailer", HeaderValue::from_static("x-count"));
    answer
}
