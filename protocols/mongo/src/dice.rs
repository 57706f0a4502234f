//! Seeded randomness for tests: the same inputs on every machine, and a seed to print.

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
