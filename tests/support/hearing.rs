//! A service of HTTP that remembers what it was asked, and a client that sends bytes as they are.

use super::PATIENCE;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

/// A request, as the service heard it.
#[derive(Clone, Debug)]
pub struct Heard {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// How long its body was; `None` as long as it has not ended, and for ever if it was cut.
    pub body: Option<usize>,
    ended: bool,
}

/// How long the answer to `/large` is.
pub const LARGE: usize = 16 << 20;

/// The service. It reads whole bodies, and answers `hello`, or much where `/large` is asked for.
pub struct Hearing {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Hearing {
    /// Begins to listen, by this version of HTTP alone.
    pub fn start(version: u8) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = heard.clone();
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve(listener, version, kept));
        });
        Self { address, heard }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked so far, in order.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Whether it waits for the rest of no body.
    pub fn is_at_rest(&self) -> bool {
        self.heard().iter().all(|heard| heard.ended)
    }
}

async fn serve(listener: TcpListener, version: u8, heard: Arc<Mutex<Vec<Heard>>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    while let Ok((stream, _)) = listener.accept().await {
        let heard = heard.clone();
        let service = service_fn(move |request| hear(request, heard.clone()));
        tokio::spawn(async move {
            let stream = TokioIo::new(stream);
            let _ = match version {
                2 => {
                    let builder = http2::Builder::new(TokioExecutor::new());
                    builder.serve_connection(stream, service).await
                }
                _ => http1::Builder::new().serve_connection(stream, service).await,
            };
        });
    }
}

async fn hear(
    request: Request<Incoming>,
    all: Arc<Mutex<Vec<Heard>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let large = target == "/large";
    let index = {
        let mut all = all.lock().unwrap();
        all.push(Heard { method: head.method.to_string(), target, body: None, ended: false });
        all.len() - 1
    };
    /// Tells that the body is over, also if hyper drops whoever waits for it.
    struct Ended(Arc<Mutex<Vec<Heard>>>, usize);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.lock().unwrap()[self.1].ended = true;
        }
    }
    let _ended = Ended(all.clone(), index);
    let body = body.collect().await.ok().map(|body| body.to_bytes().len());
    all.lock().unwrap()[index].body = body;
    let answer = if large { Bytes::from(vec![b'x'; LARGE]) } else { Bytes::from_static(b"hello") };
    Ok(Response::new(Full::new(answer)))
}

/// An answer of HTTP/1.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| &**value)
    }

    /// The body, which is JSON.
    pub fn json(&self) -> serde_json::Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// A client of HTTP/1 that sends whatever bytes it is told to.
pub struct Asker(BufReader<TcpStream>);

impl Asker {
    /// Connects. Reads fail after [`PATIENCE`].
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self(BufReader::new(stream))
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the bytes are taken");
    }

    /// Sends these bytes, to a peer that may close before it has taken all of them.
    pub fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// Asks with GET, and reads the answer.
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n").as_bytes());
        self.answer().expect("an answer")
    }

    /// Says that it sends no more.
    pub fn finish(&mut self) {
        let _ = self.0.get_ref().shutdown(Shutdown::Write);
    }

    /// How long a read may wait from now on.
    pub fn patience(&mut self, patience: Duration) {
        self.0.get_ref().set_read_timeout(Some(patience)).expect("a socket");
    }

    /// The next whole answer but those of 1xx. An answer that is cut short is an error.
    pub fn answer(&mut self) -> io::Result<Answer> {
        loop {
            let answer = self.any_answer()?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    fn any_answer(&mut self) -> io::Result<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if answer.header("transfer-encoding").is_some() {
            while self.chunk(&mut answer.body)? {}
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("a length");
            answer.body.resize(length, 0);
            self.0.read_exact(&mut answer.body)?;
        } else if status >= 200 && status != 204 {
            self.0.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }

    fn chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let size = self.line()?;
        let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
        let begin = body.len();
        body.resize(begin + size, 0);
        self.0.read_exact(&mut body[begin..])?;
        self.line()?;
        Ok(size > 0)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Everything until the other end closes; a reset is an error.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
