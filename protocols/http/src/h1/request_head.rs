//! A request's head, read once, strictly and in place.
//!
//! It accepts a part of what the validator accepts, and reads it alike; the tests compare both. Of all
//! other bytes it says that it is unsure, and the validator names what is wrong with them.

use super::field::{ByteRange, Field, FieldName, FieldSet};

/// It is not certain that the head is right, or it is of a kind that is served by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsure;

/// Limits of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Its length in bytes.
    pub bytes: usize,
    /// Its target's length in bytes.
    pub target: usize,
    /// Its number of fields.
    pub fields: usize,
}

/// How the body's end is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// It has this many bytes.
    Length(u64),
    /// It is chunked.
    Chunked,
}

/// The head of an HTTP/1.1 request that is complete and right. Its target is a path and a query.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead {
    /// Its length in bytes, with the empty line.
    pub len: usize,
    /// The method: a token in capitals.
    pub method: ByteRange,
    /// The path, from its slash.
    pub path: ByteRange,
    /// Path and query.
    pub target: ByteRange,
    /// The host in lower case, and its port.
    pub authority: ByteRange,
    /// The host.
    pub host: ByteRange,
    /// `user-agent`; empty if there is none.
    pub user_agent: ByteRange,
    /// The path has `%`, `.`, a backslash, or two slashes: it may have another normal form. If not, it is
    /// plain in JSON.
    pub odd_path: bool,
    /// The client sends no further request.
    pub last: bool,
    /// The body.
    pub body: BodyLength,
    /// The fields that it has.
    pub present: FieldSet,
    /// The end of the request line, where the fields begin.
    pub fields_start: usize,
}

/// Longest method, in bytes.
const METHOD: usize = 32;

const VERSION: &[u8] = b" HTTP/1.1\r\n";

/// Fields of which a request has one at most, or of which two lines are made one.
const SINGLE: FieldSet = FieldSet::of(&[
    FieldName::Connection,
    FieldName::TransferEncoding,
    FieldName::Host,
    FieldName::ContentLength,
    FieldName::XRequestId,
    FieldName::Traceparent,
    FieldName::UserAgent,
    FieldName::Date,
    FieldName::Cookie,
    FieldName::Authorization,
    FieldName::ContentType,
    FieldName::ContentLocation,
    FieldName::ContentRange,
    FieldName::From,
    FieldName::IfModifiedSince,
    FieldName::IfRange,
    FieldName::IfUnmodifiedSince,
    FieldName::MaxForwards,
    FieldName::Origin,
    FieldName::ProxyAuthorization,
    FieldName::Range,
    FieldName::Referer,
]);

/// Fields that need more than to be passed on or dropped.
const RARE: FieldSet = FieldSet::of(&[
    FieldName::Http2Settings,
    FieldName::Upgrade,
    FieldName::Te,
    FieldName::Trailer,
    FieldName::Expect,
]);

impl RequestHead {
    /// Reads the head at the front of these bytes, and the places of its fields; `None` if it is incomplete.
    ///
    /// # Errors
    /// The bytes are left to the validator.
    pub fn read(
        bytes: &[u8],
        limits: &HeadLimits,
        fields: &mut Vec<Field>,
    ) -> Result<Option<Self>, Unsure> {
        let near = &bytes[..bytes.len().min(limits.bytes)];
        match Self::read_near(near, limits, fields)? {
            None if bytes.len() >= limits.bytes => Err(Unsure),
            head => Ok(head),
        }
    }

    fn read_near(
        bytes: &[u8],
        limits: &HeadLimits,
        fields: &mut Vec<Field>,
    ) -> Result<Option<Self>, Unsure> {
        fields.clear();
        let Some(mut head) = Self::request_line(bytes, limits)? else { return Ok(None) };
        let mut at = head.fields_start;
        loop {
            match &bytes[at..] {
                [] | [b'\r'] => return Ok(None),
                [b'\r', b'\n', ..] => break,
                _ => {}
            }
            let Some((field, next)) = read_field(bytes, at)? else { return Ok(None) };
            head.note(field, bytes)?;
            if fields.len() == limits.fields {
                return Err(Unsure);
            }
            fields.push(field);
            at = next;
        }
        head.len = at + 2;
        head.check()
    }

