//! A request that is still arriving: it passes, and is read while it does.

use crate::{
    decompressor::{DecompressionReservation, Decompressor},
    header::{HEADER_LEN, Header},
    parsed_command::ParsedCommand,
    request_summary::RequestSummary,
    scan::{MessageFacts, Scan},
    violations::{BAD_DOCUMENT, DECOMPRESSION_BOMB, NOT_INFLATED},
};
use operation::Violation;

/// Reads a passing request: it counts documents, and summarizes what the front did not contain.
pub(super) struct StreamedRequest {
    /// How many bytes are still to come.
    left: usize,
    scan: Scan,
    facts: MessageFacts,
    summary: Option<RequestSummary>,
    encoding: BodyEncoding,
    /// How many of the bytes at hand were read before a violation was returned.
    read_before_error: usize,
}

/// How the request is encoded.
enum BodyEncoding {
    Plain,
    /// Compressed, with a reservation for the decompressor's memory.
    Compressed {
        decompressor: Box<Decompressor>,
        _reservation: DecompressionReservation,
    },
    /// It cannot be read, or there is no memory for another decompressor.
    Unreadable,
}

impl StreamedRequest {
    /// Begins with the bytes after the header that are here; `left` more follow. `learns`: whether
    /// a summary is needed in addition to the number of documents.
    pub(super) fn plain(header: Header, here: &[u8], left: usize, learns: bool) -> Self {
        let mut sending = Self::new(header, left, learns);
        sending.read(here);
        sending
    }

    /// The same for a request inside an `OP_COMPRESSED`: `header` is the inner one.
    pub(super) fn new(header: Header, left: usize, learns: bool) -> Self {
        Self {
            left,
            scan: Scan::request(header.opcode, header.len - HEADER_LEN as u32),
            facts: MessageFacts::default(),
            summary: learns.then(|| RequestSummary::new(header)),
            encoding: BodyEncoding::Plain,
            read_before_error: 0,
        }
    }

    /// Reads the next decompressed bytes of the request.
    pub(super) fn read(&mut self, piece: &[u8]) {
        self.scan.feed(piece, &mut self.facts);
        if let Some(digest) = &mut self.summary {
            digest.feed(piece);
        }
    }

    /// Continues with this decompressor. Without a reservation the rest is not read.
    pub(super) fn continue_with(
        &mut self,
        inflate: Decompressor,
        room: Option<DecompressionReservation>,
    ) {
        self.encoding = match room {
            Some(room) => {
                BodyEncoding::Compressed { decompressor: Box::new(inflate), _reservation: room }
            }
            None => BodyEncoding::Unreadable,
        };
    }

    /// Drops the readers that a request of this kind does not need. Returns whether more of it must
    /// be read.
    pub(super) fn keep_needed(&mut self, asked: &ParsedCommand) -> bool {
        if !asked.partial {
            self.summary = None;
        }
        self.left > 0 && (asked.partial || asked.counts_documents())
    }

    /// Whether all of the request has arrived.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// How many bytes are still to come.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The number of documents so far.
    pub(super) fn documents(&self) -> u64 {
        self.facts.documents
    }

    /// The summary of the request, if one was made.
    pub(super) fn into_summary(self) -> Option<RequestSummary> {
        self.summary
    }

    /// The violation that was found in the bytes of the request's front.
    pub(super) fn take_violation(&mut self) -> Option<Violation> {
        let digest = self.summary.as_mut()?;
        let broken = (self.left == 0 && !digest.is_complete()).then_some(BAD_DOCUMENT);
        digest.take_violation().or(broken)
    }

    /// Reads the bytes at hand. A violation is returned once; the caller then passes the same bytes
    /// again, because none of them have been sent.
    pub(super) fn feed(&mut self, here: &[u8]) -> Result<(), Violation> {
        let fresh = here.get(self.read_before_error..).unwrap_or_default();
        self.read_before_error = here.len();
        let wrong = self.decode(fresh);
        let digest = self.summary.as_mut();
        let early = digest.as_ref().is_some_and(|digest| !digest.is_complete());
        let found = digest.and_then(RequestSummary::take_violation);
        if let Some(violation) = wrong.err().or(found) {
            return Err(violation);
        }
        if here.len() == self.left && early {
            // Returned once.
            self.summary = None;
            return Err(BAD_DOCUMENT);
        }
        (self.left, self.read_before_error) = (self.left - here.len(), 0);
        Ok(())
    }

    fn decode(&mut self, fresh: &[u8]) -> Result<(), Violation> {
        let Self { scan, facts, summary: digest, encoding: source, .. } = self;
        let mut read = |piece: &[u8]| {
            scan.feed(piece, facts);
            if let Some(digest) = digest {
                digest.feed(piece);
            }
        };
        let wrong = match source {
            BodyEncoding::Plain => {
                read(fresh);
                None
            }
            BodyEncoding::Compressed { decompressor: inflate, .. } => {
                inflate.feed(fresh, &mut read).err()
            }
            BodyEncoding::Unreadable => Some(NOT_INFLATED),
        };
        let Some(wrong) = wrong else { return Ok(()) };
        self.encoding = BodyEncoding::Unreadable;
        // If the bytes cannot be decompressed, documents are not counted any further, but a missing
        // summary is an error.
        match self.summary.take() {
            None if wrong != DECOMPRESSION_BOMB => Ok(()),
            _ => Err(wrong),
        }
    }

    /// Skips what need not be read of the rest. Returns its length. The last byte is never skipped:
    /// the request ends when it arrives.
    pub(super) fn skip(&mut self) -> usize {
        if !matches!(self.encoding, BodyEncoding::Plain) {
            return 0;
        }
        let most = self.scan.skippable(self.left - 1);
        let unseen = self.summary.as_ref().map_or(most, |digest| digest.skippable(most));
        self.scan.skip(unseen);
        self.summary.iter_mut().for_each(|digest| digest.skip(unseen));
        self.left -= unseen;
        unseen
    }
}
