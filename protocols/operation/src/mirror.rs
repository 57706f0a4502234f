//! Reads that a second cluster gets too, after the client was answered.

use crate::{Placement, QueryShape};
use bytes::BytesMut;
use std::{fmt::Debug, time::Duration};

/// A read that a second cluster gets too.
#[derive(Debug)]
pub struct MirroredRead {
    /// The operation's name.
    pub operation: &'static str,
    /// Its resource.
    pub resource: Box<str>,
    /// Its shape; `None` if it is not counted by shape.
    pub shape: Option<QueryShape>,
    /// Where it goes.
    pub placement: Placement,
    /// Its request to the second cluster, and what reads the reply.
    pub exchange: Box<dyn MirrorExchange>,
}

/// The exchange of a mirrored read with the second cluster: requests and their replies in turn.
pub trait MirrorExchange: Debug {
    /// Appends the next request: the read, and after [`MirrorStep::Opened`] one that ends what it has opened.
    fn write_request(&mut self, out: &mut BytesMut);

    /// Reads what has arrived of the reply to the last request.
    fn read_reply(&mut self, reply: &[u8]) -> MirrorStep;

    /// The digest of the answer that the client has got, as [`Codec::mirrored_answer`] returns it; `None`
    /// if it can't be read.
    ///
    /// [`Codec::mirrored_answer`]: crate::Codec::mirrored_answer
    fn digest(&self, answer: &[u8]) -> Option<AnswerDigest>;
}

/// What follows a reply to a mirrored read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorStep {
    /// The reply is incomplete.
    NeedMore,
    /// The answer, which has left nothing open at the service.
    Answered(AnswerDigest),
    /// The answer, which has opened something: another request ends it.
    Opened(AnswerDigest),
    /// What was open has ended.
    Ended,
    /// The service answers with an error. The connection can be used again.
    Failed,
    /// The reply can't be read.
    Unreadable,
}

/// What an answer contains, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerDigest {
    /// How many documents or values.
    pub items: u64,
    /// The sum of their hashes.
    pub hash: u64,
}

/// A mirrored read that has ended.
#[derive(Debug)]
pub struct MirrorOutcome<'a> {
    /// The read.
    pub read: &'a MirroredRead,
    /// How it has ended.
    pub result: MirrorResult,
    /// The digests of the client's answer and of the mirror's, if they were compared.
    pub digests: Option<[AnswerDigest; 2]>,
    /// How long the client's answer and the mirror's took, if there is one, in each case without the wait for
    /// a connection.
    pub took: Option<[Duration; 2]>,
}

/// How a mirrored read has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorResult {
    /// Both answers contain the same.
    Same,
    /// The answers differ.
    Differs,
    /// The second cluster has answered; the answers are not compared.
    Sent,
    /// The answer to the client was too long to be kept for the comparison. The read was not sent.
    TooLong,
    /// The second cluster has answered with an error.
    Failed,
    /// There was no connection, or no answer in time.
    Unreachable,
    /// Too many mirrored reads were under way. The read was not sent.
    Dropped,
}

impl MirrorResult {
    /// As metrics label it.
    pub fn as_str(self) -> &'static str {
        match self {
            MirrorResult::Same => "same",
            MirrorResult::Differs => "differs",
            MirrorResult::Sent => "sent",
            MirrorResult::TooLong => "too_long",
            MirrorResult::Failed => "failed",
            MirrorResult::Unreachable => "unreachable",
            MirrorResult::Dropped => "dropped",
        }
    }
}
