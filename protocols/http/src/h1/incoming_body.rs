//! A request's body as it comes from the client: by length, or in chunks.
//!
//! Chunks are read by the validator's strict machine and written again, without extensions and trailers.

use super::{buffer::Buffer, chunks::write_chunk, link::Link, request_head::BodyLength};
use crate::h1_validator::{ChunkStep, ChunkedBody, H1Error, RequestLimits};
use session::Session;
use std::task::{Context, Poll, ready};

/// Why a body can't be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// The client is gone.
    Aborted,
    /// Its bytes are no body.
    Invalid(H1Error),
    /// It is longer than the route allows.
    TooLarge,
}

impl BodyFault {
    /// Counts it, if it is a violation.
    pub(super) fn count(&self, session: &dyn Session) {
        if let BodyFault::Invalid(error) = self {
            session.count_violation(error.violation);
        }
    }
}

/// What has not been read of a request's body.
pub(super) struct IncomingBody<'c> {
    /// What came with the head, and is not read.
    present: &'c [u8],
    /// How many of the bytes after the head belong to it.
    taken: usize,
    rest: Rest,
    /// How many bytes of data are still allowed.
    allowed: u64,
}

enum Rest {
    /// This many bytes have not come yet.
    Length(u64),
    Chunks(Box<Chunks>),
}

/// A chunked body.
struct Chunks {
    body: ChunkedBody,
    limits: RequestLimits,
    /// What was read and does not make a part of it yet, or follows it.
    raw: Buffer,
    ended: bool,
    invalid: bool,
}

impl<'c> IncomingBody<'c> {
    /// A body of which `present` has come, with what follows it.
    pub(super) fn new(length: BodyLength, present: &'c [u8], limits: RequestLimits) -> Self {
        let (present, rest) = match length {
            BodyLength::Length(length) => {
                let here = present.len().min(usize::try_from(length).unwrap_or(usize::MAX));
                (&present[..here], Rest::Length(length - here as u64))
            }
            BodyLength::Chunked => {
                let (body, raw) = (ChunkedBody::default(), Buffer::default());
                (
                    present,
                    Rest::Chunks(Box::new(Chunks {
                        body,
                        limits,
                        raw,
                        ended: false,
                        invalid: false,
                    })),
                )
            }
        };
        Self { present, taken: present.len(), rest, allowed: u64::MAX }
    }

    /// Allows this many bytes of data.
    pub(super) fn limit(&mut self, most: Option<u64>) {
        self.allowed = most.unwrap_or(u64::MAX);
    }

    /// The length in bytes, if the client has declared it.
    pub(super) fn declared(&self) -> Option<u64> {
        match self.rest {
            Rest::Length(rest) => Some(rest + self.present.len() as u64),
            Rest::Chunks(_) => None,
        }
    }

    /// Whether all of it has come, and was read.
    pub(super) fn is_ended(&self) -> bool {
        match &self.rest {
            Rest::Length(rest) => *rest == 0,
            Rest::Chunks(chunks) => chunks.ended,
        }
    }

    /// Whether the client has sent what is no body.
    pub(super) fn is_invalid(&self) -> bool {
        matches!(&self.rest, Rest::Chunks(chunks) if chunks.invalid)
    }

    /// Passes what came with the head to `out`, once, as the service gets it. Returns how many bytes of data that were.
    ///
    /// # Errors
    /// It is invalid, or longer than allowed.
    pub(super) fn take_present(&mut self, mut out: impl FnMut(&[u8])) -> Result<u64, BodyFault> {
        let present = std::mem::take(&mut self.present);
        if present.is_empty() {
            return Ok(0);
        }
        let data = match &mut self.rest {
            Rest::Length(_) => {
                out(present);
                present.len() as u64
            }
            Rest::Chunks(chunks) => {
                let (data, read) = chunks.read(present, &mut out)?;
                if chunks.ended {
                    self.taken = read;
                } else if read < present.len() {
                    chunks.raw.extend(&present[read..]);
                }
                data
            }
        };
        self.allow(data)
    }

