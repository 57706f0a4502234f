use super::*;
use crate::frame::framed;
use crate::testing::{CollectedBody, Script, answer, headers, post, read, translate};
use http::StatusCode;

const PROTO: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];

fn reverse(withhold_frames: bool) -> (ReverseTranslator, request::Parts) {
    let head = post("/a.B/C", &[("content-type", "application/grpc+proto"), ("te", "trailers")]);
    let settings = ReverseBridge { withhold_frames, ..ReverseBridge::default() };
    (ReverseTranslator::new(&settings, crate::testing::room(64)), head)
}

fn call(reply: Response<Body>) -> (CollectedBody, Response<Body>) {
    let (reverse, mut head) = reverse(true);
    translate(reverse, &mut head, Script::default().data(framed(0, b"ask")), reply)
}

#[test]
fn a_call_is_a_post_of_its_message() {
    let (reverse, mut head) = reverse(true);
    head.headers.extend(headers(&[("content-length", "8"), ("grpc-encoding", "identity")]));
    let body = Script::default().data(framed(0, b"ask"));
    let reply = answer(PROTO, Script::default().data("ans").data("wer"));
    let (asked, answer) = translate(reverse, &mut head, body, reply);
    assert_eq!(asked.bytes, b"ask");
    assert_eq!(head.headers["content-type"], "application/x-protobuf");
    // The body's length is known and sent at once.
    for name in ["content-length", "te", "grpc-encoding"] {
        assert!(!head.headers.contains_key(name), "{name}");
    }
    assert_eq!(answer.headers()["content-type"], "application/grpc+proto");
    let held = read(answer.into_body());
    assert_eq!(held.bytes, framed(0, b"answer"));
    assert_eq!(held.trailers.unwrap(), headers(&[("grpc-status", "0")]));
}

#[test]
fn a_length_that_no_frame_fits_in_does_not_underflow() {
    for len in ["0", "1", "4", "-1", "x"] {
        let (mut reverse, mut head) = reverse(true);
        head.headers.extend(headers(&[("content-length", len)]));
        let asked =
            read(reverse.translate_request(&mut head, Script::default().data([0, 0]).body()));
        assert!(!head.headers.contains_key("content-length"), "{len}");
        assert!(asked.broken.is_some());
        let no = trailers_only(&Status::new(Code::Unavailable, "lost"));
        assert_eq!(reverse.translate_rejection(no).headers()["grpc-status"], "13");
    }
}

#[test]
fn a_body_is_complete_and_knows_its_length() {
    use http_body::Body as _;
    for (withheld, bytes) in [(true, b"ask".to_vec()), (false, framed(0, b"ask").to_vec())] {
        let (mut reverse, mut head) = reverse(withheld);
        assert!(reverse.buffers_request());
        let sent = framed(0, b"ask");
        let body = Script::default().data(&sent[..2]).data(&sent[2..]);
        let mut asked = reverse.translate_request(&mut head, body.body());
        assert_eq!((asked.is_end_stream(), asked.size_hint().exact()), (false, None));
        let piece = crate::testing::ready(http_body_util::BodyExt::frame(&mut asked));
        assert_eq!(piece.unwrap().unwrap().into_data().unwrap(), bytes);
        assert_eq!((asked.is_end_stream(), asked.size_hint().exact()), (true, Some(0)));
    }
}

#[test]
fn answers_shorter_than_a_frame_are_answers() {
    for text in ["", "a", "ab", "abc", "abcd"] {
        let pairs = [PROTO[0], ("content-length", &text.len().to_string())];
        let (_, answer) = call(answer(&pairs, Script::default().data(text)));
        assert!(!answer.headers().contains_key("content-length"));
        assert_eq!(read(answer.into_body()).bytes, framed(0, text.as_bytes()));
    }
}

#[test]
fn a_services_status_is_the_calls() {
    for (http, code) in [(400, "3"), (401, "16"), (404, "5"), (409, "10"), (429, "8"), (500, "13")]
    {
        let mut reply = answer(&[("content-type", "text/html")], Script::default().data("<html>"));
        *reply.status_mut() = StatusCode::from_u16(http).unwrap();
        let (_, answer) = call(reply);
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["grpc-status"], code, "{http}");
        assert!(answer.headers()["grpc-message"].to_str().unwrap().contains(&http.to_string()));
        assert_eq!(read(answer.into_body()).bytes, b"");
    }
}

#[test]
fn a_service_may_say_the_status_itself() {
    let pairs = [PROTO[0], ("grpc-status", "9"), ("grpc-message", "sold out")];
    let (_, reply) = call(answer(&pairs, Script::default().data("x")));
    assert_eq!(reply.headers()["grpc-status"], "9");
    assert_eq!(reply.headers()["grpc-message"], "sold out");
    let pairs = [PROTO[0], ("grpc-status", "0")];
    let (_, reply) = call(answer(&pairs, Script::default().data("x")));
    assert!(!reply.headers().contains_key("grpc-status"), "it is in the trailers");
    assert_eq!(read(reply.into_body()).trailers.unwrap()["grpc-status"], "0");
}

#[test]
fn an_answer_of_another_type_is_none() {
    let pairs = [("content-type", "text/html; charset=utf-8")];
    let (_, reply) = call(answer(&pairs, Script::default().data("<html>")));
    assert_eq!(reply.headers()["grpc-status"], "2");
    let words = "the service answered `text/html`, not `application/x-protobuf`";
    assert_eq!(reply.headers()["grpc-message"], words);
}

#[test]
fn an_answer_that_is_too_long_or_breaks_off_is_an_error() {
    let (_, reply) = call(answer(PROTO, Script::default().data([0; 65])));
    assert_eq!(reply.headers()["grpc-status"], "8");
    let (_, reply) = call(answer(PROTO, Script::default().data("a").breaks()));
    assert_eq!(reply.headers()["grpc-status"], "14");
}

#[test]
fn a_call_of_other_than_one_plain_message_is_refused() {
    let frame = framed(0, b"a");
    for (body, code) in [
        (Script::default(), "12"),
        (Script::default().data(&frame).data(&frame), "12"),
        (Script::default().data(framed(1, b"zip")), "12"),
        (Script::default().data(framed(0, &[0; 65])), "8"),
        (Script::default().data([0, 0, 0]), "13"),
    ] {
        let (mut reverse, mut head) = reverse(true);
        assert!(read(reverse.translate_request(&mut head, body.body())).broken.is_some());
        let answer =
            reverse.translate_rejection(trailers_only(&Status::new(Code::Unavailable, "lost")));
        assert_eq!(answer.headers()["grpc-status"], code);
        assert_eq!(answer.headers()["grpc-retry-pushback-ms"], "-1");
    }
}

#[test]
fn frames_stay_where_the_service_reads_them() {
    let (reverse, mut head) = reverse(false);
    let body = Script::default().data(framed(0, b"ask"));
    let reply = answer(PROTO, Script::default().data(framed(0, b"answer")));
    let (asked, reply) = translate(reverse, &mut head, body, reply);
    assert_eq!(asked.bytes, framed(0, b"ask"));
    assert_eq!(read(reply.into_body()).bytes, framed(0, b"answer"));
    for wrong in [&b""[..], b"bare", &[framed(0, b"a"), framed(0, b"b")].concat()] {
        let (reverse, mut head) = self::reverse(false);
        let reply = answer(PROTO, Script::default().data(wrong));
        let ask = Script::default().data(framed(0, b"ask"));
        let (_, reply) = translate(reverse, &mut head, ask, reply);
        assert_eq!(reply.headers()["grpc-status"], "13", "{wrong:?}");
    }
}
