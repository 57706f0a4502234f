//! Access to matches for the fuzz target that compares them with a reference implementation; no other
//! crate needs it.

use super::{Candidates, Explanation, KnownFields, Match, MatchIndex, Truth};
use operation::Operation;

/// A match without `not`: each key with its globs. `None` if one of the globs is no peer.
pub fn made(keys: &[(&str, Vec<&str>)]) -> Option<Match> {
    let mut made = Match::default();
    for (key, globs) in keys {
        made.add(key, globs).ok()?;
    }
    Some(made)
}

/// Excludes the operations that another match applies to.
pub fn exclude(from: &mut Match, not: Match) {
    from.exclude(not);
}

/// Whether the index over many matches rules this one out for an operation, so that it is not evaluated.
pub fn is_ruled_out(made: &Match, operation: &Operation<'_>) -> bool {
    let index = MatchIndex::new(&[(0, made)]);
    let mut left = Candidates::default();
    left.policies.insert(0);
    index.narrow_to_series(operation.protocol.name, operation.name, &mut left);
    if !operation.may_have_other_resources {
        index.narrow_to_resource(operation.resource, &mut left);
    }
    index.narrow_to_operation(operation, &mut left);
    left.policies.next_from(0).is_none()
}

/// Explains an operation on this listener: whether the match applies ([`Truth::Unknown`] if in doubt),
/// and the key that decides.
pub fn explained(
    made: &Match,
    listener: &str,
    operation: &Operation<'_>,
) -> (Truth, Option<String>) {
    match made.explain(&KnownFields::of(listener, operation), operation) {
        Explanation::Applies => (Truth::Yes, None),
        Explanation::No(mismatch) => (Truth::No, Some(mismatch.key)),
        Explanation::InDoubt(mismatch) => (Truth::Unknown, Some(mismatch.key)),
    }
}
