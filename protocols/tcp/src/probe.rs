//! Health checks of any service: whether it can be connected to, and how it answers a few bytes.

use bytes::{Bytes, BytesMut};
use operation::{Probe, ProbeResult};

/// How many bytes of a reply the error shows.
const SHOWN: usize = 32;

/// What is sent to a service, and what its answer begins with. With neither, connecting is all
/// there is to check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// What is sent; may be nothing where the service speaks first.
    pub send: Bytes,
    /// What has to come.
    pub expect: Bytes,
}

/// One check by an exchange of bytes.
#[derive(Debug)]
pub struct TcpProbe(Exchange);

impl TcpProbe {
    /// Checks by this exchange.
    pub fn new(exchange: Exchange) -> Self {
        Self(exchange)
    }
}

impl Probe for TcpProbe {
    fn write_request(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.0.send);
    }

    /// Decides as early as possible: a reply that differs in its first byte is wrong.
    fn evaluate(&mut self, answer: &[u8]) -> ProbeResult {
        let expect = &self.0.expect[..];
        if answer.starts_with(expect) {
            ProbeResult::Healthy(String::new())
        } else if expect.starts_with(answer) {
            ProbeResult::NeedMore
        } else {
            let (answer, expect) = (told(answer), told(expect));
            ProbeResult::Unhealthy(format!("answers {answer}, expected {expect}"))
        }
    }
}

/// The front of some bytes, in quotes and safe to print.
fn told(bytes: &[u8]) -> String {
    let front = bytes.get(..SHOWN).unwrap_or(bytes);
    let more = if front.len() < bytes.len() { "…" } else { "" };
    format!("\"{}{more}\"", front.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProbeResult::{Healthy, NeedMore, Unhealthy};

    fn probe(send: &'static str, expect: &'static str) -> TcpProbe {
        TcpProbe::new(Exchange { send: send.into(), expect: expect.into() })
    }

    #[test]
    fn without_an_exchange_connecting_is_enough() {
        let mut probe = TcpProbe::new(Exchange::default());
        let mut out = BytesMut::new();
        probe.write_request(&mut out);
        assert!(out.is_empty());
        assert_eq!(probe.evaluate(&[]), Healthy(String::new()));
    }

    #[test]
    fn an_answer_begins_with_what_is_expected() {
        let mut probe = probe("PING\r\n", "+PONG");
        let mut out = BytesMut::new();
        probe.write_request(&mut out);
        assert_eq!(&out[..], b"PING\r\n");
        for part in ["", "+", "+PO", "+PON"] {
            assert_eq!(probe.evaluate(part.as_bytes()), NeedMore, "{part}");
        }
        for whole in ["+PONG", "+PONG\r\n"] {
            assert_eq!(probe.evaluate(whole.as_bytes()), Healthy(String::new()), "{whole}");
        }
    }

    #[test]
    fn an_answer_is_wrong_with_its_first_wrong_byte() {
        let mut probe = probe("PING\r\n", "+PONG");
        for (wrong, told) in [
            ("-", "answers \"-\", expected \"+PONG\""),
            ("+PONK", "answers \"+PONK\", expected \"+PONG\""),
            ("-ERR \u{1b}\n", "answers \"-ERR \\x1b\\n\", expected \"+PONG\""),
        ] {
            assert_eq!(probe.evaluate(wrong.as_bytes()), Unhealthy(told.into()));
        }
        let Unhealthy(told) = probe.evaluate(&[b'x'; 100_000]) else { panic!("it is wrong") };
        assert!(told.len() < 100, "{told}");
    }
}
