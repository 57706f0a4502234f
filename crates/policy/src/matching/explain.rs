//! Why a match does not apply to an operation, as text.

use super::{
    KnownFields, Match, MatchInput, Negation, OTHER_RESOURCES, OperationMatcher, SeriesField,
    SeriesMatcher, Truth, glob::Glob, peers::PeerMatcher, texts,
};
use operation::{AttributeValue, Operation};

/// The key that decides about an operation, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The key.
    pub key: String,
    /// The value found, and the values that match.
    pub why: String,
}

/// Whether a match applies to an operation, and which key decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// It applies.
    Applies,
    /// It does not, because of this key.
    No(Mismatch),
    /// It may apply: the value of this key is not known.
    InDoubt(Mismatch),
}

/// A condition of a match, of either kind.
#[derive(Clone, Copy)]
enum MatcherRef<'m> {
    SeriesMatcher(&'m SeriesMatcher),
    OperationMatcher(&'m OperationMatcher),
}

impl Match {
    /// Whether it applies to an operation, and the first key that does not match or is in doubt.
    pub fn explain(&self, known: &KnownFields<'_>, operation: &Operation<'_>) -> Explanation {
        self.explain_at(known, &MatchInput::of(operation), Negation::default())
    }

    fn explain_at(
        &self,
        known: &KnownFields<'_>,
        input: &MatchInput<'_>,
        negation: Negation,
    ) -> Explanation {
        let mut doubt = None;
        let series = self.series_matchers.iter().map(MatcherRef::SeriesMatcher);
        for matcher_ref in
            series.chain(self.operation_matchers.iter().map(MatcherRef::OperationMatcher))
        {
            let truth = match matcher_ref {
                MatcherRef::SeriesMatcher(matcher) if matcher.field == SeriesField::Resource => {
                    self.any_resource_matches(matcher.matches(known), input, negation)
                }
                MatcherRef::SeriesMatcher(matcher) => matcher.matches(known),
                MatcherRef::OperationMatcher(matcher) => matcher.matches(input, negation),
            };
            let mismatch = || matcher_ref.mismatch(known, input, truth);
            match truth {
                Truth::Yes => {}
                Truth::No => return Explanation::No(mismatch()),
                Truth::Unread | Truth::Unknown => doubt = doubt.or_else(|| Some(mismatch())),
            }
        }
        let inner =
            self.not.as_ref().map(|not| (not, not.explain_at(known, input, negation.inner())));
        match inner {
            None | Some((_, Explanation::No(_))) => {}
            Some((not, Explanation::Applies)) => {
                let why = format!("all of {} matches", not.to_json());
                return Explanation::No(Mismatch { key: "not".to_owned(), why });
            }
            Some((_, Explanation::InDoubt(mismatch))) => doubt = doubt.or(Some(mismatch)),
        }
        doubt.map_or(Explanation::Applies, Explanation::InDoubt)
    }

    /// The first key in doubt, for an operation to which the match may apply.
    pub(crate) fn key_in_doubt(
        &self,
        known: &KnownFields<'_>,
        operation: &Operation<'_>,
    ) -> Option<String> {
        match self.explain(known, operation) {
            Explanation::InDoubt(mismatch) => Some(mismatch.key),
            Explanation::Applies | Explanation::No(_) => None,
        }
    }
}

impl MatcherRef<'_> {
    /// Why the condition does not match, or is in doubt; `truth` is its result.
    fn mismatch(self, known: &KnownFields<'_>, input: &MatchInput<'_>, truth: Truth) -> Mismatch {
        match self {
            MatcherRef::SeriesMatcher(SeriesMatcher { field, globs }) => {
                let others = match field {
                    SeriesField::Resource if input.others => input.get(OTHER_RESOURCES),
                    _ => AttributeValue::Absent,
                };
                let own = field.of(known).map(str::to_owned);
                let found = match (own, others.text()) {
                    (Some(own), Some(others)) => Some(format!("{own}, {others}")),
                    (own, others) => own.or(others.map(Into::into)),
                };
                Mismatch::new(field.key(), &texts(globs, Glob::text), found.as_deref(), truth)
            }
            MatcherRef::OperationMatcher(OperationMatcher::Peer(peers)) => {
                let peer = input.attributes.peer().map(|peer| peer.to_string());
                Mismatch::new("peer", &texts(peers, PeerMatcher::text), peer.as_deref(), truth)
            }
            MatcherRef::OperationMatcher(OperationMatcher::Attribute { name, globs }) => {
                let fact = input.get(name);
                let found = fact.text();
                Mismatch::new(name, &texts(globs, Glob::text), found.as_deref(), truth)
            }
        }
    }
}

impl Mismatch {
    fn new(key: &str, wanted: &serde_json::Value, found: Option<&str>, truth: Truth) -> Self {
        let wanted = match wanted.as_str() {
            Some(one) => format!("`{one}`"),
            None => format!("one of {wanted}"),
        };
        let why = match found {
            _ if truth.is_in_doubt() => format!("`{key}` is not known, and may be {wanted}"),
            Some("") => format!("there is no {key}, and it must be {wanted}"),
            Some(found) => format!("`{key}` is `{found}`, and must be {wanted}"),
            None => format!("there is no `{key}`, and it must be {wanted}"),
        };
        Self { key: key.to_owned(), why }
    }
}
