//! Health checks: what a service answers to a GET, by HTTP/1.1 or by HTTP/2.

pub mod h2;
mod settings;

pub use settings::{CheckSettings, HttpCheck};

use bytes::BytesMut;
use operation::{Judgement, Probe};
use std::sync::Arc;

/// How many characters of what a server tells are passed on.
const TOLD: usize = 64;

/// One check by a GET. It is judged by the answer's head, and its connection is not used again: the
/// body may be long, and nobody needs it.
#[derive(Debug)]
pub struct HttpProbe(Arc<HttpCheck>);

impl HttpProbe {
    /// One more check.
    pub fn new(check: Arc<HttpCheck>) -> Self {
        Self(check)
    }
}

impl Probe for HttpProbe {
    fn ask(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(self.0.question());
    }

    fn judge(&mut self, answer: &[u8]) -> Judgement {
        let status = match self.0.is_http2() {
            true => h2::H2Response::read(answer).map(|answer| answer.status),
            false => http1_status(answer),
        };
        match status {
            Ok(None) => Judgement::More,
            Ok(Some(status)) if self.0.expects(status) => {
                Judgement::Healthy(format!("answers {status}"))
            }
            Ok(Some(status)) => {
                let expected = self.0.settings().expected();
                Judgement::Unhealthy(format!("answers {status}, expected {expected}"))
            }
            Err(words) => Judgement::Unhealthy(words),
        }
    }
}

/// The status of an answer in HTTP/1, once its head is all here. Heads of 1xx come before it.
fn http1_status(mut answer: &[u8]) -> Result<Option<u16>, String> {
    loop {
        if let [0x15 | 0x16, 3, 0..=4, ..] = answer {
            return Err("speaks TLS, not HTTP".to_owned());
        }
        // A frame of settings is what a server of HTTP/2 begins with.
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

/// Words of a server as they may be printed.
pub fn tame(words: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    words.chars().take(TOLD).map(shown).collect()
}

#[cfg(test)]
mod tests;
