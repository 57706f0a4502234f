//! What a mirror has answered to the reads of one shape.

use operation::{AnswerDigest, MirrorOutcome, MirrorResult};
use serde::Serialize;
use std::time::Duration;

/// How many different answers are kept as examples: the first ones.
const MAX_EXAMPLES: usize = 10;

/// The counts of one shape.
#[derive(Clone, Debug, Default)]
pub(crate) struct MirroredShape {
    answered: u64,
    compared: u64,
    differs: u64,
    failed: u64,
    slower: u64,
    took: [Duration; 2],
    examples: Vec<[AnswerDigest; 2]>,
}

/// What a mirror has answered to the operations of a shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MirrorReport {
    /// How many reads it has answered.
    pub answered: u64,
    /// How many of these answers were compared with those of the clients.
    pub compared: u64,
    /// How many of those differed.
    pub differs: u64,
    /// How many reads it has answered with an error, or not at all.
    pub failed: u64,
    /// How many of its answers took longer than those of the clients.
    pub slower: u64,
    /// How many did not.
    pub faster: u64,
    /// How long the clients' answers took, in milliseconds: the mean.
    pub mean_ms: f64,
    /// How long the mirror's answers took, in milliseconds: the mean.
    pub mirror_mean_ms: f64,
    /// The first answers that differed: at most ten.
    pub examples: Vec<MirrorExample>,
}

/// Two answers that differed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MirrorExample {
    /// How many documents or values the client got.
    pub documents: u64,
    /// How many the mirror has sent.
    pub mirror_documents: u64,
    /// The hash of the client's answer.
    pub hash: String,
    /// The hash of the mirror's answer.
    pub mirror_hash: String,
}

impl MirroredShape {
    pub(crate) fn count(&mut self, mirrored: &MirrorOutcome<'_>) {
        let is_failure =
            matches!(mirrored.result, MirrorResult::Failed | MirrorResult::Unreachable);
        self.failed += u64::from(is_failure);
        if let Some([ours, theirs]) = mirrored.took {
            self.answered += 1;
            self.slower += u64::from(theirs > ours);
            self.took[0] += ours;
            self.took[1] += theirs;
        }
        let Some(digests) = mirrored.digests else { return };
        self.compared += 1;
        if mirrored.result == MirrorResult::Differs {
            self.differs += 1;
            self.add_example(digests);
        }
    }

    /// Adds the counts of another worker.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.answered += other.answered;
        self.compared += other.compared;
        self.differs += other.differs;
        self.failed += other.failed;
        self.slower += other.slower;
        self.took[0] += other.took[0];
        self.took[1] += other.took[1];
        other.examples.iter().for_each(|example| self.add_example(*example));
    }

    fn add_example(&mut self, digests: [AnswerDigest; 2]) {
        if self.examples.len() < MAX_EXAMPLES && !self.examples.contains(&digests) {
            self.examples.push(digests);
        }
    }

    pub(crate) fn report(&self) -> MirrorReport {
        let mean = |took: Duration| {
            let millis = took.as_secs_f64() * 1e3 / (self.answered.max(1) as f64);
            (millis * 1e3).round() / 1e3
        };
        let example = |[ours, theirs]: &[AnswerDigest; 2]| MirrorExample {
            documents: ours.items,
            mirror_documents: theirs.items,
            hash: format!("{:016x}", ours.hash),
            mirror_hash: format!("{:016x}", theirs.hash),
        };
        MirrorReport {
            answered: self.answered,
            compared: self.compared,
            differs: self.differs,
            failed: self.failed,
            slower: self.slower,
            faster: self.answered - self.slower,
            mean_ms: mean(self.took[0]),
            mirror_mean_ms: mean(self.took[1]),
            examples: self.examples.iter().map(example).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use operation::{MirrorExchange, MirrorStep, MirroredRead, Placement};

    #[derive(Debug)]
    struct NoExchange;

    impl MirrorExchange for NoExchange {
        fn write_request(&mut self, _: &mut BytesMut) {}

        fn read_reply(&mut self, _: &[u8]) -> MirrorStep {
            MirrorStep::NeedMore
        }

        fn digest(&self, _: &[u8]) -> Option<AnswerDigest> {
            None
        }
    }

    fn count(shape: &mut MirroredShape, result: MirrorResult, hashes: [u64; 2]) {
        let read = MirroredRead {
            operation: "find",
            resource: "shop.orders".into(),
            shape: None,
            placement: Placement::Any,
            exchange: Box::new(NoExchange),
        };
        let is_compared = matches!(result, MirrorResult::Same | MirrorResult::Differs);
        let took = [Duration::from_millis(1), Duration::from_millis(3)];
        shape.count(&MirrorOutcome {
            read: &read,
            result,
            digests: is_compared.then(|| hashes.map(|hash| AnswerDigest { items: 1, hash })),
            took: (is_compared || result == MirrorResult::Sent).then_some(took),
        });
    }

    #[test]
    fn results_of_all_workers_are_counted() {
        let (mut one, mut two) = (MirroredShape::default(), MirroredShape::default());
        count(&mut one, MirrorResult::Same, [5, 5]);
        count(&mut one, MirrorResult::Differs, [5, 6]);
        count(&mut two, MirrorResult::Sent, [0, 0]);
        count(&mut two, MirrorResult::Failed, [0, 0]);
        count(&mut two, MirrorResult::Unreachable, [0, 0]);
        count(&mut two, MirrorResult::Dropped, [0, 0]);
        one.merge(&two);
        let report = one.report();
        assert_eq!((report.answered, report.compared, report.differs), (3, 2, 1));
        assert_eq!((report.failed, report.slower, report.faster), (2, 3, 0));
        assert_eq!((report.mean_ms, report.mirror_mean_ms), (1.0, 3.0));
        assert_eq!(report.examples[0].mirror_hash, "0000000000000006");
    }

    #[test]
    fn ten_different_examples_are_kept() {
        let mut shape = MirroredShape::default();
        (0..100).for_each(|n| count(&mut shape, MirrorResult::Differs, [n % 20, 50]));
        assert_eq!(shape.report().examples.len(), MAX_EXAMPLES);
        assert_eq!(shape.report().differs, 100);
    }
}
