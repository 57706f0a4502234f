//! What the scripted web server answers, over whatever HTTP it is asked.

use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, SizeHint},
    header::{CONTENT_TYPE, HeaderValue},
};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

/// Bytes of the answer to `GET /small`, and of the message in that to a gRPC call.
pub const SMALL: usize = 200;
/// Bytes of the answer to `GET /16k`.
pub const LARGE: usize = 16 * 1024;
/// The one method that gRPC clients can call.
pub const METHOD: &str = "/shop.Prices/Get";
/// Bytes before a gRPC message: whether it is compressed, and its length.
const PREFIX: usize = 5;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");
const INVALID_ARGUMENT: HeaderValue = HeaderValue::from_static("3");

static BYTES: [u8; LARGE] = [b'x'; LARGE];
/// An uncompressed message of [`SMALL`] bytes, with what goes before it.
static MESSAGE: [u8; PREFIX + SMALL] = {
    let mut message = [b'x'; PREFIX + SMALL];
    let mut at = 0;
    while at < PREFIX {
        message[at] = 0;
        at += 1;
    }
    message[PREFIX - 1] = SMALL as u8;
    message
};

/// The body of an answer: one piece, and trailers if it is gRPC's.
pub struct Reply {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = std::mem::take(&mut self.data);
        Poll::Ready(match data.is_empty() {
            false => Some(Ok(Frame::data(data))),
            true => self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.trailers {
            // Calls have no length in their head.
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.data.len() as u64),
        }
    }
}

/// Answers one request, when the whole of it is here.
///
/// # Errors
/// When the client goes away in the middle of its body.
pub async fn answer<B: Body>(request: Request<B>) -> Result<Response<Reply>, B::Error> {
    let (head, body) = request.into_parts();
    Ok(match (&head.method, head.uri.path()) {
        (&Method::GET, "/small") => plain(Bytes::from_static(&BYTES[..SMALL])),
        (&Method::GET, "/16k") => plain(Bytes::from_static(&BYTES)),
        (&Method::POST, "/length") => {
            plain(body.collect().await?.to_bytes().len().to_string().into())
        }
        (&Method::POST, METHOD) => called(&body.collect().await?.to_bytes()),
        _ => {
            let mut missing = plain(Bytes::new());
            *missing.status_mut() = StatusCode::NOT_FOUND;
            missing
        }
    })
}

fn plain(data: Bytes) -> Response<Reply> {
    Response::new(Reply { data, trailers: None })
}

/// The answer to a call with this body, which is to be one message.
fn called(body: &[u8]) -> Response<Reply> {
    let whole = body.split_at_checked(PREFIX).is_some_and(|(prefix, message)| {
        prefix[0] == 0 && prefix[1..] == (message.len() as u32).to_be_bytes()
    });
    let (data, status) = match whole {
        true => (Bytes::from_static(&MESSAGE), OK),
        false => (Bytes::new(), INVALID_ARGUMENT),
    };
    let trailers =
        HeaderMap::from_iter([(hyper::header::HeaderName::from_static("grpc-status"), status)]);
    let mut response = Response::new(Reply { data, trailers: Some(trailers) });
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    /// The status, the body and what `grpc-status` says after it.
    async fn ask(method: Method, path: &str, body: &[u8]) -> (u16, Bytes, Option<HeaderValue>) {
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        let response = answer(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap();
        let said = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
        (status, body.to_bytes(), said)
    }

    #[tokio::test]
    async fn answers_have_the_lengths_that_the_script_expects() {
        let (status, body, _) = ask(Method::GET, "/small", b"").await;
        assert_eq!((status, body.len()), (200, 200));
        let (status, body, _) = ask(Method::GET, "/16k", b"").await;
        assert_eq!((status, body.len()), (200, 16_384));
        let (status, body, _) = ask(Method::POST, "/length", &[0; 1234]).await;
        assert_eq!((status, &body[..]), (200, &b"1234"[..]));
        assert_eq!(ask(Method::GET, "/length", b"").await.0, 404);
    }

    #[tokio::test]
    async fn a_call_is_answered_by_a_message_and_its_status_after_it() {
        let (status, body, said) = ask(Method::POST, METHOD, b"\0\0\0\0\x03abc").await;
        assert_eq!((status, said), (200, Some(OK)));
        assert_eq!(&body[..PREFIX], &[0, 0, 0, 0, 200]);
        assert_eq!(body.len(), PREFIX + SMALL);
    }

    #[tokio::test]
    async fn a_call_without_a_whole_message_gets_an_error() {
        for body in [&b""[..], b"abc", b"\0\0\0\0\x04abc", b"\x01\0\0\0\x03abc"] {
            let (_, body, said) = ask(Method::POST, METHOD, body).await;
            assert_eq!((body.len(), said), (0, Some(INVALID_ARGUMENT)));
        }
    }
}
