//! A client for one HTTP/2 request on its own connection, without I/O: writes the request, and
//! reads the response.
//!
//! Sources: RFC 9113 for frames, RFC 7541 for headers.

mod hpack;

use bytes::{BufMut, BytesMut};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest frame before the peer announces another limit.
const LONGEST: usize = 16 << 10;

/// Frame types and flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Writes the preface, settings and one request. Names are in lower case. What exceeds a frame is
/// truncated: heads and bodies of checks are short.
pub fn ask<N: AsRef<str>, V: AsRef<str>>(
    out: &mut BytesMut,
    method: &str,
    authority: &str,
    path: &str,
    headers: impl IntoIterator<Item = (N, V)>,
    body: Option<&[u8]>,
) {
    out.extend_from_slice(PREFACE);
    // Disables push (2), and sets the HPACK table (1) to zero, so that no state is needed.
    frame(out, SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    let mut block = Vec::new();
    let pseudo =
        [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)];
    for (name, value) in pseudo {
        hpack::write(&mut block, name, value);
    }
    for (name, value) in headers {
        hpack::write(&mut block, name.as_ref(), value.as_ref());
    }
    let ends = if body.is_none() { END_STREAM } else { 0 };
    frame(out, HEADERS, END_HEADERS | ends, 1, &block);
    if let Some(body) = body {
        frame(out, DATA, END_STREAM, 1, body);
    }
}

fn frame(out: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let payload = payload.get(..LONGEST).unwrap_or(payload);
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
    out.extend_from_slice(payload);
}

/// The response as far as it was received.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct H2Response {
    /// The status, once the head is complete. 1xx heads are skipped.
    pub status: Option<u16>,
    /// The body received so far.
    pub body: Vec<u8>,
    /// Decodable headers and trailers; names from HPACK's static table are left out.
    pub headers: Vec<(String, String)>,
    /// Whether the response is complete.
    pub ended: bool,
}

impl H2Response {
    /// Parses all bytes received on the connection.
    ///
    /// # Errors
    /// Why there will be no response, for an operator.
    pub fn read(mut bytes: &[u8]) -> Result<Self, String> {
        foreign(bytes)?;
        let mut answer = Self::default();
        let mut decoder = hpack::Decoder::default();
        let mut block = Vec::new();
        let mut ends = false;
        while let Some((header, rest)) = bytes.split_first_chunk::<9>() {
            let [a, b, c, kind, flags, s @ ..] = *header;
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some((payload, rest)) = rest.split_at_checked(len) else { break };
            bytes = rest;
            match (kind, u32::from_be_bytes(s) & (u32::MAX >> 1)) {
                (GOAWAY, _) => goaway(payload)?,
                (RST_STREAM, 1) => return Err(format!("resets the stream: {}", code(payload))),
                (DATA, 1) => {
                    // The priority flag has no meaning in a DATA frame.
                    let data = inner(payload, flags & !PRIORITY).ok_or_else(broken)?;
                    answer.body.extend_from_slice(data);
                    answer.ended |= flags & END_STREAM != 0;
                }
                (HEADERS, 1) => {
                    ends = flags & END_STREAM != 0;
                    block = inner(payload, flags).ok_or_else(broken)?.to_vec();
                }
                (CONTINUATION, 1) => block.extend_from_slice(payload),
                _ => {}
            }
            if matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0 {
                answer.head(decoder.read(&block).ok_or_else(broken)?)?;
                answer.ended |= ends;
            }
        }
        Ok(answer)
    }

    /// The value of a header or a trailer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    fn head(&mut self, fields: Vec<(String, String)>) -> Result<(), String> {
        let status = fields.iter().find(|(name, _)| name == ":status");
        match (self.status, status) {
            (None, None) => return Err("answers without a status".to_owned()),
            (None, Some((_, status))) => {
                let status = status.parse().ok().filter(|it| (100..1000).contains(it));
                let status = status.ok_or("answers with a status that can't be read")?;
                if status < 200 {
                    return Ok(());
                }
                self.status = Some(status);
            }
            (Some(_), _) => {}
        }
        self.headers.extend(fields.into_iter().filter(|(name, _)| !name.starts_with(':')));
        Ok(())
    }
}

/// Detects other protocols by their first bytes.
fn foreign(bytes: &[u8]) -> Result<(), String> {
    match bytes {
        [0x15 | 0x16, 3, 0..=4, ..] => Err("speaks TLS, not HTTP/2".to_owned()),
        [b'H', b'T', b'T', b'P', ..] => {
            Err("speaks HTTP/1, asked by HTTP/2 (http.version)".to_owned())
        }
        // RFC 9113 §3.4: SETTINGS come first.
        [_, _, _, kind, ..] if *kind != SETTINGS => Err("does not speak HTTP/2".to_owned()),
        _ => Ok(()),
    }
}

/// The payload without padding and priority.
fn inner(mut payload: &[u8], flags: u8) -> Option<&[u8]> {
    let mut padding = 0;
    if flags & PADDED != 0 {
        let (first, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(*first), rest);
    }
    if flags & PRIORITY != 0 {
        payload = payload.get(5..)?;
    }
    payload.get(..payload.len().checked_sub(padding)?)
}

/// RFC 9113 §6.8: streams above the last one are not processed.
fn goaway(payload: &[u8]) -> Result<(), String> {
    let (last, rest) = payload.split_first_chunk().ok_or_else(broken)?;
    if u32::from_be_bytes(*last) & (u32::MAX >> 1) == 0 {
        return Err(format!("goes away without an answer: {}", code(rest)));
    }
    Ok(())
}

/// An error's name (RFC 9113 §7).
fn code(payload: &[u8]) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let Some(code) = payload.first_chunk().map(|code| u32::from_be_bytes(*code)) else {
        return "an error without a code".to_owned();
    };
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.map_or_else(|| format!("error {code}"), |name| (*name).to_owned())
}

fn broken() -> String {
    "answers with a frame that can't be read".to_owned()
}
