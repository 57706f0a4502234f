//! The reverse bridge: a gRPC client calls a service that speaks plain HTTP.
//!
//! The service receives and returns one message per call; its HTTP status becomes the call's status.

use crate::{
    body::{InvalidRequestSlot, MessageStream, collect, deferred, with_trailers},
    frame::COMPRESSED,
    media,
    message_budget::MessageBudget,
    rejection::{self, trailers_only},
    settings::ReverseBridge,
    status::{Code, GRPC_STATUS, Status},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header, request};
use std::pin::Pin;
use tollgate_http::{Body, Translator};

/// Translator of one call.
pub(crate) struct ReverseTranslator {
    content_type: HeaderValue,
    withhold_frames: bool,
    room: MessageBudget,
    /// The client's `content-type`, which the response repeats.
    said: HeaderValue,
    blame: InvalidRequestSlot,
}

impl ReverseTranslator {
    pub(crate) fn new(settings: &ReverseBridge, room: MessageBudget) -> Self {
        let content_type = HeaderValue::try_from(&settings.content_type);
        Self {
            content_type: content_type.unwrap_or(media::GRPC),
            withhold_frames: settings.withhold_frames,
            room,
            said: media::GRPC,
            blame: InvalidRequestSlot::default(),
        }
    }
}

impl Translator for ReverseTranslator {
    fn translate_request(&mut self, head: &mut request::Parts, body: Body) -> Body {
        // gRPC has no query, and a plain HTTP service may use it to choose another method.
        crate::path::drop_query(&mut head.uri);
        if let Some(said) = head.headers.get(header::CONTENT_TYPE) {
            self.said = said.clone();
        }
        media::strip_body_headers(&mut head.headers);
        head.headers.remove(header::TE);
        head.headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        head.headers.insert(header::ACCEPT, self.content_type.clone());
        let (blame, room, bare) = (self.blame.clone(), self.room.clone(), self.withhold_frames);
        if bare {
            head.headers.remove(media::GRPC_ENCODING);
            head.headers.remove(media::GRPC_ACCEPT_ENCODING);
        }
        deferred(blame, only_message(body, room, bare))
    }

    fn buffers_request(&self) -> bool {
        true
    }

    fn translate_response(
        self: Box<Self>,
        answer: Response<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>>>> {
        Box::pin(async move {
            let (mut head, body) = answer.into_parts();
            match self.read(&head.headers, head.status, body).await {
                Ok(bytes) => {
                    head.status = http::StatusCode::OK;
                    media::strip_body_headers(&mut head.headers);
                    head.headers.insert(header::CONTENT_TYPE, self.said);
                    let mut trailers = HeaderMap::new();
                    trailers.insert(GRPC_STATUS, HeaderValue::from(Code::Ok.number()));
                    head.headers.remove(GRPC_STATUS);
                    Response::from_parts(head, with_trailers(bytes, trailers))
                }
                // An invalid request may be the reason why the response was aborted.
                Err(status) => match self.blame.get() {
                    Some(_) => self.translate_rejection(trailers_only(&status)),
                    None => trailers_only(&status),
                },
            }
        })
    }

    fn is_request_invalid(&self) -> bool {
        self.blame.get().is_some()
    }

    fn translate_rejection(&self, no: Response<Body>) -> Response<Body> {
        let Some(status) = self.blame.get() else { return no };
        let mut answer = trailers_only(&status);
        // A retry of an invalid request fails too.
        let never = HeaderValue::from_static("-1");
        answer.headers_mut().insert(rejection::PUSHBACK, never);
        answer
    }
}

impl ReverseTranslator {
    /// Reads the service's response. Returns the client's response message in a frame.
    async fn read(
        &self,
        headers: &HeaderMap,
        http: http::StatusCode,
        body: Body,
    ) -> Result<Bytes, Status> {
        match Status::of(headers) {
            Some(status) if status.code != Code::Ok => return Err(status),
            Some(_) => {}
            None if http.is_success() => {}
            None => {
                let message = format!("the service answered {http}");
                return Err(Status::new(Code::of_service(http), message));
            }
        }
        let text = |value: Option<&HeaderValue>| {
            let text = value.and_then(|it| it.to_str().ok()).unwrap_or_default();
            media::essence(text).to_ascii_lowercase()
        };
        let said = text(headers.get(header::CONTENT_TYPE));
        let wanted = text(Some(&self.content_type));
        if said != wanted {
            let message = format!("the service answered `{said}`, not `{wanted}`");
            return Err(Status::new(Code::Unknown, message));
        }
        match self.withhold_frames {
            true => self.room.framed(0, &collect(body, &self.room).await.map_err(broken)?),
            false => {
                let mut messages = MessageStream::new(body, &self.room);
                let one = "the service's response is not one framed message";
                let wrong = || Status::new(Code::Internal, one);
                let frame = messages.next().await?.ok_or_else(wrong)?;
                match messages.next().await? {
                    None => self.room.framed(frame.flags, &frame.message),
                    Some(_) => Err(wrong()),
                }
            }
        }
    }
}

/// Maps an aborted body to `UNAVAILABLE`: here the service aborted it, not the client.
fn broken(status: Status) -> Status {
    match status.code {
        Code::Cancelled => Status::new(Code::Unavailable, "the service aborted its response"),
        _ => status,
    }
}

/// Reads the only message of a request. Returns it bare or with its frame.
async fn only_message(body: Body, room: MessageBudget, bare: bool) -> Result<Bytes, Status> {
    let mut messages = MessageStream::new(body, &room);
    let one = || {
        let message = "the service behind this speaks plain HTTP: a call has one message";
        Status::new(Code::Unimplemented, message)
    };
    let frame = messages.next().await?.ok_or_else(one)?;
    if bare && frame.flags & COMPRESSED != 0 {
        let message = "the service behind this reads no compressed messages";
        return Err(Status::new(Code::Unimplemented, message));
    }
    match messages.next().await? {
        None if bare => room.charge(frame.message),
        None => room.framed(frame.flags, &frame.message),
        Some(_) => Err(one()),
    }
}

#[cfg(test)]
mod tests;
