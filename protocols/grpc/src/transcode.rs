//! JSON transcoding: HTTP clients call by `google.api.http` rules and receive JSON.

mod field;
mod from_json;
mod request;
mod response;
mod rules;
mod template;
mod to_json;
mod wire;

use crate::{
    body::{InvalidRequestSlot, MessageStream, Step, collect, deferred, unfold},
    cors::CorsHeaders,
    frame::MessageFrame,
    media,
    message_budget::{MessageBudget, offload},
    path, rejection,
    service_response::{self, UnaryResponse},
    settings::{StreamShape, Transcode},
    status::{Code, Status},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request as http_request};
use http_body::Frame;
use request::RequestInput;
use rules::{HttpRule, RuleMatch, Rules};
use std::{pin::Pin, rc::Rc, sync::Arc};
use template::NotText;
use tollgate_http::{Body, Translator};
use values::Diagnostic;

/// The JSON transcoding of a listener: settings and rules of its descriptor set.
#[derive(Debug)]
pub(crate) struct JsonTranscoding {
    rules: Rules,
    settings: Transcode,
}

impl JsonTranscoding {
    /// Reads the descriptor set.
    ///
    /// # Errors
    /// Mistakes in the settings or the set.
    pub(crate) fn load(settings: &Transcode) -> Result<Self, Vec<Diagnostic>> {
        Ok(Self { rules: Rules::load(settings)?, settings: settings.clone() })
    }

    /// Whether the descriptor set has this method.
    pub(crate) fn has_method(&self, name: &str) -> bool {
        self.rules.has_method(name)
    }

    /// Rewrites a request that matches a rule into its call. Returns the translator.
    ///
    /// # Errors
    /// The response to a request without a rule.
    #[allow(clippy::result_large_err, reason = "a request that goes nowhere is rare")]
    pub(crate) fn read(
        self: &Arc<Self>,
        head: &mut http_request::Parts,
        grant: CorsHeaders,
        room: MessageBudget,
    ) -> Result<Box<dyn Translator>, Response<Body>> {
        let bodiless = head.method == Method::HEAD;
        let (rule, path) = match self.rules.find(&head.method, head.uri.path()) {
            RuleMatch::Call(rule, Ok(values)) => (rule, values),
            RuleMatch::Call(_, Err(NotText)) => {
                let message = "the path is not UTF-8 once its percent signs are read";
                let status = Status::new(Code::InvalidArgument, message);
                return Err(self.failed(&status, HeaderMap::new(), &grant));
            }
            RuleMatch::Methods(methods) => {
                let names: Vec<_> = methods.iter().map(Method::as_str).collect();
                let message = format!("this path takes {}", names.join(", "));
                let status = Status::new(Code::Unimplemented, message);
                let mut answer = self.failed(&status, HeaderMap::new(), &grant);
                *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                let names = HeaderValue::try_from(names.join(", "));
                answer.headers_mut().extend(names.ok().map(|names| (header::ALLOW, names)));
                return Err(answer);
            }
            RuleMatch::Nothing => {
                let status = Status::new(Code::NotFound, self.no_rule(head.uri.path()));
                return Err(self.failed(&status, HeaderMap::new(), &grant));
            }
        };
        let query = head.uri.query().unwrap_or_default().to_owned();
        let said = RequestInput { path, query, lenient: self.settings.ignore_unknown_parameters };
        path::replace(&mut head.uri, &rule.call.path);
        head.method = Method::POST;
        let (json, blame) = (Arc::clone(self), InvalidRequestSlot::default());
        Ok(Box::new(Transcoder { json, rule, said, grant, blame, room, bodiless }))
    }

    /// The error text for a path without a rule.
    fn no_rule(&self, path: &str) -> &'static str {
        match self.has_method(path::full_method(path)) && !self.settings.unbound_methods {
            true => {
                "no rule has this path: with `unbound_methods: true` methods without a rule are \
                 called by their names"
            }
            false => "no rule has this path",
        }
    }

    /// A rejection as JSON.
    pub(crate) fn refusal(status: &Status, grant: &CorsHeaders) -> Response<Body> {
        let tree = response::bare_error(status).to_string();
        let http = status.code.http();
        write(HeaderMap::new(), (http, status), tree.into(), media::JSON, grant)
    }

    /// A failed call as JSON. `headers` are the service's, trailers included.
    fn failed(&self, status: &Status, headers: HeaderMap, grant: &CorsHeaders) -> Response<Body> {
        let tree = response::error(&self.rules.pool, status, &headers);
        let body = Bytes::from(tree.to_string());
        let http = match status.code {
            Code::Ok => StatusCode::BAD_GATEWAY,
            code => code.http(),
        };
        write(headers, (http, status), body, media::JSON, grant)
    }
}

