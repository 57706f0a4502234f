//! HTTP and gRPC: services that answer each request the same, and what a client of them sends and
//! hears, byte for byte.

#![allow(clippy::disallowed_methods, reason = "a client of a test has a runtime of its own")]

use crate::support::http::{Content, Reply, Service, Version};
use bytes::Bytes;
use h2::client;
use http::{HeaderMap, Request};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::{Builder, Runtime},
};

/// What both services answer.
const ANSWER: &[u8] = b"answer";

/// The same as a message of gRPC: uncompressed, so long.
const MESSAGE: &[u8] = b"\0\0\0\0\x06answer";

/// A working service's answer to health checks.
const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";

/// What is asked, as a message.
const ASKED: &[u8] = b"\0\0\0\0\x03ask";

/// How many bytes a conversation may have.
const ROOM: usize = 1 << 20;

/// Starts a service of HTTP/1.1.
pub(super) fn serve_http() -> SocketAddr {
    Service::start(Version::One, |_| Reply::ok(ANSWER)).run_forever()
}

/// Starts a service of gRPC.
pub(super) fn serve_grpc() -> SocketAddr {
    let service = Service::start(Version::Two, |asked| {
        let health = asked.target == "/grpc.health.v1.Health/Check";
        let message = Content::from(if health { SERVING } else { MESSAGE });
        let answer = Reply::ok(message.trailers(&[("grpc-status", "0")]));
        answer.header("content-type", "application/grpc")
    });
    service.run_forever()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What a client of HTTP/1.1 sends.
pub(super) fn get() -> Vec<u8> {
    b"GET /prices HTTP/1.1\r\nhost: shop\r\n\r\n".to_vec()
}

/// What a client of gRPC sends, from the first byte of its connection.
pub(super) fn call() -> Vec<u8> {
    runtime().block_on(async {
        let (near, mut far) = duplex(ROOM);
        let (mut client, connection) = client::handshake(near).await.unwrap();
        let _answer = begin(&mut client);
        tokio::spawn(connection);
        let mut sent = Vec::new();
        while !sent.ends_with(ASKED) {
            far.read_buf(&mut sent).await.unwrap();
        }
        sent
    })
}

fn begin(client: &mut client::SendRequest<Bytes>) -> client::ResponseFuture {
    let request = Request::post("http://shop/shop.Prices/Get")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(Bytes::from_static(ASKED), true).unwrap();
    answer
}

/// An answer, as far as it has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// Its status, 0 before there is one.
    pub(super) status: u16,
    /// Its headers, and then its trailers.
    pub(super) headers: HeaderMap,
    /// What has come of its body.
    pub(super) body: Vec<u8>,
    /// All of it is there.
    pub(super) whole: bool,
    /// It was broken off, though the connection goes on.
    pub(super) cut: bool,
}

impl Answer {
    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The answer to [`get`].
    pub(super) fn to_get(bytes: &[u8]) -> Answer {
        let mut answer = Answer::default();
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return answer;
        };
        let head = std::str::from_utf8(&bytes[..end]).expect("text");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        answer.status = status.expect("a status line")[..3].parse().expect("a status");
        for (name, value) in lines.map(|line| line.split_once(':').expect("a header")) {
            let name: http::HeaderName = name.parse().expect("a name");
            answer.headers.append(name, value.trim().parse().expect("a value"));
        }
        answer.body = bytes[end + 4..].to_vec();
        let length = answer.header("content-length").expect("a length").parse();
        answer.whole = answer.body.len() == length.unwrap_or(usize::MAX);
        answer
    }

    /// The answer to [`call`]: what a client makes of these bytes, that has sent it.
    pub(super) fn to_call(bytes: &[u8]) -> Answer {
        runtime().block_on(async {
            let (near, mut far) = duplex(ROOM);
            let (mut client, connection) = client::handshake(near).await.unwrap();
            let coming = begin(&mut client);
            tokio::spawn(connection);
            // Nothing can be answered that was not asked.
            let mut asked = Vec::new();
            while !asked.ends_with(ASKED) {
                far.read_buf(&mut asked).await.unwrap();
            }
            far.write_all(bytes).await.unwrap();
            far.shutdown().await.unwrap();
            let mut answer = Answer::default();
            let reset = |error: h2::Error| error.is_reset();
            let (head, mut body) = match coming.await {
                Ok(head) => head.into_parts(),
                Err(error) => {
                    answer.cut = reset(error);
                    return answer;
                }
            };
            (answer.status, answer.headers) = (head.status.as_u16(), head.headers);
            while let Some(data) = body.data().await {
                match data {
                    Ok(data) => answer.body.extend_from_slice(&data),
                    Err(error) => {
                        answer.cut = reset(error);
                        return answer;
                    }
                }
            }
            let Ok(trailers) = body.trailers().await else { return answer };
            answer.headers.extend(trailers.unwrap_or_default());
            answer.whole = true;
            answer
        })
    }

    /// Whether it is the service's to [`get`].
    pub(super) fn is_to_get(&self) -> bool {
        self.whole && self.status == 200 && self.body == ANSWER
    }

    /// Whether it is the service's to [`call`].
    pub(super) fn is_to_call(&self) -> bool {
        self.grpc() == Some(0) && self.status == 200 && self.body == MESSAGE
    }

    /// The status of gRPC.
    pub(super) fn grpc(&self) -> Option<i32> {
        self.header("grpc-status").filter(|_| self.whole)?.parse().ok()
    }
}
