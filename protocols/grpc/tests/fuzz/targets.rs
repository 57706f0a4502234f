//! What the fuzzer calls, and what is played again without it.

use bytes::Bytes;
use grpc::{
    Grpc, Settings,
    frame::{FrameDecoder, MessageCounter, MessageTooLong},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request};
use http_body::Frame;
use http_body_util::BodyExt as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;
use std::{
    collections::VecDeque,
    env, fs,
    pin::{Pin, pin},
    process,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};
use tollgate_http::{Body, BodyError, BufferAccount, Dialect as _, RoutedRequest, Routes};

/// Messages of every shape: some contain themselves, and there are maps, oneofs and well-known types.
static SET: &[u8] = include_bytes!("../../protos/tree.binpb");

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(SET).unwrap());

/// How long a message may be: short, so that the fuzzer gets there.
const LONGEST: usize = 4096;

static GRPC: LazyLock<Grpc> = LazyLock::new(|| {
    let path = env::temp_dir().join(format!("tollgate-tree-{}.binpb", process::id()));
    fs::write(&path, SET).unwrap();
    let settings: Settings = serde_json::from_value(serde_json::json!({
        "transcode": { "descriptors": path, "unbound_methods": true },
        "web": {},
        "max_message": "4KiB",
    }))
    .unwrap();
    let grpc =
        Grpc::new(settings, Routes::single("tree", tollgate_http::Settings::default().defaults()));
    fs::remove_file(path).unwrap();
    grpc.unwrap()
});

fn node() -> MessageDescriptor {
    POOL.get_message_by_name("t.Node").unwrap()
}

/// Frames: whole and byte by byte, the same messages come out, and as many are counted.
pub(crate) fn frames(bytes: &[u8]) {
    let (whole, told) = taken([bytes]);
    assert_eq!((&whole, told), (&taken(bytes.chunks(1)).0, taken(bytes.chunks(1)).1));
    let mut counter = MessageCounter::default();
    counter.push(bytes);
    let mut cut = MessageCounter::default();
    bytes.chunks(7).for_each(|part| cut.push(part));
    assert_eq!(counter.messages(), cut.messages());
    if told.is_none() {
        let messages = whole.iter().filter(|(flags, _)| flags & 0x80 == 0).count();
        assert_eq!(counter.messages(), messages as u64);
    }
}

type Taken = (Vec<(u8, Bytes)>, Option<MessageTooLong>);

fn taken<'b>(parts: impl IntoIterator<Item = &'b [u8]>) -> Taken {
    let mut frames = FrameDecoder::new(LONGEST);
    let mut all = Vec::new();
    for part in parts {
        frames.push(part);
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => all.push((frame.flags, frame.message)),
                Ok(None) => break,
                Err(told) => return (all, Some(told)),
            }
        }
    }
    (all, None)
}

/// A request with JSON: its first line is the method and the target, what follows the body. The
/// message that is made of it is one that another decoder reads, and what another reader of JSON
/// makes of the same body.
pub(crate) fn json_request(bytes: &[u8]) {
    let (line, body) = bytes.split_at(bytes.iter().position(|it| *it == b'\n').unwrap_or(0));
    let body = body.get(1..).unwrap_or_default();
    let Some((method, target)) = std::str::from_utf8(line).ok().and_then(|it| it.split_once(' '))
    else {
        return;
    };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method.as_bytes()), Uri::try_from(target))
    else {
        return;
    };
    let whole = target == "/v1/tree" && method == Method::POST;
    let Some(said) = asked(head(method, uri, "application/json"), body, body.len() + 1) else {
        return;
    };
    assert_eq!(said, asked_again(bytes, 3), "it depends on how the body is cut");
    let Ok(frame) = said else { return };
    let message = frame.get(5..).unwrap();
    assert_eq!(u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize, message.len());
    assert!(message.len() <= LONGEST);
    let read = DynamicMessage::decode(node(), message).expect("no decoder reads this");
    if whole
        && let Ok(other) = serde_json::from_slice::<Value>(body)
        && let Ok(other) = DynamicMessage::deserialize(node(), other)
    {
        assert_eq!(json(&read), json(&other), "another reader makes something else of it");
    }
}

fn asked_again(bytes: &[u8], cut: usize) -> Result<Vec<u8>, String> {
    let at = bytes.iter().position(|it| *it == b'\n').unwrap_or(0);
    let line = std::str::from_utf8(&bytes[..at]).unwrap();
    let (method, target) = line.split_once(' ').unwrap();
    let head = head(
        Method::from_bytes(method.as_bytes()).unwrap(),
        Uri::try_from(target).unwrap(),
        "application/json",
    );
    asked(head, bytes.get(at + 1..).unwrap_or_default(), cut).unwrap()
}

/// What another library writes; none if it can't.
fn json(message: &DynamicMessage) -> Option<Value> {
    let mut text = serde_json::Serializer::new(Vec::new());
    message.serialize_with_options(&mut text, &prost_reflect::SerializeOptions::new()).ok()?;
    serde_json::from_slice(&text.into_inner()).ok()
}

