//! One direction of a connection: what is here, what is let through, where messages end.

use super::{Breach, ConformanceRule};
use crate::Next;
use bytes::{Buf, BytesMut};
use std::ops::Range;

/// The most that a codec may ever ask to be kept, in bytes.
pub const HOLD: usize = 128 * 1024;

/// A message that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it ends, counted in bytes that came.
    pub came: usize,
    /// Where it ends, counted in bytes that went on.
    pub went: usize,
    /// The operation it belongs to, by the place of its request; `None` if unknown.
    pub operation: Option<usize>,
    /// Whether its bytes were replaced.
    pub swapped: bool,
}

/// One direction of a connection.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Bytes that are here and not yet let through.
    here: BytesMut,
    /// Bytes to let through before the codec is asked again.
    left: u64,
    /// Whether the message ends with these.
    ends: bool,
    /// Whether a message is under way.
    inside: bool,
    /// Bytes that must be here before the codec has something to say.
    wanted: usize,
    /// Whether the bytes of this message go nowhere, because it was refused.
    dropping: bool,
    /// How many bytes have been let through, dropped or swapped.
    came: usize,
    /// Whether part of the message under way was swapped.
    swapped: bool,
    /// What went on.
    out: Vec<u8>,
    /// Where in it is what the proxy said itself.
    injected: Vec<Range<usize>>,
    /// The messages that have ended.
    messages: Vec<Message>,
}

impl Stream {
    /// Everything that went on so far.
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

    /// How many bytes wait for more of their kind.
    pub fn held(&self) -> usize {
        self.here.len()
    }

    pub(super) fn here(&self) -> &[u8] {
        &self.here
    }

    pub(super) fn arrive(&mut self, bytes: &[u8]) {
        self.here.extend_from_slice(bytes);
    }

    /// Adds bytes of the proxy's own to what goes on.
    pub(super) fn inject(&mut self, bytes: &[u8]) {
        self.injected.push(self.out.len()..self.out.len() + bytes.len());
        self.out.extend_from_slice(bytes);
    }

    /// What went on, without what the proxy said itself.
    pub(super) fn not_injected(&self) -> Vec<u8> {
        let mut out = self.out.clone();
        for own in self.injected.iter().rev() {
            out.drain(own.clone());
        }
        out
    }

    /// Lets through what may go. `true` if a message ended with it.
    pub(super) fn advance(&mut self) -> bool {
        let len = self.left.min(self.here.len() as u64);
        // A `u64::MAX` means for ever, and so never grows less.
        self.left -= if self.left == u64::MAX { 0 } else { len };
        let len = usize::try_from(len).unwrap_or(self.here.len());
        if !self.dropping {
            self.out.extend_from_slice(&self.here[..len]);
        }
        self.here.advance(len);
        self.came += len;
        self.left == 0 && std::mem::take(&mut self.ends)
    }

    /// Whether the codec should be asked: it has let nothing through that is still to come, and
    /// what it held for is here. An `eager` relay asks again with each byte.
    pub(super) fn asks(&self, eager: bool) -> bool {
        self.left == 0 && (eager || self.here.len() >= self.wanted)
    }

    /// Notes that the message under way has ended.
    pub(super) fn end(&mut self, operation: Option<usize>) {
        self.inside = false;
        self.dropping = false;
        let (came, went) = (self.came, self.out.len());
        let swapped = std::mem::take(&mut self.swapped);
        self.messages.push(Message { came, went, operation, swapped });
    }

    /// Whether the message under way goes nowhere.
    pub(super) fn drops(&self) -> bool {
        self.dropping
    }

    /// Drops the message under way instead of letting it through.
    pub(super) fn refuse(&mut self) {
        self.dropping = true;
    }

    /// Asks the codec again when `wanted` bytes are here.
    pub(super) fn wait_for(&mut self, wanted: usize) {
        self.wanted = wanted;
    }

    /// Checks what a codec said of the bytes that are here.
    pub(super) fn permits<M>(&self, next: &Next<M>) -> Result<(), Breach> {
        let here = self.here.len();
        match next {
            Next::Hold(n) if *n <= here => Err(Breach::new(
                ConformanceRule::Hold,
                format!("holds for {n} bytes at byte {} though {here} are here", self.came),
            )),
            Next::Hold(n) if *n > HOLD => Err(Breach::new(
                ConformanceRule::Hold,
                format!("holds for {n} bytes at byte {}, and {HOLD} is the most", self.came),
            )),
            Next::Pass { len: 0, mark: None, ends: false } | Next::Drop { len: 0, ends: false } => {
                Err(Breach::new(
                    ConformanceRule::Progress,
                    format!("lets nothing through at byte {} and says nothing", self.came),
                ))
            }
            Next::Swap { len, .. } if *len > here => Err(Breach::new(
                ConformanceRule::Progress,
                format!("swaps {len} bytes at byte {} of which {here} are here", self.came),
            )),
            Next::Swap { len: 0, .. } => Err(Breach::new(
                ConformanceRule::Progress,
                format!("swaps nothing at byte {}", self.came),
            )),
            _ => Ok(()),
        }
    }

    /// Does what a codec said. `false` if it wants more bytes first.
    pub(super) fn follow<M>(&mut self, next: Next<M>) -> bool {
        self.wanted = 0;
        match next {
            Next::Hold(n) => {
                self.wanted = n;
                return false;
            }
            Next::Violates(_) => {}
            Next::Pass { len, ends, .. } => {
                self.left = len;
                self.ends = ends;
                // A message that is passed in no bytes at all has not begun.
                self.inside |= len > 0 || ends;
            }
            Next::Drop { len, ends } => {
                self.dropping = true;
                self.left = len;
                self.ends = ends;
                self.inside |= len > 0 || ends;
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
