//! A client with one connection.

use super::{
    Version,
    content::Content,
    runtime, soon,
    test_request::{Answer, TestRequest},
};
use http::{Request, Uri, header};
use http_body_util::BodyExt;
use hyper::{
    Response,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpStream, sync::Mutex as Turn, task::JoinHandle};

/// The host that is asked for, unless a request says otherwise.
pub const HOST: &str = "shop.example";

/// A client with one connection. HTTP/1 carries one request at a time on it.
pub struct Client {
    sender: Sender,
    driver: Arc<Driver>,
}

#[derive(Clone)]
enum Sender {
    One(Arc<Turn<http1::SendRequest<Content>>>),
    Two(http2::SendRequest<Content>),
}

/// What moves the connection's bytes; the connection ends with it.
struct Driver(Mutex<JoinHandle<()>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.lock().unwrap().abort();
    }
}

/// A request under way, and its connection. Dropped, it is broken off.
pub struct Pending(JoinHandle<Result<Answer, String>>, Arc<Driver>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pending {
    /// Waits for the answer; an error if the connection or stream ends without one.
    pub fn try_answer(mut self) -> Result<Answer, String> {
        soon("an answer", &mut self.0).expect("no panic")
    }

    /// Waits for the answer.
    pub fn answer(self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// Whether it has come.
    pub fn is_answered(&self) -> bool {
        self.0.is_finished()
    }
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr, version: Version) -> Self {
        soon("a connection", async {
            let stream = TcpStream::connect(address).await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            let stream = TokioIo::new(stream);
            let (sender, driver) = match version {
                Version::One => {
                    let handshake = http1::Builder::new().handshake(stream).await;
                    let (sender, connection) = handshake.expect("a handshake");
                    let driver = runtime().spawn(async { drop(connection.await) });
                    (Sender::One(Arc::new(Turn::new(sender))), driver)
                }
                Version::Two => {
                    let handshake = http2::Builder::new(TokioExecutor::new()).handshake(stream);
                    let (sender, connection) = handshake.await.expect("a handshake");
                    (Sender::Two(sender), runtime().spawn(async { drop(connection.await) }))
                }
            };
            Self { sender, driver: Arc::new(Driver(Mutex::new(driver))) }
        })
    }

    /// Sends a request, and waits for its answer.
    pub fn round_trip(&self, ask: TestRequest) -> Answer {
        self.begin(ask).answer()
    }

    /// Sends a request.
    pub fn begin(&self, ask: TestRequest) -> Pending {
        let sender = self.sender.clone();
        let answer = runtime().spawn(async move { whole(sender.send(ask).await?).await });
        Pending(answer, Arc::clone(&self.driver))
    }

    /// Sends a request, and waits for the head of its answer; the body waits to be read.
    pub fn open(&self, ask: TestRequest) -> Response<Incoming> {
        soon("an answer's head", self.sender.clone().send(ask)).expect("an answer")
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.driver.0.lock().unwrap().is_finished()
    }
}

impl Sender {
    async fn send(self, ask: TestRequest) -> Result<Response<Incoming>, String> {
        let host = ask.headers.get(header::HOST).map_or(HOST, |it| it.to_str().expect("text"));
        let host = host.to_owned();
        let whole = ask.uri(&host);
        let TestRequest { method, mut headers, content, .. } = ask;
        let mut request = Request::new(content);
        *request.method_mut() = method;
        let answer = match self {
            Sender::One(sender) => {
                headers.insert(header::HOST, host.parse().expect("a host"));
                let path = whole.into_parts().path_and_query.expect("a path");
                *request.uri_mut() = Uri::from(path);
                *request.headers_mut() = headers;
                let mut sender = sender.lock_owned().await;
                sender.ready().await.map_err(|error| format!("{error:?}"))?;
                sender.send_request(request).await
            }
            Sender::Two(mut sender) => {
                headers.remove(header::HOST);
                *request.uri_mut() = whole;
                *request.headers_mut() = headers;
                sender.ready().await.map_err(|error| format!("{error:?}"))?;
                sender.send_request(request).await
            }
        };
        answer.map_err(|error| format!("{error:?}"))
    }
}

/// Reads an answer to its end.
pub async fn whole(answer: Response<Incoming>) -> Result<Answer, String> {
    let (head, mut body) = answer.into_parts();
    let mut answer = Answer::of(head.status, head.headers);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            answer.broken = true;
            break;
        };
        match frame.into_data() {
            Ok(data) => answer.body.extend_from_slice(&data),
            Err(frame) => answer.trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok(answer)
}
