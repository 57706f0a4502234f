//! One direction of a connection: the buffered bytes, the forwarded bytes, and the ends of messages.

use super::{ConformanceRule, RuleBreach};
use crate::Next;
use bytes::{Buf, BytesMut};
use std::ops::Range;

/// The most bytes that a codec may ask to hold.
pub const MAX_HOLD: usize = 128 * 1024;

/// A message that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its end, in bytes received.
    pub came: usize,
    /// Its end, in bytes forwarded.
    pub went: usize,
    /// The index of its request; `None` if unknown.
    pub operation: Option<usize>,
    /// Whether its bytes were replaced.
    pub swapped: bool,
    /// Whether it answers no request (see [`Next::PassUnsolicited`]).
    pub unsolicited: bool,
}

/// One direction of a connection.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Bytes received and not yet forwarded.
    here: BytesMut,
    /// The number of bytes to forward before the codec is called again.
    left: u64,
    /// Whether the message ends with them.
    ends: bool,
    /// Whether a message has begun and not ended.
    inside: bool,
    /// The number of buffered bytes that the codec waits for.
    wanted: usize,
    /// Whether the bytes of this message are discarded, because it was rejected.
    dropping: bool,
    /// The number of bytes forwarded, dropped or swapped.
    came: usize,
    /// Whether a part of the current message was swapped.
    swapped: bool,
    /// Whether a part of the current message answers no request.
    unsolicited: bool,
    /// The forwarded bytes.
    out: Vec<u8>,
    /// The ranges of `out` with the proxy's own messages.
    injected: Vec<Range<usize>>,
    /// The messages that have ended.
    messages: Vec<Message>,
}

impl Stream {
    /// All bytes forwarded so far.
    pub fn out(&self) -> &[u8] {
        &self.out
    }

    /// The messages that have ended so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Whether the next byte starts a message.
    pub fn at_boundary(&self) -> bool {
        !self.inside
    }

    /// The number of bytes held.
    pub fn held(&self) -> usize {
        self.here.len()
    }

    pub(super) fn here(&self) -> &[u8] {
        &self.here
    }

    pub(super) fn arrive(&mut self, bytes: &[u8]) {
        self.here.extend_from_slice(bytes);
    }

    /// Sends bytes of the proxy's own.
    pub(super) fn inject(&mut self, bytes: &[u8]) {
        self.injected.push(self.out.len()..self.out.len() + bytes.len());
        self.out.extend_from_slice(bytes);
    }

    /// The forwarded bytes without the proxy's own.
    pub(super) fn not_injected(&self) -> Vec<u8> {
        let mut out = self.out.clone();
        for own in self.injected.iter().rev() {
            out.drain(own.clone());
        }
        out
    }

    /// Forwards the bytes that the codec has passed. Returns whether a message ended with them.
    pub(super) fn advance(&mut self) -> bool {
        let len = self.left.min(self.here.len() as u64);
        // `u64::MAX` means the whole rest of the stream, and is never reduced.
        self.left -= if self.left == u64::MAX { 0 } else { len };
        let len = usize::try_from(len).unwrap_or(self.here.len());
        if !self.dropping {
            self.out.extend_from_slice(&self.here[..len]);
        }
        self.here.advance(len);
        self.came += len;
        self.left == 0 && std::mem::take(&mut self.ends)
    }

    /// Whether to call the codec: all passed bytes are forwarded, and the bytes that it waits for are
    /// here. An `eager` run calls it with each byte.
    pub(super) fn is_codec_due(&self, eager: bool) -> bool {
        self.left == 0 && (eager || self.here.len() >= self.wanted)
    }

    /// Records the end of the current message.
    pub(super) fn end(&mut self, operation: Option<usize>) {
        self.inside = false;
        self.dropping = false;
        let (came, went) = (self.came, self.out.len());
        let swapped = std::mem::take(&mut self.swapped);
        let unsolicited = std::mem::take(&mut self.unsolicited);
        self.messages.push(Message { came, went, operation, swapped, unsolicited });
    }

    /// Whether the current message is discarded.
    pub(super) fn drops(&self) -> bool {
        self.dropping
    }

