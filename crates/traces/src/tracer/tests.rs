use super::*;
use crate::{
    OtlpEndpoint, OtlpProtocol, Sample,
    otlp::{ExportRequest, ExportResponse, PartialSuccess, attribute},
    plan::Always,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, rt::Executor, server::conn, service::service_fn};
use hyper_util::rt::TokioIo;
use prost::Message;
use std::{convert::Infallible, net::SocketAddr, sync::mpsc as std_mpsc, thread};
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions, LocalRuntime},
    task::spawn_local,
};
use values::FromText;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the collector answers: a status of HTTP, or a code of gRPC, and how many spans it rejects.
type Answer = (u32, i64);

/// A collector that answers in this order; the last answer stays. It forwards what it gets.
struct Collector {
    address: SocketAddr,
    requests: std_mpsc::Receiver<(HeaderMap, ExportRequest)>,
}

#[derive(Clone, Copy)]
struct Here;

impl<F: Future<Output = ()> + 'static> Executor<F> for Here {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

fn runtime() -> LocalRuntime {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap()
}

impl Collector {
    fn start(protocol: OtlpProtocol, answers: &'static [Answer]) -> Self {
        let (ready, address) = std_mpsc::channel();
        let (requests, received) = std_mpsc::channel();
        thread::spawn(move || {
            runtime().block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                let answered = Rc::new(Cell::new(0));
                while let Ok((socket, _)) = listener.accept().await {
                    let (requests, answered) = (requests.clone(), Rc::clone(&answered));
                    let service = service_fn(move |request| {
                        let at = answered.replace(answered.get() + 1);
                        let answer = answers[at.min(answers.len() - 1)];
                        answer_one(protocol, request, answer, requests.clone())
                    });
                    spawn_local(async move {
                        let io = TokioIo::new(socket);
                        let _ = match protocol {
                            OtlpProtocol::Grpc => {
                                conn::http2::Builder::new(Here).serve_connection(io, service).await
                            }
                            OtlpProtocol::Http => {
                                conn::http1::Builder::new().serve_connection(io, service).await
                            }
                        };
                    });
                }
            });
        });
        Self { address: address.recv().unwrap(), requests: received }
    }

    fn next(&self) -> (HeaderMap, ExportRequest) {
        self.requests.recv_timeout(PATIENCE).expect("a request")
    }
}

async fn answer_one(
    protocol: OtlpProtocol,
    request: Request<Incoming>,
    (status, rejected): Answer,
    requests: std_mpsc::Sender<(HeaderMap, ExportRequest)>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let error_message = if rejected > 0 { "too old" } else { "" }.to_owned();
    let partial = PartialSuccess { rejected_spans: rejected, error_message };
    let reply = ExportResponse { partial_success: Some(partial) }.encode_to_vec();
    let (message, mut response) = match protocol {
        OtlpProtocol::Http => {
            assert_eq!(path, "/v1/traces");
            let mut response = Response::new(Full::new(reply.into()));
            *response.status_mut() = u16::try_from(status).unwrap().try_into().unwrap();
            (body.to_vec(), response)
        }
        OtlpProtocol::Grpc => {
            assert_eq!(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
            assert_eq!(body[1..5], (body.len() as u32 - 5).to_be_bytes());
            let frame = [&[0][..], &(reply.len() as u32).to_be_bytes(), &reply].concat();
            let frame = if status == 0 { frame } else { Vec::new() };
            let mut response = Response::new(Full::new(frame.into()));
            response.headers_mut().insert("grpc-status", status.into());
            (body[5..].to_vec(), response)
        }
    };
    response.headers_mut().insert("retry-after", 0.into());
    let _ = requests.send((head.headers, ExportRequest::decode(&*message).unwrap()));
    Ok(response)
}

fn plan(address: SocketAddr, protocol: OtlpProtocol) -> TracesPlan {
    TracesPlan {
        otlp: OtlpEndpoint::from_text(&format!("http://{address}")).unwrap(),
        protocol,
        tls: None,
        sample: Sample(1.0),
        always: Always::default(),
        service: "edge".into(),
        resource: vec![("host.name".to_owned(), "h".to_owned())],
        headers_file: None,
        headers: vec![crate::plan::header("x-team", "db").unwrap()],
        max_spans_per_second: 100_000,
        sessions: false,
        timeout: Duration::from_secs(5),
    }
}

fn spans(count: u64) -> Vec<Span> {
    let span = |id: u64| Span { span_id: id.to_be_bytes().to_vec(), ..Span::default() };
    (0..count).map(span).collect()
}

/// The value of a counter.
fn value(metrics: &Metrics, series: &str) -> u64 {
    let mut text = String::new();
    metrics.render(&mut text);
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

/// Sends spans, ends the exporter, and returns the counts: exported, then dropped by reason.
fn counts(plan: TracesPlan, batches: &[u64]) -> [u64; 5] {
    let metrics = Metrics::new();
    let tracer = Tracer::start(plan, &metrics).unwrap();
    batches.iter().for_each(|count| tracer.send(spans(*count)));
    tracer.close(Instant::now() + PATIENCE);
    let dropped = ["rate", "queue_full", "refused", "unreachable"].map(|reason| {
        value(&metrics, &format!("tollgate_spans_dropped_total{{reason=\"{reason}\"}}"))
    });
    let [rate, queue, refused, unreachable] = dropped;
    [value(&metrics, "tollgate_spans_exported_total"), rate, queue, refused, unreachable]
}

#[test]
fn spans_arrive_over_both_protocols() {
    for (protocol, ok) in [(OtlpProtocol::Grpc, 0), (OtlpProtocol::Http, 200)] {
        let answers: &[Answer] = if ok == 0 { &[(0, 0)] } else { &[(200, 0)] };
        let collector = Collector::start(protocol, answers);
        assert_eq!(counts(plan(collector.address, protocol), &[2, 1]), [3, 0, 0, 0, 0]);
        let (headers, request) = collector.next();
        assert_eq!(headers["x-team"], "db");
        let [source] = &request.resource_spans[..] else { panic!("{request:?}") };
        let version = attribute("service.version", env!("CARGO_PKG_VERSION"));
        let named = [attribute("service.name", "edge"), version, attribute("host.name", "h")];
        assert_eq!(source.resource.as_ref().unwrap().attributes, named);
        assert_eq!(source.scope_spans[0].spans, [spans(2), spans(1)].concat());
        assert_eq!(source.scope_spans[0].scope.as_ref().unwrap().name, "tollgate");
    }
}

#[test]
fn spans_that_the_collector_rejects_are_counted() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
        let ok: &[Answer] = if protocol == OtlpProtocol::Grpc { &[(0, 2)] } else { &[(200, 2)] };
        let collector = Collector::start(protocol, ok);
        assert_eq!(counts(plan(collector.address, protocol), &[5]), [3, 0, 0, 2, 0]);
        // PERMISSION_DENIED, and a wrong request, do not go away.
        let no: &[Answer] = if protocol == OtlpProtocol::Grpc { &[(7, 0)] } else { &[(400, 0)] };
        let collector = Collector::start(protocol, no);
        assert_eq!(counts(plan(collector.address, protocol), &[5]), [0, 0, 0, 5, 0]);
    }
}

