//! The bridge: an HTTP/1.1 client calls a gRPC service.
//!
//! It posts one message and gets one back, with how the call ended as headers. What has to be known
//! before the head of the answer can be written comes last in gRPC, so the answer is held.

use crate::{
    body::{Blame, Messages, Step, collect, later, steps},
    frame::{Framed, TRAILERS, framed},
    media::{self, GRPC_ENCODING, Media},
    refusal,
    room::Room,
    service::{self, Unary},
    settings::ServerStreams,
    status::{Code, Status},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request, response};
use http_body::Frame;
use std::pin::Pin;
use tollgate_http::{Body, Translator};

/// Translates one call.
pub(crate) struct Bridge {
    /// The client posts a bare message, and is answered one; else it posts frames.
    bare: bool,
    room: Room,
    streams: ServerStreams,
    /// The client's `content-type`, which its answer has too.
    said: HeaderValue,
    blame: Blame,
}

impl Bridge {
    /// For a request with this head.
    pub(crate) fn new(headers: &HeaderMap, room: Room, streams: ServerStreams) -> Self {
        let said = headers.get(header::CONTENT_TYPE).cloned().unwrap_or(media::GRPC);
        let bare = Media::of(headers) == Media::Protobuf;
        Self { bare, room, streams, said, blame: Blame::default() }
    }
}

impl Translator for Bridge {
    fn translate_request(&mut self, head: &mut request::Parts, body: Body) -> Body {
        crate::path::drop_query(&mut head.uri);
        if !self.bare {
            media::make_grpc(&mut head.headers);
            head.headers.insert(header::CONTENT_TYPE, self.said.clone());
            return body;
        }
        media::make_plain_grpc(&mut head.headers);
        let room = self.room.clone();
        later(self.blame.clone(), async move { room.framed(0, &collect(body, &room).await?) })
    }

    fn translate_response(
        self: Box<Self>,
        answer: Response<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>>>> {
        Box::pin(async move {
            let (mut head, body) = answer.into_parts();
            if let Some(status) = service::failed(&head) {
                return self.failed(head.headers, &status, status.code.http());
            }
            let end = service::take_end(&mut head.headers);
            let mut messages = Messages::ending(end, body, &self.room);
            match service::unary(&mut messages).await {
                Unary::One(frame) => self.answered(head, messages.trailers, frame),
                Unary::Nothing if self.streams == ServerStreams::Frames => {
                    stream(head, messages, &[])
                }
                Unary::Nothing => {
                    let mut headers = head.headers;
                    media::adopt(&mut headers, messages.trailers);
                    self.failed(headers, &service::no_message(), StatusCode::BAD_GATEWAY)
                }
                Unary::Failed(status) => {
                    let http = self.blamed(&messages.trailers, &status);
                    let mut headers = head.headers;
                    media::adopt(&mut headers, messages.trailers);
                    self.failed(headers, &status, http)
                }
                Unary::Many(first, second) if self.streams == ServerStreams::Frames => {
                    stream(head, messages, &[first, second])
                }
                Unary::Many(..) => {
                    let message = "the service answered several messages: server streams need \
                                   `server_streams: frames`";
                    let status = Status::new(Code::Internal, message);
                    self.failed(head.headers, &status, StatusCode::BAD_GATEWAY)
                }
            }
        })
    }

    fn is_request_invalid(&self) -> bool {
        self.blame.get().is_some()
    }

    fn translate_rejection(&self, no: Response<Body>) -> Response<Body> {
        let (head, _) = no.into_parts();
        let said = Status::of(&head.headers);
        let status = self.blame.get().or(said);
        let status = status.unwrap_or_else(|| Status::new(Code::Unavailable, "refused"));
        self.failed(head.headers, &status, status.code.http())
    }
}

impl Bridge {
    /// The HTTP status of a call that failed. Where the service itself said nothing that can be
    /// read, it is a bad gateway's.
    fn blamed(&self, trailers: &HeaderMap, status: &Status) -> StatusCode {
        match Status::of(trailers) {
            Some(said) if said == *status => status.code.http(),
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    fn answered(
        &self,
        head: response::Parts,
        trailers: HeaderMap,
        frame: Framed,
    ) -> Response<Body> {
        let mut headers = head.headers;
        let body = match self.bare {
            false => self.room.framed(frame.flags, &frame.message),
            true => service::readable(frame).and_then(|message| self.room.keep(message)),
        };
        let body = match body {
            Ok(body) => body,
            Err(status) => return self.failed(headers, &status, StatusCode::BAD_GATEWAY),
        };
        media::adopt(&mut headers, trailers);
        let status = Status::of(&headers).unwrap_or_else(|| Status::new(Code::Ok, ""));
        self.write(headers, &status, StatusCode::OK, body)
    }

    fn failed(&self, headers: HeaderMap, status: &Status, http: StatusCode) -> Response<Body> {
        // An answer that fails has no success's status, whatever the code.
        let http = if http.is_success() { StatusCode::BAD_GATEWAY } else { http };
        self.write(headers, status, http, Bytes::new())
    }

    fn write(
        &self,
        mut headers: HeaderMap,
        status: &Status,
        http: StatusCode,
        body: Bytes,
    ) -> Response<Body> {
        media::strip_body_headers(&mut headers);
        if self.bare {
            headers.remove(GRPC_ENCODING);
        }
        if let Some(wait) = refusal::retry_after(&headers) {
            headers.insert(header::RETRY_AFTER, wait);
        }
        status.write(&mut headers);
        headers.insert(header::CONTENT_TYPE, self.said.clone());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        let mut answer = Response::new(Body::from(body));
        *answer.status_mut() = http;
        *answer.headers_mut() = headers;
        answer
    }
}

/// Passes messages on as they come. The last frame holds the trailers, as gRPC-Web has them: few
/// HTTP/1.1 clients read real ones.
fn stream(head: response::Parts, messages: Messages, begun: &[Framed]) -> Response<Body> {
    let mut headers = head.headers;
    media::strip_body_headers(&mut headers);
    let web = HeaderValue::from_static("application/grpc-web+proto");
    headers.insert(header::CONTENT_TYPE, web);
    let begun: Vec<u8> =
        begun.iter().flat_map(|frame| framed(frame.flags, &frame.message)).collect();
    let mut answer = Response::new(steps(Some((Some(Bytes::from(begun)), messages)), next_frame));
    *answer.headers_mut() = headers;
    answer
}

type Streamed = Option<(Option<Bytes>, Messages)>;

async fn next_frame(state: Streamed) -> Step<Streamed> {
    let (begun, mut messages) = state?;
    if let Some(begun) = begun {
        return Some((Ok(Frame::data(begun)), Some((None, messages))));
    }
    let last = match messages.next().await {
        Ok(Some(frame)) => {
            let bytes = framed(frame.flags, &frame.message);
            return Some((Ok(Frame::data(bytes)), Some((None, messages))));
        }
        Ok(None) => messages.trailers,
        Err(status) => {
            let mut trailers = HeaderMap::new();
            status.write(&mut trailers);
            trailers
        }
    };
    let last = framed(TRAILERS, &crate::browser::trailers_text(last));
    Some((Ok(Frame::data(last)), None))
}

#[cfg(test)]
mod tests;
