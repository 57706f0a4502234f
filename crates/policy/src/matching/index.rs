//! The matches of many policies, looked up together: one lookup for each attribute finds the policies
//! that an operation's value does not rule out, and only these are evaluated.
//!
//! A policy is ruled out only by a condition that certainly fails. Conditions inside `not`, and those
//! on a value that is not completely known, rule out nothing.

mod peer_index;
mod text_index;

use super::{
    Match, MatchInput, OTHER_RESOURCES, OperationMatcher, SeriesField,
    glob::{Glob, KnownText},
};
use crate::position_set::PositionSet;
use operation::{AttributeValue, Attributes, Operation};
use peer_index::PeerIndex;
use text_index::TextIndex;

/// The conditions of all policies of a listener.
#[derive(Debug, Default)]
pub(crate) struct MatchIndex {
    protocols: Conditions<TextIndex>,
    names: Conditions<TextIndex>,
    resources: Conditions<TextIndex>,
    peers: Conditions<PeerIndex>,
    /// By attribute, the cheapest first.
    attributes: Vec<(Box<str>, Conditions<TextIndex>)>,
}

/// The conditions of several policies on one field or attribute.
#[derive(Debug, Default)]
struct Conditions<T> {
    /// The policies that have one.
    members: PositionSet,
    values: T,
}

/// Policies that an operation or a connection does not rule out. Its memory serves one after the other.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// The policies that are left.
    pub(crate) policies: PositionSet,
    /// The result of a lookup.
    found: PositionSet,
}

impl MatchIndex {
    /// An index of these matches, each with the position of its policy.
    pub(crate) fn new(matches: &[(usize, &Match)]) -> Self {
        let mut keys: Vec<&OperationMatcher> = Vec::new();
        for matcher in matches.iter().flat_map(|(_, it)| &it.operation_matchers) {
            if !keys.iter().any(|known| known.key() == matcher.key()) {
                keys.push(matcher);
            }
        }
        keys.sort_by_key(|matcher| matcher.cost());
        let attributes = keys.into_iter().filter_map(|matcher| match matcher {
            OperationMatcher::Peer(_) => None,
            OperationMatcher::Attribute { name, .. } => {
                Some((name.clone(), Conditions::of_attribute(matches, name)))
            }
        });
        Self {
            protocols: Conditions::of_field(matches, SeriesField::Protocol),
            names: Conditions::of_field(matches, SeriesField::Operation),
            resources: Conditions::of_field(matches, SeriesField::Resource),
            peers: Conditions::of_peers(matches),
            attributes: attributes.collect(),
        }
    }

    /// Removes the policies that apply to no operation of this protocol and name.
    pub(crate) fn narrow_to_series(&self, protocol: &str, name: &str, left: &mut Candidates) {
        let protocol = KnownText::Whole(protocol);
        self.protocols.narrow(left, |values, found| values.find_known(protocol, found));
        self.names.narrow(left, |values, found| values.find_known(KnownText::name(name), found));
    }

    /// Removes the policies that do not apply to operations on this resource and no other.
    pub(crate) fn narrow_to_resource(&self, resource: &str, left: &mut Candidates) {
        let resource = KnownText::resource(resource);
        self.resources.narrow(left, |values, found| values.find_known(resource, found));
    }

    /// Removes the policies that all of this operation's resources and its attributes rule out. Without
    /// other resources, [`narrow_to_resource`](Self::narrow_to_resource) has looked at the only one.
    pub(crate) fn narrow_to_operation(&self, operation: &Operation<'_>, left: &mut Candidates) {
        let input = MatchInput::of(operation);
        if input.others {
            self.resources.narrow(left, |values, found| {
                values.find_known(KnownText::resource(operation.resource), found)
                    && values.find_value(&input, OTHER_RESOURCES, found)
            });
        }
        self.narrow_to_input(&input, left);
    }

    /// Removes the policies that this connection's attributes rule out.
    pub(crate) fn narrow_to_connection(&self, connection: &dyn Attributes, left: &mut Candidates) {
        self.narrow_to_input(&MatchInput::of_connection(connection), left);
    }

    fn narrow_to_input(&self, input: &MatchInput<'_>, left: &mut Candidates) {
        self.peers.narrow(left, |values, found| {
            if let Some(peer) = input.attributes.peer() {
                values.find(peer, found);
            }
            true
        });
        for (name, conditions) in &self.attributes {
            conditions.narrow(left, |values, found| values.find_value(input, name, found));
        }
    }
}

impl<T> Conditions<T> {
    /// Removes the policies whose condition a lookup does not find. The lookup is made only if one of
    /// the policies has a condition; it returns `false` if the value may be any.
    fn narrow(&self, left: &mut Candidates, find: impl FnOnce(&T, &mut PositionSet) -> bool) {
        if !left.policies.intersects(&self.members) {
            return;
        }
        left.found.clear();
        if find(&self.values, &mut left.found) {
            left.policies.retain_found(&self.members, &left.found);
        }
    }
}

impl Conditions<TextIndex> {
    fn of_field(matches: &[(usize, &Match)], field: SeriesField) -> Self {
        Self::of_globs(matches.iter().flat_map(|(position, it)| {
            let own = it.series_matchers.iter().filter(move |matcher| matcher.field == field);
            own.map(|matcher| (*position, &matcher.globs[..]))
        }))
    }

    fn of_attribute(matches: &[(usize, &Match)], attribute: &str) -> Self {
        Self::of_globs(matches.iter().flat_map(|(position, it)| {
            it.operation_matchers.iter().filter_map(move |matcher| match matcher {
                OperationMatcher::Attribute { name, globs } if **name == *attribute => {
                    Some((*position, &globs[..]))
                }
                OperationMatcher::Attribute { .. } | OperationMatcher::Peer(_) => None,
            })
        }))
    }

    fn of_globs<'m>(conditions: impl Iterator<Item = (usize, &'m [Glob])> + Clone) -> Self {
        let members = conditions.clone().map(|(position, _)| position).collect();
        let globs =
            conditions.flat_map(|(position, globs)| globs.iter().map(move |glob| (glob, position)));
        Self { members, values: TextIndex::new(globs) }
    }
}

impl Conditions<PeerIndex> {
    fn of_peers(matches: &[(usize, &Match)]) -> Self {
        let conditions = matches.iter().flat_map(|(position, it)| {
            it.operation_matchers.iter().filter_map(move |matcher| match matcher {
                OperationMatcher::Peer(peers) => Some((*position, &peers[..])),
                OperationMatcher::Attribute { .. } => None,
            })
        });
        let members = conditions.clone().map(|(position, _)| position).collect();
        let matchers = conditions
            .flat_map(|(position, peers)| peers.iter().map(move |matcher| (matcher, position)));
        Self { members, values: PeerIndex::new(matchers) }
    }
}

impl TextIndex {
    /// Adds the policies that have a glob for a value of this attribute: `false` if it may have any.
    fn find_value(&self, input: &MatchInput<'_>, name: &str, found: &mut PositionSet) -> bool {
        let mut find = |value: &str| match name {
            OTHER_RESOURCES => self.find_known(KnownText::resource(value), found),
            _ => self.find_known(KnownText::Whole(value), found),
        };
        match input.get(name) {
            AttributeValue::Known(value) => find(&value),
            AttributeValue::Repeated(values) | AttributeValue::Multiple(values) => {
                values.iter().all(|value| find(value))
            }
            AttributeValue::Absent => true,
            AttributeValue::Unread | AttributeValue::Unknown => false,
        }
    }
}
