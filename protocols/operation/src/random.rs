//! Reproducible draws: the same seed gives the same numbers.

/// The number of this `stream` for an operation: 0 up to 1, evenly spread.
pub fn draw(seed: u64, number: u64, stream: u64) -> f64 {
    let bits = mix(mix(mix(seed) ^ number) ^ stream);
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// One step of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(from: u64) -> u64 {
    let z = from.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
