//! HPACK (RFC 7541) as far as one short exchange needs it: writes without compression, and reads
//! what servers use.

/// Number of entries in the static table.
const STATIC: usize = 61;
/// Its statuses, from index 8.
const STATUSES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
const FIRST_STATUS: usize = 8;

/// Characters of the Huffman code by code length: the first code, and the characters of it and the
/// following codes (RFC 7541, appendix B). Missing characters occur in no name and rarely in
/// values.
const CODES: [(u32, u32, &[u8]); 5] = [
    (5, 0x0, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
    (10, 0x3f8, b"!\"()?"),
];

/// Adds a header without compression.
pub(super) fn write(block: &mut Vec<u8>, name: &str, value: &str) {
    // Literal without indexing, with a literal name.
    block.push(0);
    for text in [name, value] {
        integer(block, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

/// An integer with a 7-bit prefix.
fn integer(block: &mut Vec<u8>, number: usize) {
    let Some(mut rest) = number.checked_sub(0x7f) else {
        block.push(number as u8);
        return;
    };
    block.push(0x7f);
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// Decodes the header blocks of one connection in order.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The dynamic table, oldest first. Nothing is evicted: there are only the few blocks of one
    /// response.
    table: Vec<(String, String)>,
}

impl Decoder {
    /// The headers of one block; `None` if it is malformed. Valid fields that cannot be decoded are
    /// left out.
    pub(super) fn read(&mut self, mut block: &[u8]) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        while let Some(first) = block.first() {
            let field = match first {
                0x80.. => self.entry(number(&mut block, 7)?)?,
                0x20..0x40 => {
                    // Table size update; not needed here.
                    number(&mut block, 5)?;
                    continue;
                }
                _ => {
                    let indexed = *first >= 0x40;
                    let name = match number(&mut block, if indexed { 6 } else { 4 })? {
                        0 => text(&mut block)?,
                        index => self.entry(index)?.0,
                    };
                    let field = (name, text(&mut block)?);
                    if indexed {
                        self.table.push(field.clone());
                    }
                    field
                }
            };
            if !field.0.is_empty() {
                fields.push(field);
            }
        }
        Some(fields)
    }

    /// A table entry. Only statuses of the static table have a name here.
    fn entry(&self, index: usize) -> Option<(String, String)> {
        if let Some(newest) = index.checked_sub(STATIC + 1) {
            return self.table.iter().rev().nth(newest).cloned();
        }
        let status = index.checked_sub(FIRST_STATUS).and_then(|at| STATUSES.get(at));
        match (index, status) {
            (0, _) => None,
            (_, Some(status)) => Some((":status".to_owned(), (*status).to_owned())),
            _ => Some(Default::default()),
        }
    }
}

/// An integer with a prefix of this many bits.
fn number(block: &mut &[u8], bits: u32) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let most = (1_usize << bits) - 1;
    let mut number = usize::from(*first) & most;
    if number == most {
        // Three more bytes exceed any block that is read.
        for shift in [0, 7, 14, 21] {
            let (byte, after) = rest.split_first()?;
            rest = after;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            if shift == 21 {
                return None;
            }
        }
    }
    *block = rest;
    Some(number)
}

/// A string; empty if it is valid but has characters unknown here.
fn text(block: &mut &[u8]) -> Option<String> {
    let coded = block.first()? & 0x80 != 0;
    let len = number(block, 7)?;
    let (bytes, rest) = block.split_at_checked(len)?;
    *block = rest;
    let text = if coded { huffman(bytes) } else { Some(bytes.to_vec()) };
    Some(text.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default())
}

/// Decodes Huffman code; up to 7 bits of ones at the end are padding.
fn huffman(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut code, mut len) = (0_u32, 0);
    for byte in bytes {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            len += 1;
            if let Some(character) = character(code, len) {
                text.push(character);
                (code, len) = (0, 0);
            } else if len > 10 {
                return None;
            }
        }
    }
    (len < 8 && code == (1 << len) - 1).then_some(text)
}

fn character(code: u32, len: u32) -> Option<u8> {
    let (_, first, characters) = CODES.iter().find(|(it, ..)| *it == len)?;
    characters.get(usize::try_from(code.checked_sub(*first)?).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |c: char| c.to_digit(16).unwrap() as u8;
        let digits: Vec<u8> = hex.chars().filter(|c| *c != ' ').map(digit).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn field(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn encoded_headers_can_be_decoded() {
        let long = "x".repeat(5000);
        let mut block = Vec::new();
        write(&mut block, ":path", "/healthz");
        write(&mut block, "x-long", &long);
        let read = Decoder::default().read(&block);
        assert_eq!(read, Some(vec![field(":path", "/healthz"), field("x-long", &long)]));
    }

    /// RFC 7541 C.6: three responses of one connection, with Huffman code and a dynamic table.
    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        let mut decoder = Decoder::default();
        let first = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 \
                     82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
        let read = decoder.read(&bytes(first)).unwrap();
        assert_eq!(read, [field(":status", "302")]);
        let read = decoder.read(&bytes("4883 640e ffc1 c0bf")).unwrap();
        assert_eq!(read, [field(":status", "307")]);
        let read = decoder.read(&[0x88]).unwrap();
        assert_eq!(read, [field(":status", "200")]);
    }

    #[test]
    fn hostile_blocks_are_decoded_completely_or_rejected() {
        for hex in ["80", "ff", "ffffffffffff", "be", "00", "0085", "0001", "40ff80808080", "7f"] {
            assert_eq!(Decoder::default().read(&bytes(hex)), None, "{hex}");
        }
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let block: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
            let _ = Decoder::default().read(&block);
        }
    }
}
