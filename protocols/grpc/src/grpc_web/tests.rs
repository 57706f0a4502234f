use super::*;
use crate::testing::{Script, answer, grpc_answer, post, read, translate};
use base64::{Engine as _, engine::general_purpose::STANDARD};

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";

fn browser(pairs: &[(&str, &str)]) -> (GrpcWebTranslator, request::Parts) {
    let head = post("/a.B/C", pairs);
    (GrpcWebTranslator::new(&head.headers, CorsHeaders::default()), head)
}

fn last(text: &str) -> Bytes {
    framed(TRAILERS, text.as_bytes())
}

#[test]
fn trailers_travel_in_the_last_frame() {
    let (browser, mut head) = browser(&[("content-type", BINARY), ("x-grpc-web", "1")]);
    let reply = grpc_answer(&[b"a", b"b"], &[("grpc-status", "0"), ("x-cost", "7")]);
    let body = Script::default().data(framed(0, b"ask"));
    let (asked, answer) = translate(browser, &mut head, body, reply);
    assert_eq!(asked.bytes, framed(0, b"ask"));
    assert_eq!(head.headers["content-type"], "application/grpc+proto");
    assert_eq!(head.headers["te"], "trailers");
    assert!(!head.headers.contains_key("x-grpc-web"));
    assert_eq!(answer.headers()["content-type"], BINARY);
    let held = read(answer.into_body());
    let end = last("grpc-status: 0\r\nx-cost: 7\r\n");
    assert_eq!(held.bytes, [framed(0, b"a"), framed(0, b"b"), end].concat());
    assert_eq!(held.trailers, None);
}

#[test]
fn text_is_base64_both_ways_wherever_it_is_cut() {
    let text = STANDARD.encode(framed(0, b"hello"));
    for cut in 0..=text.len() {
        let (browser, mut head) = browser(&[("content-type", TEXT)]);
        let reply = grpc_answer(&[b"ab", b"c"], &[("grpc-status", "5")]);
        let body = Script::default().data(&text[..cut]).data(&text[cut..]);
        let (asked, answer) = translate(browser, &mut head, body, reply);
        assert_eq!(asked.bytes, framed(0, b"hello"), "cut at {cut}");
        assert_eq!(answer.headers()["content-type"], TEXT);
        let pieces = [framed(0, b"ab"), framed(0, b"c"), last("grpc-status: 5\r\n")];
        let expected = pieces.map(|piece| STANDARD.encode(piece)).concat();
        assert_eq!(read(answer.into_body()).bytes, expected.as_bytes());
    }
}

#[test]
fn a_page_may_send_bytes_and_want_text_or_the_other_way() {
    let of = |said, accept| {
        let (browser, _) = browser(&[("content-type", said), ("accept", accept)]);
        (browser.asks_text, browser.wants_text)
    };
    assert_eq!(of(BINARY, TEXT), (false, true));
    assert_eq!(of(TEXT, BINARY), (true, false));
    assert_eq!(of(TEXT, "*/*"), (true, true));
    assert_eq!(of(BINARY, ""), (false, false));
}

#[test]
fn an_answer_that_is_over_with_its_head_keeps_its_status_there() {
    let (browser, mut head) = browser(&[("content-type", BINARY)]);
    let pairs = [("content-type", "application/grpc"), ("grpc-status", "7")];
    let (_, answer) =
        translate(browser, &mut head, Script::default(), answer(&pairs, Script::default()));
    assert_eq!(answer.headers()["grpc-status"], "7");
    assert_eq!(answer.headers()["content-type"], BINARY);
    assert_eq!(read(answer.into_body()).bytes, b"");
}

#[test]
fn an_answer_that_is_no_grpc_is_a_status() {
    let (browser, mut head) = browser(&[("content-type", BINARY)]);
    let mut reply = answer(&[("content-type", "text/html")], Script::default().data("<html>"));
    *reply.status_mut() = http::StatusCode::BAD_GATEWAY;
    let (_, answer) = translate(browser, &mut head, Script::default(), reply);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "14");
    assert_eq!(read(answer.into_body()).bytes, b"");
}

#[test]
fn an_answer_without_a_status_gets_one() {
    let (browser, mut head) = browser(&[("content-type", BINARY)]);
    let reply =
        answer(&[("content-type", "application/grpc")], Script::default().data(framed(0, b"a")));
    let (_, answer) = translate(browser, &mut head, Script::default(), reply);
    let held = read(answer.into_body());
    let text = String::from_utf8_lossy(&held.bytes).into_owned();
    assert!(text.contains("grpc-status: 2\r\n"), "{text}");
}

#[test]
fn an_answer_that_breaks_off_breaks_off() {
    let (browser, mut head) = browser(&[("content-type", BINARY)]);
    let body = Script::default().data(framed(0, b"a")).breaks();
    let reply = answer(&[("content-type", "application/grpc")], body);
    let (_, answer) = translate(browser, &mut head, Script::default(), reply);
    assert_eq!(read(answer.into_body()).broken.as_deref(), Some("reset"));
}

#[test]
fn text_that_is_no_base64_is_the_clients_fault() {
    for text in ["****", "AAA", "AA=A"] {
        let (mut browser, mut head) = browser(&[("content-type", TEXT)]);
        let asked = read(browser.translate_request(&mut head, Script::default().data(text).body()));
        assert!(asked.broken.is_some(), "{text}");
        let no = rejection::trailers_only(&Status::new(Code::Unavailable, "lost"));
        let answer = browser.translate_rejection(no);
        assert_eq!(answer.headers()["grpc-status"], "3");
        assert_eq!(answer.headers()["grpc-message"], "the request body is not base64");
    }
}
