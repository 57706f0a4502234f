//! Whether a trace that begins here is recorded, so that every participant decides alike.
//!
//! Source: OpenTelemetry, "TraceState: Probability Sampling": a trace is recorded if the last 56 bits
//! of its id are at least the threshold, which is passed on in `tracestate` as `ot=th:…`.

use std::sync::Arc;

/// The number of random bits of a trace id.
const BITS: u32 = 56;

/// The decision about traces that begin here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// 0: every trace; 2^56: none.
    threshold: u64,
    state: Arc<str>,
}

impl Sampler {
    /// Records this share of all traces: 0 to 1.
    pub(crate) fn new(share: f64) -> Self {
        let all = 1_u64 << BITS;
        // The product is exact, since it only changes the exponent; the difference of floats is not.
        let threshold = all - (share.clamp(0.0, 1.0) * all as f64) as u64;
        let digits = format!("{threshold:014x}");
        let digits = match digits.trim_end_matches('0') {
            "" => "0",
            digits => digits,
        };
        Self { threshold, state: format!("ot=th:{digits}").into() }
    }

    /// Whether the trace with this id is recorded.
    pub fn samples(&self, trace_id: u128) -> bool {
        (trace_id as u64) & ((1 << BITS) - 1) >= self.threshold
    }

    /// The `tracestate` of a recorded trace.
    pub fn state(&self) -> &Arc<str> {
        &self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_that_of_the_specification() {
        for (share, state) in
            [(1.0, "ot=th:0"), (0.5, "ot=th:8"), (0.25, "ot=th:c"), (0.01, "ot=th:fd70a3d70a3d71")]
        {
            assert_eq!(&**Sampler::new(share).state(), state, "{share}");
        }
    }

    #[test]
    fn all_or_none_are_recorded_at_the_ends() {
        for id in [1, u128::MAX, 1 << 56, (1 << 56) - 1] {
            assert!(Sampler::new(1.0).samples(id), "{id:x}");
            assert!(!Sampler::new(0.0).samples(id), "{id:x}");
        }
    }

    #[test]
    fn a_share_of_the_random_bits_is_recorded() {
        let half = Sampler::new(0.5);
        assert!(half.samples(0x80_0000_0000_0000) && !half.samples(0x7f_ffff_ffff_ffff));
        // The bits above are not random in every system.
        assert!(!half.samples(u128::MAX << 56));
        let tenth = Sampler::new(0.1);
        let mut rng = fastrand::Rng::with_seed(7);
        let recorded = (0..100_000).filter(|_| tenth.samples(rng.u128(1..))).count();
        assert!((9_500..10_500).contains(&recorded), "{recorded}");
    }
}
