use super::*;
use crate::testing::{Script, answer, headers, post, read};
use operation::{RejectReason, RejectionRef};
use serde_json::json;
use std::time::Duration;

fn grpc(settings: serde_json::Value) -> Grpc {
    let settings = crate::testing::settings(settings).unwrap();
    let defaults = tollgate_http::Settings::default().defaults();
    Grpc::new(settings, Routes::single("shop", defaults)).unwrap()
}

fn http2(content_type: &str) -> request::Parts {
    let mut head = post("/shop.v1.Carts/Get", &[("content-type", content_type)]);
    head.version = Version::HTTP_2;
    head
}

fn http1(content_type: &str) -> request::Parts {
    post("/shop.v1.Carts/Get", &[("content-type", content_type)])
}

fn no(grpc: &Grpc, mut head: request::Parts) -> UnroutedRequest {
    match grpc.route(&mut head, "shop", &BufferAccount::default()) {
        Err(no) => no,
        Ok(_) => panic!("{head:?} goes somewhere"),
    }
}

#[test]
fn a_call_is_named_by_its_service_and_method() {
    let grpc = grpc(json!({}));
    let head = http2("application/grpc");
    assert_eq!(grpc.operation_name(&head.method, &head.uri), "shop.v1.Carts/Get");
    let mut no_method = http2("application/grpc");
    no_method.uri = Uri::from_static("/Get");
    let no = no(&grpc, no_method);
    assert_eq!((no.reason.as_str(), no.answer.status().as_u16()), ("no_method", 200));
    assert_eq!(no.answer.headers()["grpc-status"], "12");
}

#[test]
fn an_ambiguous_name_is_rejected_in_the_client_s_format() {
    let grpc = grpc(json!({ "bridge": true, "reverse_bridge": true, "web": true }));
    for head in [http2("application/grpc"), http1("application/x-protobuf")] {
        for path in ["/shop.v1.Carts/%47et", "/shop.v1.Carts/Get;x", "//shop.v1.Carts/Get"] {
            let mut head = head.clone();
            head.uri = Uri::try_from(path).unwrap();
            let no = no(&grpc, head);
            assert_eq!(
                (no.reason.as_str(), &no.answer.headers()["grpc-status"]),
                ("path", &"3".parse().unwrap())
            );
        }
    }
}

#[test]
fn a_client_that_speaks_grpc_needs_no_translator() {
    let grpc = grpc(json!({ "bridge": true, "web": true }));
    let mut head = http2("application/grpc+proto");
    head.headers.extend(headers(&[("grpc-timeout", "250m")]));
    let asked = grpc
        .route(&mut head, "shop", &BufferAccount::default())
        .unwrap_or_else(|_| panic!("it goes nowhere"));
    assert!(asked.translator.is_none());
    assert_eq!(asked.client_timeout, Some(Duration::from_millis(250)));
    grpc.set_time_left(&mut head, Duration::from_millis(200));
    assert_eq!(head.headers["grpc-timeout"], "200000u");
}

#[test]
fn admitted_calls_are_translated_and_others_get_a_hint() {
    let off = grpc(json!({}));
    let on = grpc(json!({ "bridge": true, "web": true }));
    for (head, words) in [
        (
            http1("application/grpc"),
            "gRPC needs HTTP/2; for HTTP/1.1 clients there is `bridge: true`\n",
        ),
        (
            http1("application/x-protobuf"),
            "bare messages are not served here: they need `bridge: true`\n",
        ),
        (
            http2("application/protobuf"),
            "bare messages are not served here: they need `bridge: true`\n",
        ),
        (http1("application/grpc-web"), "gRPC-Web is not served here: it needs `web: true`\n"),
        (http2("application/grpc-web-text"), "gRPC-Web is not served here: it needs `web: true`\n"),
    ] {
        let mut same = head.clone();
        let refused = no(&off, head);
        assert_eq!(
            (refused.reason.as_str(), refused.answer.status().as_u16()),
            ("unsupported", 415)
        );
        assert_eq!(read(refused.answer.into_body()).bytes, words.as_bytes());
        assert!(
            on.route(&mut same, "shop", &BufferAccount::default())
                .is_ok_and(|asked| asked.translator.is_some())
        );
    }
    for said in ["text/html", "application/json"] {
        assert_eq!(no(&on, http1(said)).answer.status(), 415);
    }
}

