use super::*;

fn http(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap()
}

#[test]
fn codes_have_the_numbers_of_the_specification() {
    let names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names[0], "OK");
    assert_eq!(names[1], "CANCELLED");
    assert_eq!(names[4], "DEADLINE_EXCEEDED");
    assert_eq!(names[8], "RESOURCE_EXHAUSTED");
    assert_eq!(names[12], "UNIMPLEMENTED");
    assert_eq!(names[14], "UNAVAILABLE");
    assert_eq!(names[16], "UNAUTHENTICATED");
    for (at, code) in Code::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(code.number()), at);
        assert_eq!(Code::of_number(i32::from(code.number())), code);
    }
    for number in [-1, 17, i32::MIN, i32::MAX] {
        assert_eq!(Code::of_number(number), Code::Unknown);
    }
}

#[test]
fn an_answer_without_a_code_is_what_the_specification_says() {
    for (status, code) in [
        (400, Code::Internal),
        (401, Code::Unauthenticated),
        (403, Code::PermissionDenied),
        (404, Code::Unimplemented),
        (429, Code::Unavailable),
        (502, Code::Unavailable),
        (503, Code::Unavailable),
        (504, Code::Unavailable),
        (200, Code::Unknown),
        (302, Code::Unknown),
        (418, Code::Unknown),
        (500, Code::Unknown),
    ] {
        assert_eq!(Code::of_http(http(status)), code, "{status}");
    }
}

#[test]
fn a_code_has_the_http_status_of_google_apis() {
    let table =
        [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
    for (code, status) in Code::ALL.into_iter().zip(table) {
        assert_eq!(code.http(), http(status), "{}", code.name());
    }
}

#[test]
fn a_plain_services_status_is_a_code_of_the_same_blame() {
    for status in 200..600 {
        let status = http(status);
        let outcome = Code::of_service(status).outcome();
        if status.is_success() {
            assert_eq!(outcome, Outcome::Ok, "{status}");
        }
        if status.is_server_error() && status != 501 {
            assert_eq!(outcome, Outcome::Failed, "{status}");
        }
        assert!(status.is_success() || outcome != Outcome::Ok, "{status}");
    }
    assert_eq!(Code::of_service(http(404)), Code::NotFound);
    assert_eq!(Code::of_service(http(429)), Code::ResourceExhausted);
}

#[test]
fn each_code_blames_the_right_side() {
    let of = |outcome| Code::ALL.into_iter().filter(move |code| code.outcome() == outcome);
    let numbers = |outcome| of(outcome).map(Code::number).collect::<Vec<_>>();
    assert_eq!(numbers(Outcome::Ok), [0]);
    assert_eq!(numbers(Outcome::Cancelled), [1]);
    assert_eq!(numbers(Outcome::Rejected), [3, 5, 6, 7, 9, 10, 11, 12, 16]);
    assert_eq!(numbers(Outcome::Failed), [2, 4, 8, 13, 14, 15]);
    assert!(numbers(Outcome::Lost).is_empty());
}

#[test]
fn reasons_have_the_codes_that_clients_act_on() {
    let codes = RejectReason::ALL.map(|reason| Code::of_reason(reason).name());
    let expected = [
        "RESOURCE_EXHAUSTED",
        "UNAVAILABLE",
        "PERMISSION_DENIED",
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "UNAVAILABLE",
        "UNAVAILABLE",
        "INVALID_ARGUMENT",
        "RESOURCE_EXHAUSTED",
    ];
    assert_eq!(codes, expected);
}

#[test]
fn a_status_comes_back_from_headers() {
    let mut headers = HeaderMap::new();
    assert_eq!(Status::of(&headers), None);
    for status in [
        Status::new(Code::Ok, ""),
        Status::new(Code::NotFound, "no such cart"),
        Status::new(Code::Internal, "100% für\r\nnichts"),
    ] {
        status.write(&mut headers);
        assert_eq!(Status::of(&headers), Some(status));
    }
    Status::new(Code::Ok, "").write(&mut headers);
    assert!(!headers.contains_key(GRPC_MESSAGE), "words of before are gone");
}

#[test]
fn a_code_that_is_no_number_is_unknown() {
    let mut headers = HeaderMap::new();
    for text in ["", "x", "17", "-1", "99999999999999999999", "0x0", "0.0"] {
        headers.insert(GRPC_STATUS, HeaderValue::try_from(text).unwrap());
        assert_eq!(code_of(&headers), Some(Code::Unknown), "{text}");
    }
    headers.insert(GRPC_STATUS, HeaderValue::from_bytes(&[0xff]).unwrap());
    assert_eq!(code_of(&headers), Some(Code::Unknown));
}

#[test]
fn words_are_cut_at_a_character() {
    let mut headers = HeaderMap::new();
    Status::new(Code::Unknown, "ü".repeat(2000)).write(&mut headers);
    assert_eq!(Status::of(&headers).unwrap().message, "ü".repeat(512));
}
