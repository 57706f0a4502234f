//! The length of responses: conflicting declarations are made one, or the response is invalid (RFC
//! 9112, 6.3; RFC 9110, 8.6).

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    response,
};

/// A response with conflicting declarations of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConflictingLength;

/// Leaves one declaration of a response's length, or none. Chunked coding takes precedence, and
/// `content-length` beside it is removed.
pub(crate) fn normalize_response(head: &mut response::Parts) -> Result<(), ConflictingLength> {
    let headers = &mut head.headers;
    if head.version < Version::HTTP_2 && headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
        return check_codings(headers);
    }
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(()) };
    let more = headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some();
    if !more && is_number(length.as_bytes()) {
        return Ok(());
    }
    let one = single(headers).ok_or(ConflictingLength)?;
    headers.insert(CONTENT_LENGTH, one);
    Ok(())
}

/// Size of headers as HTTP/2 counts it: 32 bytes more per header (RFC 9113, 6.5.2).
pub(crate) fn h2_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// The number, if all members of the list are equal.
fn single(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut numbers = members(headers, &CONTENT_LENGTH);
    let first = numbers.next().filter(|number| is_number(number))?;
    numbers.all(|number| number == first).then(|| HeaderValue::from_bytes(first).ok())?
}

/// Transfer codings are hop-by-hop, and the proxy decodes only chunked: a body in another coding
/// would reach the client undeclared.
fn check_codings(headers: &HeaderMap) -> Result<(), ConflictingLength> {
    let known = |coding: &[u8]| {
        coding.eq_ignore_ascii_case(b"chunked") || coding.eq_ignore_ascii_case(b"identity")
    };
    members(headers, &TRANSFER_ENCODING).all(known).then_some(()).ok_or(ConflictingLength)
}

/// The members of a list, including empty ones.
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
        normalize_response(&mut head)?;
        let lengths = head.headers.get_all(CONTENT_LENGTH).iter();
        Ok(lengths.map(|it| it.to_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    const LENGTH: &str = "content-length";
    const CODING: &str = "transfer-encoding";

    #[test]
    fn equal_lengths_are_merged_and_different_ones_rejected() {
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
    fn chunked_coding_removes_content_length() {
        let chunked = |more| told(Version::HTTP_11, &[(CODING, "chunked"), (LENGTH, more)]);
        assert_eq!(chunked("10"), Ok(String::new()));
        assert_eq!(chunked("five"), Ok(String::new()));
        assert_eq!(told(Version::HTTP_11, &[(CODING, "Chunked, chunked")]), Ok(String::new()));
    }

    #[test]
    fn an_unsupported_transfer_coding_is_rejected() {
        for coding in ["gzip, chunked", "gzip", "chunked, gzip"] {
            assert_eq!(
                told(Version::HTTP_11, &[(CODING, coding)]),
                Err(ConflictingLength),
                "{coding}"
            );
        }
    }
}
