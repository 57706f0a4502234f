//! A service whose answers depend on the requested path.

use super::{
    Version,
    content::Content,
    reply::{ReceivedRequest, Reply},
    service::Service,
};
use http::Method;
use serde_json::json;

/// Starts one.
pub fn origin(version: Version) -> Service {
    Service::start(version, answer)
}

fn answer(asked: &ReceivedRequest) -> Reply {
    // Over HTTP/2 only the service itself keeps an answer to this without a body.
    if asked.method == Method::HEAD {
        return Reply::empty(200).header("content-length", "1234");
    }
    let number = |text: &str| text.parse().expect("a number");
    let parts: Vec<&str> = asked.uri.path().split('/').skip(1).collect();
    match parts[..] {
        ["seen"] => seen(asked),
        ["never", ..] => Reply::never(),
        ["no"] => Reply::ok("no, without a look at it\n").with_status(403).early(),
        ["status", code] => Reply::status(code.parse().expect("a status")),
        ["bytes", length] => Reply::ok(vec![b'x'; number(length)]),
        ["lines", count] => lines(number(count)),
        ["read"] => Reply::back(),
        ["moved"] => Reply::empty(302).header("location", "/seen"),
        ["cookie"] => {
            let kept = Reply::ok("kept?\n").header("set-cookie", "a=1; Path=/");
            kept.header("set-cookie", "b=2; Path=/")
        }
        _ => echo(asked),
    }
}

/// Returns what it sees of a request.
fn seen(asked: &ReceivedRequest) -> Reply {
    let headers = asked.headers.keys();
    let headers: serde_json::Map<_, _> =
        headers.map(|name| (name.to_string(), asked.header(name.as_str()).into())).collect();
    let (method, target) = (asked.method.as_str(), asked.uri.to_string());
    Reply::ok(json!({ "method": method, "target": target, "headers": headers }).to_string())
}

/// Sends a request's body back as it comes, its trailers too.
fn echo(asked: &ReceivedRequest) -> Reply {
    let kind = asked.header("content-type");
    if kind.is_empty() { Reply::echo() } else { Reply::echo().header("content-type", &kind) }
}

/// Some lines, each a chunk of its own, and a trailer.
fn lines(count: usize) -> Reply {
    let lines: Vec<String> = (0..count).map(|n| format!("line {n}\n")).collect();
    let pieces: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
    let count = count.to_string();
    Reply::ok(Content::pieces(&pieces).trailers(&[("x-count", &count)]))
        .header("trailer", "x-count")
}
