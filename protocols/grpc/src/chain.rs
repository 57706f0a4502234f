//! Two translators, one behind the other.

use http::{Response, request};
use std::pin::Pin;
use tollgate_http::{Body, Translator};

/// Who speaks with the client, and who speaks with the service.
pub(crate) struct Chain {
    /// The client's.
    pub(crate) near: Box<dyn Translator>,
    /// The service's.
    pub(crate) far: Box<dyn Translator>,
}

impl Translator for Chain {
    fn translate_request(&mut self, head: &mut request::Parts, body: Body) -> Body {
        let body = self.near.translate_request(head, body);
        self.far.translate_request(head, body)
    }

    fn buffers_request(&self) -> bool {
        self.far.buffers_request()
    }

    fn translate_response(
        self: Box<Self>,
        answer: Response<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>>>> {
        Box::pin(async move {
            let answer = self.far.translate_response(answer).await;
            self.near.translate_response(answer).await
        })
    }

    fn is_request_invalid(&self) -> bool {
        self.near.is_request_invalid() || self.far.is_request_invalid()
    }

    fn translate_rejection(&self, no: Response<Body>) -> Response<Body> {
        self.near.translate_rejection(self.far.translate_rejection(no))
    }
}
