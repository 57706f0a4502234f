//! What policies ask of whoever moves an operation's bytes.

use std::{num::NonZeroU64, rc::Rc, time::Duration};

/// The terms on which an operation goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// How long it waits before it goes on.
    pub delay: Duration,
    /// It has waited already, for an answer.
    pub waited: bool,
    /// How long the service may take.
    pub reply_timeout: Option<ReplyTimeout>,
    /// Where its connection is cut.
    pub injected_close: Option<InjectedClose>,
    /// How many bytes of it pass in a second, each way.
    pub bytes_per_second: Option<NonZeroU64>,
    /// What becomes of the bytes of a stream, to the service and to the client. Of a protocol that
    /// is [no stream](crate::Protocol::stream) none is asked.
    pub impairments: [Impairment; 2],
}

impl Effects {
    /// Whether they change nothing as long as the service answers in time.
    pub fn is_timeout_only(&self) -> bool {
        self.delay.is_zero()
            && !self.waited
            && self.injected_close.is_none()
            && self.bytes_per_second.is_none()
            && self.impairments.iter().all(Impairment::is_none)
    }

    /// Adds what another policy asks: delays add up, the strictest of limits and paces holds, and
    /// the first cut.
    pub fn merge(&mut self, other: &Effects) {
        self.delay = self.delay.saturating_add(other.delay);
        self.waited |= other.waited;
        let after = |limit: &Option<ReplyTimeout>| limit.as_ref().map(|limit| limit.after);
        let strictest = match (after(&self.reply_timeout), after(&other.reply_timeout)) {
            (Some(own), Some(other)) => other < own,
            (own, _) => own.is_none(),
        };
        if strictest {
            self.reply_timeout.clone_from(&other.reply_timeout);
        }
        self.injected_close = self.injected_close.or(other.injected_close);
        let ways = self.impairments.iter_mut().zip(&other.impairments);
        ways.for_each(|(way, other)| way.merge(other));
        self.bytes_per_second = match (self.bytes_per_second, other.bytes_per_second) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
    }
}

/// What becomes of a stream's bytes on one way: what a bad network does to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Impairment {
    /// How much later bytes arrive than they would, drawn anew for each chunk.
    pub latency: Option<Rc<LatencyDistribution>>,
    /// What that is drawn by: the same seed draws the same again.
    pub seed: u64,
    /// In which pieces they arrive.
    pub slicer: Option<Slicer>,
    /// None arrives, nor does the end.
    pub black_hole: bool,
    /// How much later than the last byte the end arrives.
    pub slow_close: Duration,
}

impl Impairment {
    /// Whether bytes pass as they come.
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

/// The pieces that bytes arrive in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slicer {
    /// How long a piece is at most, in bytes.
    pub size: u64,
    /// How long the next one waits.
    pub pause: Duration,
}

/// Delays that are drawn: shares of all, from 0 to 1, and the longest delay of each. In between,
/// delays grow evenly.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyDistribution(pub Vec<(f64, Duration)>);

impl LatencyDistribution {
    /// The delay for a number from 0 up to 1.
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

/// How long the service may take until its reply begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTimeout {
    /// Counted from when the operation went on.
    pub after: Duration,
    /// What a person then reads in the error.
    pub message: Rc<str>,
    /// The policy whose limit it is.
    pub policy: Rc<str>,
}

/// A connection that is cut on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedClose {
    /// Where.
    pub at: ClosePoint,
    /// With a reset, instead of an orderly end.
    pub reset: bool,
}

/// Where in an operation's life its connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosePoint {
    /// Before any of the request goes on: the service never sees it.
    BeforeRequest,
    /// When so many bytes of the reply have passed. With 0 the service has done its work, and the
    /// client hears nothing of it.
    AfterReplyBytes(u64),
    /// When the whole reply has passed.
    AfterReply,
    /// So long after it went on, whatever has passed by then. Asked of a stream alone.
    AfterDelay(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terms_of_two_policies_hold_both() {
        let limit = |secs| {
            let (message, policy) = ("late".into(), "it".into());
            Some(ReplyTimeout { after: Duration::from_secs(secs), message, policy })
        };
        let cut = |place| Some(InjectedClose { at: place, reset: false });
        let pace = NonZeroU64::new;
        let delay = Duration::from_millis;
        let mut terms = Effects {
            delay: delay(100),
            waited: false,
            reply_timeout: limit(5),
            injected_close: cut(ClosePoint::AfterReply),
            bytes_per_second: None,
            impairments: Default::default(),
        };
        terms.merge(&Effects {
            delay: delay(20),
            waited: true,
            reply_timeout: limit(3),
            injected_close: cut(ClosePoint::BeforeRequest),
            bytes_per_second: pace(10),
            impairments: Default::default(),
        });
        terms.merge(&Effects {
            reply_timeout: limit(4),
            bytes_per_second: pace(20),
            ..Effects::default()
        });
        let all = Effects {
            delay: delay(120),
            waited: true,
            reply_timeout: limit(3),
            injected_close: cut(ClosePoint::AfterReply),
            bytes_per_second: pace(10),
            impairments: Default::default(),
        };
        assert_eq!(terms, all);
    }
}
