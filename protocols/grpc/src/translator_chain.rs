//! Two translators in sequence.

use http::{Response, request};
use std::pin::Pin;
use tollgate_http::{Body, Translator};

/// A client-side and a service-side translator.
pub(crate) struct TranslatorChain {
    /// Next to the client.
    pub(crate) near: Box<dyn Translator>,
    /// Next to the service.
    pub(crate) far: Box<dyn Translator>,
}

impl Translator for TranslatorChain {
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
