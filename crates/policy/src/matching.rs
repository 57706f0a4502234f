//! What a policy applies to: globs over an operation's words and attributes, resolved once for
//! each series where that is possible.

mod explain;
mod glob;
mod peers;
mod residual;
mod setting;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
mod truth;

use crate::series::SeriesKey;
use glob::Glob;
use operation::{AttributeValue, Attributes, ConnectionInfo, OTHER_RESOURCES, Operation};
use peers::PeerMatcher;
use residual::Negation;
use serde_json::{Map, Value};
use std::net::IpAddr;
use values::Diagnostic;
pub use {
    explain::{Explanation, Mismatch},
    glob::is_glob,
    setting::MatchSetting,
};
pub use {residual::ResidualMatch, truth::Truth};

/// What a policy applies to: every key must match, by one of its globs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// What is the same for all operations of a series.
    fixed: Vec<SeriesMatcher>,
    /// What is evaluated for each operation, the cheapest first.
    varying: Vec<OperationMatcher>,
    /// And not all of this.
    not: Option<Box<Match>>,
}

/// Whether a policy applies to the operations of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applicability {
    /// To none.
    Never,
    /// To all.
    Always,
    /// To some: it is evaluated for each ([`Match::matches`]).
    PerOperation(ResidualMatch),
}

/// A key that is the same for all operations of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SeriesMatcher {
    word: SeriesField,
    globs: Vec<Glob>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeriesField {
    Listener,
    Protocol,
    Operation,
    Resource,
}

/// A key that is evaluated for each operation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum OperationMatcher {
    Peer(Vec<PeerMatcher>),
    Attribute { name: Box<str>, globs: Vec<Glob> },
}

/// What is known of what is to be matched; a word that is `None` may be anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct KnownFields<'a> {
    /// The listener's name.
    pub listener: Option<&'a str>,
    /// The protocol's name.
    pub protocol: Option<&'a str>,
    /// The operation's name.
    pub operation: Option<&'a str>,
    /// The operation's resource.
    pub resource: Option<&'a str>,
    /// The protocol's operations may be about other resources, too.
    pub others: bool,
}

impl<'a> KnownFields<'a> {
    /// All that is known of an operation that came in by this listener.
    pub fn of(listener: &'a str, operation: &Operation<'a>) -> Self {
        Self {
            listener: Some(listener),
            protocol: Some(operation.protocol.name),
            operation: Some(operation.name),
            resource: Some(operation.resource),
            others: operation.may_have_other_resources,
        }
    }
}

/// The values of one operation that a match is evaluated against.
#[derive(Clone, Copy)]
struct MatchInput<'a> {
    attributes: &'a dyn Attributes,
    front: &'a [u8],
    /// It may have a call site (see [`Operation::may_have_callsite`]).
    callsite: bool,
    /// More of the request may be read (see [`Operation::partial`]).
    partial: bool,
    /// It may be about other resources (see [`Operation::may_have_other_resources`]).
    others: bool,
}

impl Match {
    /// Adds a key, which must match one of these globs; what is wrong with them comes with the
    /// place of the glob among them.
    pub fn add(&mut self, key: &str, globs: &[&str]) -> Result<(), Vec<(usize, Diagnostic)>> {
        let plain = || globs.iter().map(|text| Glob::new(text)).collect();
        if let Some(word) = SeriesField::ALL.into_iter().find(|word| word.key() == key) {
            self.fixed.push(SeriesMatcher { word, globs: plain() });
            return Ok(());
        }
        let varying = if key == "peer" {
            let parsed = globs.iter().map(|text| PeerMatcher::parse(text)).enumerate();
            let (good, bad): (Vec<_>, Vec<_>) = parsed.partition(|(_, peers)| peers.is_ok());
            if !bad.is_empty() {
                return Err(bad.into_iter().filter_map(|(i, it)| Some((i, it.err()?))).collect());
            }
            OperationMatcher::Peer(good.into_iter().filter_map(|(_, peers)| peers.ok()).collect())
        } else {
            OperationMatcher::Attribute { name: key.into(), globs: plain() }
        };
        self.varying.push(varying);
        self.varying.sort_by_key(OperationMatcher::cost);
        Ok(())
    }

    /// Excludes what another match applies to.
    pub fn exclude(&mut self, not: Match) {
        self.not = Some(Box::new(not));
    }

    /// Whether it applies to the operations of a series that came in by this listener.
    pub fn applies(&self, listener: &str, key: &SeriesKey) -> Applicability {
        self.resolve(&KnownFields {
            listener: Some(listener),
            protocol: Some(key.protocol.name),
            operation: Some(&key.name),
            resource: Some(&key.resource),
            others: key.protocol.attributes.contains(&OTHER_RESOURCES),
        })
    }

    /// Whether it applies to this operation, of a series to whose operations it may.
    pub fn matches(&self, rest: &ResidualMatch, operation: &Operation<'_>) -> Truth {
        self.matches_levels(&rest.levels, &MatchInput::of(operation), Negation::default())
    }

