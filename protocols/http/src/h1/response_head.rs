//! A response's head, read in place with httparse.

use super::field::{ByteRange, Field, FieldName, FieldSet};
use crate::upstream_error::UpstreamError;
use http::StatusCode;
use httparse::{Header, ParserConfig, Status};
use std::mem::MaybeUninit;

/// Most fields of a response.
const MAX_FIELDS: usize = 256;

/// How the body's end is determined (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseLength {
    /// It has this many bytes.
    Length(u64),
    Chunked,
    /// It ends with the connection.
    UntilClose,
}

/// A complete head.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseHead {
    /// Its length in bytes, with the empty line.
    pub(super) len: usize,
    pub(super) status: StatusCode,
    /// It is of HTTP/1.1, not 1.0.
    pub(super) is_1_1: bool,
    pub(super) length: ResponseLength,
    /// The declared length, also of a response to HEAD.
    pub(super) declared: Option<u64>,
    /// The fields that it has.
    pub(super) present: FieldSet,
    /// `content-length` is one number.
    pub(super) single_length: bool,
    /// `connection` names other fields, which belong to the connection too.
    pub(super) names_fields: bool,
    /// The service closes the connection after it.
    pub(super) last: bool,
    /// Its lines end with CRLF and follow each other: it may be passed on as it is.
    pub(super) is_canonical: bool,
    /// The end of the status line, where the fields begin.
    pub(super) fields_start: usize,
}

impl ResponseHead {
    /// Reads the head at the front of these bytes, and the places of its fields; `None` if it is incomplete.
    /// `bodiless`: the request was a HEAD.
    ///
    /// # Errors
    /// The head is invalid, or longer than `most` bytes.
    pub(super) fn read(
        bytes: &[u8],
        most: usize,
        bodiless: bool,
        fields: &mut Vec<Field>,
    ) -> Result<Option<Self>, UpstreamError> {
        fields.clear();
        let mut lines = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let parser = ParserConfig::default();
        let len = match parser.parse_response_with_uninit_headers(&mut response, bytes, &mut lines)
        {
            Ok(Status::Complete(len)) => len,
            Ok(Status::Partial) if bytes.len() < most => return Ok(None),
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(UpstreamError::HeadTooLarge);
            }
            Err(_) => return Err(UpstreamError::InvalidResponse),
        };
        if len > most {
            return Err(UpstreamError::HeadTooLarge);
        }
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
        let mut head = Self {
            len,
            status: status.ok_or(UpstreamError::InvalidResponse)?,
            is_1_1: response.version == Some(1),
            length: ResponseLength::UntilClose,
            declared: None,
            present: FieldSet::default(),
            single_length: true,
            names_fields: false,
            last: response.version != Some(1),
            is_canonical: true,
            fields_start: 0,
        };
        let lengths = head.read_fields(bytes, response.headers, fields)?;
        head.set_length(lengths, bodiless)?;
        Ok(Some(head))
    }

    /// Notes the fields. Returns what they declare about the length.
    fn read_fields(
        &mut self,
        bytes: &[u8],
        headers: &[Header<'_>],
        fields: &mut Vec<Field>,
    ) -> Result<Lengths, UpstreamError> {
        let place = |part: &[u8]| {
            let start = part.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
            ByteRange::new(start, start + part.len())
        };
        let mut lengths = Lengths::default();
        let mut after = None;
        for header in headers {
            let known = FieldName::of(header.name.as_bytes());
            let name = place(header.name.as_bytes());
            // An empty value has no place.
            let value = match header.value {
                [] => empty_value(bytes, name.end()),
                value => place(value),
            };
            let field = Field { name, value, known };
            let start = field.name.start();
            match after {
                None => self.fields_start = start,
                Some(after) => self.is_canonical &= after == start,
            }
            let end = value.end();
            self.is_canonical &= bytes.get(end..end + 2) == Some(b"\r\n");
            after = Some(end + 2);
            self.present.insert(known);
            match known {
                FieldName::Connection => self.note_connection(header.value),
                FieldName::ContentLength => lengths.note_length(header.value),
                FieldName::TransferEncoding => lengths.note_coding(header.value)?,
                _ => {}
            }
            fields.push(field);
        }
        let end = self.len - 2;
        self.is_canonical &=
            after.is_none_or(|after| after == end) && bytes.get(end..self.len) == Some(b"\r\n");
        if after.is_none() {
            self.fields_start = end;
        }
        self.is_canonical &= bytes.get(self.fields_start - 2..self.fields_start) == Some(b"\r\n");
        Ok(lengths)
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.last = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.last &= self.is_1_1;
            } else {
                self.names_fields |= !option.is_empty();
            }
        }
    }

    fn set_length(&mut self, lengths: Lengths, bodiless: bool) -> Result<(), UpstreamError> {
        self.single_length = lengths.count <= 1 && !lengths.is_list;
        self.declared = lengths.length.filter(|_| !lengths.coded);
        let bodiless = bodiless
            || self.status.is_informational()
            || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.length = match lengths {
            Lengths { differ: true, coded: false, .. } => {
                return Err(UpstreamError::ConflictingLength);
            }
            _ if bodiless => ResponseLength::Length(0),
            Lengths { chunked: true, .. } => ResponseLength::Chunked,
            Lengths { coded: true, .. } => ResponseLength::UntilClose,
            Lengths { length: Some(length), .. } => ResponseLength::Length(length),
            _ => ResponseLength::UntilClose,
        };
        self.last |= self.length == ResponseLength::UntilClose;
        Ok(())
    }
}

