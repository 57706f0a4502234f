//! Why a match does not apply to an operation, for people.

use super::{
    Asked, Depth, Fixed, Known, Match, OTHER_RESOURCES, Truth, Varying, Word, glob::Glob,
    peers::Peers, texts,
};
use operation::{AttributeValue, Operation};

/// The key that decides about an operation, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Objection {
    /// The key.
    pub(crate) key: String,
    /// What was found there, and what must be.
    pub(crate) why: String,
}

/// Whether a match applies to an operation, and which key decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Explained {
    /// It applies.
    Applies,
    /// It does not, because of this key.
    No(Objection),
    /// It may, since the value of this key is not known.
    InDoubt(Objection),
}

/// A key of a match but `not`.
#[derive(Clone, Copy)]
enum Part<'m> {
    Fixed(&'m Fixed),
    Varying(&'m Varying),
}

impl Match {
    /// Whether it applies to an operation, and the first key by which it does not, or may not.
    pub(crate) fn explain(&self, known: &Known<'_>, operation: &Operation<'_>) -> Explained {
        self.explain_at(known, &Asked::of(operation), Depth::default())
    }

    fn explain_at(&self, known: &Known<'_>, asked: &Asked<'_>, depth: Depth) -> Explained {
        let mut doubt = None;
        let fixed = self.fixed.iter().map(Part::Fixed);
        for part in fixed.chain(self.varying.iter().map(Part::Varying)) {
            let truth = match part {
                Part::Fixed(fixed) if fixed.word == Word::Resource => {
                    self.of_resources(fixed.holds(known), asked, depth)
                }
                Part::Fixed(fixed) => fixed.holds(known),
                Part::Varying(varying) => varying.holds(asked, depth),
            };
            let objection = || part.objection(known, asked, truth);
            match truth {
                Truth::Yes => {}
                Truth::No => return Explained::No(objection()),
                Truth::Unread | Truth::Unknown => doubt = doubt.or_else(|| Some(objection())),
            }
        }
        let inner = self.not.as_ref().map(|not| (not, not.explain_at(known, asked, depth.inner())));
        match inner {
            None | Some((_, Explained::No(_))) => {}
            Some((not, Explained::Applies)) => {
                let why = format!("all of {} matches", not.to_json());
                return Explained::No(Objection { key: "not".to_owned(), why });
            }
            Some((_, Explained::InDoubt(objection))) => doubt = doubt.or(Some(objection)),
        }
        doubt.map_or(Explained::Applies, Explained::InDoubt)
    }

    /// The first key whose value is not known, of an operation to which it may apply.
    pub(crate) fn key_in_doubt(
        &self,
        known: &Known<'_>,
        operation: &Operation<'_>,
    ) -> Option<String> {
        match self.explain(known, operation) {
            Explained::InDoubt(objection) => Some(objection.key),
            Explained::Applies | Explained::No(_) => None,
        }
    }
}

impl Part<'_> {
    /// Why it does not match, or may not: `truth` is whether it does.
    fn objection(self, known: &Known<'_>, asked: &Asked<'_>, truth: Truth) -> Objection {
        match self {
            Part::Fixed(Fixed { word, globs }) => {
                let others = match word {
                    Word::Resource if asked.others => asked.get(OTHER_RESOURCES),
                    _ => AttributeValue::Absent,
                };
                let own = word.of(known).map(str::to_owned);
                let found = match (own, others.text()) {
                    (Some(own), Some(others)) => Some(format!("{own}, {others}")),
                    (own, others) => own.or(others.map(Into::into)),
                };
                Objection::new(word.key(), &texts(globs, Glob::text), found.as_deref(), truth)
            }
            Part::Varying(Varying::Peer(peers)) => {
                let peer = asked.attributes.peer().map(|peer| peer.to_string());
                Objection::new("peer", &texts(peers, Peers::text), peer.as_deref(), truth)
            }
            Part::Varying(Varying::Attribute { name, globs }) => {
                let fact = asked.get(name);
                let found = fact.text();
                Objection::new(name, &texts(globs, Glob::text), found.as_deref(), truth)
            }
        }
    }
}

impl Objection {
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
