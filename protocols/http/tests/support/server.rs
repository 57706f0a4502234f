//! hyper's server, and how it parses bytes.

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{cell::RefCell, convert::Infallible, rc::Rc};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// A request as parsed by hyper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) method: String,
    /// The whole target.
    pub(crate) uri: String,
    /// Path and query only.
    pub(crate) path: String,
    pub(crate) headers: usize,
    /// Length of its body, and number of trailers; `None` if it was cut off.
    pub(crate) body: Option<(usize, usize)>,
}

/// What hyper parses of a connection on which a client sends exactly these bytes.
pub(crate) fn hear(bytes: &[u8]) -> Vec<Heard> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let heard = Rc::new(RefCell::new(Vec::new()));
    runtime.block_on(async {
        let (mut client, server) = duplex(4 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let service = service_fn(|request| {
            let heard = heard.clone();
            async move {
                let request = read(request).await;
                let mut answer = Response::new(Empty::<bytes::Bytes>::new());
                if request.method == "CONNECT" {
                    // Otherwise the following bytes would not be HTTP.
                    *answer.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
                }
                heard.borrow_mut().push(request);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection =
            http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service);
        // A body that is cut off is an error here.
        let _ = connection.await;
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
    });
    heard.take()
}

async fn read(request: Request<Incoming>) -> Heard {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map(ToString::to_string);
    let body = body.collect().await.ok().map(|body| {
        let trailers = body.trailers().map_or(0, http::HeaderMap::len);
        (body.to_bytes().len(), trailers)
    });
    Heard {
        method: head.method.to_string(),
        uri: head.uri.to_string(),
        path: path.unwrap_or_default(),
        headers: head.headers.len(),
        body,
    }
}
