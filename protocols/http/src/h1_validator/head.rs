//! A request's head: its request line, headers, and body length.

use super::{
    RequestLimits,
    error::{self, H1Error},
    line::{HeaderField, LineCursor, blame, is_tchar, is_token, members},
    target::{self, HostPort, TargetForm},
};
use std::ops::Range;

/// Longest method, in bytes.
const METHOD: usize = 32;
/// The first byte of TLS: the content type of a handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// Longest request line without its target, with CRLF.
const AROUND_TARGET: usize = METHOD + 12;

/// A head that is being parsed. Positions count from the start of the held bytes.
#[derive(Debug, Default)]
pub(super) struct HeadParser {
    cursor: LineCursor,
    /// How many empty lines preceded the request: one is allowed.
    blanks: u8,
    request_line: Option<RequestLine>,
    headers: usize,
    /// A header name has characters other than letters, digits and `-`.
    odd: bool,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    /// Tokens of `Connection`.
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// `Upgrade` names a protocol that must not be ignored.
    protocol: bool,
}

/// The request line.
#[derive(Debug)]
struct RequestLine {
    /// HTTP/1.1, not 1.0.
    newer: bool,
    connect: bool,
    /// The target's authority, and the default port of its scheme.
    authority: Option<(Range<usize>, Option<u16>)>,
}

/// A complete and valid head.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParsedHead {
    /// Its length in bytes.
    pub(super) len: usize,
    pub(super) body: BodyLength,
    /// It requests an upgrade or a tunnel.
    pub(super) upgrade: bool,
    /// The client sends no further request.
    pub(super) last: bool,
    /// A header name has characters other than letters, digits and `-`.
    pub(super) odd: bool,
}

/// How the body's end is determined.
#[derive(Clone, Copy, Debug)]
pub(super) enum BodyLength {
    Length(u64),
    Chunked,
}

impl HeadParser {
    /// Whether no byte of a request has arrived.
    pub(super) fn is_untouched(&self) -> bool {
        self.cursor.seen == 0 || (self.blanks == 1 && self.cursor.seen == 2)
    }

    /// Parses all complete lines; `None` if the head is incomplete.
    pub(super) fn look(
        &mut self,
        bytes: &[u8],
        limits: &RequestLimits,
    ) -> Result<Option<ParsedHead>, H1Error> {
        if self.request_line.is_none() && !self.request_line(bytes, limits)? {
            return Ok(None);
        }
        loop {
            let start = self.cursor.start;
            let line = self.cursor.line(bytes, limits.head_bytes, error::HEAD_TOO_LARGE)?;
            let Some(line) = line else { return Ok(None) };
            if line.is_empty() {
                return self.conclude(bytes).map(Some);
            }
            self.header(line, start).map_err(|fault| blame(line, fault))?;
            if self.headers > limits.headers {
                return Err(error::TOO_MANY_HEADERS);
            }
        }
    }

    /// Parses the request line, which one empty line may precede (RFC 9112 §2.2). Returns whether
    /// it is complete.
    fn request_line(&mut self, bytes: &[u8], limits: &RequestLimits) -> Result<bool, H1Error> {
        loop {
            let start = self.cursor.start;
            // Fails early on bytes that cannot be HTTP.
            let first = bytes.get(start).copied();
            if self.blanks > 1 {
                // A PROXY header of version 2 begins with two empty lines and a zero.
                let Some(first) = first else { return Ok(false) };
                return Err(match first {
                    0 => error::LOOKS_LIKE_PROXY_HEADER,
                    _ => error::REPEATED_EMPTY_LINE,
                });
            }
            if first.is_some_and(|byte| !is_tchar(byte) && byte != b'\r' && byte != b'\n') {
                let is_tls = first == Some(TLS_HANDSHAKE);
                return Err(if is_tls { error::LOOKS_LIKE_TLS } else { error::INVALID_METHOD });
            }
            let most = (start + limits.target_bytes + AROUND_TARGET).min(limits.head_bytes);
            let line = self.cursor.line(bytes, most, error::TARGET_TOO_LONG)?;
            let Some(line) = line else { return Ok(false) };
            if !line.is_empty() {
                let blame = |fault| match line.starts_with(b"PROXY ") {
                    true => error::LOOKS_LIKE_PROXY_HEADER,
                    false => blame(line, fault),
                };
                let request_line = RequestLine::read(line, start, limits).map_err(blame)?;
                self.request_line = Some(request_line);
                return Ok(true);
            }
            self.blanks += 1;
        }
    }

