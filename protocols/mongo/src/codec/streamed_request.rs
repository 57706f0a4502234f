//! A request of which more is to come: it passes, and is read as it does.

use crate::{
    decompressor::{DecompressionReservation, Decompressor},
    header::{HEADER_LEN, Header},
    parsed_command::ParsedCommand,
    request_summary::RequestSummary,
    scan::{MessageFacts, Scan},
    violations::{BAD_DOCUMENT, DECOMPRESSION_BOMB, NOT_INFLATED},
};
use operation::Violation;

/// What is read of a request as it passes: its documents are counted, and what its front did not
/// tell is learned.
pub(super) struct StreamedRequest {
    /// How many bytes are still to come.
    left: usize,
    scan: Scan,
    facts: MessageFacts,
    summary: Option<RequestSummary>,
    encoding: BodyEncoding,
    /// How many of the bytes at hand were read when it was told what is wrong with them.
    read_before_error: usize,
}

/// How its bytes come.
enum BodyEncoding {
    Plain,
    /// Compressed, with room for the decoder.
    Compressed {
        decompressor: Box<Decompressor>,
        _reservation: DecompressionReservation,
    },
    /// They can't be read, or there is no room for one more decoder.
    Unreadable,
}

impl StreamedRequest {
    /// Begins with the bytes after the header that are here. `left` are still to come. `learns` tells
    /// whether more than its documents is read.
    pub(super) fn plain(header: Header, here: &[u8], left: usize, learns: bool) -> Self {
        let mut sending = Self::new(header, left, learns);
        sending.read(here);
        sending
    }

    /// The same for a request inside of a compressed one: `header` is its own.
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

    /// Reads the next bytes of the request, which are not compressed.
    pub(super) fn read(&mut self, piece: &[u8]) {
        self.scan.feed(piece, &mut self.facts);
        if let Some(digest) = &mut self.summary {
            digest.feed(piece);
        }
    }

    /// Goes on with this decoder. Without room for it, what is to come is not read.
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

    /// Drops the readers that a request of this kind does not need. Returns whether more of it is
    /// read.
    pub(super) fn keep_needed(&mut self, asked: &ParsedCommand) -> bool {
        if !asked.partial {
            self.summary = None;
        }
        self.left > 0 && (asked.partial || asked.counts_documents())
    }

    /// Whether all of the request has been here.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// How many bytes are still to come.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Documents in the request so far.
    pub(super) fn documents(&self) -> u64 {
        self.facts.documents
    }

    /// What its rest told.
    pub(super) fn into_summary(self) -> Option<RequestSummary> {
        self.summary
    }

    /// What is wrong with what was here of the request when it began.
    pub(super) fn take_violation(&mut self) -> Option<Violation> {
        let digest = self.summary.as_mut()?;
        let broken = (self.left == 0 && !digest.is_complete()).then_some(BAD_DOCUMENT);
        digest.take_violation().or(broken)
    }

    /// Reads the bytes at hand. If they break a rule, that is told once, and they are to be given
    /// again: nothing has passed.
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
            // Told once.
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
        // Counting the documents of what can't be read is given up; learning from it is not.
        match self.summary.take() {
            None if wrong != DECOMPRESSION_BOMB => Ok(()),
            _ => Err(wrong),
        }
    }

    /// Steps over what need not be seen of what is left, and tells how much that is. The last
    /// byte has to be: the request ends when it comes.
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
