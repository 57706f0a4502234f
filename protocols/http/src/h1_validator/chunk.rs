//! Chunked bodies: sizes, extensions and trailers (RFC 9112 §7.1).

use super::{
    RequestLimits,
    error::{self, H1Error},
    line::{HeaderField, LineCursor, blame, is_tchar, is_token},
};

/// Longest extensions of one chunk, in bytes.
const EXTENSION: usize = 256;
/// Longest extensions of all chunks of a body; hyper's limit is 16 KiB.
const EXTENSIONS: usize = 8 << 10;
/// Longest line of a chunk's size, with CRLF.
const LINE: usize = DIGITS + EXTENSION + 2;
/// Most digits of a chunk's size.
const DIGITS: usize = 16;

/// Fields that are not allowed as trailers: framing, routing, authentication and modifiers were
/// decided on when the head passed (RFC 9110 §6.5.1).
const FORBIDDEN: [&str; 28] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "content_length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "max-forwards",
    "pragma",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "transfer_encoding",
    "upgrade",
];

/// Whether a field is forbidden as a trailer.
pub(crate) fn is_forbidden(name: &[u8]) -> bool {
    FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
}

/// State of a chunked body.
#[derive(Debug, Default)]
pub(crate) struct ChunkedBody {
    at: ChunkState,
    cursor: LineCursor,
    /// Bytes of extensions so far.
    extensions: usize,
    /// Number of trailers so far.
    trailers: usize,
}

#[derive(Debug, Default)]
enum ChunkState {
    #[default]
    Size,
    /// Remaining bytes of data.
    Data(u64),
    /// CRLF after the data.
    DataEnd,
    Trailers,
}

/// Result of a step.
pub(crate) enum ChunkStep {
    /// More bytes are needed.
    Hold,
    /// This many bytes are framing.
    Framing(usize),
    /// This many bytes are data.
    Data(usize),
    /// This many bytes are framing, and the body ends after them.
    End(usize),
}

impl ChunkedBody {
    /// Reads the next part of the body; held bytes must be shown again with more.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn step(
        &mut self,
        bytes: &[u8],
        limits: &RequestLimits,
    ) -> Result<ChunkStep, H1Error> {
        match self.at {
            ChunkState::Size => self.size(bytes),
            ChunkState::Data(left) => {
                let here = left.min(bytes.len() as u64);
                self.at =
                    if here == left { ChunkState::DataEnd } else { ChunkState::Data(left - here) };
                Ok(if here == 0 { ChunkStep::Hold } else { ChunkStep::Data(here as usize) })
            }
            ChunkState::DataEnd => match bytes {
                [] | [b'\r'] => Ok(ChunkStep::Hold),
                [b'\r', b'\n', ..] => {
                    self.at = ChunkState::Size;
                    Ok(ChunkStep::Framing(2))
                }
                _ => Err(error::CHUNK_OVERRUN),
            },
            ChunkState::Trailers => self.trailers(bytes, limits),
        }
    }

    fn size(&mut self, bytes: &[u8]) -> Result<ChunkStep, H1Error> {
        let line = self.cursor.line(bytes, LINE, error::CHUNK_EXTENSIONS_TOO_LARGE);
        let Some(line) = line.map_err(H1Error::in_body)? else { return Ok(ChunkStep::Hold) };
        let (size, extension) = chunk_size(line).map_err(|fault| blame(line, fault))?;
        self.extensions += extension;
        if self.extensions > EXTENSIONS {
            return Err(error::CHUNK_EXTENSIONS_TOO_LARGE);
        }
        self.at = if size == 0 { ChunkState::Trailers } else { ChunkState::Data(size) };
        let passes = self.cursor.start;
        self.cursor = LineCursor::default();
        Ok(ChunkStep::Framing(passes))
    }

    fn trailers(&mut self, bytes: &[u8], limits: &RequestLimits) -> Result<ChunkStep, H1Error> {
        loop {
            let most = limits.trailer_bytes;
            let line = self.cursor.line(bytes, most, error::TRAILERS_TOO_LARGE);
            let Some(line) = line.map_err(H1Error::in_body)? else { return Ok(ChunkStep::Hold) };
            if line.is_empty() {
                return Ok(ChunkStep::End(self.cursor.start));
            }
            let field = HeaderField::read(line, self.trailers == 0);
            let field = field.map_err(|fault| blame(line, fault).in_body())?;
            if is_forbidden(field.name) {
                return Err(error::FORBIDDEN_TRAILER);
            }
            self.trailers += 1;
            if self.trailers > limits.headers {
                return Err(error::TOO_MANY_TRAILERS);
            }
        }
    }
}

/// A chunk's size, and the length of its extensions.
fn chunk_size(line: &[u8]) -> Result<(u64, usize), H1Error> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extension) = line.split_at(digits);
    if digits.is_empty() || digits.len() > DIGITS {
        return Err(error::INVALID_CHUNK_SIZE);
    }
    let size = digits.iter().fold(0_u64, |size, digit| {
        size << 4 | u64::from((*digit as char).to_digit(16).unwrap_or_default())
    });
    if size > i64::MAX as u64 {
        return Err(error::CHUNK_SIZE_OVERFLOW);
    }
    let mut rest = extension;
    while let [first, after @ ..] = rest {
        if *first != b';' {
            let size = rest.len() == extension.len();
            let wrong =
                if size { error::INVALID_CHUNK_SIZE } else { error::INVALID_CHUNK_EXTENSION };
            return Err(wrong);
        }
        rest = extension_after(after).ok_or(error::INVALID_CHUNK_EXTENSION)?;
    }
    if extension.len() > EXTENSION {
        return Err(error::CHUNK_EXTENSIONS_TOO_LARGE);
    }
    Ok((size, extension.len()))
}

/// The rest after one extension: `name`, `name=token` or `name="text"`.
fn extension_after(bytes: &[u8]) -> Option<&[u8]> {
    let rest = after_token(bytes)?;
    match rest {
        [b'=', b'"', text @ ..] => after_text(text),
        [b'=', value @ ..] => after_token(value),
        _ => Some(rest),
    }
}

fn after_token(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| !is_tchar(*byte)).unwrap_or(bytes.len());
    is_token(&bytes[..end]).then(|| &bytes[end..])
}

/// The rest after the closing quote of a text of visible ASCII, spaces and tabs.
fn after_text(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'\t' | b' '..=b'~', rest @ ..] => bytes = rest,
            [b'\\', ..] => return None,
            [b'\t' | b' '..=b'~', rest @ ..] => bytes = rest,
            _ => return None,
        }
    }
}
