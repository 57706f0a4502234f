//! Effects of policies on an admitted operation: delays, time-outs, throttling, injected faults.

use crate::{ReadPreference, Rejection};
use std::{num::NonZeroU64, rc::Rc, time::Duration};

/// How policies alter an operation that they admit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// Delay before the request is forwarded.
    pub delay: Duration,
    /// The operation has already waited for a decision.
    pub waited: bool,
    /// Time limit for the service's reply.
    pub reply_timeout: Option<ReplyTimeout>,
    /// Where an injected fault closes the connection.
    pub injected_close: Option<InjectedClose>,
    /// Where a read goes, in place of its own read preference.
    pub route: Option<Rc<ReadPreference>>,
    /// Bandwidth limit in each direction, in bytes per second.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Network faults of a byte stream: to the service, and to the client. Only for protocols with
    /// [`stream`](crate::Protocol::stream).
    pub impairments: [Impairment; 2],
}

impl Effects {
    /// Whether the only effect is a time limit for the reply.
    pub fn is_timeout_only(&self) -> bool {
        self.route.is_none() && self.leaves_bytes_alone()
    }

    /// Whether bytes pass as if no policy had decided.
    pub fn leaves_bytes_alone(&self) -> bool {
        self.delay.is_zero()
            && !self.waited
            && self.injected_close.is_none()
            && self.bytes_per_second.is_none()
            && self.impairments.iter().all(Impairment::is_none)
    }

    /// Adds another policy's effects: delays add up, the strictest time-out and bandwidth limit
    /// hold, and the first injected close and route.
    pub fn merge(&mut self, other: &Effects) {
        self.delay = self.delay.saturating_add(other.delay);
        self.waited |= other.waited;
        let after = |limit: &Option<ReplyTimeout>| limit.as_ref().map(|limit| limit.after);
        let strictest = match (after(&self.reply_timeout), after(&other.reply_timeout)) {
            (Some(current), Some(other)) => other < current,
            (current, _) => current.is_none(),
        };
        if strictest {
            self.reply_timeout.clone_from(&other.reply_timeout);
        }
        self.injected_close = self.injected_close.or(other.injected_close);
        if self.route.is_none() {
            self.route.clone_from(&other.route);
        }
        let directions = self.impairments.iter_mut().zip(&other.impairments);
        directions.for_each(|(own, other)| own.merge(other));
        self.bytes_per_second = match (self.bytes_per_second, other.bytes_per_second) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
    }
}

/// The effects of changed policies on an operation in flight.
#[derive(Debug, Default)]
pub struct Revision {
    /// The effects from now on; they replace the ticket's.
    pub effects: Effects,
    /// A delay added now by new policies.
    pub delay: Duration,
    /// Ends the operation with this rejection.
    pub rejection: Option<Rejection>,
}

/// Network faults in one direction of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Added latency, drawn for each chunk.
    pub latency: Option<Rc<LatencyDistribution>>,
    /// Seed of the draws: the same seed gives the same latencies.
    pub seed: u64,
    /// Splits the stream into pieces.
    pub slicer: Option<Slicer>,
    /// Neither bytes nor the end of the stream arrive.
    pub black_hole: bool,
    /// Delay between the last byte and the end of the stream.
    pub slow_close: Duration,
}

impl Impairment {
    /// Whether bytes pass unchanged.
    pub fn is_none(&self) -> bool {
        *self == Self { seed: self.seed, ..Self::default() }
    }

    fn merge(&mut self, other: &Impairment) {
        if self.latency.is_none() {
            (self.latency, self.seed) = (other.latency.clone(), other.seed);
        }
        self.slicer = self.slicer.or(other.slicer);
        self.black_hole |= other.black_hole;
        self.slow_close = self.slow_close.max(other.slow_close);
    }
}

/// Splits a stream into pieces with pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slicer {
    /// Largest piece, in bytes.
    pub size: u64,
    /// Pause before the next piece.
    pub pause: Duration,
}

/// A distribution of delays: pairs of a quantile (0 to 1) and its delay, in ascending order; linear in
/// between.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyDistribution(pub Vec<(f64, Duration)>);

impl LatencyDistribution {
    /// The delay at the quantile `draw`, from 0 to 1.
    pub fn quantile(&self, draw: f64) -> Duration {
        let mut before: Option<(f64, Duration)> = None;
        for (share, duration) in &self.0 {
            if *share >= draw {
                let Some((from, shorter)) = before else { return *duration };
                let part = (draw - from) / (share - from);
                return shorter + (*duration - shorter).mul_f64(part.clamp(0.0, 1.0));
            }
            before = Some((*share, *duration));
        }
        before.map_or(Duration::ZERO, |(_, longest)| longest)
    }
}

/// A time limit for the first byte of the service's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTimeout {
    /// The limit, counted from when the request was forwarded.
    pub after: Duration,
    /// The error message for people.
    pub message: Rc<str>,
    /// The policy whose limit it is.
    pub policy: Rc<str>,
}

/// A connection close that a policy injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedClose {
    /// The point in the operation.
    pub at: ClosePoint,
    /// Resets the connection instead of closing it with FIN.
    pub reset: bool,
}

/// The point in an operation at which its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosePoint {
    /// Before the request is forwarded: the service never sees it.
    BeforeRequest,
    /// After this number of reply bytes. With 0 the service has processed the request, and the
    /// client gets no reply.
    AfterReplyBytes(u64),
    /// After the whole reply was forwarded.
    AfterReply,
    /// This long after the request was forwarded. Only for streams.
    AfterDelay(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_effects_are_those_of_both_policies() {
        let limit = |secs| {
            let (message, policy) = ("late".into(), "it".into());
            Some(ReplyTimeout { after: Duration::from_secs(secs), message, policy })
        };
        let cut = |place| Some(InjectedClose { at: place, reset: false });
        let pace = NonZeroU64::new;
        let delay = Duration::from_millis;
        let mut effects = Effects {
            delay: delay(100),
            waited: false,
            reply_timeout: limit(5),
            injected_close: cut(ClosePoint::AfterReply),
            route: None,
            bytes_per_second: None,
            impairments: Default::default(),
        };
        effects.merge(&Effects {
            delay: delay(20),
            waited: true,
            reply_timeout: limit(3),
            injected_close: cut(ClosePoint::BeforeRequest),
            route: None,
            bytes_per_second: pace(10),
            impairments: Default::default(),
        });
        effects.merge(&Effects {
            reply_timeout: limit(4),
            bytes_per_second: pace(20),
            ..Effects::default()
        });
        let all = Effects {
            delay: delay(120),
            waited: true,
            reply_timeout: limit(3),
            injected_close: cut(ClosePoint::AfterReply),
            route: None,
            bytes_per_second: pace(10),
            impairments: Default::default(),
        };
        assert_eq!(effects, all);
    }
}
