//! What a policy applies to: globs over an operation's words and attributes, resolved once for
//! each series where that is possible.

mod explain;
mod glob;
mod peers;
mod rest;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
mod truth;
mod written;

use crate::{config::Fault, series::SeriesKey};
use glob::Glob;
use operation::{AttributeValue, Attributes, ConnectionInfo, OTHER_RESOURCES, Operation};
use peers::Peers;
use rest::Depth;
use serde_json::{Map, Value};
use std::net::IpAddr;
pub(crate) use {
    explain::{Explained, Objection},
    glob::{fits, is_glob},
    written::WrittenMatch,
};
pub use {rest::Rest, truth::Truth};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applies {
    /// To none.
    Never,
    /// To all.
    Always,
    /// To some: each has to be asked ([`Match::holds`]).
    Varies(Rest),
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

/// What is known of what is to be matched; a word that is `None` may be anything.
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
    /// The protocol's operations may be about other resources, too.
    pub(crate) others: bool,
}

impl<'a> Known<'a> {
    /// All that is known of an operation that came in by this listener.
    pub(crate) fn of(listener: &'a str, operation: &Operation<'a>) -> Self {
        Self {
            listener: Some(listener),
            protocol: Some(operation.protocol.name),
            operation: Some(operation.name),
            resource: Some(operation.resource),
            others: operation.may_have_other_resources,
        }
    }
}

/// Whom to ask for what varies.
#[derive(Clone, Copy)]
struct Asked<'a> {
    attributes: &'a dyn Attributes,
    front: &'a [u8],
    /// It may have a call site (see [`Operation::callsite`]).
    callsite: bool,
    /// More of the request may be read (see [`Operation::partial`]).
    partial: bool,
    /// It may be about other resources (see [`Operation::others`]).
    others: bool,
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
    pub fn applies(&self, listener: &str, key: &SeriesKey) -> Applies {
        self.resolve(&Known {
            listener: Some(listener),
            protocol: Some(key.protocol.name),
            operation: Some(&key.name),
            resource: Some(&key.resource),
            others: key.protocol.attributes.contains(&OTHER_RESOURCES),
        })
    }

    /// Whether it applies to this operation, of a series to whose operations it may.
    pub fn holds(&self, rest: &Rest, operation: &Operation<'_>) -> Truth {
        self.asks(&rest.levels, &Asked::of(operation), Depth::default())
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

    /// Whether it says by name which operations it is for, and this one is not among them.
    pub fn leaves_out(&self, operation: &str) -> bool {
        let word = glob::Word::Whole(operation);
        let named = self.fixed.iter().filter(|fixed| fixed.word == Word::Operation);
        named.into_iter().any(|fixed| any(&fixed.globs, |glob| glob.fits(word)) == Truth::No)
    }

    /// Whether all that it asks for is known when a connection comes: listener, protocol, peer.
    pub fn is_of_connections(&self) -> bool {
        self.fixed.iter().all(|it| matches!(it.word, Word::Listener | Word::Protocol))
            && self.varying.iter().all(|it| matches!(it, Varying::Peer(_)))
            && self.not.as_ref().is_none_or(|not| not.is_of_connections())
    }

    /// Whether it applies to a connection, as far as that is known.
    pub fn of_connection(&self, listener: &str, protocol: &str, link: &ConnectionInfo) -> bool {
        let (listener, protocol) = (Some(listener), Some(protocol));
        match self.resolve(&Known { listener, protocol, ..Known::default() }) {
            Applies::Never => false,
            Applies::Always => true,
            Applies::Varies(rest) => {
                let attributes = &Client(link.peer.ip());
                let (front, callsite, partial, others) = (b"", false, false, false);
                let asked = Asked { attributes, front, callsite, partial, others };
                self.asks(&rest.levels, &asked, Depth::default()) == Truth::Yes
            }
        }
    }

    /// The attributes that whatever it applies to must have.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = &str> {
        self.varying.iter().map(Varying::key)
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
    /// Whether it matches, as far as that is known.
    fn holds(&self, known: &Known<'_>) -> Truth {
        let Some(word) = self.word.of(known) else { return Truth::Unknown };
        let word = match self.word {
            Word::Resource => glob::Word::resource(word),
            Word::Operation => glob::Word::name(word),
            Word::Listener | Word::Protocol => glob::Word::Whole(word),
        };
        any(&self.globs, |glob| glob.fits(word))
    }
}

/// Whether one of these holds.
fn any<T>(items: &[T], holds: impl Fn(&T) -> Truth) -> Truth {
    items.iter().fold(Truth::No, |truth, item| truth.or(holds(item)))
}

/// Whether all of these hold.
fn all<T>(items: &[T], holds: impl Fn(&T) -> Truth) -> Truth {
    items.iter().fold(Truth::Yes, |truth, item| truth.and(holds(item)))
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
    fn holds(&self, asked: &Asked<'_>, depth: Depth) -> Truth {
        match self {
            Varying::Peer(peers) => {
                let peer = asked.attributes.peer();
                peer.is_some_and(|peer| peers.iter().any(|some| some.contain(peer))).into()
            }
            Varying::Attribute { name, globs } => {
                depth.of_fact(asked.get(name), |value| match &**name {
                    // Its values are resources, and a `?` in one stands for what is not known.
                    OTHER_RESOURCES => rest::fits_resource(globs, value, asked.partial),
                    _ => globs.iter().any(|it| it.matches(value)).into(),
                })
            }
        }
    }
}

impl<'a> Asked<'a> {
    fn of(operation: &Operation<'a>) -> Self {
        let Operation {
            attributes,
            head: front,
            may_have_callsite: callsite,
            partial,
            may_have_other_resources: others,
            ..
        } = *operation;
        Self { attributes, front, callsite, partial, others }
    }

    fn get(&self, name: &str) -> AttributeValue<'a> {
        if name == "callsite" && !self.callsite {
            return AttributeValue::Absent;
        }
        match self.attributes.get(self.front, name) {
            fact if self.partial => fact,
            fact => fact.at_request_end(),
        }
    }
}

/// A client of whom no more than its address is known yet.
struct Client(IpAddr);

impl Attributes for Client {
    fn get<'a>(&'a self, _: &'a [u8], _: &str) -> AttributeValue<'a> {
        AttributeValue::Absent
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.0)
    }
}