/// A response with a complete body.
fn write(
    mut headers: HeaderMap,
    (http, status): (StatusCode, &Status),
    body: Bytes,
    content_type: HeaderValue,
    grant: &CorsHeaders,
) -> Response<Body> {
    media::strip_body_headers(&mut headers);
    headers.remove(media::GRPC_ENCODING);
    headers.remove(media::GRPC_ACCEPT_ENCODING);
    if let Some(wait) = rejection::retry_after(&headers) {
        headers.insert(header::RETRY_AFTER, wait);
    }
    status.write(&mut headers);
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    grant.add_to(&mut headers);
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = http;
    *answer.headers_mut() = headers;
    answer
}

/// Translator of one call.
struct Transcoder {
    json: Arc<JsonTranscoding>,
    rule: Arc<HttpRule>,
    said: RequestInput,
    grant: CorsHeaders,
    blame: InvalidRequestSlot,
    room: MessageBudget,
    /// Whether the request is a HEAD.
    bodiless: bool,
}

impl Translator for Transcoder {
    fn translate_request(&mut self, head: &mut http_request::Parts, body: Body) -> Body {
        media::set_uncompressed_grpc_headers(&mut head.headers);
        for name in [header::ACCEPT, header::ACCEPT_ENCODING, header::ORIGIN, header::REFERER] {
            head.headers.remove(name);
        }
        let (rule, said) = (Arc::clone(&self.rule), std::mem::take(&mut self.said));
        let room = self.room.clone();
        deferred(self.blame.clone(), async move {
            let body = collect(body, &room).await?;
            let (len, limit) = (body.len(), room.limit);
            let read = move || request::message(&rule, &said, &body, limit);
            room.framed(0, &offload(len, read).await??)
        })
    }

    fn translate_response(
        self: Box<Self>,
        answer: Response<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>>>> {
        Box::pin(async move {
            let bodiless = self.bodiless;
            let answer = self.answered(answer).await;
            if bodiless { answer.map(|_| Body::Empty) } else { answer }
        })
    }

    fn is_request_invalid(&self) -> bool {
        self.blame.get().is_some()
    }

    fn translate_rejection(&self, no: Response<Body>) -> Response<Body> {
        let (head, _) = no.into_parts();
        let status =
            self.blame.get().unwrap_or_else(|| service_response::final_status(&head.headers));
        let answer = self.json.failed(&status, head.headers, &self.grant);
        if self.bodiless { answer.map(|_| Body::Empty) } else { answer }
    }
}

impl Transcoder {
    async fn answered(self, answer: Response<Body>) -> Response<Body> {
        let (mut head, body) = answer.into_parts();
        if let Some(status) = service_response::head_status(&head) {
            return self.json.failed(&status, head.headers, &self.grant);
        }
        let end = service_response::take_status_headers(&mut head.headers);
        let messages = MessageStream::with_head_trailers(end, body, &self.room);
        match self.rule.call.streams {
            true => self.streamed(head.headers, messages).await,
            false => self.unary(head.headers, messages).await,
        }
    }

    async fn unary(self, mut headers: HeaderMap, mut messages: MessageStream) -> Response<Body> {
        let read = service_response::read_unary(&mut messages).await;
        media::merge_trailers(&mut headers, messages.trailers);
        let written = match read {
            UnaryResponse::One(frame) => self.written(frame).await,
            UnaryResponse::Failed(status) => Err(status),
            UnaryResponse::Nothing => Err(service_response::missing_message()),
            UnaryResponse::Many(..) => {
                let message = "the service sent several messages for a unary call";
                Err(Status::new(Code::Internal, message))
            }
        };
        match written {
            Err(status) => self.json.failed(&status, headers, &self.grant),
            Ok(written) => {
                let said = written.content_type.unwrap_or(media::JSON);
                let ok = (StatusCode::OK, &Status::new(Code::Ok, ""));
                write(headers, ok, written.bytes, said, &self.grant)
            }
        }
    }

    async fn written(&self, frame: MessageFrame) -> Result<response::EncodedBody, Status> {
        let bytes = self.room.charge(service_response::uncompressed(frame)?)?;
        let limit = self.room.limit;
        let (rule, style) = (Arc::clone(&self.rule), response::print_options(&self.json.settings));
        // With default values written, a message of two bytes can become some hundred bytes of JSON.
        let len = bytes.len().saturating_mul(if style.defaults { 16 } else { 1 });
        let written = offload(len, move || response::message(&rule, style, limit, bytes)).await??;
        Ok(response::EncodedBody { bytes: self.room.charge(written.bytes)?, ..written })
    }

