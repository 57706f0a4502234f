//! What routes read of a request, so that they work on any representation of its head.

use http::{HeaderName, HeaderValue, header, request};

/// The head of a request, as routes match it.
pub trait RequestHead {
    /// The method, in the client's case.
    fn method(&self) -> &str;

    /// The path as received, without query.
    fn path(&self) -> &str;

    /// The query without its question mark, if there is one.
    fn query(&self) -> Option<&str>;

    /// The host, and the port if there is one, that the client named.
    fn authority(&self) -> Option<&str>;

    /// The value of the first line of this header.
    fn header(&self, name: &HeaderName) -> Option<&[u8]>;

    /// Whether the header has a value that fulfils `test`; each of its lines is one value.
    fn has_header(&self, name: &HeaderName, test: &dyn Fn(&[u8]) -> bool) -> bool;
}

impl RequestHead for request::Parts {
    fn method(&self) -> &str {
        self.method.as_str()
    }

    fn path(&self) -> &str {
        self.uri.path()
    }

    fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    fn authority(&self) -> Option<&str> {
        let host = || self.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        self.uri.authority().map(|it| it.as_str()).or_else(host)
    }

    fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        self.headers.get(name).map(HeaderValue::as_bytes)
    }

    fn has_header(&self, name: &HeaderName, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.headers.get_all(name).iter().any(|value| test(value.as_bytes()))
    }
}

/// A head with another method: the request that a CORS preflight announces.
pub(crate) struct WithMethod<'a> {
    pub(crate) head: &'a dyn RequestHead,
    pub(crate) method: &'a str,
}

impl RequestHead for WithMethod<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &str {
        self.head.path()
    }

    fn query(&self) -> Option<&str> {
        self.head.query()
    }

    fn authority(&self) -> Option<&str> {
        self.head.authority()
    }

    fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        self.head.header(name)
    }

    fn has_header(&self, name: &HeaderName, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.head.has_header(name, test)
    }
}
