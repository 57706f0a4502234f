//! Random numbers for the demonstration.

/// A xorshift generator: the same numbers in every run. A seed of zero returns only zeros.
#[derive(Clone, Debug)]
pub struct Xorshift(pub u64);

impl Xorshift {
    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The high bits are the better ones.
        ((self.0 >> 11) % sides) as i64
    }

    /// A number from `least` up to, but not including, `most`: a duration in milliseconds.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.roll(most.saturating_sub(least).max(1)).unsigned_abs()
    }
}
