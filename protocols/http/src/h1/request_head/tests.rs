use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 512, target: 64, fields: 8 };

fn read(text: &str) -> Result<Option<RequestHead>, Unsure> {
    RequestHead::read(text.as_bytes(), &LIMITS, &mut Vec::new())
}

#[test]
fn a_usual_head_is_read_in_place() {
    let text = "POST /cart?id=1&b HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent:  curl \r\n\
                Content-Length: 12\r\nConnection: Close\r\nX-A:\r\n\r\nhello";
    let mut fields = Vec::new();
    let head = RequestHead::read(text.as_bytes(), &LIMITS, &mut fields).unwrap().unwrap();
    let of = |span: ByteRange| span.text(text.as_bytes());
    assert_eq!(head.len, text.len() - 5);
    assert_eq!(
        (of(head.method), of(head.path), of(head.target)),
        ("POST", "/cart", "/cart?id=1&b")
    );
    assert_eq!(head.query(text.as_bytes()), Some("id=1&b"));
    assert_eq!((of(head.host), of(head.authority)), ("shop.example", "shop.example:8080"));
    assert_eq!((of(head.user_agent), head.last, head.odd_path), ("curl", true, false));
    assert_eq!(head.body, BodyLength::Length(12));
    let lines: Vec<_> = fields.iter().map(|it| (of(it.name), of(it.value), it.known)).collect();
    assert_eq!(lines[3], ("Connection", "Close", FieldName::Connection));
    assert_eq!(lines[4], ("X-A", "", FieldName::Other));
    assert!(head.present.contains(FieldName::Host));
}

#[test]
fn an_incomplete_head_needs_more() {
    let text = "GET /a?b HTTP/1.1\r\nhost: a:80\r\nx: y\r\n\r\n";
    for end in 0..text.len() {
        assert!(matches!(read(&text[..end]), Ok(None)), "{:?}", &text[..end]);
    }
    assert!(read(text).unwrap().is_some());
}

#[test]
fn whatever_is_not_certainly_right_is_left_to_others() {
    let head = |line: &str, fields: &str| format!("{line}\r\nhost: a\r\n{fields}\r\n");
    let get = "GET / HTTP/1.1";
    assert!(read(&head(get, "")).unwrap().is_some());
    for line in [
        "GET / HTTP/1.0",
        "GET  / HTTP/1.1",
        "get / HTTP/1.1",
        "CONNECT a:80 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET http://a/ HTTP/1.1",
        "GET /#a HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
    ] {
        assert_eq!(read(&head(line, "")).unwrap_err(), Unsure, "{line}");
    }
    for fields in [
        "host: a\r\n",
        "x_y: 1\r\n",
        "x : 1\r\n",
        "x: a\u{1}\r\n",
        "x: a\nb\r\n",
        " x: folded\r\n",
        "content-length: 01\r\n",
        "content-length: 1\r\ncontent-length: 1\r\n",
        "content-length: 1\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: Chunked\r\n",
        "transfer-encoding:\tchunked\r\n",
        "content-length: 1 \r\n",
        "content-length:1\r\n",
        "connection: x-a\r\n",
        "upgrade: websocket\r\n",
        "expect: 100-continue\r\n",
        "authorization: a\r\nauthorization: b\r\n",
    ] {
        assert_eq!(read(&head(get, fields)).unwrap_err(), Unsure, "{fields}");
    }
    for host in ["A", "a.", "a:", "a:65536", "[::1]", "a b", ""] {
        let text = format!("{get}\r\nhost: {host}\r\n\r\n");
        assert_eq!(read(&text).unwrap_err(), Unsure, "{host}");
    }
    assert_eq!(read("GET / HTTP/1.1\r\n\r\n").unwrap_err(), Unsure);
}

#[test]
fn limits_hold() {
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(64));
    assert_eq!(read(&long).unwrap_err(), Unsure);
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(8));
    assert_eq!(read(&many).unwrap_err(), Unsure);
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(500));
    assert_eq!(read(&large).unwrap_err(), Unsure);
}

#[test]
fn a_path_that_has_several_spellings_is_odd() {
    for (path, odd) in [
        ("/a/b-c_d~e;f=1", false),
        ("/", false),
        ("/a//b", true),
        ("/a.b", true),
        ("/%61", true),
        ("/a\\b", true),
        ("/a|b", true),
        ("/a^b", true),
    ] {
        let head = read(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap().unwrap();
        assert_eq!(head.odd_path, odd, "{path}");
        let normal = crate::normalize::path(path);
        assert!(odd || (normal == path && crate::path_fault(path).is_none()), "{path}");
    }
}

#[test]
fn a_usual_path_and_a_host_are_plain_in_json() {
    for byte in 0..=255 {
        let class = CLASS[usize::from(byte)];
        let usual = class & HOST != 0 || class & PATH != 0 && class & ODD == 0;
        assert!(!usual || operation::is_plain(&[byte]), "{byte}");
    }
}
