//! Writes a body to an HTTP/2 stream, at the pace of its windows.

use super::connection_headers::remove_connection_headers;
use crate::body::{BodyError, BoxBody};
use ::h2::{Reason, SendStream};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A body on its way to a stream.
pub(super) struct SendBody<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// A piece that waits for capacity, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
}

/// The stream has ended, orderly or not.
struct Ended;

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> SendBody<B> {
    pub(super) fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, waiting: None }
    }

    /// The same with a boxed body.
    pub(super) fn boxed(self) -> SendBody<BoxBody>
    where
        B: 'static,
    {
        let Self { body, stream, waiting } = self;
        SendBody { body: Box::pin(body), stream, waiting }
    }

    /// Ends the stream before its body does.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Ready when the body has been sent, or cannot be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waiting.is_some() && ready!(self.poll_waiting(cx)).is_err() {
                return Poll::Ready(());
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // The peer may reset the stream meanwhile.
                return self.stream.poll_reset(cx).map(|_| ());
            };
            if self.send(frame).is_err() {
                return Poll::Ready(());
            }
        }
    }

    /// Sends the piece that waits once there is capacity for its first byte. Capacity is reserved only
    /// for a piece at hand: streams without data would block others by what they reserve.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Ended)),
            }
        }
        let Some((data, last)) = self.waiting.take() else { return Poll::Ready(Ok(())) };
        Poll::Ready(self.send_data(data, last))
    }

    /// Sends the body's next frame, or keeps it until there is capacity.
    fn send(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> Result<(), Ended> {
        let Some(frame) = frame else { return self.send_data(Bytes::new(), true) };
        let frame = frame.map_err(|error| {
            self.stream.send_reset(reason(&*error));
            Ended
        })?;
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return self.send_trailers(frame.into_trailers().unwrap_or_default()),
        };
        let last = self.body.is_end_stream();
        if data.is_empty() {
            // Empty frames are passed by every window, and the other peer may send any number of them.
            return if last { self.send_data(data, true) } else { Ok(()) };
        }
        self.stream.reserve_capacity(1);
        self.waiting = Some((data, last));
        Ok(())
    }

    fn send_data(&mut self, data: Bytes, last: bool) -> Result<(), Ended> {
        let sent = self.stream.send_data(data, last).map_err(|_| Ended);
        if last { Err(Ended) } else { sent }
    }

    fn send_trailers(&mut self, mut trailers: HeaderMap) -> Result<(), Ended> {
        remove_connection_headers(&mut trailers);
        let _ = self.stream.send_trailers(trailers);
        Err(Ended)
    }
}

/// The reason with which a stream is reset for this error: the peer's own, if it is from HTTP/2.
pub(super) fn reason(error: &(dyn Error + 'static)) -> Reason {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(reason) = error.downcast_ref::<::h2::Error>().and_then(::h2::Error::reason) {
            return reason;
        }
        source = error.source();
    }
    Reason::INTERNAL_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http::{HeaderName, HeaderValue, Response};
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;

    /// A connection's preface, settings, and a `GET` on its first stream.
    const REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
                             \0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x01\x01a";

    /// Sends a body of these frames as a response. Returns type and length of what the client gets
    /// on the stream.
    async fn sent(frames: Vec<Frame<Bytes>>) -> Vec<(u8, usize)> {
        let (mut client, far) = duplex(1 << 16);
        client.write_all(REQUEST).await.unwrap();
        let mut server = ::h2::server::handshake(far).await.unwrap();
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        let stream = respond.send_response(Response::new(()), false).unwrap();
        let body = http_body_util::StreamBody::new(stream::iter(frames.into_iter().map(Ok)));
        let mut sending = SendBody::new(body, stream);
        poll_fn(|cx| {
            let sent = sending.poll(cx);
            let _ = server.poll_accept(cx);
            sent
        })
        .await;
        drop((sending, respond, server));
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        let (mut rest, mut seen) = (&bytes[..], Vec::new());
        while let [a, b, c, kind, _, _, _, _, stream, after @ ..] = rest {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            seen.extend((*stream == 1).then_some((*kind, length)));
            rest = &after[length..];
        }
        seen
    }

    #[tokio::test]
    async fn empty_frames_are_not_passed_on() {
        let data = |text: &'static str| Frame::data(Bytes::from_static(text.as_bytes()));
        let sent = sent(vec![data(""), data("one"), data(""), data(""), data("three")]).await;
        assert_eq!(sent[1..], [(DATA, 3), (DATA, 5), (DATA, 0)]);
    }

    #[tokio::test]
    async fn trailers_lose_headers_that_http_2_forbids() {
        let names = [HeaderName::from_static("x-a"), http::header::CONNECTION];
        let value = HeaderValue::from_static("1");
        let trailers = HeaderMap::from_iter(names.map(|name| (name, value.clone())));
        let sent = sent(vec![Frame::trailers(trailers)]).await;
        assert!(matches!(sent[..], [_, (HEADERS, _)]), "{sent:?}");
    }
}
