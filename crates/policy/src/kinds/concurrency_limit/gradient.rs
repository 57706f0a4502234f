//! An adaptive concurrency limit, computed from the latency of operations.
//!
//! This is gradient2 of Netflix's concurrency-limits. A short-term latency above the long-term one
//! means that operations queue somewhere, and the limit goes down in proportion; otherwise it grows
//! by its square root. In an overload that does not end, the long-term latency follows the
//! short-term one within minutes, and the limit rises slowly to its maximum. It reads no clock.

use std::time::{Duration, Instant};

/// How an adaptive limit behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) initial: usize,
    /// By what factor latency may rise before the limit goes down.
    pub(super) tolerance: f64,
    /// What share of each step is taken.
    pub(super) smoothing: f64,
}

/// How long latencies are gathered for one step, at least…
const WINDOW: Duration = Duration::from_millis(100);

/// …and how many of them.
const MIN_SAMPLES: u32 = 10;

/// How many steps the long-term latency looks back, and over how many it is a plain mean.
const LONG_TERM_STEPS: f64 = 600.0;
const WARM_UP: u32 = 10;

/// A limit that follows latency.
#[derive(Debug)]
pub(super) struct Gradient {
    plan: Plan,
    limit: f64,
    /// The long-term latency in seconds, and how many steps made it.
    long: f64,
    steps: u32,
    window: Option<SampleWindow>,
}

#[derive(Debug)]
struct SampleWindow {
    began: Instant,
    total: f64,
    count: u32,
    /// The most operations in flight.
    busy: usize,
}

impl Gradient {
    pub(super) fn new(plan: Plan) -> Self {
        Self { plan, limit: plan.initial as f64, long: 0.0, steps: 0, window: None }
    }

    /// The limit now.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Records the latency of an operation, and how many ran when it ended, itself included.
    pub(super) fn record(&mut self, took: Duration, busy: usize, now: Instant) {
        let fresh = SampleWindow { began: now, total: 0.0, count: 0, busy: 0 };
        let window = self.window.get_or_insert(fresh);
        window.total += took.as_secs_f64();
        window.count += 1;
        window.busy = window.busy.max(busy);
        let long_enough = now.saturating_duration_since(window.began) >= WINDOW;
        if long_enough && window.count >= MIN_SAMPLES {
            let (short, busy) = (window.total / f64::from(window.count), window.busy);
            self.window = None;
            self.step(short.max(1e-9), busy);
        }
    }

    fn step(&mut self, short: f64, busy: usize) {
        self.steps = self.steps.saturating_add(1);
        let weight = match self.steps {
            steps if steps <= WARM_UP => 1.0 / f64::from(steps),
            _ => 2.0 / (LONG_TERM_STEPS + 1.0),
        };
        self.long += (short - self.long) * weight;
        // After a long overload the normal latency is found again soon.
        if self.long / short > 2.0 {
            self.long *= 0.95;
        }
        // A limit that is not reached gives no information.
        if (busy as f64) < self.limit / 2.0 {
            return;
        }
        let Plan { min, max, tolerance, smoothing, .. } = self.plan;
        let gradient = (tolerance * self.long / short).clamp(0.5, 1.0);
        let next = self.limit * gradient + self.limit.sqrt();
        let next = self.limit + (next - self.limit) * smoothing;
        self.limit = next.clamp(min as f64, max as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { min: 5, max: 1000, initial: 20, tolerance: 1.5, smoothing: 0.2 };

    /// Simulates a service that takes `knee` operations at a time in 10 ms and queues the others.
    /// As many are in flight as the limit allows. Returns the limit after `secs` seconds.
    fn run(gradient: &mut Gradient, knee: f64, from: Instant, secs: u32) -> usize {
        for step in 0..secs * 100 {
            let busy = gradient.limit();
            let took = Duration::from_secs_f64(0.010 * (busy as f64 / knee).max(1.0));
            gradient.record(took, busy, from + Duration::from_millis(10) * step);
        }
        gradient.limit()
    }

    #[test]
    fn it_finds_the_knee() {
        for knee in [40.0, 200.0] {
            let mut gradient = Gradient::new(PLAN);
            let found = run(&mut gradient, knee, Instant::now(), 15) as f64;
            assert!((knee..2.5 * knee).contains(&found), "{found} where {knee} is good");
        }
    }

    #[test]
    fn it_backs_off_when_the_service_slows_down_and_comes_back() {
        let (mut gradient, now) = (Gradient::new(PLAN), Instant::now());
        let before = run(&mut gradient, 200.0, now, 20);
        let slow = run(&mut gradient, 20.0, now + Duration::from_secs(20), 5);
        assert!(slow < before / 3, "{before}, then {slow}");
        let after = run(&mut gradient, 200.0, now + Duration::from_secs(25), 30);
        assert!(after > before / 2, "{before}, then {slow}, then {after}");
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let (mut gradient, now) = (Gradient::new(PLAN), Instant::now());
        assert_eq!(run(&mut gradient, 1e9, now, 300), 1000);
        // Each takes twice as long as the one before.
        let mut took: f64 = 0.001;
        for step in 0..60_000 {
            took *= 1.001;
            let now = now + Duration::from_millis(10) * step;
            gradient.record(Duration::from_secs_f64(took.min(1e6)), 1000, now);
            assert!((5..=1000).contains(&gradient.limit()));
        }
    }

    #[test]
    fn a_limit_that_is_not_reached_does_not_grow() {
        let (mut gradient, now) = (Gradient::new(PLAN), Instant::now());
        for step in 0..10_000 {
            gradient.record(Duration::from_millis(1), 9, now + Duration::from_millis(10) * step);
        }
        assert_eq!(gradient.limit(), 20);
    }
}
