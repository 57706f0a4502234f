//! What a service is asked, and what it answers.

use super::{content::Content, test_request::lines};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// A request that the service got.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// Its method.
    pub method: Method,
    /// Its whole target, as it was written.
    pub uri: Uri,
    /// The path and query of that.
    pub target: String,
    /// The host it is for.
    pub authority: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as far as it was read.
    pub body: Vec<u8>,
    /// What came after it.
    pub trailers: HeaderMap,
    /// The number of its connection, from 0.
    pub connection: usize,
    /// How far it has come.
    pub state: State,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its body is on its way, or the answer is waited for.
    UnderWay,
    /// It was answered.
    Answered,
    /// Its body broke off.
    Broken,
    /// The client is gone.
    Dropped,
}

impl ReceivedRequest {
    /// How long its body was; `None` if that has not ended, or was cut.
    pub fn whole_body(&self) -> Option<usize> {
        (self.state == State::Answered).then_some(self.body.len())
    }

    /// A header's value, all lines of it with commas between; empty if there is none.
    pub fn header(&self, name: &str) -> String {
        lines(&self.headers, name)
    }
}

/// What is answered.
pub struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) content: Given,
    pub(super) delay: Option<Duration>,
    pub(super) gate: Option<Arc<Semaphore>>,
    pub(super) early: bool,
}

pub(super) enum Given {
    Own(Content),
    Echo,
    Back,
    Reset(h2::Reason),
}

impl Reply {
    /// 200 with this body.
    pub fn ok(content: impl Into<Content>) -> Self {
        Self::with(Given::Own(content.into()))
    }

    /// This status, with its number as the body.
    pub fn status(status: u16) -> Self {
        Self::ok(status.to_string()).with_status(status)
    }

    /// This status, and no body.
    pub fn empty(status: u16) -> Self {
        Self { content: Given::Own(Content::default()), ..Self::status(status) }
    }

    /// The request's own body, with its trailers, while it comes.
    pub fn echo() -> Self {
        Self::with(Given::Echo)
    }

    /// The request's own body, once all of it is there.
    pub fn back() -> Self {
        Self::with(Given::Back)
    }

    /// Nothing, ever.
    pub fn never() -> Self {
        Self::ok("").held(&Arc::new(Semaphore::new(0)))
    }

    /// The connection closes, or of HTTP/2 the stream is reset.
    pub fn reset() -> Self {
        Self::with(Given::Reset(h2::Reason::INTERNAL_ERROR))
    }

    /// The stream is refused, and nothing was done. For HTTP/2 only.
    pub fn refused() -> Self {
        Self::with(Given::Reset(h2::Reason::REFUSED_STREAM))
    }

    fn with(content: Given) -> Self {
        let (status, headers) = (StatusCode::OK, HeaderMap::new());
        Self { status, headers, content, delay: None, gate: None, early: false }
    }

    /// With this status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).expect("a status");
        self
    }

    /// With one line of headers more.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header's value");
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    /// So long after the request.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// When the test adds a permit.
    #[must_use]
    pub fn held(mut self, gate: &Arc<Semaphore>) -> Self {
        self.gate = Some(Arc::clone(gate));
        self
    }

    /// Before the request's body was read.
    #[must_use]
    pub fn early(mut self) -> Self {
        self.early = true;
        self
    }
}