    /// Whether the current message answers no request.
    pub(super) fn is_unsolicited(&self) -> bool {
        self.unsolicited
    }

    /// Discards the current message instead of forwarding it.
    pub(super) fn discard(&mut self) {
        self.dropping = true;
    }

    /// Calls the codec again when `wanted` bytes are here.
    pub(super) fn wait_for(&mut self, wanted: usize) {
        self.wanted = wanted;
    }

    /// Checks a codec's result for the buffered bytes.
    pub(super) fn check<M>(&self, next: &Next<M>) -> Result<(), RuleBreach> {
        let here = self.here.len();
        match next {
            Next::Hold(n) if *n <= here => Err(RuleBreach::new(
                ConformanceRule::Hold,
                format!("holds for {n} bytes at byte {} though {here} are here", self.came),
            )),
            Next::Hold(n) if *n > MAX_HOLD => Err(RuleBreach::new(
                ConformanceRule::Hold,
                format!("holds for {n} bytes at byte {}, and {MAX_HOLD} is the most", self.came),
            )),
            Next::Pass { len: 0, mark: None, ends: false }
            | Next::PassUnsolicited { len: 0, ends: false }
            | Next::Drop { len: 0, ends: false } => Err(RuleBreach::new(
                ConformanceRule::Progress,
                format!("passes nothing at byte {} and marks nothing", self.came),
            )),
            Next::Swap { len, .. } | Next::Answer { len, .. } if *len > here => {
                Err(RuleBreach::new(
                    ConformanceRule::Progress,
                    format!("replaces {len} bytes at byte {} of which {here} are here", self.came),
                ))
            }
            Next::Swap { len: 0, .. } | Next::Answer { len: 0, .. } => Err(RuleBreach::new(
                ConformanceRule::Progress,
                format!("replaces nothing at byte {}", self.came),
            )),
            _ => Ok(()),
        }
    }

    /// Applies a codec's result. Returns `false` if it needs more bytes first.
    pub(super) fn apply<M>(&mut self, next: Next<M>) -> bool {
        self.wanted = 0;
        match next {
            Next::Hold(n) => {
                self.wanted = n;
                return false;
            }
            Next::Violates(_) | Next::Resend { .. } => {}
            Next::Pass { len, ends, .. } => {
                self.left = len;
                self.ends = ends;
                // A message of which no byte has passed has not begun.
                self.inside |= len > 0 || ends;
            }
            Next::PassUnsolicited { len, ends } => {
                self.unsolicited = true;
                self.left = len;
                self.ends = ends;
                self.inside |= len > 0 || ends;
            }
            Next::Drop { len, ends } => {
                self.dropping = true;
                self.left = len;
                self.ends = ends;
                self.inside |= len > 0 || ends;
            }
            Next::Answer { len, .. } => {
                self.here.advance(len);
                self.came += len;
                self.swapped = true;
                self.inside = true;
                self.ends = true;
            }
            Next::Swap { len, with, .. } => {
                if !self.dropping {
                    self.out.extend_from_slice(&with);
                }
                self.here.advance(len);
                self.came += len;
                self.swapped = true;
                self.inside = true;
                self.ends = true;
            }
        }
        true
    }
}

/// The request that begins, or the operation that ends, with a codec's result.
pub(super) fn mark<M: Copy>(next: &Next<M>) -> Option<M> {
    match next {
        Next::Hold(_) => None,
        Next::Pass { mark, .. } | Next::Swap { mark, .. } => *mark,
        Next::Answer { mark, .. } => Some(*mark),
        Next::PassUnsolicited { .. }
        | Next::Drop { .. }
        | Next::Violates(_)
        | Next::Resend { .. } => None,
    }
}

/// Whether a message ends with a codec's result.
pub(super) fn ends<M>(next: &Next<M>) -> bool {
    matches!(
        next,
        Next::Pass { ends: true, .. }
            | Next::PassUnsolicited { ends: true, .. }
            | Next::Drop { ends: true, .. }
            | Next::Swap { .. }
            | Next::Answer { .. }
    )
}
