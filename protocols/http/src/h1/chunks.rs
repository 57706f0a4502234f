//! Chunked bodies of responses: where their data is (RFC 9112, 7.1).
//!
//! As lenient as hyper: extensions and blanks after a size are ignored. The proxy sends chunks
//! of its own, so a lenient reading does not reach the client. Trailers are dropped: the client has not requested
//! any.

use std::io::Write;

/// Longest line of a size, and all trailers, in bytes.
const MAX_LINE: usize = 16 * 1024;

/// Longest line of a size that is written: 64 bits in hexadecimal, and CRLF.
const MAX_SIZE_LINE: usize = 18;

/// Reads a chunked body piece by piece.
#[derive(Debug, Default)]
pub(super) struct ChunkReader {
    state: ChunkState,
    /// Bytes of the current line, or of all trailers.
    line: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChunkState {
    /// At the first digit of a size.
    #[default]
    Start,
    Size(u64),
    /// In blanks or an extension after a size.
    Extension(u64),
    /// At the LF of a size's line.
    SizeEnd(u64),
    Data(u64),
    /// At the CR after the data.
    DataEnd,
    DataEndLf,
    /// At the first byte of a trailer, or of the empty line.
    TrailerStart,
    Trailer,
    /// At the LF of the empty line.
    LastLf,
    Ended,
}

/// A part of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkPart {
    /// More bytes are needed.
    More,
    /// This many bytes of framing, then this many of data.
    Data(usize, usize),
    /// The body ends after this many bytes.
    End(usize),
}

/// The framing is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidChunk;

impl ChunkReader {
    /// Reads the next part. All its bytes, or all bytes if more are needed, count as read.
    ///
    /// # Errors
    /// The framing is invalid.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<ChunkPart, InvalidChunk> {
        for (at, byte) in bytes.iter().enumerate() {
            if let ChunkState::Data(left) = self.state {
                let here = left.min((bytes.len() - at) as u64);
                self.state =
                    if here == left { ChunkState::DataEnd } else { ChunkState::Data(left - here) };
                return Ok(ChunkPart::Data(at, here as usize));
            }
            self.step(*byte)?;
            if self.state == ChunkState::Ended {
                return Ok(ChunkPart::End(at + 1));
            }
        }
        Ok(ChunkPart::More)
    }

    fn step(&mut self, byte: u8) -> Result<(), InvalidChunk> {
        use ChunkState as S;
        self.line += 1;
        if self.line > MAX_LINE {
            return Err(InvalidChunk);
        }
        let digit = (byte as char).to_digit(16).map(u64::from);
        self.state = match (self.state, byte) {
            (S::Start, _) => S::Size(digit.ok_or(InvalidChunk)?),
            (S::Size(size), b'\r') | (S::Extension(size), b'\r') => S::SizeEnd(size),
            (S::Size(size), b' ' | b'\t' | b';') => S::Extension(size),
            (S::Size(size), _) => {
                let shifted = size.checked_mul(16).ok_or(InvalidChunk)?;
                S::Size(shifted | digit.ok_or(InvalidChunk)?)
            }
            (S::Extension(_), b'\n') => return Err(InvalidChunk),
            (S::Extension(size), _) => S::Extension(size),
            (S::SizeEnd(size), b'\n') => {
                self.line = 0;
                if size == 0 { S::TrailerStart } else { S::Data(size) }
            }
            (S::DataEnd, b'\r') => S::DataEndLf,
            (S::DataEndLf, b'\n') => {
                self.line = 0;
                S::Start
            }
            (S::TrailerStart, b'\r') => S::LastLf,
            (S::TrailerStart, _) => S::Trailer,
            (S::Trailer, b'\n') => S::TrailerStart,
            (S::Trailer, _) => S::Trailer,
            (S::LastLf, b'\n') => S::Ended,
            _ => return Err(InvalidChunk),
        };
        Ok(())
    }
}

/// Writes a chunk of this data, if there is any.
pub(super) fn write_chunk(data: &[u8], mut out: impl FnMut(&[u8])) {
    if data.is_empty() {
        return;
    }
    let mut line = [0; MAX_SIZE_LINE];
    let mut rest = &mut line[..];
    // The number of bytes in memory fits.
    let _ = write!(rest, "{:x}\r\n", data.len());
    let length = MAX_SIZE_LINE - rest.len();
    out(&line[..length]);
    out(data);
    out(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body that arrives in pieces of this size, and its length in bytes.
    fn read(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize), InvalidChunk> {
        let (mut reader, mut data, mut used) = (ChunkReader::default(), Vec::new(), 0);
        for piece in bytes.chunks(piece) {
            let mut rest = piece;
            loop {
                match reader.next(rest)? {
                    ChunkPart::More => {
                        used += rest.len();
                        break;
                    }
                    ChunkPart::Data(skip, len) => {
                        data.extend_from_slice(&rest[skip..skip + len]);
                        used += skip + len;
                        rest = &rest[skip + len..];
                    }
                    ChunkPart::End(skip) => return Ok((data, used + skip)),
                }
            }
        }
        Ok((data, usize::MAX))
    }

    #[test]
    fn a_body_is_read_alike_whole_and_in_pieces() {
        for (text, data) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5;a=b\r\nhello\r\nA  \r\n0123456789\r\n000\r\nx: y\r\n\r\n", "hello0123456789"),
        ] {
            let bytes = format!("{text}surplus");
            for piece in 1..bytes.len() + 1 {
                let read = read(bytes.as_bytes(), piece).unwrap();
                assert_eq!(read, (data.as_bytes().to_vec(), text.len()), "{text:?}");
            }
        }
        assert_eq!(read(b"5\r\nhel", 3).unwrap(), (b"hel".to_vec(), usize::MAX));
    }

    #[test]
    fn data_is_written_as_one_chunk() {
        let mut written = Vec::new();
        for data in [&b"0123456789abcdef"[..], b"", b"x"] {
            write_chunk(data, |bytes| written.extend_from_slice(bytes));
        }
        assert_eq!(written, b"10\r\n0123456789abcdef\r\n1\r\nx\r\n");
    }

    #[test]
    fn invalid_framing_is_an_error() {
        for text in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "5\nhello",
            "5\r\nhello0\r\n",
            "5\r\nhello\n0",
            "0\r\n\rx",
            "10000000000000000\r\n",
        ] {
            assert_eq!(read(text.as_bytes(), 99), Err(InvalidChunk), "{text:?}");
        }
        let long = format!("5;{}", "a".repeat(MAX_LINE));
        assert_eq!(read(long.as_bytes(), 99), Err(InvalidChunk));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(MAX_LINE / 6 + 1));
        assert_eq!(read(trailers.as_bytes(), 99), Err(InvalidChunk));
    }
}
