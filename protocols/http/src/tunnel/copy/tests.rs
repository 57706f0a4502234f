use super::{READ_SIZE, TunnelSide, copy};
use bytes::Bytes;
use operation::{Close, Direction};
use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf,
        WriteHalf, duplex, empty, sink, split,
    },
    join,
};

/// A side that has sent this already, and its other end for the test.
fn side(
    said: &'static str,
) -> (TunnelSide<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>, DuplexStream) {
    let (near, far) = duplex(1024);
    let (from, to) = split(near);
    (TunnelSide { buffered: Bytes::from_static(said.as_bytes()), from, to }, far)
}

/// Reads to the end.
async fn rest(end: &mut DuplexStream) -> String {
    let mut all = String::new();
    end.read_to_string(&mut all).await.unwrap();
    all
}

/// One that resets.
struct Gone;

impl AsyncRead for Gone {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncWrite for Gone {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// One that stays silent and open.
struct Silent;

impl AsyncRead for Silent {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

fn of<R, W>(said: &'static str, from: R, to: W) -> TunnelSide<R, W> {
    TunnelSide { buffered: Bytes::from_static(said.as_bytes()), from, to }
}

#[tokio::test]
async fn bytes_pass_both_ways_after_those_already_read() {
    let ((client, mut near), (service, mut far)) = (side("one, "), side("eins, "));
    let (up, down) = (Cell::new(0), Cell::new(0));
    let count = |way, n| {
        let all = if way == Direction::Up { &up } else { &down };
        all.set(all.get() + n);
        None
    };
    let talk = async {
        near.write_all(b"two").await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(rest(&mut far).await, "one, two");
        // More than all buffers hold passes while it is read.
        let answer = async {
            far.write_all(&[b'z'; 100_000]).await.unwrap();
            far.shutdown().await.unwrap();
        };
        let ((), heard) = join!(answer, rest(&mut near));
        assert_eq!(heard, "eins, ".to_owned() + &"z".repeat(100_000));
    };
    let (close, ()) = join!(copy(client, service, |_| READ_SIZE, count), talk);
    assert_eq!(close, Close::Client);
    assert_eq!((up.get(), down.get()), (8, 6 + 100_000));
}

#[tokio::test]
async fn each_direction_ends_on_its_own() {
    let ((client, mut near), (service, mut far)) = (side(""), side(""));
    let talk = async {
        far.shutdown().await.unwrap();
        assert_eq!(rest(&mut near).await, "", "the client hears that the service has ended");
        near.write_all(b"last").await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(rest(&mut far).await, "last");
    };
    let (close, ()) = join!(copy(client, service, |_| READ_SIZE, |_, _| None), talk);
    assert_eq!(close, Close::Upstream);
}

#[tokio::test]
async fn a_failed_side_is_reported() {
    let none = |_, _| None;
    let broken = copy(of("", Gone, sink()), of("", Silent, sink()), |_| READ_SIZE, none).await;
    assert_eq!(broken, Close::ClientReset);
    let broken = copy(of("", Silent, sink()), of("", Gone, sink()), |_| READ_SIZE, none).await;
    assert_eq!(broken, Close::UpstreamReset);
    let broken = copy(of("x", Silent, sink()), of("", Gone, Gone), |_| READ_SIZE, none).await;
    assert_eq!(broken, Close::UpstreamReset);
    let broken = copy(of("", Silent, Gone), of("x", Silent, sink()), |_| READ_SIZE, none).await;
    assert_eq!(broken, Close::ClientReset);
}

#[tokio::test]
async fn the_last_bytes_of_a_closing_service_arrive() {
    let ((client, mut near), (service, far)) = (side("x"), side("last words"));
    // It sends nothing more.
    drop(far);
    let service = TunnelSide { buffered: service.buffered, from: service.from, to: Gone };
    let ended = async {
        let mut heard = [0; 10];
        near.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"last words");
    };
    let (close, ()) = join!(copy(client, service, |_| READ_SIZE, |_, _| None), ended);
    assert_eq!(close, Close::UpstreamReset);
}

#[tokio::test]
async fn a_side_that_fails_after_the_other_ended_is_reported() {
    let none = |_, _| None;
    let broken = copy(of("", empty(), sink()), of("", Gone, sink()), |_| READ_SIZE, none).await;
    assert_eq!(broken, Close::UpstreamReset);
    let broken = copy(of("", Gone, sink()), of("", empty(), sink()), |_| READ_SIZE, none).await;
    assert_eq!(broken, Close::ClientReset);
}
