//! How a connection ends that a policy ends: orderly, or with a reset.

use super::Relay;
use crate::worker::Phase;
use operation::{Close, Codec};
use socket2::SockRef;
use std::{
    future::poll_fn,
    mem::MaybeUninit,
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};

/// How long a client may take to end its own half. Were its last bytes left unread, the kernel
/// would reset the connection, and what the client was told last could be lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is read before others have their turn.
const READS: usize = 16;

/// Ends a client's connection in an orderly way.
pub async fn goodbye(client: &mut TcpStream) {
    let _ = client.shutdown().await;
    let _ = timeout(PATIENCE, poll_fn(|cx| poll_ignore(client, cx))).await;
}

/// Reads what nobody wants until the client ends.
fn poll_ignore(client: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
    let mut space = [MaybeUninit::uninit(); 4096];
    for _ in 0..READS {
        let mut ignored = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(&mut *client).poll_read(cx, &mut ignored));
        if read.is_err() || ignored.filled().is_empty() {
            return Poll::Ready(());
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl<C: Codec> Relay<C> {
    /// Whether this end cuts short what was under way, so that an end in good order would have it
    /// taken for whole. To be asked while operations are still open.
    pub(super) fn cuts_short(&self, close: Close) -> bool {
        match close {
            Close::ClientReset | Close::UpstreamReset => true,
            // Both have said all that they had to say.
            Close::Client | Close::Upstream => false,
            // A policy says how its ends look.
            Close::RateLimited | Close::Overloaded | Close::Denied | Close::Injected => false,
            // The client speaks something else, and may be told so.
            Close::ClientViolation => false,
            // The service has said nothing at all.
            Close::OperationTimeout => false,
            // Of a stream nobody but its two ends knows whether it is whole.
            _ if self.is_stream() => !self.silent,
            // Between two messages everybody can tell.
            _ => self.replying(),
        }
    }

    /// Whether the client hears of the end before the connection is gone. Otherwise that is to be
    /// gone now. What was `cut` short ends with a reset, for the client and for the service.
    pub(super) fn says_goodbye(&mut self, close: Close, cut: bool) -> bool {
        if cut {
            // Either may be gone already.
            let _ = (self.client.set_zero_linger(), self.server.set_zero_linger());
            return false;
        }
        if self.bent.as_ref().is_some_and(|bent| bent.reset) {
            // It may be gone already.
            let _ = self.client.set_zero_linger();
            return false;
        }
        let ours = close.is_refusal() || matches!(close, Close::Injected | Close::OperationTimeout);
        if ours {
            // The service need not wait for the client.
            self.door.leads_nowhere();
            let _ = SockRef::from(&self.server).shutdown(Shutdown::Both);
            let _ = SockRef::from(&self.client).shutdown(Shutdown::Write);
            let until = self.now() + PATIENCE;
            self.bent.get_or_insert_default().goodbye = Some(close);
            self.timer.as_mut().reset(until.into());
        }
        ours
    }

    /// Ready when the client has ended its half too, or had time to.
    pub(super) fn poll_goodbye(&mut self, close: Close, cx: &mut Context<'_>) -> Poll<Close> {
        self.door.wakes(cx.waker());
        let leaves = self.worker.phase() == Phase::Leaving;
        if leaves || self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(close);
        }
        poll_ignore(&mut self.client, cx).map(|()| close)
    }
}
