//! The one noun of this proxy, and the verbs every protocol is made of.
//!
//! An [`Operation`] is what a client asked for: a command, a call, a request, or a whole byte
//! stream. A [`Codec`] finds operations in the bytes of one connection; a [`Gate`] decides on
//! each and hands out a [`Ticket`] that settles exactly once with a [`Settlement`]; whatever a policy
//! asks beyond yes and no are the ticket's [`Terms`].
//!
//! Nothing here does I/O, keeps a clock or knows a protocol: a protocol is a crate that
//! implements [`Codec`], and everything after that is shared.

mod codec;
mod fact;
mod gate;
mod operation;
mod outcome;
mod probe;
mod terms;
#[cfg(feature = "testing")]
pub mod testing;

pub use codec::{Codec, Learned, Link, Named, Next, Reply, Request, Tag, Violation};
pub use fact::Fact;
pub use gate::{Answer, Decision, Gate, Ledger, Manner, No, Question, Settlement, Ticket, Verdict};
pub use operation::{Attributes, Extra, OTHER_RESOURCES, Operation, Protocol};
pub use outcome::{Close, Outcome, Reason, Refusal};
pub use probe::{Judgement, Probe};
pub use terms::{Cut, Impairment, Limit, Place, Slice, Spread, Terms};
