use super::ClientIo;
use crate::h1_validator::RequestLimits;
use http::{HeaderValue, StatusCode, header};
use hyper::rt::Write as _;
use operation::{ConnectionInfo, Decision, Gate, Operation, Settlement, Ticket, Verdict};
use session::testing::TestSession;
use std::{
    future::poll_fn,
    io,
    net::Ipv4Addr,
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time,
};

/// Is never asked.
struct Open;

impl Gate for Open {
    fn admit(&self, _: &Operation<'_>, _: Instant) -> Verdict {
        unreachable!("a line admits nothing")
    }

    fn resume(&self, _: Ticket, _: Decision, _: &Operation<'_>, _: Instant) -> Verdict {
        unreachable!("a line admits nothing")
    }

    fn record_rejected(&self, _: &Operation<'_>, _: Instant, _: &Settlement<'_>) {
        unreachable!("a line admits nothing")
    }
}

/// A client's I/O, and the client.
async fn connected() -> (ClientIo, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let session = TestSession::new(Rc::new(Open), ConnectionInfo { peer: address, local: address });
    let limits = RequestLimits::default();
    (ClientIo::new(accepted.unwrap().0.into(), Rc::new(session), limits), client.unwrap())
}

async fn write(client_io: &mut ClientIo, bytes: &[u8]) {
    let written = poll_fn(|cx| Pin::new(&mut *client_io).poll_write(cx, bytes)).await;
    assert_eq!(written.unwrap(), bytes.len());
}

/// Waits until the client is gone. hyper flushes meanwhile, with nothing to flush.
async fn gone(client_io: &mut ClientIo) -> io::ErrorKind {
    poll_fn(|cx| client_io.poll_client_gone(cx)).await.kind()
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_that_stops_reading_is_gone() {
    let (mut client_io, mut client) = connected().await;
    client.shutdown().await.unwrap();
    client_io.stream.tcp().readable().await.unwrap();
    for _ in 0..3 {
        assert!(time::timeout(Duration::from_secs(4), gone(&mut client_io)).await.is_err());
        write(&mut client_io, b"more of the answer").await;
    }
    let begun = time::Instant::now();
    assert_eq!(gone(&mut client_io).await, io::ErrorKind::TimedOut);
    assert!(begun.elapsed() >= super::HALF_CLOSED_TIMEOUT);
    assert!(client_io.state().socket_failed.get());
}

#[tokio::test(start_paused = true)]
async fn an_open_client_is_not_gone_however_long_it_waits() {
    let (mut client_io, _client) = connected().await;
    assert!(time::timeout(Duration::from_secs(600), gone(&mut client_io)).await.is_err());
    assert!(!client_io.state().socket_failed.get());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pipelined_a_request_is_not_gone() {
    let (mut client_io, mut client) = connected().await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    client_io.stream.tcp().readable().await.unwrap();
    assert!(time::timeout(Duration::from_secs(600), gone(&mut client_io)).await.is_err());
}

#[tokio::test]
async fn a_client_that_resets_is_gone_at_once() {
    let (mut client_io, client) = connected().await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(gone(&mut client_io).await, io::ErrorKind::ConnectionReset);
    assert!(client_io.state().socket_failed.get());
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";

fn hint(client_io: &ClientIo) {
    let link = [(header::LINK, HeaderValue::from_static("</a>"))];
    client_io.state().informational.push(StatusCode::EARLY_HINTS, &link.into_iter().collect());
}

async fn flush(client_io: &mut ClientIo) {
    poll_fn(|cx| Pin::new(&mut *client_io).poll_flush(cx)).await.unwrap();
}

/// What the client received until its connection ended.
async fn heard(client_io: ClientIo, mut client: TcpStream) -> String {
    drop(client_io);
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.unwrap();
    heard
}

#[tokio::test]
async fn hints_go_out_before_the_answer_and_never_inside_of_one() {
    let (mut client_io, client) = connected().await;
    write(&mut client_io, b"[the last answer, ").await;
    hint(&client_io);
    write(&mut client_io, b"and its end]").await;
    flush(&mut client_io).await;
    // They arrived together with the response.
    hint(&client_io);
    client_io.state().discard_informational();
    write(&mut client_io, b"[the answer]").await;
    assert_eq!(
        heard(client_io, client).await,
        format!("[the last answer, and its end]{HINTS}{HINTS}[the answer]")
    );
}

#[tokio::test]
async fn hints_for_which_it_is_too_late_are_lost() {
    let (mut client_io, client) = connected().await;
    write(&mut client_io, b"[the last answer, ").await;
    hint(&client_io);
    client_io.state().discard_informational();
    write(&mut client_io, b"and its end][the answer]").await;
    flush(&mut client_io).await;
    assert_eq!(heard(client_io, client).await, "[the last answer, and its end][the answer]");
}

#[tokio::test]
async fn hints_for_a_client_that_does_not_read_are_bounded() {
    let (client_io, _client) = connected().await;
    (0..10_000).for_each(|_| hint(&client_io));
    let kept = client_io.state().informational.take();
    assert!(kept.len() <= 64 * 1024 && kept.len().is_multiple_of(HINTS.len()), "{}", kept.len());
}
