//! Entry points of the fuzzer, also used for replays.

use tollgate_http::h1_validator::{H1Validator, RequestLimits, Validated};

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
