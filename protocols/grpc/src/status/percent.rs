//! Percent-coding of `grpc-message` and URLs.

use std::fmt::Write as _;

/// Encodes a `grpc-message`: `%` and everything except printable ASCII is coded.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => out.push(char::from(byte)),
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

/// Decodes to bytes. A `%` without two hex digits stays as it is, so that no message is dropped.
pub fn decode(coded: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(coded.len());
    let mut rest = coded;
    while let [first, after @ ..] = rest {
        let hex = |digit: &u8| char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let digits = after.first().and_then(hex).zip(after.get(1).and_then(hex));
        (rest, _) = match (first, digits) {
            (b'%', Some((high, low))) => (&after[2..], out.push(high << 4 | low)),
            _ => (after, out.push(*first)),
        };
    }
    out
}

/// Decodes to text; invalid UTF-8 is replaced.
pub(crate) fn decode_text(coded: &[u8]) -> String {
    String::from_utf8_lossy(&decode(coded)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printable_stays() {
        let printable: String = (' '..='~').filter(|c| *c != '%').collect();
        assert_eq!(encode(&printable), printable);
        assert_eq!(encode("100%\r\nfür ✓"), "100%25%0D%0Af%C3%BCr %E2%9C%93");
    }

    #[test]
    fn every_text_comes_back() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..1000 {
            let text: String = (0..random.usize(..40)).map(|_| random.char(..)).collect();
            let coded = encode(&text);
            assert!(coded.bytes().all(|b| (b' '..=b'~').contains(&b)), "{coded}");
            assert_eq!(decode_text(coded.as_bytes()), text);
        }
    }

    #[test]
    fn what_is_badly_coded_is_shown_as_it_came() {
        for text in ["%", "%%", "%4", "%zz", "a%", "100% sure"] {
            assert_eq!(decode_text(text.as_bytes()), text);
        }
        assert_eq!(decode(b"%ff%41"), [0xff, b'A']);
        assert_eq!(decode_text(b"%ff"), "\u{fffd}");
    }
}
