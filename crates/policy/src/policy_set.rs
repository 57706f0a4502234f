//! The policies in force on one listener and worker, in order, with the index that finds those that may
//! apply to an operation or a connection.

use crate::{
    ActivePolicy,
    attribute_memo::AttributeNumbers,
    attributes::ConnectPhase,
    matching::{Candidates, Match, MatchIndex},
    position_set::PositionSet,
};
use operation::{Attributes, BACKS_OFF, OTHER_RESOURCES, WRITES};
use std::{ops::Deref, rc::Rc};

/// The policies in force, by position.
pub(crate) struct PolicySet {
    listener: Box<str>,
    policies: Box<[Rc<ActivePolicy>]>,
    /// Those that may apply to operations of the listener.
    of_operations: PositionSet,
    /// Those that may apply to its connections, by phase.
    of_connections: [PositionSet; 2],
    /// How many of the first have no conditions: all, if no policy is configured. They see an operation
    /// before its attributes are read.
    observers: usize,
    index: MatchIndex,
    numbers: AttributeNumbers,
}

impl PolicySet {
    /// The policies of a listener, in the order of evaluation.
    pub(crate) fn new(listener: &str, policies: Vec<Rc<ActivePolicy>>) -> Self {
        let all = || policies.iter().enumerate();
        let matches: Vec<(usize, &Match)> = all()
            .filter_map(|(position, active)| Some((position, &*active.rule.as_ref()?.matching)))
            .collect();
        let of_operations = all().filter(|(_, active)| active.may_apply_to_operations(listener));
        let in_phase = |phase| {
            let asked = all().filter(move |(_, active)| active.is_asked_in(phase));
            asked.map(|(position, _)| position).collect()
        };
        // The names in matches first: the index asks for them.
        let in_matches = matches.iter().flat_map(|(_, it)| it.all_attributes());
        let in_actions = policies.iter().flat_map(|active| active.depends_on());
        let names = in_matches.chain(in_actions).chain([OTHER_RESOURCES, WRITES, BACKS_OFF]);
        Self {
            of_operations: of_operations.map(|(position, _)| position).collect(),
            of_connections: [ConnectPhase::BeforeHandshake, ConnectPhase::AfterHandshake]
                .map(in_phase),
            observers: policies.iter().take_while(|active| active.rule.is_none()).count(),
            index: MatchIndex::new(&matches),
            numbers: AttributeNumbers::new(names),
            listener: listener.into(),
            policies: policies.into(),
        }
    }

    /// The listener's name.
    pub(crate) fn listener(&self) -> &str {
        &self.listener
    }

    /// How many of the first policies have no conditions.
    pub(crate) fn observers(&self) -> usize {
        self.observers
    }

    /// The index over the conditions of all policies.
    pub(crate) fn index(&self) -> &MatchIndex {
        &self.index
    }

    /// The attributes that the policies ask for.
    pub(crate) fn numbers(&self) -> &AttributeNumbers {
        &self.numbers
    }

    /// Finds the policies that may apply to operations of a protocol and name.
    pub(crate) fn find_for_series(&self, protocol: &str, name: &str, found: &mut Candidates) {
        found.policies.copy_from(&self.of_operations);
        self.index.narrow_to_series(protocol, name, found);
    }

    /// Finds the policies that may apply to a connection in this phase.
    pub(crate) fn find_for_connection(
        &self,
        connection: &dyn Attributes,
        phase: ConnectPhase,
        found: &mut Candidates,
    ) {
        found.policies.copy_from(&self.of_connections[phase as usize]);
        self.index.narrow_to_connection(connection, found);
    }
}

impl Deref for PolicySet {
    type Target = [Rc<ActivePolicy>];

    fn deref(&self) -> &Self::Target {
        &self.policies
    }
}
