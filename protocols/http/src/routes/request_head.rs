//! What routes read of a request, so that they work on any representation of its head.

use http::{HeaderName, request};

/// The head of a request, as routes match it.
pub trait RequestHead {
    /// The method, in the client's case.
    fn method(&self) -> &str;

    /// The path as received, without query.
    fn path(&self) -> &str;

    /// The query without its question mark; empty if there is none.
    fn query(&self) -> &str;

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

    fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
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

    fn query(&self) -> &str {
        self.head.query()
    }

    fn has_header(&self, name: &HeaderName, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.head.has_header(name, test)
    }
}
