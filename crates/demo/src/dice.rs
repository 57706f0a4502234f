//! Chance for the demonstration.

/// Chance that is the same in every run: xorshift, which is plenty for dice. Zero as a seed gives
/// zeros for ever.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The high bits are the better ones.
        ((self.0 >> 11) % sides) as i64
    }

    /// A number from `least` up to, but not, `most`: how long something takes, in milliseconds.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.roll(most.saturating_sub(least).max(1)).unsigned_abs()
    }
}
