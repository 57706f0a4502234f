//! Looks at the first bytes of a connection without reading them, so that whatever serves it later
//! finds them in the socket.

use rustix::net::{RecvFlags, recv};
use std::io::{self, ErrorKind};
use tokio::{io::Interest, net::TcpStream};

/// Waits until `judge` can tell from the first bytes, of which there are at most `most`. `judge` is
/// called with all bytes so far each time that more have come, and returns `None` to wait for more.
///
/// # Errors
/// `UnexpectedEof` if the peer has ended its stream before, `InvalidData` if `most` bytes were not
/// enough, and the socket's own errors.
pub async fn peek<T>(
    socket: &TcpStream,
    most: usize,
    mut judge: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<T> {
    let mut bytes = vec![0; most];
    loop {
        let ready = socket.ready(Interest::READABLE).await?;
        let judged = socket.try_io(Interest::READABLE, || {
            let (read, _) = recv(socket, &mut bytes[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
            match judge(&bytes[..read]) {
                Some(judged) => Ok(judged),
                None if read == 0 || ready.is_read_closed() => Err(ErrorKind::UnexpectedEof.into()),
                None if read == most => Err(ErrorKind::InvalidData.into()),
                // The bytes stay in the socket, so it would be readable at once: with this error the
                // runtime waits for the next ones.
                None => Err(ErrorKind::WouldBlock.into()),
            }
        });
        match judged {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            judged => return judged,
        }
    }
}

/// Reads `length` bytes that were looked at before.
///
/// # Errors
/// The socket's own errors.
pub async fn skip(socket: &TcpStream, length: usize) -> io::Result<()> {
    let mut bytes = vec![0; length];
    let mut left = length;
    while left > 0 {
        socket.readable().await?;
        match socket.try_read(&mut bytes[..left]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => left -= read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "this is all test, helpers too")]

    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    fn line(bytes: &[u8]) -> Option<usize> {
        bytes.iter().position(|byte| *byte == b'\n')
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_are_seen_together_and_left() {
        let (mut near, mut far) = sockets().await;
        near.set_nodelay(true).unwrap();
        let mut calls = 0;
        let write = async {
            for byte in b"hello\nrest" {
                near.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let seen = peek(&far, 100, |bytes| {
            calls += 1;
            line(bytes)
        });
        let (seen, ()) = tokio::join!(seen, write);
        assert_eq!(seen.unwrap(), 5);
        assert!(calls <= 11, "{calls} looks at 10 bytes");
        skip(&far, 6).await.unwrap();
        let mut rest = [0; 4];
        far.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"rest");
    }

    #[tokio::test]
    async fn an_end_before_enough_bytes_and_too_many_bytes_are_errors() {
        for (sent, close, wanted) in [
            (&b"hel"[..], true, ErrorKind::UnexpectedEof),
            (b"", true, ErrorKind::UnexpectedEof),
            (b"too many bytes", false, ErrorKind::InvalidData),
        ] {
            let (mut near, far) = sockets().await;
            near.write_all(sent).await.unwrap();
            if close {
                near.shutdown().await.unwrap();
            }
            let error = peek(&far, 10, line).await.unwrap_err();
            assert_eq!(error.kind(), wanted);
        }
    }
}
