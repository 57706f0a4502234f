//! Where an answer ends, told in one way: what two readers could take for two lengths becomes one,
//! or the answer is no HTTP (RFC 9112, 6.3; RFC 9110, 8.6).

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    response,
};

/// An answer that contradicts itself about its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConflictingLength;

/// Makes an answer's head tell one length, or none. Where its body comes in chunks, these tell the
/// length, and a number beside them goes.
pub(crate) fn answer(head: &mut response::Parts) -> Result<(), ConflictingLength> {
    let headers = &mut head.headers;
    if head.version < Version::HTTP_2 && headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
        return codings(headers);
    }
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(()) };
    let more = headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some();
    if !more && is_number(length.as_bytes()) {
        return Ok(());
    }
    let one = one(headers).ok_or(ConflictingLength)?;
    headers.insert(CONTENT_LENGTH, one);
    Ok(())
}

/// How large headers are as HTTP/2 counts them: 32 bytes more for each (RFC 9113, 6.5.2).
pub(crate) fn in_http2(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// The one number of a list of equal ones.
fn one(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut numbers = members(headers, &CONTENT_LENGTH);
    let first = numbers.next().filter(|number| is_number(number))?;
    numbers.all(|number| number == first).then(|| HeaderValue::from_bytes(first).ok())?
}

/// Codings end at the proxy, and it takes off none but chunks: a body in another one would reach
/// the client without a word of it.
fn codings(headers: &HeaderMap) -> Result<(), ConflictingLength> {
    let known = |coding: &[u8]| {
        coding.eq_ignore_ascii_case(b"chunked") || coding.eq_ignore_ascii_case(b"identity")
    };
    members(headers, &TRANSFER_ENCODING).all(known).then_some(()).ok_or(ConflictingLength)
}

/// The members of a list, empty ones too.
fn members<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii)
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;

    fn told(version: Version, lines: &[(&str, &str)]) -> Result<String, ConflictingLength> {
        let mut response = Response::builder().version(version);
        for (name, value) in lines {
            response = response.header(*name, *value);
        }
        let mut head = response.body(()).unwrap().into_parts().0;
        answer(&mut head)?;
        let lengths = head.headers.get_all(CONTENT_LENGTH).iter();
        Ok(lengths.map(|it| it.to_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    const LENGTH: &str = "content-length";
    const CODING: &str = "transfer-encoding";

    #[test]
    fn equal_lengths_become_one_and_others_are_no_http() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            assert_eq!(told(version, &[(LENGTH, "5")]), Ok("5".into()));
            assert_eq!(told(version, &[(LENGTH, "5, 5")]), Ok("5".into()));
            assert_eq!(told(version, &[(LENGTH, "5"), (LENGTH, "5")]), Ok("5".into()));
            assert_eq!(told(version, &[]), Ok(String::new()));
            for wrong in ["5, 6", "5,", "", "+5", "0x5", "five", "5 5"] {
                assert_eq!(told(version, &[(LENGTH, wrong)]), Err(ConflictingLength), "{wrong}");
            }
            assert_eq!(told(version, &[(LENGTH, "5"), (LENGTH, "6")]), Err(ConflictingLength));
        }
    }

    #[test]
    fn chunks_tell_the_length_and_a_number_beside_them_goes() {
        let chunked = |more| told(Version::HTTP_11, &[(CODING, "chunked"), (LENGTH, more)]);
        assert_eq!(chunked("10"), Ok(String::new()));
        assert_eq!(chunked("five"), Ok(String::new()));
        assert_eq!(told(Version::HTTP_11, &[(CODING, "Chunked, chunked")]), Ok(String::new()));
    }

    #[test]
    fn a_coding_that_nobody_takes_off_is_no_answer() {
        for coding in ["gzip, chunked", "gzip", "chunked, gzip"] {
            assert_eq!(
                told(Version::HTTP_11, &[(CODING, coding)]),
                Err(ConflictingLength),
                "{coding}"
            );
        }
    }
}
