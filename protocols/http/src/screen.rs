//! The defence against request smuggling: a strict watcher of the bytes of one HTTP/1 client
//! connection, in front of hyper's parser, which is lenient.
//!
//! Whatever two readers could take for two things is refused (RFC 9110, RFC 9112), so that hyper,
//! the proxy and the service never disagree on where a request ends. What passes is what hyper
//! reads the same way: hyper is to have room for a head of [`Limits::head_bytes`] and for
//! [`Limits::headers`] headers (its own are 408 KiB and 100).

mod chunk;
mod fault;
mod head;
mod line;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use chunk::is_forbidden as is_forbidden_trailer;
use chunk::{ChunkStep, ChunkedBody};
pub use fault::H1Error;
use head::{BodyLength, HeadParser};
pub(crate) use line::is_odd;
pub(crate) use target::is_plain as is_target;

/// How much of a request may come in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Of the request line and all headers together, in bytes.
    pub head_bytes: usize,
    /// Of the request line's target, in bytes; hyper reads at most 65534.
    pub target_bytes: usize,
    /// How many headers a request may have, and how many trailers.
    pub headers: usize,
    /// Of all trailers together, in bytes; hyper reads less than 16 KiB.
    pub trailer_bytes: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { head_bytes: 64 << 10, target_bytes: 8 << 10, headers: 100, trailer_bytes: 8 << 10 }
    }
}

impl RequestLimits {
    /// What is over them in a head of HTTP/2, whose bytes no screen has seen. Its framing lets some
    /// more pass, so that there is somebody to tell.
    pub fn fault(&self, head: &http::request::Parts) -> Option<H1Error> {
        let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        match () {
            () if target > self.target_bytes => Some(fault::TARGET_TOO_LONG),
            () if head.headers.len() > self.headers => Some(fault::TOO_MANY_HEADERS),
            () if target + crate::hygiene::length::in_http2(&head.headers) > self.head_bytes => {
                Some(fault::HEAD_TOO_LARGE)
            }
            () => None,
        }
    }
}

/// What may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    /// So many bytes at the front may go on to the parser. What is after them has to be shown
    /// again, with more. Heads pass only when they are complete and right; bodies as they come.
    pub passes: usize,
    /// What is wrong with the bytes after those. Nothing passes ever after.
    pub fault: Option<H1Error>,
}

/// Watches the bytes of one connection.
///
/// It holds no bytes, allocates nothing, and looks at each byte once, however they trickle in.
#[derive(Debug)]
pub struct H1Validator {
    limits: RequestLimits,
    at: ValidatorState,
    /// The client sends no request after the one at hand.
    last: bool,
    requests: u64,
    odd_names: bool,
}

#[derive(Debug)]
enum ValidatorState {
    Head(HeadParser),
    /// So many bytes of a body are to come.
    Body(u64),
    Chunks(ChunkedBody),
    /// An upgrade or a tunnel was asked for, and nobody knows yet whether it is granted.
    Upgrade,
    /// It was granted.
    Open,
    /// The client has said that it sends no more.
    Last,
    Broken(H1Error),
}

impl H1Validator {
    /// The screen of a new connection.
    #[must_use]
    pub fn new(limits: RequestLimits) -> Self {
        Self {
            limits,
            at: ValidatorState::Head(HeadParser::default()),
            last: false,
            requests: 0,
            odd_names: false,
        }
    }

    /// Looks at the bytes that were not let through yet, from the front: those held, and new ones
    /// after them. Goes on through as many messages as there are.
    pub fn look(&mut self, bytes: &[u8]) -> Validated {
        let mut passes = 0;
        loop {
            match self.step(&bytes[passes..]) {
                Ok(0) => return Validated { passes, fault: None },
                Ok(more) => passes += more,
                Err(fault) => {
                    self.at = ValidatorState::Broken(fault);
                    return Validated { passes, fault: Some(fault) };
                }
            }
        }
    }

    /// Looks at one part of a message: how many bytes of it may pass; 0 if more has to come.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, H1Error> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match &mut self.at {
            ValidatorState::Head(head) => {
                let Some(read) = head.look(bytes, &self.limits)? else { return Ok(0) };
                self.requests += 1;
                self.last = read.last;
                self.odd_names |= read.odd;
                self.at = match read.body {
                    _ if read.upgrade => ValidatorState::Upgrade,
                    BodyLength::Length(0) => self.rest(),
                    BodyLength::Length(length) => ValidatorState::Body(length),
                    BodyLength::Chunked => ValidatorState::Chunks(ChunkedBody::default()),
                };
                Ok(read.len)
            }
            ValidatorState::Body(left) => {
                let here = (*left).min(bytes.len() as u64);
                *left -= here;
                if *left == 0 {
                    self.at = self.rest();
                }
                Ok(here as usize)
            }
            ValidatorState::Chunks(chunks) => Ok(match chunks.step(bytes, &self.limits)? {
                ChunkStep::Hold => 0,
                ChunkStep::Pass(passes) => passes,
                ChunkStep::End(passes) => {
                    self.at = self.rest();
                    passes
                }
            }),
            ValidatorState::Upgrade | ValidatorState::Last => Ok(0),
            ValidatorState::Open => Ok(bytes.len()),
            ValidatorState::Broken(fault) => Err(*fault),
        }
    }

    /// Where a message's end leads to.
    fn rest(&self) -> ValidatorState {
        if self.last { ValidatorState::Last } else { ValidatorState::Head(HeadParser::default()) }
    }

    /// The upgrade or tunnel that the last head asked for was granted: everything passes from
    /// here. Nothing happens if none was asked for.
    pub fn open(&mut self) {
        if self.awaits_upgrade() {
            self.at = ValidatorState::Open;
        }
    }

    /// It was not: bytes after that head are HTTP again. Nothing happens if none was asked for.
    pub fn resume(&mut self) {
        if self.awaits_upgrade() {
            self.at = self.rest();
        }
    }

    /// Whether the last head asked for a tunnel (CONNECT) or for an upgrade, and it is neither
    /// granted nor refused yet. `Upgrade` is to be ignored where this is false: in HTTP/1.0, in a
    /// request with a body, without `Connection: upgrade`, and for `h2c`.
    #[must_use]
    pub fn awaits_upgrade(&self) -> bool {
        matches!(self.at, ValidatorState::Upgrade)
    }

    /// Whether nothing passes whatever comes, and no fault would be found either: an upgrade is
    /// awaited, or the request that the client called its last is over. To read on would only
    /// fill memory.
    #[must_use]
    pub fn holds(&self) -> bool {
        matches!(self.at, ValidatorState::Upgrade | ValidatorState::Last)
    }

    /// Whether no request is under way: the connection may end here. An empty line that is held
    /// is none.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        match &self.at {
            ValidatorState::Head(head) => head.is_untouched(),
            ValidatorState::Last => true,
            _ => false,
        }
    }

    /// Whether a head has begun and is not complete.
    #[must_use]
    pub fn in_head(&self) -> bool {
        matches!(&self.at, ValidatorState::Head(head) if !head.is_untouched())
    }

    /// Whether a head has passed and its body's end has not.
    #[must_use]
    pub fn in_body(&self) -> bool {
        matches!(self.at, ValidatorState::Body(_) | ValidatorState::Chunks(_))
    }

    /// Whether a header of any request so far had a name of other characters than letters, digits
    /// and `-`.
    #[must_use]
    pub fn has_odd_names(&self) -> bool {
        self.odd_names
    }

    /// How many heads have passed.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }
}
