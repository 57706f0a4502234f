//! Defence against request smuggling: a strict validator for the bytes of an HTTP/1 client
//! connection, in front of hyper's lenient parser.
//!
//! Everything that two readers could read differently is rejected (RFC 9110, RFC 9112), so that
//! hyper, the proxy and the service agree on where a request ends. Valid bytes are read the same
//! way by hyper, which must accept heads of [`RequestLimits::head_bytes`] and
//! [`RequestLimits::headers`] headers (its own limits are 408 KiB and 100).

mod chunk;
mod error;
mod head;
mod line;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use chunk::is_forbidden as is_forbidden_trailer;
pub(crate) use chunk::{ChunkStep, ChunkedBody};
pub use error::H1Error;
use head::{BodyLength, HeadParser};
pub(crate) use line::is_odd;
pub(crate) use target::is_plain as is_target;

/// Limits of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Request line and all headers, in bytes.
    pub head_bytes: usize,
    /// Target of the request line, in bytes; hyper accepts at most 65534.
    pub target_bytes: usize,
    /// Number of headers, and number of trailers.
    pub headers: usize,
    /// All trailers, in bytes; hyper accepts less than 16 KiB.
    pub trailer_bytes: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { head_bytes: 64 << 10, target_bytes: 8 << 10, headers: 100, trailer_bytes: 8 << 10 }
    }
}

impl RequestLimits {
    /// The limit that an HTTP/2 head exceeds; its bytes do not pass the validator. HTTP/2 framing
    /// has a higher limit, so that the client gets a response.
    pub fn check(&self, head: &http::request::Parts) -> Option<H1Error> {
        let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        match () {
            () if target > self.target_bytes => Some(error::TARGET_TOO_LONG),
            () if head.headers.len() > self.headers => Some(error::TOO_MANY_HEADERS),
            () if target + crate::header_policy::length::h2_size(&head.headers)
                > self.head_bytes =>
            {
                Some(error::HEAD_TOO_LARGE)
            }
            () => None,
        }
    }
}

/// Result of a validation step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    /// Number of leading bytes that may be passed to the parser. The rest must be shown again with
    /// more bytes. Heads pass only when complete and valid; bodies pass as they arrive.
    pub bytes: usize,
    /// What is wrong with the bytes after those. Nothing passes from then on.
    pub error: Option<H1Error>,
}

/// Validates the bytes of one connection.
///
/// Holds no bytes, does not allocate, and looks at each byte once, even if they arrive one by one.
#[derive(Debug)]
pub struct H1Validator {
    limits: RequestLimits,
    state: ValidatorState,
    /// The client sends no further request.
    last: bool,
    requests: u64,
    odd_names: bool,
}

#[derive(Debug)]
enum ValidatorState {
    Head(HeadParser),
    /// Remaining bytes of a body.
    Body(u64),
    Chunks(ChunkedBody),
    /// An upgrade or a tunnel was requested, and the response is not known yet.
    Upgrade,
    /// It was granted.
    Open,
    /// The client announced that this was its last request.
    Last,
    Broken(H1Error),
}

impl H1Validator {
    /// A validator for a new connection.
    #[must_use]
    pub fn new(limits: RequestLimits) -> Self {
        Self {
            limits,
            state: ValidatorState::Head(HeadParser::default()),
            last: false,
            requests: 0,
            odd_names: false,
        }
    }

    /// Validates bytes that have not passed yet: those held, followed by new ones. Continues over
    /// any number of messages.
    pub fn validate(&mut self, bytes: &[u8]) -> Validated {
        let mut passes = 0;
        loop {
            match self.step(&bytes[passes..]) {
                Ok(0) => return Validated { bytes: passes, error: None },
                Ok(more) => passes += more,
                Err(fault) => {
                    self.state = ValidatorState::Broken(fault);
                    return Validated { bytes: passes, error: Some(fault) };
                }
            }
        }
    }

    /// Validates a part of a message. Returns how many bytes may pass; 0 if more are needed.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, H1Error> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match &mut self.state {
            ValidatorState::Head(head) => {
                let Some(read) = head.look(bytes, &self.limits)? else { return Ok(0) };
                self.requests += 1;
                self.last = read.last;
                self.odd_names |= read.odd;
                self.state = match read.body {
                    _ if read.upgrade => ValidatorState::Upgrade,
                    BodyLength::Length(0) => self.next_state(),
                    BodyLength::Length(length) => ValidatorState::Body(length),
                    BodyLength::Chunked => ValidatorState::Chunks(ChunkedBody::default()),
                };
                Ok(read.len)
            }
            ValidatorState::Body(left) => {
                let here = (*left).min(bytes.len() as u64);
                *left -= here;
                if *left == 0 {
                    self.state = self.next_state();
                }
                Ok(here as usize)
            }
            ValidatorState::Chunks(chunks) => Ok(match chunks.step(bytes, &self.limits)? {
                ChunkStep::Hold => 0,
                ChunkStep::Framing(passes) | ChunkStep::Data(passes) => passes,
                ChunkStep::End(passes) => {
                    self.state = self.next_state();
                    passes
                }
            }),
            ValidatorState::Upgrade | ValidatorState::Last => Ok(0),
            ValidatorState::Open => Ok(bytes.len()),
            ValidatorState::Broken(fault) => Err(*fault),
        }
    }

    /// The state after a message.
    fn next_state(&self) -> ValidatorState {
        if self.last { ValidatorState::Last } else { ValidatorState::Head(HeadParser::default()) }
    }

    /// The upgrade or tunnel that the last head asked for was granted: everything passes from
    /// here. Nothing happens if none was asked for.
    pub fn open(&mut self) {
        if self.awaits_upgrade() {
            self.state = ValidatorState::Open;
        }
    }

    /// The requested upgrade was declined: the following bytes are HTTP. No effect if none was
    /// requested.
    pub fn refuse_upgrade(&mut self) {
        if self.awaits_upgrade() {
            self.state = self.next_state();
        }
    }

    /// Whether the last head requested a tunnel (CONNECT) or an upgrade that is not decided yet.
    /// `Upgrade` must be ignored if this is false: in HTTP/1.0, in a request with a body, without
    /// `Connection: upgrade`, and for `h2c`.
    #[must_use]
    pub fn awaits_upgrade(&self) -> bool {
        matches!(self.state, ValidatorState::Upgrade)
    }

    /// Whether no further byte passes and no error can occur: an upgrade is undecided, or the
    /// client's last request is complete. Reading on would only fill memory.
    #[must_use]
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, ValidatorState::Upgrade | ValidatorState::Last)
    }

    /// Whether no request is under way: the connection may end here. An empty line that is held
    /// is none.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        match &self.state {
            ValidatorState::Head(head) => head.is_untouched(),
            ValidatorState::Last => true,
            _ => false,
        }
    }

    /// Whether a head has started and is incomplete.
    #[must_use]
    pub(crate) fn in_head(&self) -> bool {
        matches!(&self.state, ValidatorState::Head(head) if !head.is_untouched())
    }

    /// Whether a head has passed and the end of its body has not.
    #[must_use]
    pub fn in_body(&self) -> bool {
        matches!(self.state, ValidatorState::Body(_) | ValidatorState::Chunks(_))
    }

    /// Whether any header name so far had characters other than letters, digits and `-`.
    #[must_use]
    pub fn has_odd_names(&self) -> bool {
        self.odd_names
    }

    /// Number of heads that have passed.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }
}
