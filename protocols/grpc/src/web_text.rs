//! gRPC-Web's base64: padding may occur in the middle, wherever a sender flushed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

/// The text is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBase64;

/// Encodes bytes. Each chunk is padded, so that it can be decoded at once.
pub fn encode(bytes: &[u8]) -> Bytes {
    STANDARD.encode(bytes).into()
}

/// Decodes text that arrives in chunks of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    /// An incomplete group of four characters.
    held: Vec<u8>,
}

impl Decoder {
    /// Decodes a chunk.
    ///
    /// # Errors
    /// The text is not base64.
    pub fn push(&mut self, text: &[u8]) -> Result<Vec<u8>, NotBase64> {
        self.held.extend_from_slice(text);
        let whole = self.held.len() / 4 * 4;
        let mut out = Vec::with_capacity(whole / 4 * 3);
        let mut rest = &self.held[..whole];
        while !rest.is_empty() {
            // Up to the group that ends with padding.
            let padded =
                rest.iter().position(|&b| b == b'=').map_or(rest.len(), |at| at / 4 * 4 + 4);
            let (piece, after) = rest.split_at(padded);
            STANDARD.decode_vec(piece, &mut out).map_err(|_| NotBase64)?;
            rest = after;
        }
        self.held.drain(..whole);
        Ok(out)
    }

    /// Whether the text ended with a complete group.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_wherever_it_is_cut_and_padded() {
        let mut text = Vec::new();
        for piece in [&b"a"[..], b"bc", b"def", b"", b"ghij", b"klmno"] {
            text.extend_from_slice(&encode(piece));
        }
        for cut in 0..=text.len() {
            let mut decoder = Decoder::default();
            let mut out = decoder.push(&text[..cut]).unwrap();
            out.extend(decoder.push(&text[cut..]).unwrap());
            assert_eq!(out, b"abcdefghijklmno", "cut at {cut}");
            assert!(decoder.is_empty());
        }
        let mut decoder = Decoder::default();
        let bytes: Vec<u8> = text.chunks(1).flat_map(|one| decoder.push(one).unwrap()).collect();
        assert_eq!(bytes, b"abcdefghijklmno");
    }

    #[test]
    fn invalid_base64_is_an_error() {
        for text in ["=AAA", "A===", "AA=A", "A A=", "****", "AAAA\n\n\n\n", "AB=="] {
            assert_eq!(Decoder::default().push(text.as_bytes()), Err(NotBase64), "{text}");
        }
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(b"AAA"), Ok(vec![]));
        assert!(!decoder.is_empty());
    }

    #[test]
    fn no_more_than_three_characters_are_kept() {
        let mut decoder = Decoder::default();
        decoder.push(&[b'A'; 4097]).unwrap();
        assert_eq!(decoder.held.len(), 1);
    }
}
