//! Routes that answer themselves: redirects, and fixed replies.

use super::template::{Captures, Filled};
use crate::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, request};

/// Sends clients elsewhere.
#[derive(Clone, Debug)]
pub struct Redirect {
    pub(super) status: StatusCode,
    pub(super) scheme: Option<&'static str>,
    pub(super) host: Option<Box<str>>,
    pub(super) port: Option<u16>,
    pub(super) path: NewPath,
    pub(super) query: bool,
}

/// What a path becomes.
#[derive(Clone, Debug)]
pub(super) enum NewPath {
    /// What it is.
    Same,
    /// The prefix of the match, and what is put in its place.
    Prefix(Box<str>, Box<str>),
    /// All of it.
    Filled(Filled),
}

/// An answer in the place of a service's.
#[derive(Clone, Debug)]
pub struct Fixed {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Redirect {
    /// The answer for a request that came in by `scheme`, `http` or `https`.
    pub fn answer(
        &self,
        _head: &request::Parts,
        _captures: &Captures,
        _scheme: &'static str,
    ) -> Response<Body> {
        let mut answer = Response::new(Body::Empty);
        *answer.status_mut() = self.status;
        answer
    }
}

impl Fixed {
    /// The answer. To a `HEAD` it goes without its body.
    pub fn answer(&self) -> Response<Body> {
        let mut answer = Response::new(Body::from(self.body.clone()));
        *answer.status_mut() = self.status;
        answer.headers_mut().clone_from(&self.headers);
        answer
    }
}
