//! Why a match does not apply to an operation, for people.

use super::{Asked, Known, Match, Sure, Varying, texts};
use super::{glob::Glob, peers::Peers};
use operation::Operation;

/// The key that says no to an operation, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Objection {
    /// The key.
    pub(crate) key: String,
    /// What was found there, and what must be.
    pub(crate) why: String,
}

impl Match {
    /// The first key by which it does not apply to an operation; `None` if it applies.
    pub(crate) fn objection(
        &self,
        known: &Known<'_>,
        operation: &Operation<'_>,
    ) -> Option<Objection> {
        let Operation { attributes, front, callsite, .. } = *operation;
        self.objects(known, &Asked { attributes, front, callsite }, Sure::Possible)
    }

    fn objects(&self, known: &Known<'_>, asked: &Asked<'_>, sure: Sure) -> Option<Objection> {
        for fixed in &self.fixed {
            if fixed.holds(known, sure) != Some(true) {
                let found = fixed.word.of(known);
                let wanted = texts(&fixed.globs, Glob::text);
                return Some(Objection::new(fixed.word.key(), &wanted, found));
            }
        }
        if let Some(varying) = self.varying.iter().find(|it| !it.holds(asked)) {
            let (found, wanted) = match varying {
                Varying::Peer(peers) => {
                    let peer = asked.attributes.peer().map(|peer| peer.to_string());
                    (peer, texts(peers, Peers::text))
                }
                Varying::Attribute { name, globs } => {
                    (asked.get(name).map(Into::into), texts(globs, Glob::text))
                }
            };
            return Some(Objection::new(varying.key(), &wanted, found.as_deref()));
        }
        let not = self.not.as_ref()?;
        if not.objects(known, asked, sure.opposite()).is_some() {
            return None;
        }
        let why = format!("all of {} matches", not.to_json());
        Some(Objection { key: "not".to_owned(), why })
    }
}

impl Objection {
    fn new(key: &str, wanted: &serde_json::Value, found: Option<&str>) -> Self {
        let wanted = match wanted.as_str() {
            Some(one) => format!("`{one}`"),
            None => format!("one of {wanted}"),
        };
        let why = match found {
            Some("") => format!("there is no {key}, and it must be {wanted}"),
            Some(found) => format!("`{key}` is `{found}`, and must be {wanted}"),
            None => format!("there is no `{key}`, and it must be {wanted}"),
        };
        Self { key: key.to_owned(), why }
    }
}
