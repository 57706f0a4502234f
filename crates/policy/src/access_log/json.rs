//! The JSON of a log line: each value is written into the line in the form in which it is at hand.

use operation::{LoggedValue, is_plain};
use std::{
    borrow::Cow,
    io::Write,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// The end of a truncated text.
const ELLIPSIS: &str = "…";

/// Truncates a text to `max_bytes`, between two characters; a truncated text ends in `…`.
pub(crate) fn truncate(text: &str, max_bytes: usize) -> Cow<'_, str> {
    match shown_part(text, max_bytes) {
        (whole, "") => Cow::Borrowed(whole),
        (front, end) => Cow::Owned([front, end].concat()),
    }
}

/// The part of a text that is shown, and what follows it.
fn shown_part(text: &str, max_bytes: usize) -> (&str, &'static str) {
    if text.len() <= max_bytes {
        return (text, "");
    }
    let room = max_bytes.saturating_sub(ELLIPSIS.len());
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    (text.get(..end).unwrap_or_default(), ELLIPSIS)
}

/// Writes a field with a text. `key` is its beginning with the opening quote.
pub(super) fn write_text(out: &mut Vec<u8>, key: &[u8], text: &str, max_bytes: usize) {
    out.extend_from_slice(key);
    write_bytes(out, text.as_bytes(), max_bytes);
    out.push(b'"');
}

/// Writes a value between its quotes.
pub(super) fn write_quoted(out: &mut Vec<u8>, value: LoggedValue<'_>, max_bytes: usize) {
    match value {
        LoggedValue::Plain(text) if text.len() <= max_bytes => out.extend_from_slice(text),
        LoggedValue::Plain(text) | LoggedValue::Bytes(text) => write_bytes(out, text, max_bytes),
        LoggedValue::Text(text) => write_bytes(out, text.as_bytes(), max_bytes),
        other => write_unquoted(out, other),
    }
}

/// Writes a value that is a number, or has no character that JSON escapes.
pub(super) fn write_unquoted(out: &mut Vec<u8>, value: LoggedValue<'_>) {
    match value {
        LoggedValue::Plain(text) | LoggedValue::Bytes(text) => out.extend_from_slice(text),
        LoggedValue::Text(text) => out.extend_from_slice(text.as_bytes()),
        LoggedValue::Number(number) => write_decimal(out, number),
        LoggedValue::Micros(time) => write_micros(out, time),
        LoggedValue::Hex { id, digits } => write_hex(out, id, digits),
        LoggedValue::Address(address) => write_address(out, address),
        LoggedValue::Ip(ip) => write_ip(out, ip),
    }
}

/// Writes a text between its quotes: as it is, if it is plain.
fn write_bytes(out: &mut Vec<u8>, text: &[u8], max_bytes: usize) {
    if text.len() <= max_bytes && is_plain(text) {
        return out.extend_from_slice(text);
    }
    let text = String::from_utf8_lossy(text);
    let (front, end) = shown_part(&text, max_bytes);
    // The quotes come with the text. Writing to a Vec can't fail, and a text always has a form in JSON.
    out.pop();
    let _ = serde_json::to_writer(&mut *out, front);
    out.pop();
    out.extend_from_slice(end.as_bytes());
}

/// Writes a number.
pub(super) fn write_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes a duration as milliseconds, rounded to the microsecond.
pub(super) fn write_millis(out: &mut Vec<u8>, time: Duration) {
    let rounded = u64::from((time.subsec_nanos() + 500) / 1000);
    write_micros(out, time.as_secs().saturating_mul(1_000_000).saturating_add(rounded));
}

/// Writes microseconds as milliseconds with three decimals.
fn write_micros(out: &mut Vec<u8>, time: u64) {
    write_decimal(out, time / 1000);
    let [hundreds, tens, ones] = three_digits((time % 1000) as u16);
    out.extend_from_slice(&[b'.', hundreds, tens, ones]);
}

/// The digits of a number below 1000.
pub(super) fn three_digits(number: u16) -> [u8; 3] {
    [number / 100, number / 10 % 10, number % 10].map(|digit| b'0' + digit as u8)
}

/// Writes the last `digits` hexadecimal digits of an id.
fn write_hex(out: &mut Vec<u8>, id: u128, digits: usize) {
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    let text = id.to_be_bytes().map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
    let text = text.as_flattened();
    out.extend_from_slice(&text[text.len().saturating_sub(digits)..]);
}

/// Writes an address with its port.
fn write_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(v4) => {
            write_ip(out, IpAddr::V4(*v4.ip()));
            out.push(b':');
            write_decimal(out, v4.port().into());
        }
        SocketAddr::V6(v6) => {
            let _ = write!(out, "{v6}");
        }
    }
}

/// Writes an address without a port.
fn write_ip(out: &mut Vec<u8>, ip: IpAddr) {
    let IpAddr::V4(v4) = ip else {
        let _ = write!(out, "{ip}");
        return;
    };
    for octet in v4.octets() {
        let [hundreds, tens, ones] = three_digits(octet.into());
        match octet {
            100.. => out.extend_from_slice(&[hundreds, tens, ones, b'.']),
            10.. => out.extend_from_slice(&[tens, ones, b'.']),
            _ => out.extend_from_slice(&[ones, b'.']),
        }
    }
    // The dot after the last octet.
    out.pop();
}

#[cfg(test)]
mod tests;