    fn allow(&mut self, data: u64) -> Result<u64, BodyFault> {
        self.allowed = self.allowed.checked_sub(data).ok_or(BodyFault::TooLarge)?;
        Ok(data)
    }

    /// Reads more of it to `out`, as the service gets it. Returns how many bytes of data that were; framing has none.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        out: &mut Buffer,
    ) -> Poll<Result<u64, BodyFault>> {
        let data = match &mut self.rest {
            Rest::Length(rest) => {
                let most = usize::try_from(*rest).unwrap_or(usize::MAX);
                let Ok(count @ 1..) = ready!(link.poll_read(cx, out, most)) else {
                    return Poll::Ready(Err(BodyFault::Aborted));
                };
                *rest -= count as u64;
                count as u64
            }
            Rest::Chunks(chunks) => ready!(chunks.poll_read(cx, link, out))?,
        };
        Poll::Ready(self.allow(data))
    }

    /// How many of the bytes after the head belong to it, and what was read beyond it since.
    pub(super) fn into_surplus(self) -> (usize, Buffer) {
        match self.rest {
            Rest::Length(_) => (self.taken, Buffer::default()),
            Rest::Chunks(chunks) => (self.taken, chunks.raw),
        }
    }
}

impl Chunks {
    /// Reads the parts of the body that are complete. Returns how many bytes of data they have, and how many bytes they
    /// take.
    fn read(
        &mut self,
        bytes: &[u8],
        out: &mut impl FnMut(&[u8]),
    ) -> Result<(u64, usize), BodyFault> {
        let (mut data, mut read) = (0, 0);
        while !self.ended && read < bytes.len() {
            let rest = &bytes[read..];
            let step = self.body.step(rest, &self.limits);
            self.invalid |= step.is_err();
            match step.map_err(BodyFault::Invalid)? {
                ChunkStep::Hold => break,
                ChunkStep::Framing(count) => read += count,
                ChunkStep::Data(count) => {
                    write_chunk(&rest[..count], &mut *out);
                    data += count as u64;
                    read += count;
                }
                ChunkStep::End(count) => {
                    out(b"0\r\n\r\n");
                    read += count;
                    self.ended = true;
                }
            }
        }
        Ok((data, read))
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        out: &mut Buffer,
    ) -> Poll<Result<u64, BodyFault>> {
        self.raw.make_room(usize::MAX);
        let Ok(1..) = ready!(link.poll_read(cx, &mut self.raw, usize::MAX)) else {
            return Poll::Ready(Err(BodyFault::Aborted));
        };
        let raw = std::mem::take(&mut self.raw);
        let result = self.read(raw.bytes(), &mut |bytes| out.extend(bytes));
        self.raw = raw;
        let (data, read) = result?;
        self.raw.consume(read);
        Poll::Ready(Ok(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_with_the_head_is_read_once() {
        let bytes = b"5\r\nhello\r\n0\r\n\r\nGET /";
        let limits = RequestLimits::default();
        let mut body = IncomingBody::new(BodyLength::Chunked, bytes, limits);
        let mut out = Vec::new();
        assert_eq!(body.take_present(|bytes| out.extend_from_slice(bytes)), Ok(5));
        assert_eq!(body.take_present(|_| panic!("it was read")), Ok(0));
        assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n");
        let (taken, surplus) = body.into_surplus();
        assert_eq!((taken, surplus.len()), (bytes.len() - 5, 0));
    }

    #[test]
    fn a_body_is_limited_and_its_fault_remembered() {
        let mut body =
            IncomingBody::new(BodyLength::Chunked, b"5\r\nhello\r\n", RequestLimits::default());
        body.limit(Some(4));
        assert_eq!(body.take_present(|_| {}), Err(BodyFault::TooLarge));
        let mut body = IncomingBody::new(BodyLength::Chunked, b"x\r\n", RequestLimits::default());
        assert!(matches!(body.take_present(|_| {}), Err(BodyFault::Invalid(_))));
        assert!(body.is_invalid() && !body.is_ended());
    }
}
