//! Health checks: a GET over HTTP/1.1 or HTTP/2.

pub mod h2;
mod settings;

pub use settings::{CheckSettings, HttpCheck};

use bytes::BytesMut;
use operation::{Probe, ProbeResult};
use std::sync::Arc;

/// Most characters of a server's text that are reported.
const MAX_MESSAGE: usize = 64;

/// One check by a GET. It is judged by the response's head; the connection is not reused, since the
/// body may be long and is not needed.
#[derive(Debug)]
pub struct HttpProbe {
    check: Arc<HttpCheck>,
    http2: bool,
}

impl HttpProbe {
    /// A new check.
    pub fn new(check: Arc<HttpCheck>) -> Self {
        let http2 = check.is_http2(None);
        Self { check, http2 }
    }
}

impl Probe for HttpProbe {
    fn write_request(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(self.check.request(self.http2));
    }

    fn protocol_agreed(&mut self, protocol: &[u8]) {
        self.http2 = self.check.is_http2(Some(protocol));
    }

    fn evaluate(&mut self, answer: &[u8]) -> ProbeResult {
        let status = match self.http2 {
            true => h2::H2Response::read(answer).map(|answer| answer.status),
            false => http1_status(answer),
        };
        match status {
            Ok(None) => ProbeResult::NeedMore,
            Ok(Some(status)) if self.check.expects(status) => {
                ProbeResult::Healthy(format!("answers {status}"))
            }
            Ok(Some(status)) => {
                let expected = self.check.settings().expected();
                ProbeResult::Unhealthy(format!("answers {status}, expected {expected}"))
            }
            Err(words) => ProbeResult::Unhealthy(words),
        }
    }
}

/// The status of an HTTP/1 response once its head is complete; 1xx heads are skipped.
fn http1_status(mut answer: &[u8]) -> Result<Option<u16>, String> {
    loop {
        if let [0x15 | 0x16, 3, 0..=4, ..] = answer {
            return Err("speaks TLS, not HTTP".to_owned());
        }
        // An HTTP/2 server starts with a SETTINGS frame.
        if let [0, 0, _, 4, 0, 0, 0, 0, 0, ..] = answer {
            return Err("speaks HTTP/2, asked by HTTP/1.1 (http.version)".to_owned());
        }
        let front = answer.get(..7).unwrap_or(answer);
        if !b"HTTP/1.".starts_with(front) {
            return Err("does not speak HTTP/1".to_owned());
        }
        let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return Ok(None) };
        let unreadable = || "answers with a status line that can't be read".to_owned();
        let status = answer.get(9..12).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let spaced = answer.get(8) == Some(&b' ') && matches!(answer.get(12), Some(b' ' | b'\r'));
        let status = status.filter(|_| spaced).ok_or_else(unreadable)?;
        let status = status.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        match status {
            100 | 102..200 => answer = answer.get(end + 4..).unwrap_or_default(),
            _ => return Ok(Some(status)),
        }
    }
}

/// A server's text, made printable.
pub fn sanitize(words: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    words.chars().take(MAX_MESSAGE).map(shown).collect()
}

#[cfg(test)]
mod tests;
