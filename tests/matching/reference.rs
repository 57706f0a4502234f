//! What a match means, read slowly: every value is tried that an unknown one may have.

use std::{collections::BTreeMap, net::IpAddr};

/// The attribute that names what else an operation is about.
pub(crate) const OTHERS: &str = "other_resources";

/// A match as people write it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) keys: Vec<(&'static str, Vec<String>)>,
    pub(crate) not: Option<Box<Wanted>>,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Absent,
    /// Lines of a header, or one value: one has to fit.
    Any(Vec<String>),
    /// An operation is about each of these: one has to fit, and inside `not` all.
    Each(Vec<String>),
}

/// An operation of which everything is known.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) listener: String,
    pub(crate) protocol: String,
    pub(crate) operation: String,
    pub(crate) resource: String,
    pub(crate) peer: Option<IpAddr>,
    /// All others, also [`OTHERS`]. One that is not here is absent.
    pub(crate) attributes: BTreeMap<&'static str, Value>,
}

/// Whether a match holds of an operation of which everything is known. `negated` is whether it
/// stands inside an odd number of `not`.
pub(crate) fn holds(wanted: &Wanted, world: &World, negated: bool) -> bool {
    let keys = wanted.keys.iter().all(|(key, globs)| key_holds(key, globs, world, negated));
    let not = wanted.not.as_ref().is_some_and(|not| holds(not, world, !negated));
    keys && !not
}

/// Whether one key of a match holds.
pub(crate) fn key_holds(key: &str, globs: &[String], world: &World, negated: bool) -> bool {
    let one = |value: &String| globs.iter().any(|glob| fits(glob, value));
    let value = match key {
        "listener" => return one(&world.listener),
        "protocol" => return one(&world.protocol),
        "operation" => return one(&world.operation),
        "peer" => return world.peer.is_some_and(|peer| globs.iter().any(|it| is_of(peer, it))),
        "resource" => &Value::Each(resources(world)),
        key => world.attributes.get(key).unwrap_or(&Value::Absent),
    };
    match value {
        Value::Absent => false,
        Value::Any(values) => values.iter().any(one),
        Value::Each(values) if negated => values.iter().all(one),
        Value::Each(values) => values.iter().any(one),
    }
}

/// Everything that an operation is about.
fn resources(world: &World) -> Vec<String> {
    let mut all = vec![world.resource.clone()];
    if let Some(Value::Any(others) | Value::Each(others)) = world.attributes.get(OTHERS) {
        all.extend(others.iter().cloned());
    }
    all
}

/// Whether a glob matches a text, in the plainest words.
pub(crate) fn fits(glob: &str, text: &str) -> bool {
    fn plainly(glob: &[char], text: &[char]) -> bool {
        match glob.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|at| plainly(rest, &text[at..])),
            Some((c, rest)) => text
                .split_first()
                .is_some_and(|(found, text)| (*c == '?' || c == found) && plainly(rest, text)),
        }
    }
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    plainly(&glob, &text)
}

/// Whether an address is of some clients: an address, a network or a glob.
fn is_of(peer: IpAddr, clients: &str) -> bool {
    let peer = peer.to_canonical();
    if clients.contains(['*', '?']) {
        return fits(clients, &peer.to_string());
    }
    let (first, len) = clients.split_once('/').unwrap_or((clients, "128"));
    let first: IpAddr = first.parse().expect("an address of the target's own");
    let mut len: usize = len.parse().expect("a length of the target's own");
    if first != first.to_canonical() {
        len = len.saturating_sub(96);
    }
    let (first, peer) = (bits(first.to_canonical()), bits(peer));
    first.len() == peer.len() && first.chars().zip(peer.chars()).take(len).all(|(a, b)| a == b)
}

/// An address as ones and zeros.
fn bits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:032b}", v4.to_bits()),
        IpAddr::V6(v6) => format!("{:0128b}", v6.to_bits()),
    }
}

/// A word of which a part may not be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Whole(String),
    /// Something, and then this.
    End(String),
    /// This, and then something.
    Front(String),
}

impl Word {
    /// An operation's name.
    pub(crate) fn name(name: &str) -> Self {
        if name == "?" { Word::End(String::new()) } else { Word::Whole(name.to_owned()) }
    }

    /// A resource: `?` stands for all of it, for what is before its first dot or behind its last.
    pub(crate) fn resource(resource: &str) -> Self {
        match resource {
            "?" | "?.?" => Word::End(String::new()),
            _ if resource.starts_with("?.") => Word::End(resource[1..].to_owned()),
            _ if resource.ends_with(".?") => Word::Front(resource[..resource.len() - 1].to_owned()),
            _ => Word::Whole(resource.to_owned()),
        }
    }

    /// What it may be in whole. Of each glob these hold a word that it fits if there is one, and a
    /// word that it does not fit if there is one: what is not known is the shortest text that a
    /// part of the glob fits, or nothing, or a run that only a `*` fits.
    pub(crate) fn completions(&self, globs: &[&str]) -> Vec<String> {
        let cut = |glob: &&str, from_start: bool| -> Vec<String> {
            let places = glob.char_indices().map(|(at, _)| at).chain([glob.len()]);
            let part = |at: usize| if from_start { &glob[..at] } else { &glob[at..] };
            places.map(|at| shortest(part(at))).collect()
        };
        let other = [String::new(), "z".repeat(12)];
        let parts = |from_start| globs.iter().flat_map(move |glob| cut(glob, from_start));
        let mut all: Vec<String> = match self {
            Word::Whole(word) => vec![word.clone()],
            Word::End(end) => parts(true).chain(other).map(|part| part + end).collect(),
            Word::Front(front) => {
                parts(false).chain(other).map(|part| format!("{front}{part}")).collect()
            }
        };
        all.sort();
        all.dedup();
        all
    }
}

/// The shortest word that a glob fits.
pub(crate) fn shortest(glob: &str) -> String {
    glob.replace('*', "").replace('?', "z")
}

/// What may be true of a key, or of a match: see [`Weighed::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weighed {
    pub(crate) may_hold: bool,
    pub(crate) may_fail: bool,
    /// Something that is in doubt here may be known when more is read.
    pub(crate) unread: bool,
}

impl Weighed {
    /// What all of these words say that something may be.
    pub(crate) fn of(each: impl IntoIterator<Item = bool>, unread: bool) -> Self {
        let (mut may_hold, mut may_fail) = (false, false);
        for holds in each {
            may_hold |= holds;
            may_fail |= !holds;
        }
        Self { may_hold, may_fail, unread: unread && may_hold && may_fail }
    }

    /// Whether all of these hold, each in doubt for itself.
    pub(crate) fn all(each: impl IntoIterator<Item = Weighed>) -> Self {
        let each: Vec<Weighed> = each.into_iter().collect();
        let may_hold = each.iter().all(|it| it.may_hold);
        Self {
            may_hold,
            may_fail: each.iter().any(|it| it.may_fail),
            unread: may_hold && each.iter().any(|it| it.unread),
        }
    }

    /// Whether one of these holds, each in doubt for itself.
    pub(crate) fn any(each: impl IntoIterator<Item = Weighed>) -> Self {
        Self::all(each.into_iter().map(Weighed::not)).not()
    }

    pub(crate) fn not(self) -> Self {
        Self { may_hold: self.may_fail, may_fail: self.may_hold, unread: self.unread }
    }

    pub(crate) fn in_doubt(self) -> bool {
        self.may_hold && self.may_fail
    }
}
