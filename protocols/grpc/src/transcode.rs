//! JSON: HTTP clients call as `google.api.http` says, and are answered JSON.

mod answer;
mod encode;
mod print;
mod request;
mod rules;
mod slot;
mod template;
mod wire;

use crate::{
    body::{Blame, Messages, Step, collect, later, steps},
    cors::CorsHeaders,
    frame::Framed,
    media, path, refusal,
    room::{Room, aside},
    service::{self, Unary},
    settings::{StreamShape, Transcode},
    status::{Code, Status},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request as http_request};
use http_body::Frame;
use request::Said;
use rules::{Found, Rule, Rules};
use std::{pin::Pin, rc::Rc, sync::Arc};
use template::NotText;
use tollgate_http::{Body, Translator};
use values::Mistake;

/// What a listener's settings say of JSON, with what its descriptor set holds.
#[derive(Debug)]
pub(crate) struct Json {
    rules: Rules,
    settings: Transcode,
}

impl Json {
    /// Reads the descriptor set.
    ///
    /// # Errors
    /// What is wrong with the settings, or with the set.
    pub(crate) fn load(settings: &Transcode) -> Result<Self, Vec<Mistake>> {
        Ok(Self { rules: Rules::load(settings)?, settings: settings.clone() })
    }

    /// Whether a call is one of the descriptor set's.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.rules.knows(name)
    }

    /// Makes a request that a rule describes the call that it is, and translates it.
    ///
    /// # Errors
    /// The answer to a request that no rule describes.
    #[allow(clippy::result_large_err, reason = "a request that goes nowhere is rare")]
    pub(crate) fn read(
        self: &Arc<Self>,
        head: &mut http_request::Parts,
        grant: CorsHeaders,
        room: Room,
    ) -> Result<Box<dyn Translator>, Response<Body>> {
        let bodiless = head.method == Method::HEAD;
        let (rule, path) = match self.rules.find(&head.method, head.uri.path()) {
            Found::Call(rule, Ok(values)) => (rule, values),
            Found::Call(_, Err(NotText)) => {
                let message = "the path is no UTF-8 once its percent signs are read";
                let status = Status::new(Code::InvalidArgument, message);
                return Err(self.failed(&status, HeaderMap::new(), &grant));
            }
            Found::Methods(methods) => {
                let names: Vec<_> = methods.iter().map(Method::as_str).collect();
                let message = format!("this path takes {}", names.join(", "));
                let status = Status::new(Code::Unimplemented, message);
                let mut answer = self.failed(&status, HeaderMap::new(), &grant);
                *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                let names = HeaderValue::try_from(names.join(", "));
                answer.headers_mut().extend(names.ok().map(|names| (header::ALLOW, names)));
                return Err(answer);
            }
            Found::Nothing => {
                let status = Status::new(Code::NotFound, self.no_rule(head.uri.path()));
                return Err(self.failed(&status, HeaderMap::new(), &grant));
            }
        };
        let query = head.uri.query().unwrap_or_default().to_owned();
        let said = Said { path, query, lenient: self.settings.ignore_unknown_parameters };
        path::set(&mut head.uri, &rule.call.path);
        head.method = Method::POST;
        let (json, blame) = (Arc::clone(self), Blame::default());
        Ok(Box::new(Transcoder { json, rule, said, grant, blame, room, bodiless }))
    }

    /// Why no rule has a path.
    fn no_rule(&self, path: &str) -> &'static str {
        match self.knows(path::call(path)) && !self.settings.unbound_methods {
            true => {
                "no rule has this path: with `unbound_methods: true` methods without a rule are \
                 called by their names"
            }
            false => "no rule has this path",
        }
    }

    /// The answer to a request that is none, as JSON.
    pub(crate) fn refusal(status: &Status, grant: &CorsHeaders) -> Response<Body> {
        let tree = answer::bare_error(status).to_string();
        let http = status.code.http();
        write(HeaderMap::new(), (http, status), tree.into(), media::JSON, grant)
    }

    /// A call that failed, as JSON. `headers` are the service's, trailers included.
    fn failed(&self, status: &Status, headers: HeaderMap, grant: &CorsHeaders) -> Response<Body> {
        let tree = answer::error(&self.rules.pool, status, &headers);
        let body = Bytes::from(tree.to_string());
        let http = match status.code {
            Code::Ok => StatusCode::BAD_GATEWAY,
            code => code.http(),
        };
        write(headers, (http, status), body, media::JSON, grant)
    }
}

