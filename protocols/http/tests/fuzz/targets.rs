//! What the fuzzer calls, and what is played again without it.

use web::screen::{H1Validator, RequestLimits, Validated};

/// Anything from a client: whole and byte by byte, the same passes, and ends with the same fault.
pub(crate) fn screen(bytes: &[u8]) {
    let limits =
        RequestLimits { head_bytes: 512, target_bytes: 64, headers: 8, trailer_bytes: 128 };
    let mut screen = H1Validator::new(limits);
    let whole = screen.look(bytes);
    assert!(whole.passes <= bytes.len());
    let mut screen = H1Validator::new(limits);
    let mut passed = Validated { passes: 0, fault: None };
    for end in 1..=bytes.len() {
        let look = screen.look(&bytes[passed.passes..end]);
        passed = Validated { passes: passed.passes + look.passes, fault: look.fault };
        if passed.fault.is_some() {
            break;
        }
    }
    assert_eq!(passed, whole);
}
