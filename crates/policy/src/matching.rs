//! The conditions under which a policy applies: globs over an operation's fields and attributes. Those
//! that are the same for all operations of a series are evaluated once for the series.

mod explain;
mod glob;
mod index;
mod peers;
mod residual;
mod setting;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
mod truth;

use crate::{
    attributes::{ConnectPhase, connect_phase},
    series::SeriesKey,
};
use glob::Glob;
pub(crate) use index::{Candidates, MatchIndex};
use operation::{AttributeValue, Attributes, OTHER_RESOURCES, Operation};
pub use peers::PeerMatcher;
use residual::Negation;
use serde_json::{Map, Value};
use values::Diagnostic;
pub use {
    explain::{Explanation, Mismatch},
    glob::is_glob,
    setting::MatchSetting,
};
pub use {residual::ResidualMatch, truth::Truth};

/// The conditions of a policy: every key must match by one of its globs, and `not` must not match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Conditions that are the same for all operations of a series.
    series_matchers: Vec<SeriesMatcher>,
    /// Conditions that are evaluated for each operation, the cheapest first.
    operation_matchers: Vec<OperationMatcher>,
    /// Must not match as a whole.
    not: Option<Box<Match>>,
}

/// Whether a policy applies to the operations of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applicability {
    /// To no operation.
    Never,
    /// To all operations.
    Always,
    /// To some: [`Match::matches`] must be called for each operation.
    PerOperation(ResidualMatch),
}

/// A condition on a field that is the same for all operations of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SeriesMatcher {
    field: SeriesField,
    globs: Vec<Glob>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeriesField {
    Listener,
    Protocol,
    Operation,
    Resource,
}

/// A condition that is evaluated for each operation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum OperationMatcher {
    Peer(Vec<PeerMatcher>),
    Attribute { name: Box<str>, globs: Vec<Glob> },
}

/// The known fields of an operation or connection; a field that is `None` may have any value.
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
    /// There may be other resources (see [`Operation::may_have_other_resources`]).
    pub others: bool,
}

impl<'a> KnownFields<'a> {
    /// The fields of an operation on this listener.
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
    /// Adds a condition: the value of `key` must match one of these globs. Errors have the index of the
    /// wrong glob.
    pub fn add(&mut self, key: &str, globs: &[&str]) -> Result<(), Vec<(usize, Diagnostic)>> {
        let compile = || globs.iter().map(|text| Glob::new(text)).collect();
        if let Some(field) = SeriesField::ALL.into_iter().find(|field| field.key() == key) {
            self.series_matchers.push(SeriesMatcher { field, globs: compile() });
            return Ok(());
        }
        let matcher = if key == "peer" {
            let parsed = globs.iter().map(|text| PeerMatcher::parse(text)).enumerate();
            let (good, bad): (Vec<_>, Vec<_>) = parsed.partition(|(_, peers)| peers.is_ok());
            if !bad.is_empty() {
                return Err(bad
                    .into_iter()
                    .filter_map(|(i, peers)| Some((i, peers.err()?)))
                    .collect());
            }
            OperationMatcher::Peer(good.into_iter().filter_map(|(_, peers)| peers.ok()).collect())
        } else {
            OperationMatcher::Attribute { name: key.into(), globs: compile() }
        };
        self.operation_matchers.push(matcher);
        self.operation_matchers.sort_by_key(OperationMatcher::cost);
        Ok(())
    }

    /// Excludes the operations that another match applies to.
    pub fn exclude(&mut self, not: Match) {
        self.not = Some(Box::new(not));
    }

    /// Whether it applies to the operations of a series on this listener.
    pub fn applies(&self, listener: &str, key: &SeriesKey) -> Applicability {
        self.resolve(&KnownFields {
            listener: Some(listener),
            protocol: Some(key.protocol.name),
            operation: Some(&key.name),
            resource: Some(&key.resource),
            others: key.protocol.attributes.contains(&OTHER_RESOURCES),
        })
    }

    /// Whether it applies to this operation. `residual` is from [`Applicability::PerOperation`] of its
    /// series.
    pub fn matches(&self, residual: &ResidualMatch, operation: &Operation<'_>) -> Truth {
        self.matches_levels(&residual.levels, &MatchInput::of(operation), Negation::default())
    }

    /// Whether it can apply to any operation of this listener, whatever its protocol.
    pub(crate) fn may_apply_on(&self, listener: &str) -> bool {
        let known = KnownFields { listener: Some(listener), ..KnownFields::default() };
        self.resolve(&known) != Applicability::Never
    }

    /// Whether it can apply to any operation or connection of this listener.
    pub fn may_apply(&self, listener: &str, protocol: &str) -> bool {
        let (listener, protocol) = (Some(listener), Some(protocol));
        self.resolve(&KnownFields { listener, protocol, ..KnownFields::default() })
            != Applicability::Never
    }

    /// Whether it has the key `operation`.
    pub(crate) fn names_operations(&self) -> bool {
        self.series_matchers.iter().any(|matcher| matcher.field == SeriesField::Operation)
    }

