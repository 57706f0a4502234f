//! Responses of routes without cluster: redirects and fixed replies.

use super::{
    RequestHead,
    rewrite::{PathRewrite, with_query},
    template::Captures,
};
use crate::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header::LOCATION};

/// Redirects clients.
#[derive(Clone, Debug)]
pub struct Redirect {
    pub(super) status: StatusCode,
    pub(super) scheme: Option<&'static str>,
    pub(super) host: Option<Box<str>>,
    pub(super) port: Option<usize>,
    pub(super) path: PathRewrite,
    pub(super) query: bool,
}

/// A fixed response.
#[derive(Clone, Debug)]
pub struct DirectResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Redirect {
    /// The response to a request received over `scheme` (`http` or `https`); 400 if the rewritten
    /// path is invalid.
    pub fn answer(
        &self,
        head: &dyn RequestHead,
        captures: &Captures,
        scheme: &'static str,
    ) -> Response<Body> {
        let mut answer = Response::new(Body::Empty);
        match self.location(head, captures, scheme) {
            Some(location) => {
                *answer.status_mut() = self.status;
                answer.headers_mut().insert(LOCATION, location);
            }
            None => *answer.status_mut() = StatusCode::BAD_REQUEST,
        }
        answer
    }

    fn location(
        &self,
        head: &dyn RequestHead,
        captures: &Captures,
        scheme: &'static str,
    ) -> Option<HeaderValue> {
        let path = self.path.rewrite(head.path(), captures).ok()?;
        let query = head.query().filter(|_| self.query);
        let path = with_query(path.as_deref().unwrap_or(head.path()), query);
        let location = match self.authority(head.authority()) {
            Some(authority) => format!("{}://{authority}{path}", self.scheme.unwrap_or(scheme)),
            // A leading `//` would be read as a host.
            None => format!("/{}", path.trim_start_matches('/')),
        };
        HeaderValue::from_maybe_shared(Bytes::from(location)).ok()
    }

    /// The authority of the target; `old` is that of the request.
    fn authority(&self, old: Option<&str>) -> Option<String> {
        let old = old.filter(|old| !old.is_empty());
        let bare = old.map(|old| match old.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => host,
            _ => old,
        });
        let host = match &self.host {
            Some(host) => &**host,
            None if self.scheme.is_none() && self.port.is_none() => old?,
            None => bare?,
        };
        Some(match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        })
    }
}

impl DirectResponse {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The response. hyper drops its body for `HEAD`.
    pub fn answer(&self) -> Response<Body> {
        let mut answer = Response::new(Body::from(self.body.clone()));
        *answer.status_mut() = self.status;
        answer.headers_mut().clone_from(&self.headers);
        answer
    }
}