#[test]
fn what_json_calls_is_named_as_the_call_that_it_is() {
    let file = crate::testing::library_file();
    let grpc = grpc(json!({ "transcode": { "descriptors": file.path().to_str().unwrap() } }));
    let get = |path| {
        let mut head = post(path, &[]);
        head.method = Method::GET;
        head
    };
    let mut head = get("/v1/books/7");
    assert!(
        grpc.route(&mut head, "shop", &BufferAccount::default())
            .is_ok_and(|asked| asked.translator.is_some())
    );
    assert_eq!(grpc.operation_name(&head.method, &head.uri), "library.v1.Library/GetBook");
    assert!(
        grpc.is_known_name("library.v1.Library/GetBook")
            && !grpc.is_known_name("shop.v1.Carts/Get")
    );
    let no = no(&grpc, get("/v2/books"));
    assert_eq!((no.reason.as_str(), no.answer.status().as_u16()), ("no_rule", 404));
}

#[test]
fn calls_go_where_routes_say_and_json_goes_where_its_call_does() {
    let file = crate::testing::library_file();
    let settings = crate::testing::settings(json!({
        "transcode": { "descriptors": file.path().to_str().unwrap() },
        "routes": [
            { "name": "carts", "match": { "path_prefix": "/shop.v1.Carts" }, "cluster": "carts" },
            { "name": "books", "match": { "path_prefix": "/library.v1.Library" }, "cluster": "books" },
        ],
    }));
    let settings = settings.unwrap();
    let routes =
        Routes::new(&settings.routes, tollgate_http::Settings::default().defaults()).unwrap();
    let grpc = Grpc::new(settings, routes).unwrap();
    let asked =
        grpc.route(&mut http2("application/grpc"), "shop", &BufferAccount::default()).ok().unwrap();
    assert_eq!(&*asked.route.name, "carts");
    let mut json = post("/v1/books/7", &[]);
    json.method = Method::GET;
    assert_eq!(
        &*grpc.route(&mut json, "shop", &BufferAccount::default()).ok().unwrap().route.name,
        "books"
    );
    for (path, reason, status) in
        [("/a.B/C", "no_route", "12"), ("/shop.v1.Carts/../a.B/C%00", "path", "3")]
    {
        let mut head = http2("application/grpc");
        head.uri = Uri::try_from(path).unwrap();
        let no = no(&grpc, head);
        assert_eq!((no.reason.as_str(), no.answer.status().as_u16()), (reason, 200));
        assert_eq!(no.answer.headers()["grpc-status"], status);
    }
}

#[test]
fn a_call_is_a_post() {
    let grpc = grpc(json!({ "bridge": true }));
    let mut head = http1("application/grpc");
    head.method = Method::GET;
    let refused = no(&grpc, head);
    assert_eq!(refused.answer.status(), 405);
    assert_eq!(refused.answer.headers()["allow"], "POST");
}

#[test]
fn a_body_that_is_compressed_as_a_whole_is_not_taken() {
    let grpc = grpc(json!({ "bridge": true }));
    let mut head = http1("application/x-protobuf");
    head.headers.extend(headers(&[("content-encoding", "gzip")]));
    assert_eq!(no(&grpc, head).answer.status(), 415);
}

#[test]
fn a_refusal_is_said_in_the_clients_words() {
    let grpc = grpc(json!({ "bridge": true }));
    let refusal = RejectionRef {
        retry_after: Some(Duration::from_millis(20)),
        policy: Some("protect"),
        ..RejectionRef::new(RejectReason::RateLimited, "too many")
    };
    let why = HttpRejection { refusal, status: StatusCode::TOO_MANY_REQUESTS };
    let asked = |mut head| grpc.route(&mut head, "shop", &BufferAccount::default()).ok().unwrap();
    let plain = grpc.reject(Some(&asked(http2("application/grpc"))), &why);
    assert_eq!(plain.status(), 200);
    assert_eq!(plain.headers()["grpc-status"], "8");
    assert_eq!(plain.headers()["grpc-message"], "too many (rate_limited by protect)");
    assert_eq!(plain.headers()["grpc-retry-pushback-ms"], "20");
    let bridged = grpc.reject(Some(&asked(http1("application/x-protobuf"))), &why);
    assert_eq!(bridged.status(), 429);
    assert_eq!(bridged.headers()["retry-after"], "1");
    assert_eq!(bridged.headers()["grpc-status"], "8");
    let unread = grpc.reject(None, &why);
    assert_eq!(unread.status(), 429);
    assert_eq!(unread.headers()["grpc-status"], "8");
}

fn judge(grpc: &Grpc, status: u16, pairs: &[(&str, &str)]) -> Option<(Outcome, u16)> {
    let mut head = answer(pairs, Script::default());
    *head.status_mut() = StatusCode::from_u16(status).unwrap();
    grpc.outcome_of_head(&head.into_parts().0).map(|it| (it.outcome, it.status))
}

