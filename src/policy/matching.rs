//! What a policy applies to: globs over an operation's words and attributes, resolved once for
//! each series where that is possible.

mod explain;
mod glob;
mod peers;
#[cfg(test)]
mod tests;
mod written;

use crate::{config::Fault, series::Key};
use glob::{Glob, Sure};
use operation::{Attributes, Link, Operation};
use peers::Peers;
use serde_json::{Map, Value};
use std::{borrow::Cow, net::IpAddr};
pub(crate) use {glob::is_glob, written::WrittenMatch};

/// What a policy applies to: every key must match, by one of its globs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// What is the same for all operations of a series.
    fixed: Vec<Fixed>,
    /// What is asked of each operation, the cheapest first.
    varying: Vec<Varying>,
    /// And not all of this.
    not: Option<Box<Match>>,
}

/// Whether a policy applies to the operations of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// To none.
    Never,
    /// To all.
    Always,
    /// To some: each has to be asked ([`Match::holds`]).
    Varies(Rest),
}

/// What of a match is still to be asked of each operation of a series: what varies, and that of
/// so many levels of `not`. On the levels below, the series alone decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    levels: u8,
}

/// A key that is the same for all operations of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fixed {
    word: Word,
    globs: Vec<Glob>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Listener,
    Protocol,
    Operation,
    Resource,
}

/// A key that is asked for each operation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Varying {
    Peer(Vec<Peers>),
    Attribute { name: Box<str>, globs: Vec<Glob> },
}

/// What is known of what is to be matched; what is not known yet may be anything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known<'a> {
    /// The listener's name.
    pub(crate) listener: Option<&'a str>,
    /// The protocol's name.
    pub(crate) protocol: Option<&'a str>,
    /// The operation's name.
    pub(crate) operation: Option<&'a str>,
    /// The operation's resource.
    pub(crate) resource: Option<&'a str>,
}

/// Whom to ask for what varies.
#[derive(Clone, Copy)]
struct Asked<'a> {
    attributes: &'a dyn Attributes,
    front: &'a [u8],
    /// It may have a call site (see [`Operation::callsite`]).
    callsite: bool,
}

impl Match {
    /// Adds a key, which must match one of these globs; what is wrong with them comes with the
    /// place of the glob among them.
    pub(crate) fn add(&mut self, key: &str, globs: &[&str]) -> Result<(), Vec<(usize, Fault)>> {
        let plain = || globs.iter().map(|text| Glob::new(text)).collect();
        if let Some(word) = Word::ALL.into_iter().find(|word| word.key() == key) {
            self.fixed.push(Fixed { word, globs: plain() });
            return Ok(());
        }
        let varying = if key == "peer" {
            let parsed = globs.iter().map(|text| Peers::parse(text)).enumerate();
            let (good, bad): (Vec<_>, Vec<_>) = parsed.partition(|(_, peers)| peers.is_ok());
            if !bad.is_empty() {
                return Err(bad.into_iter().filter_map(|(i, it)| Some((i, it.err()?))).collect());
            }
            Varying::Peer(good.into_iter().filter_map(|(_, peers)| peers.ok()).collect())
        } else {
            Varying::Attribute { name: key.into(), globs: plain() }
        };
        self.varying.push(varying);
        self.varying.sort_by_key(Varying::cost);
        Ok(())
    }

    /// Excludes what another match applies to.
    pub(crate) fn exclude(&mut self, not: Match) {
        self.not = Some(Box::new(not));
    }

    /// Whether it applies to the operations of a series that came in by this listener.
    pub fn applies(&self, listener: &str, key: &Key) -> Applies {
        self.resolve(&Known {
            listener: Some(listener),
            protocol: Some(key.protocol.name),
            operation: Some(&key.name),
            resource: Some(&key.resource),
        })
    }

    /// Whether it applies to this operation, of a series to whose operations it may.
    pub fn holds(&self, rest: Rest, operation: &Operation<'_>) -> bool {
        let Operation { attributes, front, callsite, .. } = *operation;
        self.asks(rest.levels, &Asked { attributes, front, callsite })
    }

    /// Whether it can apply to anything that comes in by this listener.
    pub fn may_apply(&self, listener: &str, protocol: &str) -> bool {
        let (listener, protocol) = (Some(listener), Some(protocol));
        self.resolve(&Known { listener, protocol, ..Known::default() }) != Applies::Never
    }

    /// Whether it says by name which operations it is for.
    pub fn names_operations(&self) -> bool {
        self.fixed.iter().any(|fixed| fixed.word == Word::Operation)
    }

    /// Whether all that it asks for is known when a connection comes: listener, protocol, peer.
    pub fn is_of_connections(&self) -> bool {
        self.fixed.iter().all(|it| matches!(it.word, Word::Listener | Word::Protocol))
            && self.varying.iter().all(|it| matches!(it, Varying::Peer(_)))
            && self.not.as_ref().is_none_or(|not| not.is_of_connections())
    }

    /// Whether it applies to a connection, as far as that is known.
    pub fn of_connection(&self, listener: &str, protocol: &str, link: &Link) -> bool {
        let (listener, protocol) = (Some(listener), Some(protocol));
        match self.resolve(&Known { listener, protocol, ..Known::default() }) {
            Applies::Never => false,
            Applies::Always => true,
            Applies::Varies(rest) => {
                let client = Client(link.peer.ip());
                self.asks(rest.levels, &Asked { attributes: &client, front: b"", callsite: false })
            }
        }
    }

