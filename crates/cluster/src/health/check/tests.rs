use super::*;
use crate::{
    endpoint::EndpointMetrics,
    tests::{closed, listener},
};
use std::{cell::Cell, net::SocketAddr, rc::Rc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tollgate_metrics::Metrics;

/// Sends `?` and waits for a line: `good …` or anything else.
struct Line;

impl Probe for Line {
    fn write_request(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(b"?");
    }

    fn evaluate(&mut self, answer: &[u8]) -> ProbeResult {
        let Some(end) = answer.iter().position(|byte| *byte == b'\n') else {
            return ProbeResult::NeedMore;
        };
        let line = String::from_utf8_lossy(&answer[..end]).into_owned();
        match line.strip_prefix("good ") {
            Some(words) => ProbeResult::Healthy(words.to_owned()),
            None => ProbeResult::Unhealthy(line),
        }
    }
}

/// Sends nothing.
struct Silent;

impl Probe for Silent {
    fn write_request(&mut self, _: &mut BytesMut) {}

    fn evaluate(&mut self, _: &[u8]) -> ProbeResult {
        ProbeResult::Unhealthy("nobody asked".to_owned())
    }
}

fn line() -> Box<dyn Probe> {
    Box::new(Line)
}

fn checker(address: SocketAddr) -> Checker {
    Checker::new(endpoint(address), Duration::from_secs(20), true)
}

fn endpoint(address: SocketAddr) -> Arc<Endpoint> {
    let name: Arc<str> = address.to_string().into();
    let metrics = EndpointMetrics::new(&"db".into(), Arc::clone(&name), true, &Metrics::new());
    Arc::new(Endpoint::new(address, name, Arc::new(metrics)))
}

/// Answers each question on a connection with the next of these pieces, then closes it.
async fn answer(stream: &mut TcpStream, pieces: &[&[u8]]) {
    let mut asked = [0];
    stream.read_exact(&mut asked).await.unwrap();
    for piece in pieces {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
}

/// The verdict as text, good or bad.
fn in_words(verdict: CheckVerdict) -> Result<String, String> {
    verdict.map_err(|error| match error {
        CheckError::Failed(words) => words,
        CheckError::Local(error) => panic!("this machine is to blame: {error}"),
    })
}

/// The verdict of one check that gets this answer.
async fn verdict_of(pieces: &[&[u8]]) -> Result<String, String> {
    let (listener, address) = listener().await;
    let mut checker = checker(address);
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream, pieces).await;
    };
    in_words(tokio::join!(checker.check(line), served).0)
}

#[tokio::test]
async fn an_answer_in_pieces_is_evaluated_as_a_whole() {
    assert_eq!(verdict_of(&[b"good primary of rs0\n"]).await, Ok("primary of rs0".to_owned()));
    assert_eq!(verdict_of(&[b"go", b"od ", b"well", b"\n"]).await, Ok("well".to_owned()));
    assert_eq!(verdict_of(&[b"recovering\n"]).await, Err("recovering".to_owned()));
}

#[tokio::test]
async fn an_answer_that_ends_too_soon_or_never_is_a_failed_check() {
    let early = verdict_of(&[b"good"]).await.unwrap_err();
    assert_eq!(early, "the connection ended before the answer did");
    let endless = verdict_of(&[&vec![b'x'; MAX_ANSWER + 1]]).await.unwrap_err();
    assert_eq!(endless, "no end of the answer within 64 KiB");
}

#[tokio::test]
async fn without_a_question_connecting_is_the_check() {
    let (_listener, open) = listener().await;
    let silent = || Box::new(Silent) as Box<dyn Probe>;
    assert_eq!(in_words(checker(open).check(silent).await), Ok("connected".to_owned()));
    let (_socket, shut) = closed();
    assert_eq!(in_words(checker(shut).check(silent).await), Err("connection refused".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_silent_endpoint_fails_at_the_timeout() {
    let (_listener, address) = listener().await;
    let began = time::Instant::now();
    let verdict =
        in_words(Checker::new(endpoint(address), Duration::from_secs(3), true).check(line).await);
    assert_eq!(verdict, Err("no answer within 3s".to_owned()));
    assert_eq!(began.elapsed().as_secs(), 3);
}

/// Answers `times` questions on each connection, and counts the connections.
async fn serve(listener: TcpListener, times: usize, connections: Rc<Cell<u32>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        connections.set(connections.get() + 1);
        tokio::task::spawn_local(async move {
            for _ in 0..times {
                answer(&mut stream, &[b"good\n" as &[u8], b""]).await;
            }
        });
    }
}

/// The number of connections for five checks.
async fn connections(times: usize, reuse: bool) -> u32 {
    let (listener, address) = listener().await;
    let count = Rc::new(Cell::new(0));
    tokio::task::LocalSet::new()
        .run_until(async {
            tokio::task::spawn_local(serve(listener, times, count.clone()));
            let mut checker = Checker::new(endpoint(address), Duration::from_secs(20), reuse);
            for _ in 0..5 {
                // Any line passes here: the test is about the connection.
                let verdict = in_words(checker.check(|| Box::new(Any)).await);
                assert_eq!(verdict, Ok("fine".to_owned()));
            }
        })
        .await;
    count.get()
}

/// Accepts any complete line.
struct Any;

impl Probe for Any {
    fn write_request(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(b"?");
    }

    fn evaluate(&mut self, answer: &[u8]) -> ProbeResult {
        match answer.ends_with(b"\n") {
            true => ProbeResult::Healthy("fine".to_owned()),
            false => ProbeResult::NeedMore,
        }
    }
}

#[tokio::test]
async fn a_connection_is_reused_for_the_next_check_if_configured() {
    assert_eq!(connections(100, true).await, 1);
    assert_eq!(connections(100, false).await, 5);
}

#[tokio::test]
async fn a_closed_kept_connection_is_no_failed_check() {
    assert_eq!(connections(1, true).await, 5);
    assert_eq!(connections(2, true).await, 3);
}

#[tokio::test]
async fn a_dead_endpoint_is_detected_despite_a_kept_connection() {
    let (listener, address) = listener().await;
    let mut checker = checker(address);
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream, &[b"good well\n"]).await;
        drop(listener);
    };
    let (first, ()) = tokio::join!(checker.check(line), served);
    let first = in_words(first);
    assert_eq!(first, Ok("well".to_owned()));
    assert_eq!(in_words(checker.check(line).await), Err("connection refused".to_owned()));
}
