//! A service that answers as a test's script says, and remembers what it was asked.

use super::{
    Version,
    content::Content,
    reply::{Given, ReceivedRequest, Reply, State},
    runtime, soon,
};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Either};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::AbortHandle,
    time::sleep,
};

/// The service. It ends when dropped.
pub struct Service {
    address: SocketAddr,
    version: Version,
    state: Arc<Shared>,
    accepting: Mutex<AbortHandle>,
}

type Script = dyn Fn(&ReceivedRequest) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    asked: Mutex<Vec<ReceivedRequest>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    max_streams: u32,
    /// 1 once connections are to end in good order, 2 at once; each change counts for those that
    /// are there.
    ends: watch::Sender<u8>,
}

impl Service {
    /// Answers each request as `script` says when its head is there.
    pub fn start(
        version: Version,
        script: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::with_streams(version, 1000, script)
    }

    /// The same; `max_streams` is how many requests one connection of HTTP/2 may have under way.
    pub fn with_streams(
        version: Version,
        max_streams: u32,
        script: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::new(Shared {
            script: Box::new(script),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            max_streams,
            ends: watch::Sender::new(0),
        });
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = soon("a port", TcpListener::bind(any)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let accepting = Mutex::new(accept(listener, version, &state));
        Self { address, version, state, accepting }
    }

    /// One that answers everything with this text.
    pub fn replying(version: Version, text: &'static str) -> Self {
        Self::start(version, move |_| Reply::ok(text))
    }

    /// One that answers its only request with this body.
    pub fn once(version: Version, content: Content) -> Self {
        let content = Mutex::new(Some(content));
        Self::start(version, move |_| {
            Reply::ok(content.lock().unwrap().take().expect("one request"))
        })
    }

    /// One that answers `held` to `/held` when the test adds a permit, and `ok` to all else.
    pub fn holding(version: Version) -> (Self, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let service = Self::start(version, move |asked| match asked.target.as_str() {
            "/held" => Reply::ok("held").held(&held),
            _ => Reply::ok("ok"),
        });
        (service, gate)
    }

    /// Serves as long as the test's process runs. Returns where it listens.
    pub fn run_forever(self) -> SocketAddr {
        let address = self.address;
        std::mem::forget(self);
        address
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The keys of a cluster that lead to it.
    pub fn endpoints(&self) -> String {
        let Self { address, version, .. } = self;
        format!("endpoints: [\"{address}\"], http: {{ version: {} }}", version.number())
    }

    /// What it was asked so far.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Waits for this many requests.
    pub fn wait_for_requests(&self, count: usize) -> Vec<ReceivedRequest> {
        crate::support::eventually(&format!("{count} requests"), || {
            Some(self.received()).filter(|asked| asked.len() >= count)
        })
    }

    /// How many connections it has got so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many of them are open.
    pub fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Ends its connections in good order: with GOAWAY, or after the answer that is under way.
    pub fn end_connections(&self) {
        let _ = self.state.ends.send(1);
    }

    /// Ends its connections at once.
    pub fn cut_connections(&self) {
        let _ = self.state.ends.send(2);
    }

    /// Stops accepting, and ends all connections.
    pub fn stop(&self) {
        self.accepting.lock().unwrap().abort();
        self.cut_connections();
    }

    /// Listens again after [`stop`](Self::stop).
    pub fn resume(&self) {
        let listener = soon("the port", async {
            loop {
                if let Ok(listener) = TcpListener::bind(self.address).await {
                    return listener;
                }
                tokio::task::yield_now().await;
            }
        });
        *self.accepting.lock().unwrap() = accept(listener, self.version, &self.state);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: TcpListener, version: Version, state: &Arc<Shared>) -> AbortHandle {
    let state = Arc::clone(state);
    let accepting = runtime().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let state = Arc::clone(&state);
            let number = state.connections.fetch_add(1, Ordering::SeqCst);
            let mut ends = state.ends.subscribe();
            ends.mark_unchanged();
            state.open.fetch_add(1, Ordering::SeqCst);
            runtime().spawn(async move {
                let _ = stream.set_nodelay(true);
                serve(stream, version, &state, number, ends).await;
                state.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    accepting.abort_handle()
}

type Failure = Box<dyn Error + Send + Sync>;

async fn serve(
    stream: TcpStream,
    version: Version,
    state: &Arc<Shared>,
    number: usize,
    ends: watch::Receiver<u8>,
) {
    let (stream, kept) = (TokioIo::new(stream), Arc::clone(state));
    let each = service_fn(move |request| answer(Arc::clone(&kept), number, request));
    match version {
        Version::One => {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(None);
            let connection = builder.serve_connection(stream, each);
            until_its_end(connection, ends, http1::Connection::graceful_shutdown).await;
        }
        Version::Two => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.max_concurrent_streams(state.max_streams);
            let connection = builder.serve_connection(stream, each);
            until_its_end(connection, ends, http2::Connection::graceful_shutdown).await;
        }
    }
}

async fn until_its_end<C: Future>(
    connection: C,
    mut ends: watch::Receiver<u8>,
    in_good_order: impl Fn(Pin<&mut C>),
) {
    let mut connection = pin!(connection);
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            changed = ends.changed() => match (changed, *ends.borrow()) {
                (Ok(()), 1) => in_good_order(connection.as_mut()),
                _ => return,
            },
        }
    }
}

async fn answer(
    state: Arc<Shared>,
    connection: usize,
    request: Request<Incoming>,
) -> Result<Response<Either<Content, Incoming>>, Failure> {
    let (head, mut body) = request.into_parts();
    let host = head.headers.get(http::header::HOST).and_then(|it| it.to_str().ok());
    let authority = head.uri.authority().map(|it| it.as_str()).or(host).unwrap_or_default();
    let asked = ReceivedRequest {
        authority: authority.to_owned(),
        method: head.method,
        uri: head.uri.clone(),
        target: head.uri.path_and_query().map(|it| it.as_str().to_owned()).unwrap_or_default(),
        headers: head.headers,
        body: Vec::new(),
        trailers: HeaderMap::new(),
        connection,
        state: State::UnderWay,
    };
    let reply = (state.script)(&asked);
    let mut note = Note::new(&state, asked);
    let echoes = matches!(reply.content, Given::Echo);
    let reads = !reply.early && !echoes;
    while let Some(frame) = if reads { body.frame().await } else { None } {
        let frame = frame.inspect_err(|_| note.ends(State::Broken))?;
        note.change(|asked| match frame.into_data() {
            Ok(data) => asked.body.extend_from_slice(&data),
            Err(frame) => asked.trailers = frame.into_trailers().unwrap_or_default(),
        });
    }
    if let Some(delay) = reply.delay {
        sleep(delay).await;
    }
    if let Some(gate) = &reply.gate {
        gate.acquire().await?.forget();
    }
    note.ends(State::Answered);
    let body = match reply.content {
        Given::Own(content) => Either::Left(content),
        Given::Echo => Either::Right(body),
        Given::Back => Either::Left(note.body().into()),
        Given::Reset(reason) => return Err(h2::Error::from(reason).into()),
    };
    let mut answer = Response::new(body);
    (*answer.status_mut(), *answer.headers_mut()) = (reply.status, reply.headers);
    Ok(answer)
}

/// A request among those that the service has got.
struct Note<'s> {
    state: &'s Shared,
    at: usize,
    over: bool,
}

impl<'s> Note<'s> {
    fn new(state: &'s Shared, request: ReceivedRequest) -> Self {
        let mut asked = state.asked.lock().unwrap();
        asked.push(request);
        Self { state, at: asked.len() - 1, over: false }
    }

    fn change(&self, how: impl FnOnce(&mut ReceivedRequest)) {
        how(&mut self.state.asked.lock().unwrap()[self.at]);
    }

    fn body(&self) -> Vec<u8> {
        self.state.asked.lock().unwrap()[self.at].body.clone()
    }

    fn ends(&mut self, state: State) {
        self.over = true;
        self.change(|asked| asked.state = state);
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.ends(State::Dropped);
        }
    }
}
