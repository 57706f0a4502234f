//! How payload is cut into records.

use super::{Authority, client_plan, handshake, server_plan};
use std::io::IoSlice;
use tls::{ClientTls, ServerTls, TlsStream};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What TLS 1.3 adds to the payload of a record, in bytes: header, content type and tag.
const OVERHEAD: usize = 5 + 1 + 16;

/// A connected pair: the client's end, which has read its session tickets, and the server's.
async fn connected() -> (TlsStream, TlsStream) {
    let authority = Authority::new();
    let pair = authority.issue(&["db.example.net"]);
    let server = ServerTls::load(server_plan(&pair)).unwrap();
    let client = ClientTls::load(client_plan(&authority)).unwrap();
    let (near, far) = handshake(&server, &client, "db.example.net").await;
    (near.unwrap(), far.unwrap())
}

/// The bytes in the socket, once there are this many. They are left there.
async fn peeked(stream: &TlsStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    while stream.tcp().peek(&mut bytes).await.unwrap() < length {
        tokio::task::yield_now().await;
    }
    bytes
}

#[tokio::test]
async fn parts_that_are_written_at_once_are_one_record() {
    let (mut near, mut far) = connected().await;
    let parts = [b"head".as_slice(), b"", b"body"].map(IoSlice::new);
    assert!(far.is_write_vectored());
    assert_eq!(far.write_vectored(&parts).await.unwrap(), 8);
    let record = peeked(&near, 8 + OVERHEAD).await;
    assert_eq!(record[3..5], ((8 + OVERHEAD - 5) as u16).to_be_bytes());
    let mut read = [0; 8];
    near.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"headbody");
}

#[tokio::test]
async fn parts_longer_than_a_write_are_written_in_order() {
    let (mut near, mut far) = connected().await;
    let sent: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    let write = async {
        let mut at = 0;
        while at < sent.len() {
            let middle = at + (sent.len() - at) / 2;
            let parts = [IoSlice::new(&sent[at..middle]), IoSlice::new(&sent[middle..])];
            at += far.write_vectored(&parts).await.unwrap();
        }
        far.flush().await.unwrap();
    };
    let mut read = vec![0; sent.len()];
    let (result, ()) = tokio::join!(near.read_exact(&mut read), write);
    result.unwrap();
    assert!(read == sent, "bytes were changed");
}

#[tokio::test]
async fn one_read_takes_all_records_that_there_is_room_for() {
    let (mut near, mut far) = connected().await;
    let sent = vec![7; 3 * 16 * 1024];
    near.write_all(&sent).await.unwrap();
    near.flush().await.unwrap();
    peeked(&far, sent.len() + 3 * OVERHEAD).await;
    let mut read = vec![0; sent.len()];
    assert_eq!(far.read(&mut read).await.unwrap(), sent.len());
    assert!(read == sent, "bytes were changed");
}
