//! Seeded randomness for tests: the same inputs on every machine, from a printed seed.

/// A xorshift generator.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 11) % n as u64) as usize
    }

    /// Bytes that compress somewhat, as documents do: noise, runs, and repeats from further back.
    pub(crate) fn text(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            let n = 1 + self.below(300);
            match self.below(3) {
                0 => out.extend((0..n).map(|_| self.next() as u8)),
                1 => out.extend(std::iter::repeat_n(self.next() as u8, n)),
                _ if out.is_empty() => {}
                _ => {
                    let from = self.below(out.len());
                    let to = out.len().min(from + n);
                    out.extend_from_within(from..to);
                }
            }
        }
        out.truncate(len);
        out
    }

    /// Changes a few bytes, or cuts some off.
    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => bytes[at] = 0,
                2 => bytes[at] = 0xFF,
                3 => bytes[at] ^= 1 << self.below(8),
                _ => bytes[at] = self.next() as u8,
            }
        }
    }
}

/// A document with elements of all types, nested up to `depth` levels.
pub(crate) fn document(dice: &mut Dice, depth: usize) -> bson::RawDocumentBuf {
    let mut out = bson::RawDocumentBuf::new();
    for _ in 0..dice.below(6) {
        let key = ["a", "b", "_id", "$and", "$eq", "$in", "naïve", ""][dice.below(8)];
        let key = bson::raw::CString::try_from(key).expect("no zero in it");
        out.append(key, value(dice, depth));
    }
    out
}

fn value(dice: &mut Dice, depth: usize) -> bson::RawBson {
    use bson::{RawBson, spec::BinarySubtype};
    match dice.below(if depth == 0 { 18 } else { 22 }) {
        0 => RawBson::Double(1.5),
        1 => RawBson::String("a \"text\"\n".into()),
        2 => RawBson::ObjectId(bson::oid::ObjectId::from_bytes([7; 12])),
        3 => RawBson::Boolean(true),
        4 => RawBson::DateTime(bson::DateTime::from_millis(1_700_000_000_000)),
        5 => RawBson::Null,
        6 => RawBson::Int32(-5),
        7 => RawBson::Int64(1 << 40),
        8 => RawBson::Timestamp(bson::Timestamp { time: 1, increment: 2 }),
        9 => RawBson::Binary(bson::Binary { subtype: BinarySubtype::Generic, bytes: dice.text(9) }),
        10 => RawBson::MinKey,
        11 => RawBson::MaxKey,
        12 => RawBson::Undefined,
        13 => RawBson::Symbol("a sign".into()),
        14 => RawBson::JavaScriptCode("x => x".into()),
        15 => RawBson::Decimal128(bson::Decimal128::from_bytes([3; 16])),
        16 => RawBson::RegularExpression(bson::Regex {
            pattern: bson::raw::CString::try_from("^a").expect("no zero in it"),
            options: bson::raw::CString::try_from("i").expect("no zero in it"),
        }),
        17 => RawBson::JavaScriptCodeWithScope(bson::RawJavaScriptCodeWithScope {
            code: "y".into(),
            scope: bson::rawdoc! { "y": 1 },
        }),
        18 | 19 => RawBson::Document(document(dice, depth - 1)),
        _ => {
            let mut array = bson::RawArrayBuf::new();
            (0..dice.below(4)).for_each(|_| array.push(value(dice, depth - 1)));
            RawBson::Array(array)
        }
    }
}
