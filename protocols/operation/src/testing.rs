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
//! [`Fixture`] is one recorded connection. [`Run`] plays the relay's part: it feeds a codec slices
//! and writes down all that the codec says. [`fuzz`] drives it with what a fuzzer comes up with.

mod cuts;
mod expectations;
mod fixture;
pub mod fuzz;
mod late;
mod mutations;
mod refusals;
mod reread;
mod run;
mod stream;

pub use fixture::{Expected, Fixture, Side, Turn, load};
pub use run::{Asked, Run};
pub use stream::{HOLD, Message, Stream};

use crate::Codec;
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// What a codec must never get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConformanceRule {
    /// The operations of a recording are found, named and settled as expected.
    Marks,
    /// Where the bytes happen to be cut changes nothing.
    Cuts,
    /// `Hold(n)` asks for more than there is, and for at most [`HOLD`].
    Hold,
    /// Every answer but `Hold` gets on, and the bytes of a `Swap` are here.
    Progress,
    /// A request is marked on the first bytes of its message.
    First,
    /// A request whose mark says that it has no call site has none.
    Callsite,
    /// A request that is read again, with more of its bytes, has the same tag each time, and in the
    /// end the name and resource that it has when all its bytes are here at once.
    Reread,
    /// Whatever the bytes, the codec does not panic.
    Panic,
    /// A refused request never leaves the other operations, or its own reply, out of step.
    Refusal,
    /// The late reply to an abandoned request is dropped, and everything else passes byte for
    /// byte.
    Late,
}

/// A rule that a codec broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which rule.
    pub rule: ConformanceRule,
    /// Where and how, with what it takes to do it again.
    pub detail: String,
}

impl Breach {
    pub(crate) fn new(rule: ConformanceRule, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into() }
    }

    /// The same, said of a place.
    fn at(self, place: impl fmt::Display) -> Self {
        Self { detail: format!("{place}: {}", self.detail), ..self }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.detail)
    }
}

impl std::error::Error for Breach {}

/// Holds a codec to every [`Rule`], and panics with the first one that it breaks.
///
/// `shared` makes what connections share afresh for each run, so that each failure can be seen
/// again by itself.
#[allow(clippy::panic, reason = "this is the verdict of a test")]
pub fn conforms<C: Codec>(shared: impl Fn() -> Arc<C::Shared>, fixtures: &[Fixture]) {
    if let Err(breach) = check::<C>(shared, fixtures) {
        panic!("{} breaks a rule. {breach}", C::PROTOCOL.name);
    }
}

/// Holds a codec to every [`Rule`], and returns the first one that it breaks.
pub fn check<C: Codec>(
    shared: impl Fn() -> Arc<C::Shared>,
    fixtures: &[Fixture],
) -> Result<(), Breach> {
    if fixtures.is_empty() {
        return Err(Breach::new(ConformanceRule::Marks, "there is not one fixture to try it with"));
    }
    for fixture in fixtures {
        unpanicking(|| examine::<C>(&shared, fixture)).map_err(|b| b.at(&fixture.name))?;
    }
    mutations::survives::<C>(&shared, fixtures)
}

fn examine<C: Codec>(
    shared: &impl Fn() -> Arc<C::Shared>,
    fixture: &Fixture,
) -> Result<(), Breach> {
    let whole = expectations::met::<C>(shared, fixture)?;
    cuts::harmless::<C>(shared, fixture, &whole)?;
    reread::reads_the_same_again::<C>(shared, fixture, &whole)?;
    refusals::keep_step::<C>(shared, fixture, &whole)?;
    late::late_reply_is_dropped::<C>(shared, fixture, &whole)
}

/// Turns a panic into a breach. What the panic said stands in the test's output.
fn unpanicking(run: impl FnOnce() -> Result<(), Breach>) -> Result<(), Breach> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(Breach::new(ConformanceRule::Panic, "the codec panicked")))
}
