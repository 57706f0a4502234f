//! The connection to the collector: one request with spans, over gRPC or HTTP.

use crate::{
    OtlpProtocol, TracesPlan,
    otlp::{ExportResponse, PartialSuccess},
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use net::Stream;
use prost::Message;
use std::{io, sync::Arc, time::Duration};
use tokio::{net::TcpStream, task::spawn_local, time::timeout};
use values::error_chain;

/// The method of OTLP over gRPC.
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(3);

/// The longest response that is read, in bytes.
const MAX_RESPONSE: usize = 1 << 20;

/// The longest time that a collector may ask to wait.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Codes of gRPC after which the same request may succeed: CANCELLED, DEADLINE_EXCEEDED, ABORTED,
/// OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS. RESOURCE_EXHAUSTED is one only with details that say when.
const RETRYABLE_CODES: [u32; 6] = [1, 4, 10, 11, 14, 15];

/// Statuses of HTTP after which the same request may succeed.
const RETRYABLE_STATUSES: [u16; 4] = [429, 502, 503, 504];

/// What the collector has answered, or why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ExportResult {
    /// It has the spans, without these.
    Accepted(PartialSuccess),
    /// It does not take them, now or later.
    Refused(String),
    /// It may take them later; after this time, if it said so.
    Retry(String, Option<Duration>),
}

/// The connection to the collector; made when it is needed, and made again when it broke.
pub(crate) struct Transport {
    plan: Arc<TracesPlan>,
    sender: Option<Sender>,
}

enum Sender {
    Grpc(http2::SendRequest<Full<Bytes>>),
    Http(http1::SendRequest<Full<Bytes>>),
}

impl Transport {
    /// A connection that is made with the first request.
    pub(crate) fn new(plan: Arc<TracesPlan>) -> Self {
        Self { plan, sender: None }
    }

    /// Sends an encoded request, and waits at most `patience` for the answer.
    pub(crate) async fn export(&mut self, spans: &Bytes, patience: Duration) -> ExportResult {
        let result = match timeout(patience, self.send(spans)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => ExportResult::Retry(error, None),
            Err(_) => ExportResult::Retry("no answer in time".to_owned(), None),
        };
        // A connection on which nothing comes back is not noticed by itself.
        if matches!(result, ExportResult::Retry(..)) {
            self.sender = None;
        }
        result
    }

