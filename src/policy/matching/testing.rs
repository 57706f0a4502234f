//! Opens matches to the fuzz target that compares them with its own reading of the rules; nothing
//! else outside of this crate needs them.

use super::{Explained, Known, Match, Truth};
use operation::Operation;

/// A match without `not`: each key with its globs. `None` if one of the globs is no peer.
pub fn made(keys: &[(&str, Vec<&str>)]) -> Option<Match> {
    let mut made = Match::default();
    for (key, globs) in keys {
        made.add(key, globs).ok()?;
    }
    Some(made)
}

/// Excludes what another match applies to.
pub fn exclude(from: &mut Match, not: Match) {
    from.exclude(not);
}

/// What is explained of an operation that came in by this listener: whether the match applies
/// ([`Truth::Unknown`] where that is in doubt), and the key that decides.
pub fn explained(
    made: &Match,
    listener: &str,
    operation: &Operation<'_>,
) -> (Truth, Option<String>) {
    match made.explain(&Known::of(listener, operation), operation) {
        Explained::Applies => (Truth::Yes, None),
        Explained::No(objection) => (Truth::No, Some(objection.key)),
        Explained::InDoubt(objection) => (Truth::Unknown, Some(objection.key)),
    }
}