    /// Streams messages as they arrive. An error before the first one still sets the HTTP status.
    async fn streamed(self, mut headers: HeaderMap, mut messages: MessageStream) -> Response<Body> {
        let first = match messages.next().await {
            Ok(Some(frame)) => self.written(frame).await.map(Some),
            Ok(None) => match service_response::final_status(&messages.trailers) {
                status if status.code == Code::Ok => Ok(None),
                status => Err(status),
            },
            Err(status) => Err(status),
        };
        let first = match first {
            Ok(first) => first,
            Err(status) => {
                media::merge_trailers(&mut headers, messages.trailers);
                return self.json.failed(&status, headers, &self.grant);
            }
        };
        media::strip_body_headers(&mut headers);
        let (form, said) = match self.json.settings.streams {
            _ if response::is_file(&self.rule) => (StreamFormat::File, response::BINARY),
            StreamShape::Array => (StreamFormat::Array, media::JSON),
            StreamShape::Lines => {
                (StreamFormat::Lines, HeaderValue::from_static("application/x-ndjson"))
            }
        };
        // The first chunk sets a file's content type.
        let own = first.as_ref().and_then(|written| written.content_type.clone());
        headers.insert(header::CONTENT_TYPE, own.unwrap_or(said));
        self.grant.add_to(&mut headers);
        let first = Some(first.map(|written| written.bytes));
        let stream = ResponseStream { first, form, messages, by: Rc::new(self) };
        let mut answer = Response::new(unfold(Some(stream), ResponseStream::step));
        *answer.headers_mut() = headers;
        answer
    }
}

/// How messages are joined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamFormat {
    Array,
    Lines,
    /// Chunks of a file.
    File,
}

/// A response stream to a client.
struct ResponseStream {
    /// The first message, until it is written; `None` for an empty stream.
    first: Option<Option<Bytes>>,
    form: StreamFormat,
    messages: MessageStream,
    by: Rc<Transcoder>,
}

impl ResponseStream {
    async fn step(stream: Option<Self>) -> Step<Option<Self>> {
        let mut stream = stream?;
        let (text, more) = match stream.first.take() {
            Some(Some(first)) => (stream.item(true, &first), true),
            Some(None) => (stream.end(true, None), false),
            None => match stream.next().await {
                Ok(Some(bytes)) => (stream.item(false, &bytes), true),
                Ok(None) => (stream.end(false, None), false),
                // A file can't carry an error: abort it.
                Err(status) if stream.form == StreamFormat::File => {
                    return Some((Err(status.message.into()), None));
                }
                Err(status) => (stream.end(false, Some(&status)), false),
            },
        };
        match stream.by.room.charge(text) {
            Ok(text) => Some((Ok(Frame::data(text)), more.then_some(stream))),
            Err(status) if stream.form == StreamFormat::File => {
                Some((Err(status.message.into()), None))
            }
            Err(status) => Some((Ok(Frame::data(stream.end(false, Some(&status)).into())), None)),
        }
    }

    /// Returns the next message as JSON, or `None` at a successful end.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        match self.messages.next().await? {
            Some(frame) => Ok(Some(self.by.written(frame).await?.bytes)),
            None => match service_response::final_status(&self.messages.trailers) {
                status if status.code == Code::Ok => Ok(None),
                status => Err(status),
            },
        }
    }

    fn item(&self, first: bool, json: &[u8]) -> Vec<u8> {
        match (self.form, first) {
            (StreamFormat::File, _) => json.to_vec(),
            (StreamFormat::Lines, _) => [json, b"\n"].concat(),
            (StreamFormat::Array, true) => [b"[", json].concat(),
            (StreamFormat::Array, false) => [b",", json].concat(),
        }
    }

    /// The last bytes. The status line was already sent, so an error is one more item.
    fn end(&self, first: bool, failed: Option<&Status>) -> Vec<u8> {
        let mut text = Vec::new();
        if let Some(status) = failed {
            let error = response::error(&self.by.json.rules.pool, status, &self.messages.trailers);
            let error = serde_json::json!({ "error": error }).to_string();
            text = self.item(first, error.as_bytes());
        } else if first && self.form == StreamFormat::Array {
            text.push(b'[');
        }
        if self.form == StreamFormat::Array {
            text.push(b']');
        }
        text
    }
}

#[cfg(test)]
mod tests;
