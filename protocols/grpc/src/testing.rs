//! Bodies and responses for tests.

use crate::frame::framed;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request};
use http_body::Frame;
use http_body_util::BodyExt as _;
use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};
use tollgate_http::{Body, BodyError, Translator};

/// An unused budget for messages of this length.
pub(crate) fn room(limit: usize) -> crate::message_budget::MessageBudget {
    let bounds = tollgate_http::BufferLimits { connection: 1 << 20, worker: 1 << 21 };
    crate::message_budget::MessageBudget {
        limit,
        bounds,
        buffered: tollgate_http::BufferAccount::default(),
    }
}

/// Runs `work` on a thread with a stack of 1 MiB, a quarter of a worker's.
pub(crate) fn with_little_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap();
    assert!(thread.join().is_ok());
}

/// A scripted body, which is pending now and then.
#[derive(Default)]
pub(crate) struct Script {
    pieces: std::collections::VecDeque<Option<Result<Frame<Bytes>, BodyError>>>,
}

impl Script {
    pub(crate) fn data(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = Bytes::copy_from_slice(bytes.as_ref());
        self.pieces.extend([None, Some(Ok(Frame::data(bytes)))]);
        self
    }

    pub(crate) fn trailers(mut self, trailers: &[(&str, &str)]) -> Self {
        self.pieces.push_back(Some(Ok(Frame::trailers(headers(trailers)))));
        self
    }

    pub(crate) fn breaks(mut self) -> Self {
        self.pieces.push_back(Some(Err("reset".into())));
        self
    }

    pub(crate) fn body(self) -> Body {
        Body::made(self)
    }
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.pieces.pop_front() {
            None => Poll::Ready(None),
            Some(Some(piece)) => Poll::Ready(Some(piece)),
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

pub(crate) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

/// A request's head.
pub(crate) fn post(path: &str, pairs: &[(&str, &str)]) -> request::Parts {
    let mut head = Request::post(path).body(()).unwrap().into_parts().0;
    head.headers = headers(pairs);
    head
}

/// A service's response.
pub(crate) fn answer(pairs: &[(&str, &str)], body: Script) -> Response<Body> {
    let mut answer = Response::new(body.body());
    *answer.headers_mut() = headers(pairs);
    answer
}

/// A service's gRPC response with these messages.
pub(crate) fn grpc_answer(messages: &[&[u8]], trailers: &[(&str, &str)]) -> Response<Body> {
    let body = messages.iter().fold(Script::default(), |body, it| body.data(framed(0, it)));
    answer(&[("content-type", "application/grpc")], body.trailers(trailers))
}

/// Polls a future that needs no runtime until it is ready.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..100_000 {
        if let Poll::Ready(it) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return it;
        }
    }
    panic!("it waits for ever");
}

/// The contents of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CollectedBody {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// Why it was aborted.
    pub(crate) broken: Option<String>,
}

pub(crate) fn read(mut body: Body) -> CollectedBody {
    let mut held = CollectedBody { bytes: Vec::new(), trailers: None, broken: None };
    while let Some(frame) = ready(body.frame()) {
        match frame {
            Err(error) => {
                held.broken = Some(error.to_string());
                return held;
            }
            Ok(frame) => match frame.into_data() {
                Ok(data) => held.bytes.extend_from_slice(&data),
                Err(other) => held.trailers = other.into_trailers().ok(),
            },
        }
    }
    held
}

/// The request that the service receives, and the response that the client receives.
pub(crate) fn translate(
    mut translator: impl Translator + 'static,
    head: &mut request::Parts,
    body: Script,
    answer: Response<Body>,
) -> (CollectedBody, Response<Body>) {
    let asked = read(translator.translate_request(head, body.body()));
    (asked, ready(Box::new(translator).translate_response(answer)))
}

/// Settings from JSON, where switches need structures instead of words.
pub(crate) fn settings(mut json: serde_json::Value) -> Result<crate::Settings, String> {
    for key in ["bridge", "reverse_bridge", "web"] {
        if json[key] == true {
            json[key] = serde_json::json!({});
        }
    }
    let given = json.as_object_mut().unwrap();
    given.retain(|_, value| !value.is_null());
    serde_json::from_value(json).map_err(|error| error.to_string())
}

/// The descriptor set of `protos/library.proto`.
pub(crate) fn library() -> Vec<u8> {
    compiled("library.proto")
}

/// The descriptor set of `protos/tree.proto`.
pub(crate) fn tree() -> Vec<u8> {
    compiled("tree.proto")
}

fn compiled(file: &str) -> Vec<u8> {
    let protos = concat!(env!("CARGO_MANIFEST_DIR"), "/protos");
    let mut compiler = protox::Compiler::new([protos]).unwrap();
    compiler.include_imports(true).open_file(file).unwrap();
    compiler.encode_file_descriptor_set()
}

/// It, in a file.
pub(crate) fn library_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), library()).unwrap();
    file
}
