use super::*;
use crate::testing::{CollectedBody, Script, answer, grpc_answer, post, read, ready, translate};

const BARE: &str = "application/x-protobuf";
const OK: &[(&str, &str)] = &[("grpc-status", "0")];

fn bridge(said: &str, streams: ServerStreams) -> (BridgeTranslator, request::Parts) {
    let head = post("/a.B/C?x=1", &[("content-type", said), ("content-length", "5")]);
    (BridgeTranslator::new(&head.headers, crate::testing::room(64), streams), head)
}

fn call(
    said: &str,
    body: Script,
    reply: Response<Body>,
) -> (request::Parts, CollectedBody, Response<Body>) {
    let (bridge, mut head) = bridge(said, ServerStreams::Refuse);
    let (asked, answer) = translate(bridge, &mut head, body, reply);
    (head, asked, answer)
}

fn header<'a>(answer: &'a Response<Body>, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn a_bare_message_is_framed_and_its_answer_is_bare() {
    let reply = grpc_answer(&[b"world"], &[("grpc-status", "0"), ("x-cost", "7")]);
    let (head, asked, answer) = call(BARE, Script::default().data("he").data("llo"), reply);
    assert_eq!(asked.bytes, framed(0, b"hello"));
    assert_eq!(head.uri, "/a.B/C");
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(head.headers["grpc-accept-encoding"], "identity");
    assert!(!head.headers.contains_key("content-length"));
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "content-type"), BARE);
    assert_eq!(header(&answer, "content-length"), "5");
    assert_eq!(header(&answer, "grpc-status"), "0");
    assert_eq!(header(&answer, "x-cost"), "7");
    let held = read(answer.into_body());
    assert_eq!((held.bytes.as_slice(), held.trailers), (&b"world"[..], None));
}

#[test]
fn a_framed_message_goes_as_it_came() {
    let reply = grpc_answer(&[b"world"], OK);
    let body = Script::default().data(framed(0, b"hello"));
    let (head, asked, answer) = call("application/grpc+proto", body, reply);
    assert_eq!(asked.bytes, framed(0, b"hello"));
    assert_eq!(head.headers["content-type"], "application/grpc+proto");
    assert_eq!(header(&answer, "content-type"), "application/grpc+proto");
    assert_eq!(header(&answer, "content-length"), "10");
    assert_eq!(read(answer.into_body()).bytes, framed(0, b"world"));
}

#[test]
fn an_empty_message_is_a_message() {
    let (_, asked, answer) = call(BARE, Script::default(), grpc_answer(&[b""], OK));
    assert_eq!(asked.bytes, [0, 0, 0, 0, 0]);
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "content-length"), "0");
}

#[test]
fn a_call_that_failed_has_the_status_that_says_so_in_http() {
    for code in &Code::ALL[1..] {
        let number = code.number().to_string();
        let ends = [("grpc-status", number.as_str()), ("grpc-message", "no%20such cart")];
        for reply in [
            grpc_answer(&[], &ends),
            grpc_answer(&[b"half"], &ends),
            answer(&[("content-type", "application/grpc"), ends[0], ends[1]], Script::default()),
        ] {
            let (_, _, answer) = call(BARE, Script::default(), reply);
            assert_eq!(answer.status(), code.http(), "{}", code.name());
            assert_eq!(header(&answer, "grpc-status"), number);
            assert_eq!(header(&answer, "grpc-message"), "no such cart");
            assert_eq!(header(&answer, "content-length"), "0");
            assert_eq!(read(answer.into_body()).bytes, b"");
        }
    }
}

#[test]
fn what_a_service_gets_wrong_is_a_bad_gateway() {
    let grpc = &[("content-type", "application/grpc")];
    let ends_with_its_head = [grpc[0], ("grpc-status", "0")];
    let cases = [
        (grpc_answer(&[], OK), "13"),
        (answer(&ends_with_its_head, Script::default()), "13"),
        (grpc_answer(&[b"a"], &[]), "2"),
        (grpc_answer(&[b"a", b"b"], OK), "13"),
        (answer(grpc, Script::default().data([0, 0, 0, 0, 9, 1]).trailers(OK)), "13"),
        (answer(grpc, Script::default().data([0, 255, 255, 255, 255])), "8"),
        (answer(grpc, Script::default().data(framed(0, b"a")).breaks()), "14"),
        (answer(grpc, Script::default().data(framed(1, b"zip")).trailers(OK)), "13"),
    ];
    for (at, (reply, code)) in cases.into_iter().enumerate() {
        let (_, _, answer) = call(BARE, Script::default(), reply);
        assert_eq!(answer.status(), 502, "case {at}");
        assert_eq!(header(&answer, "grpc-status"), code, "case {at}");
        assert!(!header(&answer, "grpc-message").is_empty(), "case {at}");
        assert_eq!(read(answer.into_body()).bytes, b"");
    }
}

#[test]
fn an_answer_that_is_no_grpc_is_an_error() {
    for (status, said, code, http) in
        [(200, "text/html", "2", 500), (404, "text/html", "12", 501), (503, "text/html", "14", 503)]
    {
        let mut reply = answer(&[("content-type", said)], Script::default().data("<html>"));
        *reply.status_mut() = StatusCode::from_u16(status).unwrap();
        let (_, _, answer) = call(BARE, Script::default(), reply);
        assert_eq!(answer.status(), http);
        assert_eq!(header(&answer, "grpc-status"), code);
        assert_eq!(header(&answer, "content-type"), BARE);
    }
}

