//! Lingering close: ends a client's connection so that the client gets the last message.

use net::Stream;
use std::{
    future::poll_fn,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    time::timeout,
};

/// How long a client may take to close its half. If its last bytes were left unread, the kernel
/// would reset the connection and the client could lose the last message.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// How many reads one poll does before other connections are polled.
const MAX_READS_PER_POLL: usize = 16;

/// Closes the write side, then reads and discards until the client closes or time is up.
pub async fn linger(client: &mut Stream) {
    let _ = client.shutdown().await;
    let _ = timeout(LINGER_TIMEOUT, poll_fn(|cx| poll_discard(client, cx))).await;
}

/// Discards incoming bytes, a bounded number at once. Ready when the client has closed or failed.
pub fn poll_discard(client: &mut Stream, cx: &mut Context<'_>) -> Poll<()> {
    let mut space = [MaybeUninit::uninit(); 4096];
    for _ in 0..MAX_READS_PER_POLL {
        let mut ignored = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(&mut *client).poll_read(cx, &mut ignored));
        if read.is_err() || ignored.filled().is_empty() {
            return Poll::Ready(());
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}