    /// Whether its key `operation` does not match this name.
    pub fn excludes_by_name(&self, operation: &str) -> bool {
        let name = glob::KnownText::Whole(operation);
        let by_name =
            self.series_matchers.iter().filter(|matcher| matcher.field == SeriesField::Operation);
        by_name
            .into_iter()
            .any(|matcher| any(&matcher.globs, |glob| glob.matches_known(name)) == Truth::No)
    }

    /// The first phase of a connection in which all its keys are known; `None` if it has a key that
    /// only operations have.
    pub fn connect_phase(&self) -> Option<ConnectPhase> {
        let is_known =
            |it: &SeriesMatcher| matches!(it.field, SeriesField::Listener | SeriesField::Protocol);
        if !self.series_matchers.iter().all(is_known) {
            return None;
        }
        let own = self.operation_matchers.iter().map(|matcher| connect_phase(matcher.key()));
        let mut all = own.chain(self.not.iter().map(|not| not.connect_phase()));
        all.try_fold(ConnectPhase::BeforeHandshake, |latest, phase| Some(latest.max(phase?)))
    }

    /// Whether it applies to a connection.
    pub fn matches_connection(
        &self,
        listener: &str,
        protocol: &str,
        connection: &dyn Attributes,
    ) -> bool {
        let (listener, protocol) = (Some(listener), Some(protocol));
        match self.resolve(&KnownFields { listener, protocol, ..KnownFields::default() }) {
            Applicability::Never => false,
            Applicability::Always => true,
            Applicability::PerOperation(residual) => {
                let input = MatchInput::of_connection(connection);
                self.matches_levels(&residual.levels, &input, Negation::default()) == Truth::Yes
            }
        }
    }

    /// The attributes on which it has conditions, without those inside `not`.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.operation_matchers.iter().map(OperationMatcher::key)
    }

    /// The attributes on which it has conditions, also inside `not`.
    pub fn all_attributes(&self) -> Vec<&str> {
        let inner = self.not.iter().flat_map(|not| not.all_attributes());
        self.attributes().chain(inner).collect()
    }

    /// As in a config.
    pub fn to_json(&self) -> Value {
        let series = self
            .series_matchers
            .iter()
            .map(|matcher| (matcher.field.key(), texts(&matcher.globs, Glob::text)));
        let operation = self.operation_matchers.iter().map(|matcher| match matcher {
            OperationMatcher::Peer(peers) => (matcher.key(), texts(peers, PeerMatcher::text)),
            OperationMatcher::Attribute { globs, .. } => (matcher.key(), texts(globs, Glob::text)),
        });
        let keys = series.chain(operation).map(|(key, texts)| (key.to_owned(), texts));
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
    /// Whether one of the globs matches; `Unknown` if the field's value is not known.
    fn matches(&self, known: &KnownFields<'_>) -> Truth {
        let Some(value) = self.field.of(known) else { return Truth::Unknown };
        let value = match self.field {
            SeriesField::Resource => glob::KnownText::resource(value),
            SeriesField::Operation => glob::KnownText::name(value),
            SeriesField::Listener | SeriesField::Protocol => glob::KnownText::Whole(value),
        };
        any(&self.globs, |glob| glob.matches_known(value))
    }
}

/// Whether `holds` is true for one of these.
fn any<T>(items: &[T], holds: impl Fn(&T) -> Truth) -> Truth {
    items.iter().fold(Truth::No, |truth, item| truth.or(holds(item)))
}

/// Whether `holds` is true for all of these.
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

    /// The rank of the time that it takes to read the value.
    fn cost(&self) -> u8 {
        match self.key() {
            "peer" => 0,
            // Attributes of the connection.
            "local" | "endpoint" | "cluster" | "app" | "user" | "driver" | "sni" => 1,
            // Most operations are known to have none.
            "callsite" => 2,
            _ => 3,
        }
    }

    /// Whether it matches. An absent attribute matches no glob.
    fn matches(&self, input: &MatchInput<'_>, negation: Negation) -> Truth {
        match self {
            OperationMatcher::Peer(peers) => {
                let peer = input.attributes.peer();
                peer.is_some_and(|peer| peers.iter().any(|matcher| matcher.contains(peer))).into()
            }
            OperationMatcher::Attribute { name, globs } => {
                negation.attribute_matches(input.get(name), |value| match &**name {
                    // Its values are resources, in which `?` means a part that is not known.
                    OTHER_RESOURCES => residual::matches_resource(globs, value, input.partial),
                    _ => globs.iter().any(|glob| glob.matches(value)).into(),
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

    fn of_connection(attributes: &'a dyn Attributes) -> Self {
        Self { attributes, front: b"", callsite: false, partial: false, others: false }
    }

    fn get(&self, name: &str) -> AttributeValue<'a> {
        if name == "callsite" && !self.callsite {
            return AttributeValue::Absent;
        }
        match self.attributes.get(self.front, name) {
            value if self.partial => value,
            value => value.at_request_end(),
        }
    }
}