    fn header(&mut self, line: &[u8], start: usize) -> Result<(), H1Error> {
        let HeaderField { name, value, place, odd } = HeaderField::read(line, self.headers == 0)?;
        self.headers += 1;
        self.odd |= odd;
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            4 if is("host") => {
                if HostPort::read(value).is_none() {
                    return Err(error::INVALID_HOST);
                }
                let place = start + place.start..start + place.end;
                if self.host.replace(place).is_some() {
                    return Err(error::REPEATED_HOST);
                }
            }
            6 if is("expect") && !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(error::UNKNOWN_EXPECTATION);
            }
            7 if is("upgrade") => {
                let ignored = |member: &[u8]| member.eq_ignore_ascii_case(b"h2c");
                self.protocol |= members(value).any(|member| !ignored(member));
            }
            10 if is("connection") => self.connection(value)?,
            14 if is("content-length") => {
                let length = content_length(value)?;
                if self.length.replace(length).is_some() {
                    return Err(error::REPEATED_CONTENT_LENGTH);
                }
            }
            17 if is("transfer-encoding") => {
                if self.chunked {
                    return Err(error::REPEATED_TRANSFER_ENCODING);
                }
                only_chunked(value)?;
                self.chunked = true;
            }
            14 if is("content_length") => return Err(error::DISGUISED_HEADER),
            17 if is("transfer_encoding") => return Err(error::DISGUISED_HEADER),
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), H1Error> {
        for member in members(value) {
            if !is_token(member) {
                return Err(error::INVALID_CONNECTION);
            }
            self.close |= member.eq_ignore_ascii_case(b"close");
            self.keep_alive |= member.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= member.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(())
    }

    /// Checks that the headers are consistent, and determines the body's length.
    fn conclude(&self, bytes: &[u8]) -> Result<ParsedHead, H1Error> {
        let request_line = self.request_line.as_ref().ok_or(error::MALFORMED_REQUEST_LINE)?;
        match (&self.host, &request_line.authority) {
            (None, _) if request_line.newer => return Err(error::MISSING_HOST),
            (Some(host), Some((named, port))) => {
                let [host, named] =
                    [host, named].map(|place| HostPort::read(&bytes[place.clone()]));
                let (host, named) = host.zip(named).ok_or(error::INVALID_HOST)?;
                // CONNECT clients may omit the port in `Host`.
                let port = port.or(named.port()).unwrap_or_default();
                if !named.is_same(&host, port) {
                    return Err(error::HOST_MISMATCH);
                }
            }
            _ => {}
        }
        if self.chunked && !request_line.newer {
            return Err(error::TRANSFER_ENCODING_ON_HTTP10);
        }
        if self.chunked && self.length.is_some() {
            return Err(error::LENGTH_AND_CHUNKED);
        }
        let body = match self.length {
            _ if self.chunked => BodyLength::Chunked,
            length => BodyLength::Length(length.unwrap_or_default()),
        };
        let bodiless = matches!(body, BodyLength::Length(0));
        if request_line.connect && !bodiless {
            return Err(error::CONNECT_WITH_BODY);
        }
        Ok(ParsedHead {
            len: self.cursor.start,
            body,
            upgrade: request_line.connect
                || (request_line.newer && bodiless && self.upgrade && self.protocol),
            last: self.close || !(request_line.newer || self.keep_alive),
            odd: self.odd,
        })
    }
}

impl RequestLine {
    /// Parses a request line that starts at `start`.
    fn read(line: &[u8], start: usize, limits: &RequestLimits) -> Result<Self, H1Error> {
        let space = memchr::memchr(b' ', line).ok_or(error::MALFORMED_REQUEST_LINE)?;
        let (method, rest) = (&line[..space], &line[space + 1..]);
        let space = memchr::memchr(b' ', rest).ok_or(error::MALFORMED_REQUEST_LINE)?;
        let (target, version) = (&rest[..space], &rest[space + 1..]);
        if !is_token(method) || method.len() > METHOD {
            return Err(error::INVALID_METHOD);
        }
        if target.is_empty() || version.iter().any(|byte| b" \t".contains(byte)) {
            return Err(error::MALFORMED_REQUEST_LINE);
        }
        let newer = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(error::UNSUPPORTED_VERSION);
            }
            _ => return Err(error::INVALID_VERSION),
        };
        if target.len() > limits.target_bytes {
            return Err(error::TARGET_TOO_LONG);
        }
        let place = start + method.len() + 1;
        let authority = match target::read(method, target)? {
            TargetForm::Bare => None,
            TargetForm::Absolute(authority, port) => {
                Some((place + authority.start..place + authority.end, Some(port)))
            }
            TargetForm::Authority => Some((place..place + target.len(), None)),
        };
        Ok(Self { newer, connect: method == b"CONNECT", authority })
    }
}

/// Parses `Content-Length` (RFC 9110 §8.6). Leading zeros are rejected: some readers parse them as
/// octal.
fn content_length(value: &[u8]) -> Result<u64, H1Error> {
    if value.contains(&b',') {
        return Err(error::REPEATED_CONTENT_LENGTH);
    }
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if !digits || (value[0] == b'0' && value.len() > 1) {
        return Err(error::INVALID_CONTENT_LENGTH);
    }
    let length = value.iter().try_fold(0_u64, |length, digit| {
        length.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    length.filter(|length| *length <= i64::MAX as u64).ok_or(error::CONTENT_LENGTH_OVERFLOW)
}

/// Checks that `Transfer-Encoding` is exactly `chunked`.
fn only_chunked(value: &[u8]) -> Result<(), H1Error> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(());
    }
    let known = |coding: &[u8]| {
        ["gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd"]
            .iter()
            .any(|known| coding.eq_ignore_ascii_case(known.as_bytes()))
    };
    let times = members(value).filter(|coding| is_chunked(coding)).count();
    if times > 1 {
        return Err(error::REPEATED_TRANSFER_ENCODING);
    }
    let last = members(value).last().unwrap_or_default();
    let readable = value.split(|byte| *byte == b',').all(|coding| {
        let coding = super::line::trim(coding);
        known(coding) || is_chunked(coding)
    });
    let ordered = times == 0 || is_chunked(last);
    let unsupported = readable && ordered;
    Err(if unsupported {
        error::UNSUPPORTED_TRANSFER_ENCODING
    } else {
        error::INVALID_TRANSFER_ENCODING
    })
}
