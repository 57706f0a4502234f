use super::*;
use crate::settings::UpstreamVersion;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn settings(json: &str) -> CheckSettings {
    serde_json::from_str(json).unwrap()
}

fn probe(version: UpstreamVersion, json: &str) -> HttpProbe {
    HttpProbe::new(Arc::new(HttpCheck::new(settings(json), version, "shop").unwrap()))
}

/// A real server's response with this status, and the request that it read.
async fn served(probe: &mut HttpProbe, status: u16) -> (Vec<u8>, Request<Bytes>) {
    let mut question = BytesMut::new();
    probe.write_request(&mut question);
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let (tell, told) = std::sync::mpsc::channel();
    let service = service_fn(move |request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            tell.send(Request::from_parts(head, body)).unwrap();
            let answer = Response::builder().status(status).header("x-long", "Q?".repeat(50));
            Ok::<_, Infallible>(answer.body(Full::new(Bytes::from_static(b"fine"))).unwrap())
        }
    });
    let http2 = probe.http2;
    let request = async {
        // How it ends does not matter: the probe reads what arrived.
        let _ = match http2 {
            true => {
                let server = TokioIo::new(server);
                let connection = conn::http2::Builder::new(TokioExecutor::new());
                connection.serve_connection(server, service).await
            }
            false => {
                let server = TokioIo::new(server);
                conn::http1::Builder::new().serve_connection(server, service).await
            }
        };
    };
    let reading = async {
        client.write_all(&question).await.unwrap();
        let mut answer = Vec::new();
        while probe.evaluate(&answer) == ProbeResult::NeedMore {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "an early end");
        }
        drop(client);
        answer
    };
    let ((), answer) = tokio::join!(request, reading);
    (answer, told.recv().unwrap())
}

const VERSIONS: [UpstreamVersion; 2] = [UpstreamVersion::Http1, UpstreamVersion::Http2];

#[tokio::test]
async fn a_real_server_can_parse_the_request() {
    let json = r#"{ "path": "/healthz?deep=1", "headers": { "X-Team": "shop ü" } }"#;
    for version in VERSIONS {
        let (_, request) = served(&mut probe(version, json), 200).await;
        let wire =
            [Version::HTTP_11, Version::HTTP_2][usize::from(version == UpstreamVersion::Http2)];
        assert_eq!(request.version(), wire);
        assert_eq!(request.method(), "GET");
        assert_eq!(request.uri().path_and_query().unwrap(), "/healthz?deep=1");
        assert_eq!(request.headers()["x-team"].as_bytes(), "shop ü".as_bytes());
        assert_eq!(request.headers()["user-agent"], "tollgate-health-check");
        let authority = match version {
            UpstreamVersion::Http2 => request.uri().authority().unwrap().as_str(),
            _ => request.headers()["host"].to_str().unwrap(),
        };
        assert_eq!(authority, "shop");
        assert!(request.body().is_empty());
    }
}

#[tokio::test]
async fn a_real_servers_status_decides() {
    let narrow = r#"{ "expect": ["200", "3xx"] }"#;
    for version in VERSIONS {
        for (json, status, healthy) in [
            ("{}", 200, true),
            ("{}", 204, true),
            ("{}", 299, true),
            ("{}", 301, false),
            ("{}", 404, false),
            ("{}", 503, false),
            (narrow, 200, true),
            (narrow, 201, false),
            (narrow, 302, true),
        ] {
            let mut probe = probe(version, json);
            let (answer, _) = served(&mut probe, status).await;
            let words = match healthy {
                true => ProbeResult::Healthy(format!("answers {status}")),
                false => {
                    let expected = probe.check.settings().expected();
                    ProbeResult::Unhealthy(format!("answers {status}, expected {expected}"))
                }
            };
            assert_eq!(probe.evaluate(&answer), words, "{version:?} {status}");
        }
    }
}

#[tokio::test]
async fn a_response_may_arrive_in_any_pieces() {
    for version in VERSIONS {
        let mut probe = probe(version, "{}");
        let (answer, _) = served(&mut probe, 200).await;
        let mut ready = false;
        for end in 0..=answer.len() {
            match probe.evaluate(&answer[..end]) {
                ProbeResult::NeedMore => assert!(!ready, "{version:?} at {end}"),
                ProbeResult::Healthy(_) => ready = true,
                ProbeResult::Unhealthy(words) => panic!("{version:?} at {end}: {words}"),
            }
        }
        assert!(ready);
    }
}

