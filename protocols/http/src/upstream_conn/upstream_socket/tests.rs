use super::UpstreamSocket;
use hyper::rt::{Read, ReadBuf, Write};
use std::{
    future::poll_fn,
    net::Ipv4Addr,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A socket, and the service at its other end.
async fn connected() -> (UpstreamSocket, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (UpstreamSocket::new(near.unwrap().into()), far.unwrap().0)
}

/// Writes until the socket's buffers are full.
fn fill(socket: &mut UpstreamSocket) {
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(written) = Pin::new(&mut *socket).poll_write(&mut cx, &[0; 4096]) {
        written.unwrap();
    }
}

/// Reads to the end.
async fn rest(socket: &mut UpstreamSocket) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut room = [0; 4096];
        let mut read = ReadBuf::new(&mut room);
        poll_fn(|cx| Pin::new(&mut *socket).poll_read(cx, read.unfilled())).await.unwrap();
        if read.filled().is_empty() {
            return all;
        }
        all.extend_from_slice(read.filled());
    }
}

#[tokio::test]
async fn received_bytes_are_read_after_a_failed_write() {
    for _ in 0..50 {
        let (mut socket, mut service) = connected().await;
        assert!(poll_fn(|cx| Pin::new(&mut socket).poll_write(cx, b"request")).await.is_ok());
        service.readable().await.unwrap();
        service.write_all(b"answer").await.unwrap();
        // The request was not read, so closing resets.
        drop(service);
        fill(&mut socket);
        assert!(socket.write_closed);
        assert_eq!(rest(&mut socket).await, b"answer");
    }
}

#[tokio::test]
async fn a_full_socket_is_not_mistaken_for_a_closed_one() {
    let (mut socket, mut service) = connected().await;
    fill(&mut socket);
    assert!(!socket.write_closed);
    assert!(service.read(&mut [0; 1 << 16]).await.unwrap() > 0);
    assert!(!socket.write_closed);
}