/// An answer with a body that is there.
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
    if let Some(wait) = refusal::retry_after(&headers) {
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

/// Translates one call.
struct Transcoder {
    json: Arc<Json>,
    rule: Arc<Rule>,
    said: Said,
    grant: CorsHeaders,
    blame: Blame,
    room: Room,
    /// The client asked for the head of an answer alone.
    bodiless: bool,
}

impl Translator for Transcoder {
    fn translate_request(&mut self, head: &mut http_request::Parts, body: Body) -> Body {
        media::make_plain_grpc(&mut head.headers);
        for name in [header::ACCEPT, header::ACCEPT_ENCODING, header::ORIGIN, header::REFERER] {
            head.headers.remove(name);
        }
        let (rule, said) = (Arc::clone(&self.rule), std::mem::take(&mut self.said));
        let room = self.room.clone();
        later(self.blame.clone(), async move {
            let body = collect(body, &room).await?;
            let (len, limit) = (body.len(), room.limit);
            let read = move || request::message(&rule, &said, &body, limit);
            room.framed(0, &aside(len, read).await??)
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
        let status = self.blame.get().unwrap_or_else(|| service::end(&head.headers));
        let answer = self.json.failed(&status, head.headers, &self.grant);
        if self.bodiless { answer.map(|_| Body::Empty) } else { answer }
    }
}

impl Transcoder {
    async fn answered(self, answer: Response<Body>) -> Response<Body> {
        let (mut head, body) = answer.into_parts();
        if let Some(status) = service::failed(&head) {
            return self.json.failed(&status, head.headers, &self.grant);
        }
        let end = service::take_end(&mut head.headers);
        let messages = Messages::ending(end, body, &self.room);
        match self.rule.call.streams {
            true => self.streamed(head.headers, messages).await,
            false => self.unary(head.headers, messages).await,
        }
    }

    async fn unary(self, mut headers: HeaderMap, mut messages: Messages) -> Response<Body> {
        let read = service::unary(&mut messages).await;
        media::adopt(&mut headers, messages.trailers);
        let written = match read {
            Unary::One(frame) => self.written(frame).await,
            Unary::Failed(status) => Err(status),
            Unary::Nothing => Err(service::no_message()),
            Unary::Many(..) => {
                let message = "the service answered several messages to a call that has one";
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

    async fn written(&self, frame: Framed) -> Result<answer::Written, Status> {
        let bytes = self.room.keep(service::readable(frame)?)?;
        let limit = self.room.limit;
        let (rule, style) = (Arc::clone(&self.rule), answer::style(&self.json.settings));
        // With its defaults, a message of two bytes is some hundred of JSON.
        let len = bytes.len().saturating_mul(if style.defaults { 16 } else { 1 });
        let written = aside(len, move || answer::message(&rule, style, limit, bytes)).await??;
        Ok(answer::Written { bytes: self.room.keep(written.bytes)?, ..written })
    }

    /// Answers messages as they come. What goes wrong before the first of them still has a status
    /// of its own.
    async fn streamed(self, mut headers: HeaderMap, mut messages: Messages) -> Response<Body> {
        let first = match messages.next().await {
            Ok(Some(frame)) => self.written(frame).await.map(Some),
            Ok(None) => match service::end(&messages.trailers) {
                status if status.code == Code::Ok => Ok(None),
                status => Err(status),
            },
            Err(status) => Err(status),
        };
        let first = match first {
            Ok(first) => first,
            Err(status) => {
                media::adopt(&mut headers, messages.trailers);
                return self.json.failed(&status, headers, &self.grant);
            }
        };
        media::strip_body_headers(&mut headers);
        let (form, said) = match self.json.settings.streams {
            _ if answer::is_file(&self.rule) => (Form::File, answer::BINARY),
            StreamShape::Array => (Form::Array, media::JSON),
            StreamShape::Lines => (Form::Lines, HeaderValue::from_static("application/x-ndjson")),
        };
        // A file is what its first piece says.
        let own = first.as_ref().and_then(|written| written.content_type.clone());
        headers.insert(header::CONTENT_TYPE, own.unwrap_or(said));
        self.grant.add_to(&mut headers);
        let first = Some(first.map(|written| written.bytes));
        let stream = Stream { first, form, messages, by: Rc::new(self) };
        let mut answer = Response::new(steps(Some(stream), Stream::step));
        *answer.headers_mut() = headers;
        answer
    }
}

/// How messages are put together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Array,
    Lines,
    /// Pieces of a file, one after the other.
    File,
}

/// Messages on their way to a client.
struct Stream {
    /// The first message, until it is written; none if there are none at all.
    first: Option<Option<Bytes>>,
    form: Form,
    messages: Messages,
    by: Rc<Transcoder>,
}

impl Stream {
    async fn step(stream: Option<Self>) -> Step<Option<Self>> {
        let mut stream = stream?;
        let (text, more) = match stream.first.take() {
            Some(Some(first)) => (stream.item(true, &first), true),
            Some(None) => (stream.end(true, None), false),
            None => match stream.next().await {
                Ok(Some(bytes)) => (stream.item(false, &bytes), true),
                Ok(None) => (stream.end(false, None), false),
                // A file has no words for it: it is cut short.
                Err(status) if stream.form == Form::File => {
                    return Some((Err(status.message.into()), None));
                }
                Err(status) => (stream.end(false, Some(&status)), false),
            },
        };
        match stream.by.room.keep(text) {
            Ok(text) => Some((Ok(Frame::data(text)), more.then_some(stream))),
            Err(status) if stream.form == Form::File => Some((Err(status.message.into()), None)),
            Err(status) => Some((Ok(Frame::data(stream.end(false, Some(&status)).into())), None)),
        }
    }

    /// The next message as JSON; none at a good end.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        match self.messages.next().await? {
            Some(frame) => Ok(Some(self.by.written(frame).await?.bytes)),
            None => match service::end(&self.messages.trailers) {
                status if status.code == Code::Ok => Ok(None),
                status => Err(status),
            },
        }
    }

    fn item(&self, first: bool, json: &[u8]) -> Vec<u8> {
        match (self.form, first) {
            (Form::File, _) => json.to_vec(),
            (Form::Lines, _) => [json, b"\n"].concat(),
            (Form::Array, true) => [b"[", json].concat(),
            (Form::Array, false) => [b",", json].concat(),
        }
    }

    /// What comes last. The status line has long gone out, so an error is one more item.
    fn end(&self, first: bool, failed: Option<&Status>) -> Vec<u8> {
        let mut text = Vec::new();
        if let Some(status) = failed {
            let error = answer::error(&self.by.json.rules.pool, status, &self.messages.trailers);
            let error = serde_json::json!({ "error": error }).to_string();
            text = self.item(first, error.as_bytes());
        } else if first && self.form == Form::Array {
            text.push(b'[');
        }
        if self.form == Form::Array {
            text.push(b']');
        }
        text
    }
}

#[cfg(test)]
mod tests;