#[test]
fn several_messages_are_passed_on_where_that_is_wanted() {
    let (bridge, mut head) = bridge("application/grpc", ServerStreams::Frames);
    let ends = [("grpc-status", "9"), ("grpc-message", "sold out")];
    let reply = grpc_answer(&[b"a", b"b", b"c"], &ends);
    let (_, answer) = translate(bridge, &mut head, Script::default(), reply);
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "content-type"), "application/grpc-web+proto");
    assert_eq!(header(&answer, "content-length"), "");
    let last = b"grpc-status: 9\r\ngrpc-message: sold out\r\n";
    let frames = [framed(0, b"a"), framed(0, b"b"), framed(0, b"c"), framed(TRAILERS, last)];
    assert_eq!(read(answer.into_body()).bytes, frames.concat());
}

#[test]
fn a_stream_without_messages_is_the_frame_of_its_trailers() {
    let ends_with_its_head = [("content-type", "application/grpc"), ("grpc-status", "0")];
    for reply in [answer(&ends_with_its_head, Script::default()), grpc_answer(&[], OK)] {
        let (bridge, mut head) = bridge(BARE, ServerStreams::Frames);
        let (_, answer) = translate(bridge, &mut head, Script::default(), reply);
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "content-type"), "application/grpc-web+proto");
        let last = framed(TRAILERS, b"grpc-status: 0\r\n");
        assert_eq!(read(answer.into_body()).bytes, last);
    }
}

#[test]
fn trailers_override_a_status_in_the_head() {
    let head = [("content-type", "application/grpc"), ("grpc-status", "0")];
    let body = || Script::default().data(framed(0, b"a"));
    let (_, _, reply) = call(BARE, Script::default(), answer(&head, body()));
    assert_eq!((reply.status(), header(&reply, "grpc-status")), (StatusCode::OK, "0"));
    assert_eq!(read(reply.into_body()).bytes, b"a");
    let late = body().trailers(&[("grpc-status", "5"), ("grpc-message", "gone")]);
    let (_, _, reply) = call(BARE, Script::default(), answer(&head, late));
    assert_eq!((reply.status(), header(&reply, "grpc-status")), (StatusCode::NOT_FOUND, "5"));
    let (_, _, reply) = call(BARE, Script::default(), answer(&head, body().breaks()));
    assert_eq!((reply.status(), header(&reply, "grpc-status")), (StatusCode::BAD_GATEWAY, "14"));
}

#[test]
fn an_error_of_http_is_one_though_its_head_says_ok() {
    let mut reply = answer(&[("grpc-status", "0")], Script::default());
    *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let (_, _, answer) = call(BARE, Script::default(), reply);
    assert_eq!((answer.status().as_u16(), header(&answer, "grpc-status")), (503, "14"));
}

#[test]
fn a_stream_that_breaks_off_says_so_in_its_last_frame() {
    let (bridge, mut head) = bridge("application/grpc", ServerStreams::Frames);
    let body = Script::default().data(framed(0, b"a")).data(framed(0, b"b")).breaks();
    let reply = answer(&[("content-type", "application/grpc")], body);
    let (_, answer) = translate(bridge, &mut head, Script::default(), reply);
    let held = read(answer.into_body());
    let text = String::from_utf8_lossy(&held.bytes).into_owned();
    assert!(text.ends_with("grpc-status: 14\r\ngrpc-message: the body was aborted\r\n"), "{text}");
}

#[test]
fn one_message_is_answered_in_full_whatever_streams_become() {
    let (bridge, mut head) = bridge(BARE, ServerStreams::Frames);
    let (_, answer) = translate(bridge, &mut head, Script::default(), grpc_answer(&[b"a"], OK));
    assert_eq!(header(&answer, "content-type"), BARE);
    assert_eq!(read(answer.into_body()).bytes, b"a");
}

#[test]
fn a_request_that_is_too_long_is_cut_and_gets_the_reason() {
    let (mut bridge, mut head) = bridge(BARE, ServerStreams::Refuse);
    let asked = read(bridge.translate_request(&mut head, Script::default().data([7; 65]).body()));
    assert_eq!(asked.bytes, b"");
    assert!(asked.broken.is_some());
    let no = rejection::trailers_only(&Status::new(Code::Unavailable, "lost"));
    let answer = bridge.translate_rejection(no);
    assert_eq!(answer.status(), 429);
    let message = "a message of 65 bytes; `max_message` allows 64";
    assert_eq!(header(&answer, "grpc-message"), message);
}

#[test]
fn a_refusal_is_put_into_http() {
    let (bridge, _) = bridge(BARE, ServerStreams::Refuse);
    let mut no = rejection::trailers_only(&Status::new(Code::ResourceExhausted, "slow down"));
    no.headers_mut().insert(rejection::PUSHBACK, HeaderValue::from_static("1500"));
    let answer = bridge.translate_rejection(no);
    assert_eq!(answer.status(), 429);
    assert_eq!(header(&answer, "retry-after"), "2");
    assert_eq!(header(&answer, "grpc-status"), "8");
    assert_eq!(header(&answer, "grpc-message"), "slow down");
    assert_eq!(header(&answer, "content-type"), BARE);
    let ready = ready(std::future::ready(answer));
    assert_eq!(read(ready.into_body()).bytes, b"");
}

#[test]
fn trailers_steer_no_connection() {
    let ends =
        [("grpc-status", "0"), ("connection", "close"), ("content-length", "99"), ("a", "b")];
    let (_, _, answer) = call(BARE, Script::default(), grpc_answer(&[b"x"], &ends));
    assert!(!answer.headers().contains_key("connection"));
    assert_eq!((header(&answer, "content-length"), header(&answer, "a")), ("1", "b"));
}
