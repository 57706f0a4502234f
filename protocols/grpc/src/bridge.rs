//! The bridge: an HTTP/1.1 client calls a gRPC service.
//!
//! It posts one message and gets one back, with the call's status in headers. In gRPC the status
//! comes last, so the response is buffered until the status is known.

use crate::{
    body::{InvalidRequestSlot, MessageStream, Step, collect, deferred, unfold},
    frame::{MessageFrame, TRAILERS, framed},
    media::{self, GRPC_ENCODING, Media},
    message_budget::MessageBudget,
    rejection,
    service_response::{self, UnaryResponse},
    settings::ServerStreams,
    status::{Code, Status},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request, response};
use http_body::Frame;
use std::pin::Pin;
use tollgate_http::{Body, Translator};

/// Translator of one call.
pub(crate) struct BridgeTranslator {
    /// `true`: client and response use a bare message; `false`: gRPC frames.
    bare: bool,
    room: MessageBudget,
    streams: ServerStreams,
    /// The client's `content-type`, which the response repeats.
    said: HeaderValue,
    blame: InvalidRequestSlot,
}

impl BridgeTranslator {
    /// A translator for a request with these headers.
    pub(crate) fn new(headers: &HeaderMap, room: MessageBudget, streams: ServerStreams) -> Self {
        let said = headers.get(header::CONTENT_TYPE).cloned().unwrap_or(media::GRPC);
        let bare = Media::of(headers) == Media::Protobuf;
        Self { bare, room, streams, said, blame: InvalidRequestSlot::default() }
    }
}

impl Translator for BridgeTranslator {
    fn translate_request(&mut self, head: &mut request::Parts, body: Body) -> Body {
        crate::path::drop_query(&mut head.uri);
        if !self.bare {
            media::set_grpc_headers(&mut head.headers);
            head.headers.insert(header::CONTENT_TYPE, self.said.clone());
            return body;
        }
        media::set_uncompressed_grpc_headers(&mut head.headers);
        let room = self.room.clone();
        deferred(self.blame.clone(), async move { room.framed(0, &collect(body, &room).await?) })
    }

    fn translate_response(
        self: Box<Self>,
        answer: Response<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>>>> {
        Box::pin(async move {
            let (mut head, body) = answer.into_parts();
            if let Some(status) = service_response::head_status(&head) {
                return self.failed(head.headers, &status, status.code.http());
            }
            let end = service_response::take_status_headers(&mut head.headers);
            let mut messages = MessageStream::with_head_trailers(end, body, &self.room);
            match service_response::read_unary(&mut messages).await {
                UnaryResponse::One(frame) => self.answered(head, messages.trailers, frame),
                UnaryResponse::Nothing if self.streams == ServerStreams::Frames => {
                    stream(head, messages, &[])
                }
                UnaryResponse::Nothing => {
                    let mut headers = head.headers;
                    media::merge_trailers(&mut headers, messages.trailers);
                    self.failed(
                        headers,
                        &service_response::missing_message(),
                        StatusCode::BAD_GATEWAY,
                    )
                }
                UnaryResponse::Failed(status) => {
                    let http = self.blamed(&messages.trailers, &status);
                    let mut headers = head.headers;
                    media::merge_trailers(&mut headers, messages.trailers);
                    self.failed(headers, &status, http)
                }
                UnaryResponse::Many(first, second) if self.streams == ServerStreams::Frames => {
                    stream(head, messages, &[first, second])
                }
                UnaryResponse::Many(..) => {
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

impl BridgeTranslator {
    /// The HTTP status of a failed call: 502 if the service sent no readable status.
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
        frame: MessageFrame,
    ) -> Response<Body> {
        let mut headers = head.headers;
        let body = match self.bare {
            false => self.room.framed(frame.flags, &frame.message),
            true => {
                service_response::uncompressed(frame).and_then(|message| self.room.charge(message))
            }
        };
        let body = match body {
            Ok(body) => body,
            Err(status) => return self.failed(headers, &status, StatusCode::BAD_GATEWAY),
        };
        media::merge_trailers(&mut headers, trailers);
        let status = Status::of(&headers).unwrap_or_else(|| Status::new(Code::Ok, ""));
        self.write(headers, &status, StatusCode::OK, body)
    }

    fn failed(&self, headers: HeaderMap, status: &Status, http: StatusCode) -> Response<Body> {
        // A failed response never has a 2xx status, whatever the code.
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
        if let Some(wait) = rejection::retry_after(&headers) {
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

/// Streams messages as they arrive. The last frame holds the trailers, as in gRPC-Web: few
/// HTTP/1.1 clients read real trailers.
fn stream(
    head: response::Parts,
    messages: MessageStream,
    begun: &[MessageFrame],
) -> Response<Body> {
    let mut headers = head.headers;
    media::strip_body_headers(&mut headers);
    let web = HeaderValue::from_static("application/grpc-web+proto");
    headers.insert(header::CONTENT_TYPE, web);
    let begun: Vec<u8> =
        begun.iter().flat_map(|frame| framed(frame.flags, &frame.message)).collect();
    let mut answer = Response::new(unfold(Some((Some(Bytes::from(begun)), messages)), next_frame));
    *answer.headers_mut() = headers;
    answer
}

type Streamed = Option<(Option<Bytes>, MessageStream)>;

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
    let last = framed(TRAILERS, &crate::grpc_web::encode_trailers(last));
    Some((Ok(Frame::data(last)), None))
}

#[cfg(test)]
mod tests;
