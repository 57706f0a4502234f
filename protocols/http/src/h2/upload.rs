//! A request's body that a service's connection sends, while the request waits for its response or passes it on.

use super::send_body::SendBody;
use crate::body::{BodyError, BoxBody};
use ::h2::{Reason, SendStream};
use bytes::Bytes;
use http_body::Body;
use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// The rest of a body, as the connection's task sends it. Ready at its end.
pub(super) struct Upload(Rc<Rest>);

/// Cancels an upload when it is dropped.
pub(super) struct UploadGuard(Rc<Rest>);

struct Rest {
    /// `None` once it was sent or cancelled.
    sending: RefCell<Option<SendBody<BoxBody>>>,
    waker: RefCell<Waker>,
}

impl Upload {
    /// Sends what has come. `None`: that was all.
    pub(super) async fn begin(
        body: impl Body<Data = Bytes, Error = BodyError> + Unpin + 'static,
        stream: SendStream<Bytes>,
    ) -> Option<(Self, UploadGuard)> {
        let mut sending = SendBody::new(body, stream);
        let ended = poll_fn(|cx| Poll::Ready(sending.poll(cx).is_ready())).await;
        if ended {
            return None;
        }
        let sending = RefCell::new(Some(sending.boxed()));
        let rest = Rc::new(Rest { sending, waker: RefCell::new(Waker::noop().clone()) });
        Some((Self(Rc::clone(&rest)), UploadGuard(rest)))
    }
}

impl Future for Upload {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut slot = self.0.sending.borrow_mut();
        let Some(sending) = &mut *slot else { return Poll::Ready(()) };
        if sending.poll(cx).is_ready() {
            *slot = None;
            return Poll::Ready(());
        }
        self.0.waker.borrow_mut().clone_from(cx.waker());
        Poll::Pending
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        if let Some(mut sending) = self.0.sending.take() {
            sending.reset(Reason::CANCEL);
            self.0.waker.borrow().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::h2::RecvStream;
    use http::Request;
    use http_body::Frame;
    use tokio::{
        io::duplex,
        sync::oneshot,
        task::{LocalSet, spawn_local, yield_now},
    };

    /// A body of one piece, which comes later.
    struct LateBody(Option<oneshot::Receiver<Bytes>>);

    impl http_body::Body for LateBody {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let Some(piece) = &mut self.0 else { return Poll::Ready(None) };
            let piece = std::task::ready!(Pin::new(piece).poll(cx));
            self.0 = None;
            Poll::Ready(Some(piece.map(Frame::data).map_err(Into::into)))
        }
    }

    /// Reads a body: its bytes, or why it was reset.
    async fn read(mut body: RecvStream) -> Result<Vec<u8>, Option<Reason>> {
        let mut bytes = Vec::new();
        while let Some(piece) = body.data().await {
            bytes.extend_from_slice(&piece.map_err(|error| error.reason())?);
        }
        Ok(bytes)
    }

    /// Begins an upload, and returns what the service reads of it once the guard was `handled`.
    async fn uploaded(handled: impl FnOnce(UploadGuard)) -> Result<Vec<u8>, Option<Reason>> {
        let (near, far) = duplex(1 << 16);
        let (mut sender, connection) = ::h2::client::handshake(near).await.unwrap();
        spawn_local(connection);
        let (told, heard) = oneshot::channel();
        spawn_local(async move {
            let mut service = ::h2::server::handshake(far).await.unwrap();
            let (request, _respond) = service.accept().await.unwrap().unwrap();
            spawn_local(async move { told.send(read(request.into_body()).await) });
            while service.accept().await.is_some() {}
        });
        let request = Request::post("http://shop/").body(()).unwrap();
        let (_response, stream) = sender.send_request(request, false).unwrap();
        let (sends, comes) = oneshot::channel();
        let begun = Upload::begin(LateBody(Some(comes)), stream).await;
        let (upload, guard) = begun.expect("the body has not come");
        let upload = spawn_local(upload);
        yield_now().await;
        handled(guard);
        let _ = sends.send(Bytes::from_static(b"late"));
        upload.await.unwrap();
        heard.await.unwrap()
    }

    #[tokio::test]
    async fn a_dropped_request_cancels_its_upload() {
        let read = LocalSet::new().run_until(uploaded(drop)).await;
        assert_eq!(read, Err(Some(Reason::CANCEL)));
    }

    #[tokio::test]
    async fn an_upload_goes_on_while_its_guard_lives() {
        let read = LocalSet::new().run_until(uploaded(std::mem::forget)).await;
        assert_eq!(read.as_deref(), Ok(&b"late"[..]));
    }
}
