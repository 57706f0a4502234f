//! A rate-limit service, as small as one can be.

use policy::kinds::rate_limit::shared::{DescriptorEntryPlan, ServicePlan, StorePlan};
use prost::Message;
use std::{
    collections::HashMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::oneshot;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use values::Target;

/// What it is asked. Read by definitions of its own: the field's numbers are the protocol's.
#[derive(Clone, PartialEq, Message)]
pub struct ReceivedRequest {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(message, repeated, tag = "2")]
    pub descriptors: Vec<Descriptor>,
    #[prost(uint32, tag = "3")]
    pub hits: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Pair>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Pair {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Answered {
    #[prost(enumeration = "Code", tag = "1")]
    overall_code: i32,
    #[prost(message, repeated, tag = "2")]
    statuses: Vec<Found>,
}

#[derive(Clone, PartialEq, Message)]
struct Found {
    #[prost(enumeration = "Code", tag = "1")]
    code: i32,
    #[prost(uint32, tag = "3")]
    limit_remaining: u32,
    #[prost(message, optional, tag = "4")]
    duration_until_reset: Option<Span>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Span {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
enum Code {
    Unknown = 0,
    Ok = 1,
    OverLimit = 2,
}

/// How it behaves.
#[derive(Clone, Default)]
pub struct Manner {
    /// How many hits there may be of each descriptor.
    pub most: u32,
    /// How long it thinks.
    pub delay: Duration,
    /// It answers with an error.
    pub fails: bool,
}

#[derive(Default)]
struct State {
    manner: Manner,
    asked: Vec<ReceivedRequest>,
    hits: HashMap<Vec<u8>, u32>,
}

/// A running service.
pub struct Limiter {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Limiter {
    pub fn start(manner: Manner) -> Self {
        let state = Arc::new(Mutex::new(State { manner, ..State::default() }));
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let mut limiter = Self { address, state, stop: None, thread: None };
        limiter.again();
        limiter
    }

    /// Listens, where it was if it did before.
    pub fn again(&mut self) {
        let (stop, stopped) = oneshot::channel::<()>();
        let (listens, listening) = std::sync::mpsc::channel();
        let (address, service) = (self.address, Service(Arc::clone(&self.state)));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            runtime.block_on(async move {
                let incoming = TcpIncoming::bind(address).unwrap().with_nodelay(Some(true));
                listens.send(incoming.local_addr().unwrap()).unwrap();
                tokio::select! {
                    served = Server::builder().add_service(service).serve_with_incoming(incoming) => {
                        served.unwrap();
                    }
                    _ = stopped => {}
                }
            });
            // With it go the connections.
            drop(runtime);
        });
        self.address = listening.recv().unwrap();
        (self.stop, self.thread) = (Some(stop), Some(thread));
    }

    /// Closes its socket and every connection.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub fn set(&self, manner: Manner) {
        self.state.lock().unwrap().manner = manner;
    }

    /// What it was asked so far.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.state.lock().unwrap().asked.clone()
    }

    pub fn store(&self, descriptors: &[&[(&str, Option<&str>)]]) -> StorePlan {
        let entry = |(key, value): &(&str, Option<&str>)| DescriptorEntryPlan {
            key: (*key).into(),
            value: value.map(Into::into),
        };
        StorePlan::Service(ServicePlan {
            address: Target::Host(self.address.ip().to_string(), self.address.port()),
            domain: "databases".to_owned(),
            descriptors: descriptors.iter().map(|one| one.iter().map(entry).collect()).collect(),
            tls: None,
        })
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

impl NamedService for Service {
    const NAME: &'static str = "envoy.service.ratelimit.v3.RateLimitService";
}

type Reply<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl tower_service::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Reply<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if !request.uri().path().ends_with("/ShouldRateLimit") {
                return Ok(Status::unimplemented("").into_http());
            }
            let codec = ProstCodec::<Answered, ReceivedRequest>::default();
            Ok(Grpc::new(codec).unary(service, request).await)
        })
    }
}

impl UnaryService<ReceivedRequest> for Service {
    type Response = Answered;
    type Future = Reply<Response<Answered>, Status>;

    fn call(&mut self, request: Request<ReceivedRequest>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let asked = request.into_inner();
            let (manner, answer) = state.lock().unwrap().decide(asked);
            tokio::time::sleep(manner.delay).await;
            match manner.fails {
                true => Err(Status::internal("it fails on purpose")),
                false => Ok(Response::new(answer)),
            }
        })
    }
}

impl State {
    fn decide(&mut self, asked: ReceivedRequest) -> (Manner, Answered) {
        let mut answer = Answered { overall_code: Code::Ok.into(), statuses: Vec::new() };
        for descriptor in &asked.descriptors {
            let hits = self.hits.entry(descriptor.encode_to_vec()).or_default();
            *hits += asked.hits.max(1);
            let over = *hits > self.manner.most;
            let code = if over { Code::OverLimit } else { Code::Ok };
            answer.statuses.push(Found {
                code: code.into(),
                limit_remaining: self.manner.most.saturating_sub(*hits),
                duration_until_reset: Some(Span { seconds: 7, nanos: 500_000_000 }),
            });
            if over {
                answer.overall_code = code.into();
            }
        }
        self.asked.push(asked);
        (self.manner.clone(), answer)
    }
}