    /// Whether it applies, as far as what is known decides that.
    pub(crate) fn resolve(&self, known: &Known<'_>) -> Applies {
        // A rule that guards must not let pass what could not be read.
        self.resolve_as(known, Sure::Possible)
    }

    /// The attributes that whatever it applies to must have.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = &str> {
        self.varying.iter().map(Varying::key)
    }

    fn resolve_as(&self, known: &Known<'_>, sure: Sure) -> Applies {
        let mut varies = !self.varying.is_empty();
        for fixed in &self.fixed {
            match fixed.holds(known, sure) {
                Some(true) => {}
                Some(false) => return Applies::Never,
                None => varies = true,
            }
        }
        let not = self.not.as_ref();
        match not.map_or(Applies::Never, |not| not.resolve_as(known, sure.opposite())) {
            Applies::Always => Applies::Never,
            Applies::Varies(Rest { levels }) => Applies::Varies(Rest { levels: levels + 1 }),
            Applies::Never if varies => Applies::Varies(Rest::default()),
            Applies::Never => Applies::Always,
        }
    }

    fn asks(&self, levels: u8, asked: &Asked<'_>) -> bool {
        self.varying.iter().all(|it| it.holds(asked))
            && match (&self.not, levels.checked_sub(1)) {
                (Some(not), Some(levels)) => !not.asks(levels, asked),
                _ => true,
            }
    }

    /// As a config would have it.
    pub(crate) fn to_json(&self) -> Value {
        let fixed = self.fixed.iter().map(|it| (it.word.key(), texts(&it.globs, Glob::text)));
        let varying = self.varying.iter().map(|it| match it {
            Varying::Peer(peers) => (it.key(), texts(peers, Peers::text)),
            Varying::Attribute { globs, .. } => (it.key(), texts(globs, Glob::text)),
        });
        let keys = fixed.chain(varying).map(|(key, texts)| (key.to_owned(), texts));
        let mut json: Map<String, Value> = keys.collect();
        if let Some(not) = &self.not {
            json.insert("not".to_owned(), not.to_json());
        }
        Value::Object(json)
    }
}

/// One text, or a list of them.
fn texts<T>(items: &[T], text: impl Fn(&T) -> &str) -> Value {
    match items {
        [one] => text(one).into(),
        items => items.iter().map(text).collect(),
    }
}

impl Word {
    const ALL: [Word; 4] = [Word::Listener, Word::Protocol, Word::Operation, Word::Resource];

    fn key(self) -> &'static str {
        match self {
            Word::Listener => "listener",
            Word::Protocol => "protocol",
            Word::Operation => "operation",
            Word::Resource => "resource",
        }
    }

    fn of<'a>(self, known: &Known<'a>) -> Option<&'a str> {
        match self {
            Word::Listener => known.listener,
            Word::Protocol => known.protocol,
            Word::Operation => known.operation,
            Word::Resource => known.resource,
        }
    }
}

impl Fixed {
    /// Whether it matches, if that is known.
    fn holds(&self, known: &Known<'_>, sure: Sure) -> Option<bool> {
        let word = self.word.of(known)?;
        let unread = if self.word == Word::Resource { unread(word) } else { None };
        Some(self.globs.iter().any(|glob| match unread {
            Some(end) => glob.matches_end(end, sure),
            None => glob.matches(word),
        }))
    }
}

/// The end of a resource, if only that could be read: nothing of `?`, `.orders` of `?.orders`.
fn unread(resource: &str) -> Option<&str> {
    resource.strip_prefix('?').filter(|end| end.is_empty() || end.starts_with('.'))
}

impl Varying {
    fn key(&self) -> &str {
        match self {
            Varying::Peer(_) => "peer",
            Varying::Attribute { name, .. } => name,
        }
    }

    /// What it costs to ask for it: a place among the others.
    fn cost(&self) -> u8 {
        match self.key() {
            "peer" => 0,
            // What is known of the connection.
            "local" | "endpoint" | "cluster" | "app" | "user" | "driver" | "sni" => 1,
            // Most operations are known to have none.
            "callsite" => 2,
            _ => 3,
        }
    }

    /// What is not there matches nothing.
    fn holds(&self, asked: &Asked<'_>) -> bool {
        match self {
            Varying::Peer(peers) => {
                let peer = asked.attributes.peer();
                peer.is_some_and(|peer| peers.iter().any(|some| some.contain(peer)))
            }
            Varying::Attribute { name, globs } => {
                let value = asked.get(name);
                value.is_some_and(|value| globs.iter().any(|glob| glob.matches(&value)))
            }
        }
    }
}

impl<'a> Asked<'a> {
    fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        if name == "callsite" && !self.callsite {
            return None;
        }
        self.attributes.get(self.front, name)
    }
}

/// A client of whom no more than its address is known yet.
struct Client(IpAddr);

impl Attributes for Client {
    fn get<'a>(&'a self, _: &'a [u8], _: &str) -> Option<Cow<'a, str>> {
        None
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.0)
    }
}