#[test]
fn a_busy_collector_is_asked_again() {
    let busy: [(_, &'static [Answer]); 2] = [
        (OtlpProtocol::Grpc, &[(14, 0), (14, 0), (0, 0)]),
        (OtlpProtocol::Http, &[(503, 0), (429, 0), (200, 0)]),
    ];
    for (protocol, answers) in busy {
        let collector = Collector::start(protocol, answers);
        let metrics = Metrics::new();
        let tracer = Tracer::start(plan(collector.address, protocol), &metrics).unwrap();
        tracer.send(spans(4));
        let requests = [collector.next().1, collector.next().1, collector.next().1];
        assert!(requests.iter().all(|request| *request == requests[0]));
        tracer.close(Instant::now() + PATIENCE);
        assert_eq!(value(&metrics, "tollgate_spans_exported_total"), 4);
    }
}

#[test]
fn a_collector_that_is_gone_costs_spans_and_no_time() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plan = TracesPlan { timeout: Duration::from_millis(50), ..plan(gone, OtlpProtocol::Grpc) };
    assert_eq!(counts(plan, &[3]), [0, 0, 0, 0, 3]);
}

#[test]
fn a_full_queue_drops_what_comes() {
    // It accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = Metrics::new();
    let plan = plan(silent.local_addr().unwrap(), OtlpProtocol::Grpc);
    let tracer = Tracer::start(plan, &metrics).unwrap();
    tracer.send(spans(MAX_QUEUED as u64));
    let (_held, _) = silent.accept().unwrap();
    // The exporter holds the first batch.
    tracer.send(spans(MAX_QUEUED as u64));
    tracer.send(spans(7));
    assert_eq!(value(&metrics, "tollgate_spans_dropped_total{reason=\"queue_full\"}"), 7);
}

#[test]
fn spans_over_the_rate_are_dropped() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let metrics = Metrics::new();
    let plan = TracesPlan { max_spans_per_second: 2, ..plan(gone, OtlpProtocol::Grpc) };
    let tracer = Tracer::start(plan, &metrics).unwrap();
    let buffer = SpanBuffer::new(tracer);
    // An operation has its spans whole or not at all.
    assert!(!runtime().block_on(async { buffer.push(spans(3)) }));
    assert_eq!(value(&metrics, "tollgate_spans_dropped_total{reason=\"rate\"}"), 3);
    assert!(buffer.spans.borrow().is_empty());
}
