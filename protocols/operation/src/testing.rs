//! The conformance suite that every codec runs with its fixtures.
//!
//! ```ignore
//! #[test]
//! fn the_codec_conforms() {
//!     let fixtures = operation::testing::load("../../fixtures/redis").unwrap();
//!     operation::testing::conforms::<Redis>(Default::default, &fixtures);
//! }
//! ```
//!
//! [`Fixture`] is one recorded connection. [`CodecRun`] takes the relay's place: it feeds slices to a codec
//! and records its results. [`fuzz`] drives it with a fuzzer's input.

mod cuts;
mod expectations;
mod fixture;
pub mod fuzz;
mod late;
mod mutations;
mod open_requests;
mod refusals;
mod reread;
mod run;
mod stream;

pub use fixture::{Expected, Fixture, Side, Turn, load};
pub use run::{CodecRun, FoundRequest};
pub use stream::{MAX_HOLD, Message, Stream};

use crate::Codec;
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// A rule that every codec must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConformanceRule {
    /// The operations of a recording are found, named and settled as expected.
    Operations,
    /// The slices in which bytes arrive change nothing.
    Slices,
    /// `Hold(n)` asks for more than there is, and for at most [`MAX_HOLD`].
    Hold,
    /// Every result except `Hold` makes progress, and the bytes of a `Swap` are in the buffer.
    Progress,
    /// A request is marked with the first bytes of its message.
    MarkPosition,
    /// A request without `may_have_callsite` has no call site.
    Callsite,
    /// A request has none of the attributes that it is marked as [absent](crate::Request::absent).
    Absent,
    /// A request that is read again with more bytes keeps its tag, and ends with the name and resource
    /// that it has when all bytes arrive at once.
    Reread,
    /// The codec does not panic on any bytes.
    Panic,
    /// An error is written as soon as its request is rejected, although replies to older requests are
    /// due, and every later reply is still attributed to its request.
    Rejection,
    /// The late reply to an abandoned request is dropped, and everything else passes unchanged.
    LateReply,
}

/// A rule that a codec broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleBreach {
    /// The rule.
    pub rule: ConformanceRule,
    /// Where and how, with the details that reproduce it.
    pub detail: String,
}

impl RuleBreach {
    pub(crate) fn new(rule: ConformanceRule, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into() }
    }

    /// Adds a place to the detail.
    fn at(self, place: impl fmt::Display) -> Self {
        Self { detail: format!("{place}: {}", self.detail), ..self }
    }
}

impl fmt::Display for RuleBreach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.detail)
    }
}

impl std::error::Error for RuleBreach {}

/// Checks a codec against every [`ConformanceRule`]; panics with the first one that it breaks.
///
/// `shared` creates the state that connections share for each run, so that each failure can be
/// reproduced alone.
#[allow(clippy::panic, reason = "this is the verdict of a test")]
pub fn conforms<C: Codec>(shared: impl Fn() -> Arc<C::Shared>, fixtures: &[Fixture]) {
    if let Err(breach) = check::<C>(shared, fixtures) {
        panic!("{} breaks a rule. {breach}", C::PROTOCOL.name);
    }
}

/// Checks a codec against every [`ConformanceRule`]; returns the first one that it breaks.
pub fn check<C: Codec>(
    shared: impl Fn() -> Arc<C::Shared>,
    fixtures: &[Fixture],
) -> Result<(), RuleBreach> {
    if fixtures.is_empty() {
        return Err(RuleBreach::new(ConformanceRule::Operations, "there is no fixture"));
    }
    for fixture in fixtures {
        catch_panic(|| examine::<C>(&shared, fixture)).map_err(|b| b.at(&fixture.name))?;
    }
    mutations::survives::<C>(&shared, fixtures)
}

fn examine<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
) -> Result<(), RuleBreach> {
    let whole = expectations::met::<C>(shared, fixture)?;
    cuts::harmless::<C>(shared, fixture, &whole)?;
    reread::reads_the_same_again::<C>(shared, fixture, &whole)?;
    refusals::keep_step::<C>(shared, fixture, &whole)?;
    late::late_reply_is_dropped::<C>(shared, fixture, &whole)
}

/// Converts a panic into a breach. The panic's message is in the test's output.
fn catch_panic(run: impl FnOnce() -> Result<(), RuleBreach>) -> Result<(), RuleBreach> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(RuleBreach::new(ConformanceRule::Panic, "the codec panicked")))
}
