//! A request of which more is to come: it passes, and is read as it does.

use crate::{
    decompressor::{DecompressionReservation, Decompressor},
    header::{HEADER_LEN, Header},
    parsed_command::ParsedCommand,
    request_summary::RequestSummary,
    scan::{MessageFacts, Scan},
};
use operation::Violation;

/// What is read of a request as it passes: its documents are counted, and what its front did not
/// tell is learned.
pub(super) struct StreamedRequest {
    /// How many bytes are still to come.
    left: usize,
    scan: Scan,
    facts: MessageFacts,
    digest: Option<RequestSummary>,
    source: BodyEncoding,
    /// How many of the bytes at hand were read when it was told what is wrong with them.
    seen: usize,
}

/// How its bytes come.
enum BodyEncoding {
    Plain,
    /// Compressed, with room for the decoder.
    Compressed {
        inflate: Box<Decompressor>,
        _room: DecompressionReservation,
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
            digest: learns.then(|| RequestSummary::new(header)),
            source: BodyEncoding::Plain,
            seen: 0,
        }
    }

    /// Reads the next bytes of the request, which are not compressed.
    pub(super) fn read(&mut self, piece: &[u8]) {
        self.scan.feed(piece, &mut self.facts);
        if let Some(digest) = &mut self.digest {
            digest.feed(piece);
        }
    }

    /// Goes on with this decoder. Without room for it, what is to come is not read.
    pub(super) fn inflates(
        &mut self,
        inflate: Decompressor,
        room: Option<DecompressionReservation>,
    ) {
        self.source = match room {
            Some(room) => BodyEncoding::Compressed { inflate: Box::new(inflate), _room: room },
            None => BodyEncoding::Unreadable,
        };
    }

    /// Drops the readers that a request of this kind does not need. Returns whether more of it is
    /// read.
    pub(super) fn serves(&mut self, asked: &ParsedCommand) -> bool {
        if !asked.partial {
            self.digest = None;
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
    pub(super) fn items(&self) -> u64 {
        self.facts.items
    }

    /// What its rest told.
    pub(super) fn into_digest(self) -> Option<RequestSummary> {
        self.digest
    }

    /// What is wrong with what was here of the request when it began.
    pub(super) fn violation(&mut self) -> Option<Violation> {
        let digest = self.digest.as_mut()?;
        let broken = (self.left == 0 && !digest.is_whole()).then_some(Violation("bad_document"));
        digest.violation().or(broken)
    }

    /// Reads the bytes at hand. If they break a rule, that is told once, and they are to be given
    /// again: nothing has passed.
    pub(super) fn feed(&mut self, here: &[u8]) -> Result<(), Violation> {
        let fresh = here.get(self.seen..).unwrap_or_default();
        self.seen = here.len();
        let wrong = self.take(fresh);
        let digest = self.digest.as_mut();
        let early = digest.as_ref().is_some_and(|digest| !digest.is_whole());
        let found = digest.and_then(RequestSummary::violation);
        if let Some(violation) = wrong.err().or(found) {
            return Err(violation);
        }
        if here.len() == self.left && early {
            // Told once.
            self.digest = None;
            return Err(Violation("bad_document"));
        }
        (self.left, self.seen) = (self.left - here.len(), 0);
        Ok(())
    }

    fn take(&mut self, fresh: &[u8]) -> Result<(), Violation> {
        let Self { scan, facts, digest, source, .. } = self;
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
            BodyEncoding::Compressed { inflate, .. } => inflate.feed(fresh, &mut read).err(),
            BodyEncoding::Unreadable => Some(Violation("not_inflated")),
        };
        let Some(wrong) = wrong else { return Ok(()) };
        self.source = BodyEncoding::Unreadable;
        // Counting the documents of what can't be read is given up; learning from it is not.
        match self.digest.take() {
            None if wrong != super::request::BOMB => Ok(()),
            _ => Err(wrong),
        }
    }

    /// Steps over what need not be seen of what is left, and tells how much that is. The last
    /// byte has to be: the request ends when it comes.
    pub(super) fn step_over(&mut self) -> usize {
        if !matches!(self.source, BodyEncoding::Plain) {
            return 0;
        }
        let most = self.scan.unneeded(self.left - 1);
        let unseen = self.digest.as_ref().map_or(most, |digest| digest.unneeded(most));
        self.scan.step_over(unseen);
        self.digest.iter_mut().for_each(|digest| digest.step_over(unseen));
        self.left -= unseen;
        unseen
    }
}