    async fn send(&mut self, spans: &Bytes) -> Result<ExportResult, String> {
        let is_open = self.sender.as_ref().is_some_and(|sender| !sender.is_closed());
        let mut sender = match self.sender.take().filter(|_| is_open) {
            Some(sender) => sender,
            None => connect(&self.plan).await.map_err(|error| error_chain(&error))?,
        };
        let request = request(&self.plan, spans);
        let response = sender.send(request).await.map_err(|error| error_chain(&error))?;
        let answer = read(response, self.plan.protocol).await;
        self.sender = Some(sender);
        Ok(answer)
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Grpc(sender) => sender.is_closed(),
            Self::Http(sender) => sender.is_closed(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Grpc(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// Runs the tasks of a connection on the exporter's thread.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

async fn connect(plan: &TracesPlan) -> io::Result<Sender> {
    let opened = timeout(CONNECT, open(plan)).await;
    let stream = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let io = TokioIo::new(stream);
    Ok(match plan.protocol {
        OtlpProtocol::Grpc => {
            let mut builder = http2::Builder::new(OnThisThread);
            let (sender, connection) =
                builder.timer(TokioTimer::new()).handshake(io).await.map_err(io::Error::other)?;
            // Its end shows in the sender.
            spawn_local(async { drop(connection.await) });
            Sender::Grpc(sender)
        }
        OtlpProtocol::Http => {
            let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
            spawn_local(async { drop(connection.await) });
            Sender::Http(sender)
        }
    })
}

/// Opens the connection, encrypted if the plan says so.
async fn open(plan: &TracesPlan) -> io::Result<Stream> {
    let host = &*plan.otlp.host;
    let socket = TcpStream::connect((host, plan.otlp.port(plan.protocol))).await?;
    socket.set_nodelay(true)?;
    match &plan.tls {
        None => Ok(socket.into()),
        Some(tls) => {
            let name = tls.plan().server_name.as_deref().unwrap_or(host);
            Ok(tls.connect(socket, name).await?.into())
        }
    }
}

fn request(plan: &TracesPlan, spans: &Bytes) -> Request<Full<Bytes>> {
    let authority = plan.otlp.authority(plan.protocol);
    let (uri, media, body) = match plan.protocol {
        OtlpProtocol::Grpc => {
            let scheme = if plan.otlp.encrypted { "https" } else { "http" };
            (format!("{scheme}://{authority}{METHOD}"), "application/grpc", framed(spans))
        }
        OtlpProtocol::Http => {
            (plan.otlp.path().to_owned(), "application/x-protobuf", spans.clone())
        }
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = http::Method::POST;
    // Host and path were checked when the URL was read.
    *request.uri_mut() = uri.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.extend(plan.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    let agent = concat!("Tollgate/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    match plan.protocol {
        OtlpProtocol::Grpc => {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        OtlpProtocol::Http => {
            if let Ok(host) = HeaderValue::from_str(&authority) {
                headers.insert(header::HOST, host);
            }
        }
    }
    request
}

/// A message of gRPC, not compressed.
fn framed(message: &Bytes) -> Bytes {
    let mut body = BytesMut::with_capacity(message.len() + 5);
    body.put_u8(0);
    body.put_u32(message.len() as u32);
    body.extend_from_slice(message);
    body.freeze()
}

/// Reads the answer.
async fn read(response: Response<Incoming>, protocol: OtlpProtocol) -> ExportResult {
    let (head, body) = response.into_parts();
    let body = match Limited::new(body, MAX_RESPONSE).collect().await {
        Ok(body) => body,
        Err(error) => return ExportResult::Retry(error_chain(&*error), None),
    };
    let trailers = body.trailers().cloned();
    let message = body.to_bytes();
    if head.status != StatusCode::OK {
        return refused_status(head.status, &head.headers);
    }
    match protocol {
        OtlpProtocol::Http => accepted(&message),
        OtlpProtocol::Grpc => {
            // A call without a message has its status among the headers.
            let ends = trailers.filter(|it| it.contains_key("grpc-status"));
            let ends = ends.unwrap_or(head.headers);
            match code(&ends) {
                Some(0) => accepted(message.get(5..).unwrap_or_default()),
                code => refused_code(code, &ends),
            }
        }
    }
}

/// What the collector has accepted. An answer that can't be read is one of a collector that says
/// nothing about single spans.
fn accepted(message: &[u8]) -> ExportResult {
    let answer = ExportResponse::decode(message).unwrap_or_default();
    ExportResult::Accepted(answer.partial_success.unwrap_or_default())
}

fn refused_status(status: StatusCode, headers: &HeaderMap) -> ExportResult {
    let words = format!("the collector answers with the status {status}");
    match RETRYABLE_STATUSES.contains(&status.as_u16()) {
        true => ExportResult::Retry(words, retry_after(headers)),
        false => ExportResult::Refused(words),
    }
}

fn refused_code(code: Option<u32>, ends: &HeaderMap) -> ExportResult {
    let message = ends.get("grpc-message").and_then(|value| value.to_str().ok());
    let message = message.map_or(String::new(), |message| format!(": {message}"));
    match code {
        Some(code) => {
            let words = format!("the collector answers with the gRPC code {code}{message}");
            match RETRYABLE_CODES.contains(&code) {
                true => ExportResult::Retry(words, None),
                false => ExportResult::Refused(words),
            }
        }
        None => ExportResult::Refused("the answer is not one of gRPC".to_owned()),
    }
}

fn code(ends: &HeaderMap) -> Option<u32> {
    ends.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// How long the collector wants to be left alone, in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