/// A service's message: it is answered as JSON that is what another library writes, or as an error.
pub(crate) fn json_answer(bytes: &[u8]) {
    let Some((&how, message)) = bytes.split_first() else { return };
    let (method, target) = match how % 3 {
        0 => (Method::GET, "/v1/tree"),
        1 => (Method::PATCH, "/v1/tree/x"),
        _ => (Method::POST, "/v1/tree:watch"),
    };
    let mut head = head(method, Uri::from_static(target), "application/json");
    let mut asked = GRPC.route(&mut head, "tree", &BufferAccount::default()).ok().unwrap();
    drop(all(asked.translator.as_mut().unwrap().translate_request(&mut head, Body::Empty)));
    let body = framed(message);
    let answer = answered(asked, vec![Frame::data(body), Frame::trailers(ok())]);
    if answer.0 != StatusCode::OK {
        assert!(answer.1.get("message").is_some(), "{answer:?}");
        return;
    }
    let text = match (how % 3, answer.1) {
        (2, Value::Array(mut items)) => {
            assert_eq!(items.len(), 1, "{items:?}");
            items.remove(0)
        }
        (_, text) => text,
    };
    // What is not written is not looked at: a value that another one of its field replaces, and
    // all but the field that is answered.
    let Ok(read) = DynamicMessage::decode(node(), message) else { return };
    let Some(other) = json(&read) else { return };
    match how % 3 {
        1 => assert_eq!(text, other.get("nodes").cloned().unwrap_or_else(|| Value::Array(vec![]))),
        // Wrapped numbers that are none are null there, and text here as the specification wants.
        _ if text.to_string().contains("NaN") || text.to_string().contains("Infinity") => {}
        _ => assert_eq!(text, other),
    }
}

/// gRPC-Web, as bytes or as text, both ways and however it is cut.
pub(crate) fn browser(bytes: &[u8]) {
    let Some((&how, said)) = bytes.split_first() else { return };
    let kind = match how & 1 {
        0 => "application/grpc-web+proto",
        _ => "application/grpc-web-text",
    };
    let call = || head(Method::POST, Uri::from_static("/t.Tree/Get"), kind);
    let whole = asked(call(), said, said.len() + 1).unwrap();
    let cut = asked(call(), said, usize::from(how >> 1) + 1).unwrap();
    assert_eq!(whole.is_ok(), cut.is_ok());
    if let (Ok(whole), Ok(cut)) = (whole, cut) {
        assert_eq!(whole, cut);
        assert!(how & 1 == 1 || whole == said, "bytes pass as they are");
    }
    let mut head = call();
    let asked = GRPC.route(&mut head, "tree", &BufferAccount::default()).ok().unwrap();
    let pieces = said.chunks(usize::from(how >> 1) + 1).map(Bytes::copy_from_slice);
    let frames = pieces.map(Frame::data).chain([Frame::trailers(ok())]).collect();
    let (_, body) = answered_bytes(asked, frames);
    let body = match how & 1 {
        0 => body,
        _ => {
            let mut decoder = grpc::web_text::Decoder::default();
            let bytes = decoder.push(&body).expect("the answer is no base64");
            assert!(decoder.is_empty());
            bytes
        }
    };
    let last = body.strip_prefix(said).expect("the answer's bytes are the service's");
    assert_eq!((last[0], &last[5..]), (0x80, &b"grpc-status: 0\r\n"[..]));
}

fn head(method: Method, uri: Uri, kind: &'static str) -> request::Parts {
    let mut head = Request::new(()).into_parts().0;
    (head.method, head.uri) = (method, uri);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    head
}

fn ok() -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))])
}

fn framed(message: &[u8]) -> Bytes {
    grpc::frame::framed(0, message)
}

/// What the service is asked, or why it is not; none if the request is no call.
fn asked(mut head: request::Parts, body: &[u8], cut: usize) -> Option<Result<Vec<u8>, String>> {
    let buffered = BufferAccount::default();
    let mut asked = GRPC.route(&mut head, "tree", &buffered).ok()?;
    let pieces = body.chunks(cut).map(|piece| Frame::data(Bytes::copy_from_slice(piece)));
    let body = Script(pieces.collect());
    let translator = asked.translator.as_mut()?;
    let made = all(translator.translate_request(&mut head, Body::made(body)));
    assert_eq!(made.is_err(), translator.is_request_invalid());
    drop(asked);
    assert_eq!(buffered.bytes(), (0, 0), "what was held is not given back");
    Some(made)
}

fn answered_bytes(asked: RoutedRequest, frames: VecDeque<Frame<Bytes>>) -> (StatusCode, Vec<u8>) {
    let mut answer = Response::new(Body::made(Script(frames)));
    let kind = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    let answer = ready(asked.translator.unwrap().translate_response(answer));
    (answer.status(), all(answer.into_body()).expect("the answer breaks off"))
}

fn answered(asked: RoutedRequest, frames: Vec<Frame<Bytes>>) -> (StatusCode, Value) {
    let (status, body) = answered_bytes(asked, frames.into());
    (status, serde_json::from_slice(&body).expect("the answer is no JSON"))
}

/// What a body says, piece by piece.
struct Script(VecDeque<Frame<Bytes>>);

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// All data of a body, or why it broke off.
fn all(mut body: Body) -> Result<Vec<u8>, String> {
    let mut held = Vec::new();
    while let Some(frame) = ready(body.frame()) {
        if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
            held.extend_from_slice(&data);
        }
    }
    Ok(held)
}

/// The end of what waits for nothing.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(it) => it,
        Poll::Pending => panic!("it waits"),
    }
}
