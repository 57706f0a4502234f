//! Why a match does not apply to an operation, for people.

use super::{
    Asked, Depth, Known, Match, OTHER_RESOURCES, Truth, Varying, Word, glob::Glob, peers::Peers,
    texts,
};
use operation::{Fact, Operation};

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

impl Match {
    /// Whether it applies to an operation, and the first key by which it does not, or may not.
    pub(crate) fn explain(&self, known: &Known<'_>, operation: &Operation<'_>) -> Explained {
        self.explain_at(known, &Asked::of(operation), Depth::default())
    }

    fn explain_at(&self, known: &Known<'_>, asked: &Asked<'_>, depth: Depth) -> Explained {
        let mut doubt = None;
        for (truth, key, wanted, found) in self.keys(known, asked, depth) {
            let objection = || Objection::new(&key, &wanted, found.as_deref(), truth);
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
    pub(crate) fn key_in_doubt(&self, known: &Known<'_>, operation: &Operation<'_>) -> String {
        match self.explain(known, operation) {
            Explained::InDoubt(objection) => objection.key,
            Explained::Applies | Explained::No(_) => "request".to_owned(),
        }
    }

    /// Each key but `not`: whether it matches, its name, what it must be, and what it is.
    fn keys<'m>(
        &'m self,
        known: &'m Known<'_>,
        asked: &'m Asked<'_>,
        depth: Depth,
    ) -> impl Iterator<Item = (Truth, String, serde_json::Value, Option<String>)> + 'm {
        let fixed = self.fixed.iter().map(move |fixed| {
            let others = match fixed.word {
                Word::Resource if asked.others => asked.get(OTHER_RESOURCES),
                _ => Fact::Absent,
            };
            let truth = match fixed.word {
                Word::Resource => self.of_resources(fixed.holds(known), asked, depth),
                _ => fixed.holds(known),
            };
            let own = fixed.word.of(known).map(str::to_owned);
            let found = match (own, others.text()) {
                (Some(own), Some(others)) => Some(format!("{own}, {others}")),
                (own, others) => own.or(others.map(Into::into)),
            };
            let wanted = texts(&fixed.globs, Glob::text);
            (truth, fixed.word.key().to_owned(), wanted, found)
        });
        let varying = self.varying.iter().map(move |varying| {
            let (found, wanted) = match varying {
                Varying::Peer(peers) => {
                    let peer = asked.attributes.peer().map(|peer| peer.to_string());
                    (peer, texts(peers, Peers::text))
                }
                Varying::Attribute { name, globs } => {
                    (asked.get(name).text().map(Into::into), texts(globs, Glob::text))
                }
            };
            let truth = varying.holds(asked, depth);
            (truth, varying.key().to_owned(), wanted, found)
        });
        fixed.chain(varying)
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
