//! Requests and answers, as tests write and read them.

use super::content::Content;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use std::fmt;

/// A request.
pub struct TestRequest {
    /// Its method.
    pub method: Method,
    /// Its target; the host `shop.example` is put before a path.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub content: Content,
}

/// `GET` this.
pub fn get(target: &str) -> TestRequest {
    TestRequest::new(Method::GET, target)
}

/// `POST` this.
pub fn post(target: &str, content: impl Into<Content>) -> TestRequest {
    TestRequest::new(Method::POST, target).content(content.into())
}

impl TestRequest {
    /// Any request.
    pub fn new(method: Method, target: &str) -> Self {
        let (headers, content) = (HeaderMap::new(), Content::default());
        Self { method, target: target.to_owned(), headers, content }
    }

    /// With another body.
    #[must_use]
    pub fn content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }

    /// With one line of headers more. `host` is the authority.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header's value");
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// The whole target, as HTTP/2 has it.
    pub(super) fn uri(&self, host: &str) -> Uri {
        format!("http://{host}{}", self.target).parse().expect("a target")
    }
}

/// An answer.
#[derive(Clone, PartialEq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as far as it came.
    pub body: Vec<u8>,
    /// What came after it.
    pub trailers: HeaderMap,
    /// Whether it was broken off.
    pub broken: bool,
}

impl Answer {
    pub(super) fn of(status: StatusCode, headers: HeaderMap) -> Self {
        let (body, trailers) = (Vec::new(), HeaderMap::new());
        Self { status: status.as_u16(), headers, body, trailers, broken: false }
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// A header's value, all lines of it with commas between; empty if there is none.
    pub fn header(&self, name: &str) -> String {
        lines(&self.headers, name)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, headers, trailers, broken, .. } = self;
        // Not all of it: it would print megabytes.
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(200)]);
        write!(f, "{status} {headers:?} {body:?} {trailers:?} broken: {broken}")
    }
}

/// A header's value, all lines of it with commas between.
pub(super) fn lines(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).into_iter();
    let values: Vec<_> = values.map(|it| String::from_utf8_lossy(it.as_bytes())).collect();
    values.join(", ")
}
