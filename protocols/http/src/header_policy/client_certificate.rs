//! The client's certificate for services: `x-forwarded-client-cert` as Envoy writes it, or
//! `client-cert` and `client-cert-chain` (RFC 9440).

use super::{
    HeaderContext,
    forwarded::{appended, elements},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use operation::AttributeValue;
use std::fmt::Write;

const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const CERTIFICATE: HeaderName = HeaderName::from_static(RFC_9440[0]);
const CHAIN: HeaderName = HeaderName::from_static(RFC_9440[1]);

/// The headers that services read a client's certificate from, besides those with the prefix
/// `x-forwarded-`.
pub(super) const RFC_9440: [&str; 2] = ["client-cert", "client-cert-chain"];

/// How the client's certificate is passed on to services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateStyle {
    /// Not at all.
    #[default]
    Off,
    /// By `x-forwarded-client-cert`.
    Xfcc,
    /// By `client-cert` and `client-cert-chain`.
    Rfc9440,
}

impl CertificateStyle {
    /// The headers for the requests of a connection, made once. `attribute` returns attributes of the
    /// connection; `chain` has the client's certificate and then its issuers (DER).
    pub(crate) fn headers<'a>(
        self,
        attribute: impl Fn(&str) -> AttributeValue<'a>,
        chain: impl Iterator<Item = &'a [u8]>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let lines = match self {
            Self::Off => Vec::new(),
            Self::Xfcc => xfcc(attribute).into_iter().map(|text| (XFCC, text)).collect(),
            Self::Rfc9440 => rfc_9440(chain),
        };
        let header = |(name, text)| Some((name, HeaderValue::try_from(text).ok()?));
        lines.into_iter().filter_map(header).collect()
    }
}

/// Removes what a client claims about its certificate.
pub(super) fn remove(headers: &mut HeaderMap) {
    for name in [XFCC, CERTIFICATE, CHAIN] {
        headers.remove(name);
    }
}

/// Adds the headers of the connection. What a trusted proxy has sent before is about the client of
/// that proxy: it is kept, and `x-forwarded-client-cert` gets one more element.
pub(super) fn add(headers: &mut HeaderMap, context: &HeaderContext<'_>) {
    let hops = usize::from(context.policy.trusted_hops);
    let is_known = hops > 0 && headers.contains_key(CERTIFICATE);
    for (name, value) in context.certificate {
        if *name == XFCC && hops > 0 {
            let all = appended(elements(headers, name, hops), value.as_bytes());
            headers.insert(name, all.unwrap_or_else(|| value.clone()));
        } else if !is_known {
            headers.insert(name, value.clone());
        }
    }
}

/// One element of `x-forwarded-client-cert`; `None` if the client has shown no certificate.
fn xfcc<'a>(attribute: impl Fn(&str) -> AttributeValue<'a>) -> Option<String> {
    let mut element = format!("Hash={}", attribute("tls.fingerprint").text()?);
    if let Some(subject) = attribute("tls.subject").text() {
        let _ = write!(element, ";Subject=\"{}\"", without_quotes(&subject));
    }
    for (key, name) in [("URI", "tls.uri"), ("DNS", "tls.dns")] {
        let values = match attribute(name) {
            AttributeValue::Known(value) => vec![value],
            AttributeValue::Repeated(values) => values,
            _ => Vec::new(),
        };
        for value in values {
            let value = percent_encoded(&value);
            let _ = match value.contains([',', ';', '=']) {
                true => write!(element, ";{key}=\"{value}\""),
                false => write!(element, ";{key}={value}"),
            };
        }
    }
    Some(element)
}

/// A distinguished name (RFC 4514) whose quotes, backslashes, and characters beyond ASCII are pairs of
/// hexadecimal digits. So no reader of the header can take a quote in the name for its end.
fn without_quotes(subject: &str) -> String {
    let mut text = String::with_capacity(subject.len());
    let mut characters = subject.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(escaped @ ('"' | '\\')) => push_hex(&mut text, '\\', escaped),
                Some(escaped) if escaped.is_ascii_graphic() || escaped == ' ' => {
                    text.extend([c, escaped]);
                }
                Some(escaped) => push_hex(&mut text, '\\', escaped),
                None => push_hex(&mut text, '\\', c),
            },
            '"' => push_hex(&mut text, '\\', c),
            ' '..='~' => text.push(c),
            _ => push_hex(&mut text, '\\', c),
        }
    }
    text
}

/// A URI or a DNS name without characters that neither may have (RFC 3986, 2.1).
fn percent_encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '"' | '\\' => push_hex(&mut text, '%', c),
            '!'..='~' => text.push(c),
            _ => push_hex(&mut text, '%', c),
        }
    }
    text
}

/// Writes each byte of a character as two hexadecimal digits after `prefix`.
fn push_hex(text: &mut String, prefix: char, c: char) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        let _ = write!(text, "{prefix}{byte:02X}");
    }
}

/// The certificate as a byte sequence and its issuers as a list of these (RFC 9440, 2; RFC 8941, 3.3.5).
fn rfc_9440<'a>(mut chain: impl Iterator<Item = &'a [u8]>) -> Vec<(HeaderName, String)> {
    let item = |der: &[u8]| format!(":{}:", STANDARD.encode(der));
    let Some(own) = chain.next() else { return Vec::new() };
    let issuers: Vec<_> = chain.map(item).collect();
    let own = (CERTIFICATE, item(own));
    match issuers.is_empty() {
        true => vec![own],
        false => vec![own, (CHAIN, issuers.join(", "))],
    }
}

#[cfg(test)]
mod tests;
