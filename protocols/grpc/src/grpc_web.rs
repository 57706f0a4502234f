//! gRPC-Web: browsers can't read trailers, so the last frame of the body holds them. Some can't
//! read binary bodies, so the body may be base64 (gRPC, "PROTOCOL-WEB").

use crate::{
    body::{InvalidRequestSlot, Rewrite, rewritten},
    cors::CorsHeaders,
    frame::{TRAILERS, framed},
    media::{self, Media},
    rejection, service_response,
    status::{Code, Status},
    web_text::{Decoder, encode},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header, request, response};
use http_body::Body as _;
use std::pin::Pin;
use tollgate_http::{Body, BodyError, Translator};

const BINARY_TYPE: &str = "application/grpc-web";
const TEXT_TYPE: &str = "application/grpc-web-text";

/// Translator of one call.
pub(crate) struct GrpcWebTranslator {
    /// Whether the request body is base64.
    asks_text: bool,
    /// Whether the response body must be base64.
    wants_text: bool,
    /// The message format suffix of `content-type`: `+proto`.
    suffix: String,
    grant: CorsHeaders,
    blame: InvalidRequestSlot,
}

impl GrpcWebTranslator {
    /// A translator for a request with these headers.
    pub(crate) fn new(headers: &HeaderMap, grant: CorsHeaders) -> Self {
        let asks_text = Media::of(headers) == Media::WebText;
        let text = |name: HeaderName| {
            headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
        };
        let accepted = text(header::ACCEPT);
        let wants_text = match accepted.contains(BINARY_TYPE) {
            true => accepted.contains(TEXT_TYPE),
            false => asks_text,
        };
        let said = media::essence(text(header::CONTENT_TYPE));
        let suffix = said.find('+').map_or("+proto", |at| &said[at..]).to_ascii_lowercase();
        Self { asks_text, wants_text, suffix, grant, blame: InvalidRequestSlot::default() }
    }

    fn content_type(&self, base: &str) -> HeaderValue {
        HeaderValue::try_from(format!("{base}{}", self.suffix)).unwrap_or(media::GRPC)
    }

    /// Rewrites the response head for the browser.
    fn head(&self, head: &mut response::Parts) {
        media::strip_body_headers(&mut head.headers);
        let base = if self.wants_text { TEXT_TYPE } else { BINARY_TYPE };
        head.headers.insert(header::CONTENT_TYPE, self.content_type(base));
        self.grant.add_to(&mut head.headers);
    }

    /// A response without a body. Pages read the status from its headers.
    fn over(&self, mut head: response::Parts, status: &Status) -> Response<Body> {
        head.status = http::StatusCode::OK;
        self.head(&mut head);
        status.write(&mut head.headers);
        Response::from_parts(head, Body::Empty)
    }
}

impl Translator for GrpcWebTranslator {
    fn translate_request(&mut self, head: &mut request::Parts, body: Body) -> Body {
        media::set_grpc_headers(&mut head.headers);
        head.headers.insert(header::CONTENT_TYPE, self.content_type("application/grpc"));
        for name in ["x-grpc-web", "origin", "referer"] {
            head.headers.remove(name);
        }
        match self.asks_text {
            false => body,
            true => {
                let (decoder, blame) = (Decoder::default(), self.blame.clone());
                rewritten(body, TextDecoder { decoder, blame })
            }
        }
    }

    fn translate_response(
        self: Box<Self>,
        answer: Response<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>>>> {
        let (mut head, body) = answer.into_parts();
        let said = Status::of(&head.headers).filter(|_| body.is_end_stream());
        let answer = match service_response::head_status(&head).or(said) {
            Some(status) => self.over(head, &status),
            None => {
                let end = service_response::take_status_headers(&mut head.headers);
                self.head(&mut head);
                let encoding = ResponseEncoder { text: self.wants_text, end };
                Response::from_parts(head, rewritten(body, encoding))
            }
        };
        Box::pin(std::future::ready(answer))
    }

    fn is_request_invalid(&self) -> bool {
        self.blame.get().is_some()
    }

    fn translate_rejection(&self, no: Response<Body>) -> Response<Body> {
        let (mut head, _) = no.into_parts();
        let status =
            self.blame.get().unwrap_or_else(|| service_response::final_status(&head.headers));
        if let Some(wait) = rejection::retry_after(&head.headers) {
            head.headers.insert(header::RETRY_AFTER, wait);
        }
        self.over(head, &status)
    }
}

/// Encodes trailers for the last frame: one line each, names in lower case.
pub(crate) fn encode_trailers(mut trailers: HeaderMap) -> Bytes {
    if crate::status::code_of(&trailers).is_none() {
        service_response::final_status(&trailers).write(&mut trailers);
    }
    let mut text = BytesMut::new();
    for (name, value) in &trailers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.freeze()
}

/// Decodes a base64 request body.
struct TextDecoder {
    decoder: Decoder,
    blame: InvalidRequestSlot,
}

impl TextDecoder {
    fn broken(&self) -> BodyError {
        self.blame.set(Status::new(Code::InvalidArgument, "the request body is not base64"))
    }
}

impl Rewrite for TextDecoder {
    fn data(&mut self, data: Bytes) -> Result<Bytes, BodyError> {
        self.decoder.push(&data).map(Bytes::from).map_err(|_| self.broken())
    }

    fn end(&mut self, _: Option<HeaderMap>) -> Result<(Bytes, Option<HeaderMap>), BodyError> {
        match self.decoder.is_empty() {
            true => Ok((Bytes::new(), None)),
            false => Err(self.broken()),
        }
    }
}

/// Appends the trailers frame to a response, and encodes it as base64 if the client wants text.
struct ResponseEncoder {
    text: bool,
    /// Status headers from the response head.
    end: HeaderMap,
}

impl Rewrite for ResponseEncoder {
    fn data(&mut self, data: Bytes) -> Result<Bytes, BodyError> {
        Ok(if self.text { encode(&data) } else { data })
    }

    fn end(
        &mut self,
        trailers: Option<HeaderMap>,
    ) -> Result<(Bytes, Option<HeaderMap>), BodyError> {
        let mut end = std::mem::take(&mut self.end);
        end.extend(trailers.unwrap_or_default());
        let last = framed(TRAILERS, &encode_trailers(end));
        Ok((self.data(last)?, None))
    }
}

#[cfg(test)]
mod tests;