    /// Reads the request line; `None` if it is incomplete.
    fn request_line(bytes: &[u8], limits: &HeadLimits) -> Result<Option<Self>, Unsure> {
        let method = count(bytes, |byte| byte.is_ascii_uppercase() || byte == b'-');
        match bytes.get(method) {
            None if method <= METHOD => return Ok(None),
            Some(b' ') if (1..=METHOD).contains(&method) => {}
            _ => return Err(Unsure),
        }
        if !has_usual_method(&bytes[..method]) {
            return Err(Unsure);
        }
        let start = method + 1;
        let (path_end, odd_path) = path_end(bytes, start);
        let end = match bytes.get(path_end) {
            Some(b'?') => {
                path_end + count(&bytes[path_end..], |byte| CLASS[byte as usize] & QUERY != 0)
            }
            _ => path_end,
        };
        if end - start > limits.target {
            return Err(Unsure);
        }
        let rest = &bytes[end..];
        if !VERSION.starts_with(&rest[..rest.len().min(VERSION.len())]) {
            return Err(Unsure);
        }
        if rest.len() < VERSION.len() {
            return Ok(None);
        }
        if bytes.get(start) != Some(&b'/') {
            return Err(Unsure);
        }
        Ok(Some(Self {
            len: 0,
            method: ByteRange::new(0, method),
            path: ByteRange::new(start, path_end),
            target: ByteRange::new(start, end),
            authority: ByteRange::default(),
            host: ByteRange::default(),
            user_agent: ByteRange::default(),
            odd_path,
            last: false,
            body: BodyLength::Length(0),
            present: FieldSet::default(),
            fields_start: end + VERSION.len(),
        }))
    }

    /// Notes a field.
    fn note(&mut self, field: Field, bytes: &[u8]) -> Result<(), Unsure> {
        if field.known == FieldName::Other {
            return Ok(());
        }
        let repeated = self.present.contains(field.known) && SINGLE.contains(field.known);
        if repeated || RARE.contains(field.known) {
            return Err(Unsure);
        }
        self.present.insert(field.known);
        let value = field.value.of(bytes);
        match field.known {
            FieldName::Host => {
                let host = host_len(value).ok_or(Unsure)?;
                self.authority = field.value;
                self.host = ByteRange::new(field.value.start(), field.value.start() + host);
            }
            FieldName::UserAgent => self.user_agent = field.value,
            FieldName::Connection if value.eq_ignore_ascii_case(b"keep-alive") => {}
            FieldName::Connection if value.eq_ignore_ascii_case(b"close") => self.last = true,
            FieldName::Connection => return Err(Unsure),
            // These lines are passed on: as all write them, so that no service reads another length.
            FieldName::ContentLength | FieldName::TransferEncoding
                if !is_plainly_written(field, bytes) =>
            {
                return Err(Unsure);
            }
            FieldName::ContentLength => {
                self.body = BodyLength::Length(content_length(value).ok_or(Unsure)?)
            }
            FieldName::TransferEncoding if value == b"chunked" => self.body = BodyLength::Chunked,
            FieldName::TransferEncoding => return Err(Unsure),
            _ => {}
        }
        Ok(())
    }

    /// Checks that the fields are consistent.
    fn check(self) -> Result<Option<Self>, Unsure> {
        const BOTH: [FieldName; 2] = [FieldName::ContentLength, FieldName::TransferEncoding];
        let ambiguous = BOTH.iter().all(|name| self.present.contains(*name));
        if ambiguous || !self.present.contains(FieldName::Host) {
            return Err(Unsure);
        }
        Ok(Some(self))
    }

    /// The query without its question mark, if there is one.
    pub fn query<'b>(&self, bytes: &'b [u8]) -> Option<&'b str> {
        let start = self.path.end() + 1;
        (start <= self.target.end()).then(|| ByteRange::new(start, self.target.end()).text(bytes))
    }
}

/// Whether a field line has one space before its value, and none behind.
fn is_plainly_written(field: Field, bytes: &[u8]) -> bool {
    let (colon, start, end) = (field.name.end(), field.value.start(), field.value.end());
    bytes.get(colon..start) == Some(b": ") && bytes.get(end) == Some(&b'\r')
}