#[test]
fn a_status_stands_in_the_head_or_in_the_trailers() {
    let grpc = grpc(json!({}));
    let said = ("content-type", "application/grpc");
    assert_eq!(judge(&grpc, 200, &[said]), None);
    assert_eq!(judge(&grpc, 200, &[said, ("grpc-status", "0")]), Some((Outcome::Ok, 0)));
    assert_eq!(judge(&grpc, 200, &[said, ("grpc-status", "5")]), Some((Outcome::Rejected, 5)));
    assert_eq!(judge(&grpc, 503, &[said, ("grpc-status", "0")]), Some((Outcome::Ok, 0)));
    assert_eq!(judge(&grpc, 503, &[]), Some((Outcome::Failed, 14)));
    assert_eq!(judge(&grpc, 404, &[]), Some((Outcome::Rejected, 12)));
    assert_eq!(judge(&grpc, 200, &[("content-type", "text/html")]), Some((Outcome::Failed, 2)));
}

#[test]
fn trailers_tell_the_end_and_their_absence_is_a_failure() {
    let grpc = grpc(json!({}));
    let judged = grpc.outcome_of_trailers(Some(&headers(&[("grpc-status", "14")])));
    let expected =
        ResponseOutcome { outcome: Outcome::Failed, code: Some("UNAVAILABLE"), status: 14 };
    assert_eq!(judged, expected);
    let judged = grpc.outcome_of_trailers(Some(&headers(&[("grpc-status", "0")])));
    assert_eq!(judged, ResponseOutcome { outcome: Outcome::Ok, code: None, status: 0 });
    for trailers in [None, Some(&HeaderMap::new())] {
        let judged = grpc.outcome_of_trailers(trailers);
        assert_eq!((judged.outcome, judged.code), (Outcome::Failed, Some("MISSING_STATUS")));
    }
}

#[test]
fn a_plain_service_is_judged_by_its_http_status() {
    let grpc = grpc(json!({ "reverse_bridge": true }));
    assert_eq!(judge(&grpc, 200, &[]), Some((Outcome::Ok, 0)));
    assert_eq!(judge(&grpc, 404, &[]), Some((Outcome::Rejected, 5)));
    assert_eq!(judge(&grpc, 500, &[]), Some((Outcome::Failed, 13)));
    assert_eq!(judge(&grpc, 200, &[("grpc-status", "9")]), Some((Outcome::Rejected, 9)));
    let mut head = http2("application/grpc");
    assert!(
        grpc.route(&mut head, "shop", &BufferAccount::default())
            .is_ok_and(|asked| asked.translator.is_some())
    );
}

#[test]
fn a_preflight_is_answered() {
    let grpc = grpc(json!({ "web": { "origins": ["https://shop.example"] } }));
    let mut head = http2("");
    head.method = Method::OPTIONS;
    head.headers =
        headers(&[("origin", "https://shop.example"), ("access-control-request-method", "POST")]);
    let told = no(&grpc, head);
    assert_eq!((told.reason.as_str(), told.answer.status().as_u16()), ("preflight", 204));
    let mut head = http2("application/grpc-web");
    head.headers.extend(headers(&[("origin", "https://shop.example")]));
    let asked = grpc.route(&mut head, "shop", &BufferAccount::default()).ok().unwrap();
    let why = HttpRejection {
        refusal: RejectionRef::new(RejectReason::Denied, "no"),
        status: StatusCode::FORBIDDEN,
    };
    let refused = grpc.reject(Some(&asked), &why);
    assert_eq!(refused.headers()["access-control-allow-origin"], "https://shop.example");
    assert_eq!(refused.headers()["grpc-status"], "7");
    assert_eq!(refused.headers()["content-type"], "application/grpc-web+proto");
}

#[test]
fn both_bridges_connect_http1_client_and_plain_service() {
    let grpc = grpc(json!({ "bridge": true, "reverse_bridge": true }));
    let mut head = http1("application/x-protobuf");
    let asked = grpc.route(&mut head, "shop", &BufferAccount::default()).ok().unwrap();
    let mut translator = asked.translator.unwrap();
    let body = read(translator.translate_request(&mut head, Script::default().data("ask").body()));
    assert_eq!(body.bytes, b"ask");
    assert_eq!(head.headers["content-type"], "application/x-protobuf");
    let reply = answer(&[("content-type", "application/x-protobuf")], Script::default().data("x"));
    let reply = crate::testing::ready(translator.translate_response(reply));
    assert_eq!(reply.headers()["grpc-status"], "0");
    assert_eq!(read(reply.into_body()).bytes, b"x");
}
