use super::*;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn check(service: Option<&str>) -> GrpcProbe {
    let settings =
        HealthCheckSettings { service: service.map(str::to_owned), may_lack_health: false };
    GrpcProbe::new(Arc::new(HealthCheck::new(settings, "shop")))
}

/// Probes a real server that responds with this message, if any, and these headers or trailers.
async fn judged(
    service: Option<&str>,
    message: Option<&'static [u8]>,
    status: &'static [(&'static str, &'static str)],
) -> ProbeResult {
    let mut probe = check(service);
    let mut question = BytesMut::new();
    probe.write_request(&mut question);
    let asked = service.unwrap_or("").to_owned();
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let answer = service_fn(move |request: Request<Incoming>| {
        let asked = asked.clone();
        async move {
            let (head, body) = request.into_parts();
            assert_eq!((head.method.as_str(), head.uri.path()), ("POST", PATH));
            assert_eq!(head.headers["content-type"], "application/grpc");
            assert_eq!(head.headers["te"], "trailers");
            let body = body.collect().await.unwrap().to_bytes();
            assert_eq!(body[..5], [0, 0, 0, 0, u8::try_from(body.len() - 5).unwrap()]);
            assert_eq!(HealthCheckRequest::decode(&body[5..]).unwrap().service, asked);
            let fields = status
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            let fields = HeaderMap::from_iter(fields);
            let mut answer = Response::builder().header("content-type", "application/grpc");
            let body = Full::new(Bytes::from_static(message.unwrap_or_default()));
            let body = match message {
                None => {
                    answer.headers_mut().unwrap().extend(fields);
                    body.boxed()
                }
                Some(_) => body.with_trailers(std::future::ready(Some(Ok(fields)))).boxed(),
            };
            Ok::<_, Infallible>(answer.body(body).unwrap())
        }
    });
    let serving = async {
        let connection = http2::Builder::new(TokioExecutor::new());
        // The connection's result does not matter: the probe reads what arrived.
        let _ = connection.serve_connection(TokioIo::new(server), answer).await;
    };
    let reading = async {
        client.write_all(&question).await.unwrap();
        let mut bytes = Vec::new();
        loop {
            match probe.evaluate(&bytes) {
                ProbeResult::NeedMore => {}
                judged => break (drop(client), judged).1,
            }
            assert_ne!(client.read_buf(&mut bytes).await.unwrap(), 0, "an early end");
        }
    };
    tokio::join!(serving, reading).1
}

const OK: &[(&str, &str)] = &[("grpc-status", "0")];

fn unhealthy(words: &str) -> ProbeResult {
    ProbeResult::Unhealthy(words.to_owned())
}

#[tokio::test]
async fn a_server_that_serves_is_healthy() {
    for service in [None, Some("shop.Cart")] {
        let judged = judged(service, Some(b"\0\0\0\0\x02\x08\x01"), OK).await;
        assert_eq!(judged, ProbeResult::Healthy("SERVING".to_owned()));
    }
}

#[tokio::test]
async fn every_other_state_is_reported_by_name() {
    for (service, message, words) in [
        (None, &b"\0\0\0\0\x02\x08\x02"[..], "says that the server is NOT_SERVING"),
        (None, b"\0\0\0\0\0", "says that the server is UNKNOWN"),
        (
            Some("shop.Cart"),
            b"\0\0\0\0\x02\x08\x03",
            "says that the service shop.Cart is SERVICE_UNKNOWN",
        ),
        (None, b"\0\0\0\0\x02\x08\x63", "says that the server is the unknown state 99"),
        (None, b"\0\0\0\0\x02\x08\x80", "answers with a message that can't be read"),
        (
            None,
            b"\x01\0\0\0\x02\x08\x01",
            "answers with a compressed message, which was not asked for",
        ),
        (None, b"\0\0\0\0\x02\x08", "answers without a message"),
        (None, b"", "answers without a message"),
    ] {
        assert_eq!(judged(service, Some(message), OK).await, unhealthy(words));
    }
}

#[tokio::test]
async fn a_status_in_head_or_trailers_is_reported() {
    for message in [None, Some(&b""[..])] {
        for (service, status, words) in [
            (Some("a.B"), &[("grpc-status", "5")][..], "does not know the service a.B"),
            (
                None,
                &[("grpc-status", "12"), ("grpc-message", "no")],
                "does not have grpc.health.v1.Health, which answers checks",
            ),
            (
                None,
                &[("grpc-status", "14"), ("grpc-message", "Starting up, wait: 5s")],
                "answers with grpc-status 14: Starting up, wait: 5s",
            ),
            (None, &[("grpc-status", "13")], "answers with grpc-status 13"),
        ] {
            assert_eq!(judged(service, message, status).await, unhealthy(words));
        }
    }
}