/// Methods of usual requests. Others have rules of their own.
fn has_usual_method(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE" | b"PATCH" | b"OPTIONS")
}

/// How many bytes at the front are of a kind.
fn count(bytes: &[u8], kind: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !kind(*byte)).unwrap_or(bytes.len())
}

/// Where the path ends that begins at `start`, and whether it may have another normal form.
fn path_end(bytes: &[u8], start: usize) -> (usize, bool) {
    let (mut seen, mut before, mut at) = (0, 0, start);
    while let Some(&byte) = bytes.get(at) {
        let class = CLASS[byte as usize];
        if class & PATH == 0 {
            break;
        }
        // Two slashes are odd as well.
        seen |= if byte == b'/' && before == b'/' { ODD } else { class };
        before = byte;
        at += 1;
    }
    (at, seen & ODD != 0)
}

/// Reads the field line at this place, and where the next line begins; `None` if it is incomplete.
fn read_field(bytes: &[u8], at: usize) -> Result<Option<(Field, usize)>, Unsure> {
    let colon = at + count(&bytes[at..], |byte| CLASS[byte as usize] & NAME != 0);
    match bytes.get(colon) {
        None => return Ok(None),
        Some(b':') if colon > at => {}
        Some(_) => return Err(Unsure),
    }
    let start = colon + 1 + count(&bytes[colon + 1..], |byte| byte == b' ' || byte == b'\t');
    let end = value_end(bytes, start);
    match &bytes[end..] {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] => return Ok(None),
        _ => return Err(Unsure),
    }
    let blanks = bytes[start..end].iter().rev().take_while(|byte| b" \t".contains(byte)).count();
    let field = Field {
        name: ByteRange::new(at, colon),
        value: ByteRange::new(start, end - blanks),
        known: FieldName::of(&bytes[at..colon]),
    };
    Ok(Some((field, end + 2)))
}

/// The first byte from `at` on that no value has; eight bytes are looked at together.
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = EACH * 0x80;
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*eight);
        // The high bit of the first byte that is less than a space, or DEL.
        let control = word.wrapping_sub(EACH * 0x20) & !word;
        let delete = word ^ (EACH * 0x7f);
        let delete = delete.wrapping_sub(EACH) & !delete;
        let found = (control | delete) & HIGH;
        if found == 0 {
            at += 8;
            continue;
        }
        at += found.trailing_zeros() as usize / 8;
        if bytes[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    at + count(&bytes[at..], |byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

/// The length of a host name in lower case that ends here, or at a port. Other hosts have normal forms.
fn host_len(value: &[u8]) -> Option<usize> {
    let host = count(value, |byte| CLASS[byte as usize] & HOST != 0);
    let port = match value.get(host) {
        None => true,
        Some(b':') => is_port(&value[host + 1..]),
        Some(_) => false,
    };
    let usual = (1..=255).contains(&host) && value[host - 1] != b'.';
    (usual && port).then_some(host)
}

fn is_port(digits: &[u8]) -> bool {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) && text.parse::<u16>().is_ok()
}

/// Digits without a leading zero.
fn content_length(value: &[u8]) -> Option<u64> {
    let usual = value == b"0" || matches!(value.first(), Some(b'1'..=b'9'));
    if !usual || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A character of usual field names: letters, digits and `-`. Names with others are compared with each
/// other by the validator.
const NAME: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;
/// A character of paths with more than one spelling.
const ODD: u8 = 8;
/// A character of host names in lower case.
const HOST: u8 = 16;

static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let one = byte as u8;
        let mut class = match one {
            b'#' | b'<' | b'>' => 0,
            b'"' => PATH | ODD,
            b'?' | b'`' => QUERY,
            b'/' => PATH | QUERY,
            b'-' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b','
            | b';' | b'=' | b':' | b'@' => PATH | QUERY,
            _ if one.is_ascii_alphanumeric() => PATH | QUERY,
            _ => PATH | QUERY | ODD,
        };
        if one.is_ascii_alphanumeric() || one == b'-' {
            class |= NAME;
        }
        if one.is_ascii_lowercase() || one.is_ascii_digit() || matches!(one, b'-' | b'.' | b'_') {
            class |= HOST;
        }
        table[byte] = class;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