    /// Whether it can apply to anything that comes in by this listener.
    pub fn may_apply(&self, listener: &str, protocol: &str) -> bool {
        let (listener, protocol) = (Some(listener), Some(protocol));
        self.resolve(&KnownFields { listener, protocol, ..KnownFields::default() })
            != Applicability::Never
    }

    /// Whether it says by name which operations it is for.
    pub(crate) fn names_operations(&self) -> bool {
        self.fixed.iter().any(|fixed| fixed.word == SeriesField::Operation)
    }

    /// Whether it says by name which operations it is for, and this one is not among them.
    pub fn excludes_by_name(&self, operation: &str) -> bool {
        let word = glob::KnownText::Whole(operation);
        let named = self.fixed.iter().filter(|fixed| fixed.word == SeriesField::Operation);
        named
            .into_iter()
            .any(|fixed| any(&fixed.globs, |glob| glob.matches_known(word)) == Truth::No)
    }

    /// Whether all its keys are known when a connection is accepted: listener, protocol, peer.
    pub fn is_known_at_connect(&self) -> bool {
        self.fixed.iter().all(|it| matches!(it.word, SeriesField::Listener | SeriesField::Protocol))
            && self.varying.iter().all(|it| matches!(it, OperationMatcher::Peer(_)))
            && self.not.as_ref().is_none_or(|not| not.is_known_at_connect())
    }

    /// Whether it applies to a connection, as far as that is known.
    pub fn matches_connection(
        &self,
        listener: &str,
        protocol: &str,
        link: &ConnectionInfo,
    ) -> bool {
        let (listener, protocol) = (Some(listener), Some(protocol));
        match self.resolve(&KnownFields { listener, protocol, ..KnownFields::default() }) {
            Applicability::Never => false,
            Applicability::Always => true,
            Applicability::PerOperation(rest) => {
                let attributes = &AddressOnly(link.peer.ip());
                let (front, callsite, partial, others) = (b"", false, false, false);
                let input = MatchInput { attributes, front, callsite, partial, others };
                self.matches_levels(&rest.levels, &input, Negation::default()) == Truth::Yes
            }
        }
    }

    /// The attributes that whatever it applies to must have.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.varying.iter().map(OperationMatcher::key)
    }

    /// As a config would have it.
    pub fn to_json(&self) -> Value {
        let fixed = self.fixed.iter().map(|it| (it.word.key(), texts(&it.globs, Glob::text)));
        let varying = self.varying.iter().map(|it| match it {
            OperationMatcher::Peer(peers) => (it.key(), texts(peers, PeerMatcher::text)),
            OperationMatcher::Attribute { globs, .. } => (it.key(), texts(globs, Glob::text)),
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

impl SeriesField {
    const ALL: [SeriesField; 4] = [
        SeriesField::Listener,
        SeriesField::Protocol,
        SeriesField::Operation,
        SeriesField::Resource,
    ];

    fn key(self) -> &'static str {
        match self {
            SeriesField::Listener => "listener",
            SeriesField::Protocol => "protocol",
            SeriesField::Operation => "operation",
            SeriesField::Resource => "resource",
        }
    }

    fn of<'a>(self, known: &KnownFields<'a>) -> Option<&'a str> {
        match self {
            SeriesField::Listener => known.listener,
            SeriesField::Protocol => known.protocol,
            SeriesField::Operation => known.operation,
            SeriesField::Resource => known.resource,
        }
    }
}

impl SeriesMatcher {
    /// Whether it matches, as far as that is known.
    fn matches(&self, known: &KnownFields<'_>) -> Truth {
        let Some(word) = self.word.of(known) else { return Truth::Unknown };
        let word = match self.word {
            SeriesField::Resource => glob::KnownText::resource(word),
            SeriesField::Operation => glob::KnownText::name(word),
            SeriesField::Listener | SeriesField::Protocol => glob::KnownText::Whole(word),
        };
        any(&self.globs, |glob| glob.matches_known(word))
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

impl OperationMatcher {
    fn key(&self) -> &str {
        match self {
            OperationMatcher::Peer(_) => "peer",
            OperationMatcher::Attribute { name, .. } => name,
        }
    }

    /// How much time its value takes to find, as a rank.
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

    /// Whether it matches. An absent value matches nothing.
    fn matches(&self, input: &MatchInput<'_>, negation: Negation) -> Truth {
        match self {
            OperationMatcher::Peer(peers) => {
                let peer = input.attributes.peer();
                peer.is_some_and(|peer| peers.iter().any(|some| some.contain(peer))).into()
            }
            OperationMatcher::Attribute { name, globs } => {
                negation.fact_matches(input.get(name), |value| match &**name {
                    // Its values are resources, and a `?` in one stands for what is not known.
                    OTHER_RESOURCES => residual::matches_resource(globs, value, input.partial),
                    _ => globs.iter().any(|it| it.matches(value)).into(),
                })
            }
        }
    }
}

impl<'a> MatchInput<'a> {
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

/// A client of which only the address is known.
struct AddressOnly(IpAddr);

impl Attributes for AddressOnly {
    fn get<'a>(&'a self, _: &'a [u8], _: &str) -> AttributeValue<'a> {
        AttributeValue::Absent
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.0)
    }
}
