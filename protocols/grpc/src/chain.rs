//! Two translators, one behind the other.

use http::{Response, request};
use std::pin::Pin;
use web::{Body, Translator};

/// Who speaks with the client, and who speaks with the service.
pub(crate) struct Chain {
    /// The client's.
    pub(crate) near: Box<dyn Translator>,
    /// The service's.
    pub(crate) far: Box<dyn Translator>,
}

impl Translator for Chain {
    fn ask(&mut self, head: &mut request::Parts, body: Body) -> Body {
        let body = self.near.ask(head, body);
        self.far.ask(head, body)
    }

    fn asks_at_once(&self) -> bool {
        self.far.asks_at_once()
    }

    fn answer(
        self: Box<Self>,
        answer: Response<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>>>> {
        Box::pin(async move {
            let answer = self.far.answer(answer).await;
            self.near.answer(answer).await
        })
    }

    fn is_spoilt(&self) -> bool {
        self.near.is_spoilt() || self.far.is_spoilt()
    }

    fn refuse(&self, no: Response<Body>) -> Response<Body> {
        self.near.refuse(self.far.refuse(no))
    }
}
