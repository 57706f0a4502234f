//! Entry points of the fuzzer, also used for replays.

use tollgate_http::{
    h1::{self, BodyLength, HeadLimits, RequestHead},
    h1_validator::{H1Validator, RequestLimits, Validated},
};

/// Client bytes must give the same result whole and byte by byte.
pub(crate) fn screen(bytes: &[u8]) {
    let limits =
        RequestLimits { head_bytes: 512, target_bytes: 64, headers: 8, trailer_bytes: 128 };
    let mut screen = H1Validator::new(limits);
    let whole = screen.validate(bytes);
    assert!(whole.bytes <= bytes.len());
    let mut screen = H1Validator::new(limits);
    let mut passed = Validated { bytes: 0, error: None };
    for end in 1..=bytes.len() {
        let look = screen.validate(&bytes[passed.bytes..end]);
        passed = Validated { bytes: passed.bytes + look.bytes, error: look.error };
        if passed.error.is_some() {
            break;
        }
    }
    assert_eq!(passed, whole);
}

const SMALL: RequestLimits =
    RequestLimits { head_bytes: 1024, target_bytes: 256, headers: 20, trailer_bytes: 256 };

/// Reads all heads of a connection that the engine accepts, and compares each with the validator. Returns their
/// number.
pub(crate) fn heads(mut bytes: &[u8]) -> usize {
    let limits =
        HeadLimits { bytes: SMALL.head_bytes, target: SMALL.target_bytes, fields: SMALL.headers };
    let (mut count, mut fields) = (0, Vec::new());
    loop {
        let shown = bytes.escape_ascii();
        let mut validator = H1Validator::new(SMALL);
        let head = match RequestHead::read(bytes, &limits, &mut fields) {
            Ok(Some(head)) => head,
            Ok(None) => {
                let seen = validator.validate(bytes);
                assert_eq!((seen.bytes, seen.error), (0, None), "it needs more: {shown}");
                return count;
            }
            Err(_) => return count,
        };
        count += 1;
        let seen = validator.validate(&bytes[..head.len - 1]);
        assert_eq!((seen.bytes, seen.error), (0, None), "it is no shorter: {shown}");
        let seen = validator.validate(&bytes[..head.len]);
        assert_eq!((seen.bytes, seen.error), (head.len, None), "{shown}");
        assert!(!validator.has_odd_names() && !validator.awaits_upgrade(), "{shown}");
        let body = match head.body {
            BodyLength::Length(length) => vec![b'x'; usize::try_from(length.min(64)).unwrap()],
            BodyLength::Chunked => b"0\r\n\r\n".to_vec(),
        };
        assert_eq!(validator.in_body(), !body.is_empty(), "{shown}");
        assert_eq!(validator.validate(&body).bytes, body.len(), "{shown}");
        if matches!(head.body, BodyLength::Length(64..)) {
            return count;
        }
        assert!(validator.at_rest(), "the body has ended: {shown}");
        let next = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let passes = validator.validate(next).bytes;
        assert_eq!(passes, if head.last { 0 } else { next.len() }, "{shown}");
        assert!(fields.iter().all(|field| field.value.end() <= head.len), "{shown}");
        bytes = match head.body {
            BodyLength::Length(length) => {
                bytes.get(head.len + length as usize..).unwrap_or_default()
            }
            BodyLength::Chunked => &[],
        };
    }
}

/// A service's response must have the same data whole and byte by byte.
pub(crate) fn response(bytes: &[u8]) {
    let whole = h1::read_response(bytes, bytes.len().max(1));
    assert!(whole.as_ref().is_none_or(|(head, data)| head + data.len() <= bytes.len()));
    assert_eq!(h1::read_response(bytes, 1), whole);
}