/// The place of the empty value of a field whose name ends here.
fn empty_value(bytes: &[u8], name_end: usize) -> ByteRange {
    let rest = bytes.get(name_end + 1..).unwrap_or_default();
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    ByteRange::new(name_end + 1 + blanks, name_end + 1 + blanks)
}

/// What the fields declare about the body's length.
#[derive(Clone, Copy, Debug, Default)]
struct Lengths {
    /// Lines of `content-length`.
    count: usize,
    length: Option<u64>,
    /// A line of `content-length` has several members.
    is_list: bool,
    /// A `content-length` is no number, or another one.
    differ: bool,
    /// There is a `transfer-encoding`.
    coded: bool,
    chunked: bool,
}

impl Lengths {
    fn note_length(&mut self, value: &[u8]) {
        self.count += 1;
        for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let digits = !member.is_empty() && member.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(member).ok().and_then(|text| text.parse().ok());
            let number = number.filter(|_| digits);
            self.is_list |= member.len() != value.len();
            self.differ |= number.is_none() || self.length.is_some_and(|it| Some(it) != number);
            self.length = number;
        }
    }

    /// Transfer codings other than chunked can't be passed on: they belong to the connection.
    fn note_coding(&mut self, value: &[u8]) -> Result<(), UpstreamError> {
        self.coded = true;
        for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.chunked = member.eq_ignore_ascii_case(b"chunked");
            if !self.chunked && !member.eq_ignore_ascii_case(b"identity") {
                return Err(UpstreamError::ConflictingLength);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<ResponseHead>, UpstreamError> {
        ResponseHead::read(text.as_bytes(), 1024, false, &mut Vec::new())
    }

    fn lines(fields: &str) -> Result<ResponseHead, UpstreamError> {
        Ok(read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))?.unwrap())
    }

    #[test]
    fn a_usual_response_is_read_in_place() {
        let text = "HTTP/1.1 404 Not Found\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello";
        let mut fields = Vec::new();
        let head = ResponseHead::read(text.as_bytes(), 99, false, &mut fields).unwrap().unwrap();
        assert_eq!((head.len, head.status.as_u16()), (text.len() - 5, 404));
        assert_eq!(head.length, ResponseLength::Length(5));
        assert_eq!(&text[head.fields_start..head.fields_start + 4], "Date");
        assert!(head.is_canonical && !head.last && head.is_1_1);
        assert_eq!(fields[1].value.text(text.as_bytes()), "5");
        for end in 0..head.len {
            assert!(matches!(read(&text[..end]), Ok(None)), "{end}");
        }
    }

    #[test]
    fn the_length_is_that_of_the_rules() {
        use ResponseLength::{Chunked, Length, UntilClose};
        for (fields, length) in [
            ("", UntilClose),
            ("content-length: 7\r\n", Length(7)),
            ("content-length: 7, 7\r\n", Length(7)),
            ("content-length: 7\r\ncontent-length: 7\r\n", Length(7)),
            ("transfer-encoding: Chunked\r\n", Chunked),
            ("transfer-encoding: chunked\r\ncontent-length: 7\r\n", Chunked),
            ("transfer-encoding: identity\r\n", UntilClose),
        ] {
            assert_eq!(lines(fields).unwrap().length, length, "{fields}");
        }
        for fields in [
            "content-length: 7\r\ncontent-length: 8\r\n",
            "content-length: +7\r\n",
            "content-length: 7,\r\n",
            "transfer-encoding: gzip, chunked\r\n",
        ] {
            assert_eq!(lines(fields).unwrap_err(), UpstreamError::ConflictingLength, "{fields}");
        }
        let bare = read("HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\n").unwrap().unwrap();
        assert_eq!(bare.length, Length(0));
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
        let head = ResponseHead::read(head, 99, true, &mut Vec::new()).unwrap().unwrap();
        assert_eq!(head.length, Length(0));
    }

    #[test]
    fn the_connection_ends_as_the_head_says() {
        let last = |text: &str| read(text).unwrap().unwrap().last;
        assert!(last("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(!last("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n"));
        assert!(last("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"));
        let named = lines("connection: x-a, keep-alive\r\ncontent-length: 0\r\n").unwrap();
        assert!(named.names_fields && !named.last);
    }

    #[test]
    fn odd_line_ends_are_not_passed_on() {
        for fields in ["", "a: b\r\n", "a:\r\nc: \r\n"] {
            assert!(lines(fields).unwrap().is_canonical, "{fields:?}");
        }
        for fields in ["a: b\n", "a: b \r\nc: d\r\n", "a: b\r\nc: d\n"] {
            assert!(!lines(fields).unwrap().is_canonical, "{fields:?}");
        }
        assert!(!read("HTTP/1.1 200 OK\na: b\r\n\r\n").unwrap().unwrap().is_canonical);
        assert!(!read("HTTP/1.1 200 OK\r\na: b\r\n\n").unwrap().unwrap().is_canonical);
    }

    #[test]
    fn an_invalid_or_long_head_is_an_error() {
        assert_eq!(read("SSH-2.0-x\r\n").unwrap_err(), UpstreamError::InvalidResponse);
        let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(1024));
        assert_eq!(read(&long).unwrap_err(), UpstreamError::HeadTooLarge);
        let many = "a: b\r\n".repeat(300);
        let many = format!("HTTP/1.1 200 OK\r\n{many}\r\n");
        let read = ResponseHead::read(many.as_bytes(), 1 << 16, false, &mut Vec::new());
        assert_eq!(read.unwrap_err(), UpstreamError::HeadTooLarge);
    }
}
