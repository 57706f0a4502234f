//! The settings of a listener and of a health check.

use crate::Exchange;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use values::Diagnostic;

/// How many bytes may be sent or expected.
const LONGEST: usize = 4096;

/// Nothing can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "nothing")]
#[schemars(rename = "NoSettings")]
pub struct Settings {}

/// What is sent to a service, and what its answer has to begin with. Without keys, connecting is
/// all there is to check.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "keys and values, such as `{ send: \"PING\\r\\n\", expect: \"+PONG\" }`"
)]
#[schemars(rename = "TcpProbe")]
pub struct ProbeSettings {
    /// What is sent, as text: at most 4096 bytes. Default: nothing, the service speaks first.
    send: Option<String>,
    /// What is sent, as hex: `0a ff`. Default: that of `send`.
    send_hex: Option<String>,
    /// What the answer has to begin with, as text: at most 4096 bytes. Default: connecting is
    /// enough.
    expect: Option<String>,
    /// What the answer has to begin with, as hex: `0a ff`. Default: that of `expect`.
    expect_hex: Option<String>,
}

impl ProbeSettings {
    /// The exchange of these settings.
    ///
    /// # Errors
    /// All mistakes in the settings, each with its path of keys.
    pub fn exchange(&self) -> Result<Exchange, Vec<Diagnostic>> {
        let mut mistakes = Vec::new();
        let sends = self.send.is_some() || self.send_hex.is_some();
        let expects = self.expect.is_some() || self.expect_hex.is_some();
        if sends && !expects {
            let key = if self.send.is_some() { "send" } else { "send_hex" };
            let message = "something is sent, and nothing expected";
            let hint = "write what the answer begins with: `expect: \"+PONG\"`";
            mistakes.push(Diagnostic::at(&[key], message, hint));
        }
        let send = (self.send.as_deref(), self.send_hex.as_deref());
        let expect = (self.expect.as_deref(), self.expect_hex.as_deref());
        let exchange = Exchange {
            send: bytes(["send", "send_hex"], send, &mut mistakes),
            expect: bytes(["expect", "expect_hex"], expect, &mut mistakes),
        };
        if mistakes.is_empty() { Ok(exchange) } else { Err(mistakes) }
    }
}

/// The bytes that were written as text or as hex.
fn bytes(
    [text_key, hex_key]: [&str; 2],
    (text, hex): (Option<&str>, Option<&str>),
    mistakes: &mut Vec<Diagnostic>,
) -> Bytes {
    let mut mistake = |key: &str, message: String, hint: &str| {
        mistakes.push(Diagnostic::at(&[key], message, hint));
    };
    let (key, bytes) = match (text, hex) {
        (None, None) => return Bytes::new(),
        (Some(_), Some(_)) => {
            let message = format!("`{hex_key}` beside `{text_key}`");
            mistake(hex_key, message, "leave the one or the other out");
            return Bytes::new();
        }
        (Some(text), None) => (text_key, text.as_bytes().to_vec()),
        (None, Some(hex)) => match unhex(hex) {
            Some(bytes) => (hex_key, bytes),
            None => {
                let message = format!("`{hex}` is not hex");
                mistake(hex_key, message, "two digits for each byte: `0a ff`");
                return Bytes::new();
            }
        },
    };
    if bytes.is_empty() {
        mistake(key, "there are no bytes here".to_owned(), "leave it out");
    } else if bytes.len() > LONGEST {
        mistake(key, format!("{} bytes are too many", bytes.len()), "at most 4096");
    }
    bytes.into()
}

/// Bytes of two hexadecimal digits each; spaces between them may help the eye.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Option<Vec<u8>> = text.chars().filter(|c| *c != ' ').map(digit).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect(),
    )
}

impl Exchange {
    /// The settings of this exchange, as a config has them.
    pub fn to_json(&self) -> Value {
        let parts = [("send", &self.send), ("expect", &self.expect)].into_iter();
        parts.filter(|(_, bytes)| !bytes.is_empty()).map(typed).collect()
    }
}

/// Bytes as people write them: as text, or as hex where no keyboard has them.
fn typed((key, bytes): (&str, &Bytes)) -> (String, Value) {
    let text = |b: &u8| b.is_ascii_graphic() || matches!(b, b' ' | b'\r' | b'\n' | b'\t');
    if bytes.iter().all(text) {
        return (key.to_owned(), String::from_utf8_lossy(bytes).into());
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (format!("{key}_hex"), hex.into())
}