#[tokio::test]
async fn broken_answers_are_no_reason_to_panic() {
    for version in VERSIONS {
        let mut probe = probe(version, "{}");
        let (answer, _) = served(&mut probe, 404).await;
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..5000 {
            let mut broken = answer.clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..broken.len());
                broken[at] = rng.u8(..);
            }
            let _ = probe.evaluate(&broken);
        }
    }
}

#[test]
fn heads_of_1xx_come_before_the_answer() {
    let mut probe = probe(UpstreamVersion::Http1, "{}");
    let early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    assert_eq!(probe.evaluate(early), ProbeResult::NeedMore);
    let whole = [&early[..], b"HTTP/1.1 204\r\n\r\n"].concat();
    assert_eq!(probe.evaluate(&whole), ProbeResult::Healthy("answers 204".to_owned()));
}

#[test]
fn a_server_of_another_protocol_is_reported() {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for (version, answer, told) in [
        (UpstreamVersion::Http1, &b"\x15\x03\x03\0\x02"[..], "speaks TLS, not HTTP"),
        (UpstreamVersion::Http1, &settings, "speaks HTTP/2, asked by HTTP/1.1 (http.version)"),
        (UpstreamVersion::Http1, b"+PONG\r\n", "does not speak HTTP/1"),
        (
            UpstreamVersion::Http1,
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            "answers with a status line that can't be read",
        ),
        (UpstreamVersion::Http2, b"\x15\x03\x03\0\x02", "speaks TLS, not HTTP/2"),
        (UpstreamVersion::Http2, b"HTTP/1.1 400", "speaks HTTP/1, asked by HTTP/2 (http.version)"),
        (UpstreamVersion::Http2, b"+PONG\r\n", "does not speak HTTP/2"),
    ] {
        let judged = probe(version, "{}").evaluate(answer);
        assert_eq!(judged, ProbeResult::Unhealthy(told.to_owned()));
    }
}

#[test]
fn frames_that_end_a_check_are_named() {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut probe = probe(UpstreamVersion::Http2, "{}");
    let mut judge = |frame: &[u8]| probe.evaluate(&[&settings, frame].concat());
    let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
    let told = "resets the stream: REFUSED_STREAM";
    assert_eq!(judge(&reset), ProbeResult::Unhealthy(told.to_owned()));
    let away = |last| [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 11];
    let told = "goes away without an answer: ENHANCE_YOUR_CALM";
    assert_eq!(judge(&away(0)), ProbeResult::Unhealthy(told.to_owned()));
    // It is still answered.
    assert_eq!(judge(&away(1)), ProbeResult::NeedMore);
    let padded = [0, 0, 2, 1, 0xc, 0, 0, 0, 1, 9, 0x88];
    let told = "answers with a frame that can't be read";
    assert_eq!(judge(&padded), ProbeResult::Unhealthy(told.to_owned()));
    // With padding, a priority and CONTINUATION.
    let cut = [0, 0, 7, 1, 0x28, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9, 4, 0, 0, 0, 1, 0x88];
    assert_eq!(judge(&cut), ProbeResult::Healthy("answers 200".to_owned()));
}

#[test]
fn settings_that_can_not_be_sent_are_errors() {
    for (json, path) in [
        (r#"{ "path": "healthz" }"#, "path"),
        (r#"{ "path": "/a b" }"#, "path"),
        (r##"{ "path": "/a#b" }"##, "path"),
        (r#"{ "path": "/\r\nx: y" }"#, "path"),
        (r#"{ "host": "a b" }"#, "host"),
        (r#"{ "host": "" }"#, "host"),
        (r#"{ "expect": ["1xx"] }"#, "expect"),
        (r#"{ "headers": { "a b": "c" } }"#, "headers.a b"),
        (r#"{ "headers": { "a": "c\r\nd: e" } }"#, "headers.a"),
        (r#"{ "headers": { "Host": "c" } }"#, "headers.Host"),
    ] {
        let mistakes = HttpCheck::new(settings(json), UpstreamVersion::Http1, "shop").unwrap_err();
        let paths: Vec<String> = mistakes.iter().map(|mistake| mistake.path.join(".")).collect();
        assert_eq!(paths, [path], "{json}");
    }
    for wrong in [r#"{ "expect": ["2XX"] }"#, r#"{ "expect": ["600"] }"#, r#"{ "expects": [] }"#] {
        assert!(serde_json::from_str::<CheckSettings>(wrong).is_err(), "{wrong}");
    }
    let written = settings(r#"{ "expect": ["200", "3xx"] }"#);
    let shown = serde_json::to_value(&written).unwrap();
    assert_eq!(shown["expect"], serde_json::json!([200, "3xx"]));
}
