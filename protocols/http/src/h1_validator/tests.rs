use super::{H1Error, H1Validator, RequestLimits, Validated, error};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn screen() -> H1Validator {
    H1Validator::new(RequestLimits::default())
}

fn look(bytes: impl AsRef<[u8]>) -> Validated {
    screen().validate(bytes.as_ref())
}

fn fault(bytes: impl AsRef<[u8]>) -> Option<&'static str> {
    look(bytes).error.map(|fault| fault.violation.0)
}

/// A request with these headers after `Host`.
fn with(headers: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

fn chunked(body: &str) -> String {
    with("Transfer-Encoding: chunked\r\n") + body
}

#[test]
fn a_head_passes_once_it_is_complete() {
    let mut validator = screen();
    for end in 0..GET.len() {
        assert_eq!(validator.validate(&GET[..end]), Validated { bytes: 0, error: None });
        assert_eq!((validator.in_head(), validator.at_rest()), (end > 0, end == 0));
    }
    assert_eq!(validator.validate(GET), Validated { bytes: GET.len(), error: None });
    assert!(validator.at_rest() && validator.requests() == 1);
}

#[test]
fn other_protocols_are_recognised_by_their_first_bytes() {
    for (bytes, wanted) in [
        (&b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"[..], "looks_like_proxy_header"),
        (b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n", "looks_like_proxy_header"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "looks_like_proxy_header"),
        (b"\x16\x03\x01\x02\0\x01", "looks_like_tls"),
        (b"\x16", "looks_like_tls"),
    ] {
        assert_eq!(fault(bytes), Some(wanted), "{bytes:?}");
    }
    assert_eq!(fault("PROXY / HTTP/1.1\r\nHost: a\r\n\r\n"), None, "a method of this name");
}

#[test]
fn pipelined_requests_pass_up_to_the_one_that_is_wrong() {
    let mut bytes = GET.repeat(3);
    bytes.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
    let mut validator = screen();
    let look = validator.validate(&bytes);
    assert_eq!((look.bytes, look.error), (3 * GET.len(), Some(error::REPEATED_HOST)));
    assert_eq!(validator.requests(), 3);
}

#[test]
fn nothing_passes_after_a_fault() {
    let mut validator = screen();
    let first = validator.validate(b"GET / HTTP/1.1\n").error;
    assert_eq!(first, Some(error::BARE_LF));
    assert_eq!(validator.validate(GET), Validated { bytes: 0, error: first });
    validator.open();
    validator.refuse_upgrade();
    assert_eq!(validator.validate(GET), Validated { bytes: 0, error: first });
    assert!(!validator.at_rest() && !validator.in_head() && !validator.in_body());
}

#[test]
fn a_body_passes_as_it_arrives() {
    let mut validator = screen();
    let head = with("Content-Length: 5\r\n");
    assert_eq!(validator.validate(head.as_bytes()).bytes, head.len());
    assert!(validator.in_body() && !validator.at_rest());
    assert_eq!(validator.validate(b"he").bytes, 2);
    assert!(validator.in_body());
    assert_eq!(validator.validate(b"lloGET").bytes, 3);
    assert!(validator.in_head() && !validator.in_body());
}

#[test]
fn chunks_pass_as_they_arrive_and_size_lines_when_complete() {
    let mut validator = screen();
    let head = chunked("");
    assert_eq!(validator.validate(head.as_bytes()).bytes, head.len());
    assert_eq!(validator.validate(b"5;a=").bytes, 0);
    assert_eq!(validator.validate(b"5;a=b\r").bytes, 0);
    assert_eq!(validator.validate(b"5;a=b\r\nhel").bytes, 10);
    assert_eq!(validator.validate(b"lo\r").bytes, 2);
    assert_eq!(validator.validate(b"\r\n0\r\n").bytes, 5);
    assert!(validator.in_body());
    assert_eq!(
        validator.validate(b"X: y\r\n").bytes,
        0,
        "trailers pass when all of them are right"
    );
    assert_eq!(validator.validate(b"X: y\r\n\r\n").bytes, 8);
    assert!(validator.at_rest());
}

#[test]
fn the_longest_possible_body_is_counted_correctly() {
    for head in [with("Content-Length: 9223372036854775807\r\n"), chunked("7fffffffffffffff\r\n")] {
        let mut validator = screen();
        assert_eq!(
            validator.validate(head.as_bytes()),
            Validated { bytes: head.len(), error: None }
        );
        assert_eq!(validator.validate(&[0; 70_000]).bytes, 70_000);
        assert!(validator.in_body());
    }
}

#[test]
fn an_empty_line_after_a_body_is_not_a_request() {
    let mut validator = screen();
    assert_eq!(validator.validate(b"\r\n").bytes, 0);
    assert!(validator.at_rest());
    let more = [b"\r\n", GET].concat();
    assert_eq!(validator.validate(&more).bytes, more.len());
    assert_eq!(fault([b"\r\n\r\n", GET].concat()), Some("repeated_empty_line"));
}

#[test]
fn the_limit_passes_and_one_byte_more_is_rejected() {
    let limits = RequestLimits { head_bytes: 200, target_bytes: 20, headers: 3, trailer_bytes: 30 };
    let fault = |bytes: String| {
        let look = H1Validator::new(limits).validate(bytes.as_bytes());
        assert_eq!(look.error.is_none(), look.bytes == bytes.len());
        look.error.map(|fault| (fault.status, fault.violation.0))
    };
    let get = |target: usize| format!("GET /{:a<1$} HTTP/1.1\r\nHost: a\r\n\r\n", "", target - 1);
    assert_eq!(fault(get(20)), None);
    assert_eq!(fault(get(21)), Some((414, "target_too_long")));
    let context = with("X: \r\n").len();
    let large = |size: usize| with(&format!("X: {:a<1$}\r\n", "", size - context));
    assert_eq!(fault(large(200)), None);
    assert_eq!(fault(large(201)), Some((431, "head_too_large")));
    assert_eq!(fault(with("X: 1\r\nX: 2\r\n")), None);
    assert_eq!(fault(with("X: 1\r\nX: 2\r\nX: 3\r\n")), Some((431, "too_many_headers")));
    let trailers = |size: usize| chunked(&format!("0\r\nX: {:a<1$}\r\n\r\n", "", size - 7));
    assert_eq!(fault(trailers(30)), None);
    assert_eq!(fault(trailers(31)), Some((431, "trailers_too_large")));
    assert_eq!(fault(chunked(&format!("0\r\n{}\r\n", "X:\r\n".repeat(3)))), None);
    let many = chunked(&format!("0\r\n{}\r\n", "X:\r\n".repeat(4)));
    assert_eq!(
        H1Validator::new(limits).validate(many.as_bytes()).error,
        Some(error::TOO_MANY_TRAILERS)
    );
}

#[test]
fn endless_input_is_rejected_at_its_limit() {
    for endless in ["GET /{a}", "GET / HTTP/1.1\r\nX: {a}", "{a}"] {
        let front = endless.replace("{a}", "");
        let mut validator = screen();
        let mut held = front.into_bytes();
        while validator.validate(&held).error.is_none() {
            held.push(b'a');
            assert!(held.len() <= 64 << 10, "{endless} is held without end");
        }
    }
    let mut held = chunked("0\r\n");
    held.extend(std::iter::repeat_n('a', 8 << 10));
    assert_eq!(fault(&held), Some("trailers_too_large"));
}

#[test]
fn bytes_that_are_not_http_are_rejected_at_the_first_byte() {
    for byte in [0, 0x15, b' ', b'\t', b':', b'{', 0x7f, 0x80, 0xff] {
        assert_eq!(fault([byte]), Some("invalid_method"), "{byte:#x}");
    }
}

#[test]
fn targets_have_only_characters_that_hyper_accepts() {
    for byte in 0..=0xff_u8 {
        let get = [b"GET /", &[byte][..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let query = [b"GET /?", &[byte][..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let hyper = |front: &[u8]| http::Uri::try_from(&[front, &[byte]].concat()[..]).is_ok();
        let strict = (0x21..0x7f).contains(&byte) && byte != b'#';
        assert_eq!(fault(get).is_none(), strict && hyper(b"/"), "{byte:#x} in a path");
        assert_eq!(fault(query).is_none(), strict && hyper(b"/?"), "{byte:#x} in a query");
    }
}

#[test]
fn header_names_have_only_token_characters() {
    for byte in 0..=0xff_u8 {
        let head = [b"GET / HTTP/1.1\r\nHost: a\r\nX", &[byte][..], b"Y: z\r\n\r\n"].concat();
        let token = byte == b':' || http::HeaderName::from_bytes(&[b'X', byte]).is_ok();
        assert_eq!(fault(head).is_none(), token, "{byte:#x}");
    }
}

#[test]
fn the_only_control_character_in_values_is_tab() {
    for byte in 0..=0xff_u8 {
        let head = [b"GET / HTTP/1.1\r\nHost: a\r\nX: y", &[byte][..], b"z\r\n\r\n"].concat();
        assert_eq!(fault(head).is_none(), http::HeaderValue::from_bytes(&[byte]).is_ok());
    }
}

#[test]
fn hosts_are_names_or_addresses() {
    let host = |host: &str| fault(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for right in ["a", "a-b_c.example.", "10.0.0.1:8080", "[::1]", "[::ffff:1.2.3.4]:65535", "A:0"]
    {
        assert_eq!(host(right), None, "{right}");
    }
    let wrong = [
        "a:",
        "a:65536",
        "a:000080",
        "a:+80",
        "a:80:80",
        ":80",
        "a b",
        "a,b",
        "a%2eb",
        "u@a",
        "a/",
        "a?",
        "a#",
        "[::1",
        "::1",
        "[::1%25eth0]",
        "[::1]a",
        "[a]",
        "[]",
        "\u{e4}",
        "a;b",
        "a\\b",
        "http://a",
    ];
    for wrong in wrong {
        assert_eq!(host(wrong), Some("invalid_host"), "{wrong}");
    }
}

#[test]
fn an_absolute_target_must_name_the_same_host() {
    let get = |target: &str, host: &str| {
        fault(format!("GET {target} HTTP/1.1\r\nX: y\r\nHost: {host}\r\n\r\n"))
    };
    for (target, host) in [
        ("http://a", "a"),
        ("HTTP://a?b", "A"),
        ("http://a:80/", "a"),
        ("https://a/", "a:443"),
        ("http://[::1]/", "[::1]:80"),
    ] {
        assert_eq!(get(target, host), None, "{target} {host}");
    }
    for (target, host) in [("http://a/", "a:443"), ("https://a/", "a:80"), ("http://a/", "aa")] {
        assert_eq!(get(target, host), Some("host_mismatch"), "{target} {host}");
    }
    for target in ["http:///", "http://:80/", "http:a", "a://a", "http://a b/", "?", "a/b", "//"] {
        assert!(get(target, "a").is_some() || target == "//", "{target}");
    }
}

#[test]
fn bytes_after_an_upgrade_request_wait_for_the_101() {
    let head = with("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n");
    let both = [head.as_bytes(), b"\x81\x05hello"].concat();
    let mut validator = screen();
    assert_eq!(validator.validate(&both), Validated { bytes: head.len(), error: None });
    assert!(validator.awaits_upgrade() && validator.is_stopped() && !validator.at_rest());
    assert_eq!(validator.validate(b"\x81\x05hello"), Validated { bytes: 0, error: None });
    validator.open();
    assert!(!validator.awaits_upgrade() && !validator.is_stopped());
    assert_eq!(validator.validate(b"\x81\x05hello"), Validated { bytes: 7, error: None });
}

#[test]
fn after_an_upgrade_that_is_not_granted_bytes_are_http_again() {
    let head = with("Connection: upgrade\r\nUpgrade: websocket\r\n");
    let both = [head.as_bytes(), GET].concat();
    let mut validator = screen();
    assert_eq!(validator.validate(&both).bytes, head.len());
    validator.refuse_upgrade();
    assert!(validator.at_rest());
    assert_eq!(validator.validate(GET).bytes, GET.len());
    validator.open();
    assert_eq!(
        validator.validate(b"\x81").error,
        Some(error::INVALID_METHOD),
        "nothing was asked for"
    );
}

#[test]
fn connect_awaits_a_tunnel_in_any_version() {
    for version in ["1.0", "1.1"] {
        let head = format!("CONNECT a:80 HTTP/{version}\r\nHost: a\r\n\r\n");
        let mut validator = screen();
        assert_eq!(validator.validate(format!("{head}\0").as_bytes()).bytes, head.len());
        assert!(validator.awaits_upgrade());
        validator.refuse_upgrade();
        assert_eq!((validator.at_rest(), validator.is_stopped()), (true, version == "1.0"));
    }
}

#[test]
fn ignored_upgrades_are_not_awaited() {
    for headers in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade:\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let mut validator = screen();
        assert_eq!(validator.validate(with(headers).as_bytes()).error, None);
        assert!(!validator.awaits_upgrade(), "{headers}");
    }
    let mut validator = screen();
    validator.validate(b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert!(!validator.awaits_upgrade(), "HTTP/1.0");
}

#[test]
fn after_the_last_request_everything_is_held() {
    let http10 = "GET / HTTP/1.0\r\n\r\n".to_owned();
    let close = with("Connection: close\r\nContent-Length: 2\r\n") + "hi";
    for last in [http10, close] {
        let mut validator = screen();
        let both = [last.as_bytes(), GET].concat();
        assert_eq!(validator.validate(&both), Validated { bytes: last.len(), error: None });
        assert!(validator.is_stopped() && validator.at_rest());
        assert_eq!(validator.validate(&[0; 9]), Validated { bytes: 0, error: None });
    }
}

#[test]
fn an_error_in_a_body_is_marked() {
    for body in
        ["x\r\n", "5\n", "5;\r\n", "1\r\nxx", "0\r\nX\r\n", "0\r\nX: \0\r\n", "0\r\nX: \ry\r\n"]
    {
        let Some(H1Error { in_body, .. }) = look(chunked(body)).error else { panic!("{body:?}") };
        assert!(in_body, "{body:?}");
    }
}

#[test]
fn trailers_that_frame_route_or_authenticate_are_refused() {
    for name in ["Content-Length", "transfer-encoding", "HOST", "TE", "Authorization", "Trailer"] {
        let body = chunked(&format!("0\r\n{name}: a\r\n\r\n"));
        assert_eq!(fault(body), Some("forbidden_trailer"), "{name}");
    }
    assert_eq!(fault(chunked("0\r\ngrpc-status: 0\r\nhosts: a\r\n\r\n")), None);
}

#[test]
fn chunk_sizes_are_digits_alone() {
    for size in ["", "g", "0x5", " 5", "5 ", "5\t", "+5", "-5", "5_", "5.0", "00000000000000005"] {
        assert_eq!(fault(chunked(&format!("{size}\r\n"))), Some("invalid_chunk_size"), "{size}");
    }
    assert_eq!(fault(chunked("8000000000000000\r\n")), Some("chunk_size_overflow"));
    assert_eq!(fault(chunked("0000000000000005\r\nhello\r\n0\r\n\r\n")), None);
    assert_eq!(fault(chunked("aF;q=\"\t \\\"\"\r\n")), None);
    for extension in
        [" ;a", ";a =b", ";a= b", ";a=", ";=b", ";a=\"", ";a=\"\\", ";a\"b\"", ";a=\"b\"c", ";\0"]
    {
        let wrong = fault(chunked(&format!("5{extension}\r\nhello\r\n")));
        assert!(wrong.is_some_and(|word| word.starts_with("invalid_chunk")), "{extension}");
    }
}

#[test]
fn no_input_panics_and_splitting_changes_nothing() {
    const BITS: [&str; 16] = [
        "GET / HTTP/1.1\r\n",
        "Host: a\r\n",
        "\r\n",
        "\r",
        "\n",
        "Content-Length: 3\r\n",
        "abc",
        "Transfer-Encoding: chunked\r\n",
        "0\r\n",
        "3;a=b\r\nabc\r\n",
        "\0",
        " ",
        ":",
        "X: y\r\n",
        "Connection: upgrade\r\nUpgrade: x\r\n",
        "CONNECT a:1 HTTP/1.0\r\n",
    ];
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..12) {
            // Valid starts, more often than chance produces them.
            let next = if random.bool() { bytes.len() % 3 } else { random.usize(..BITS.len()) };
            bytes.extend_from_slice(BITS[next].as_bytes());
        }
        let whole = look(&bytes);
        let mut validator = screen();
        let (mut from, mut to) = (0, 0);
        let cut = loop {
            let Validated { bytes: passes, error: fault } = validator.validate(&bytes[from..to]);
            from += passes;
            if fault.is_some() || to == bytes.len() {
                break Validated { bytes: from, error: fault };
            }
            to += random.usize(1..=bytes.len() - to);
        };
        assert_eq!(whole, cut, "seed {seed}: {}", bytes.escape_ascii());
    }
}
