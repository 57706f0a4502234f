//! The policies as they apply to one series. Each is bound when an operation of the series needs it for
//! the first time: of many policies, most never are.

use crate::{
    ActivePolicy, SeriesPolicy,
    matching::{Applicability, Candidates, ResidualMatch},
    policy_set::PolicySet,
    position_set::PositionSet,
    series_key::SeriesKey,
};
use operation::Operation;
use std::{cell::OnceCell, rc::Rc};

/// How many policies share an allocation.
const CHUNK: usize = 8;

/// A policy that applies to a series, or to some of its operations.
pub struct BoundPolicy {
    /// The policy.
    pub active: Rc<ActivePolicy>,
    /// The part of the match that is evaluated for each operation; `None` if the policy applies to
    /// all.
    pub residual: Option<ResidualMatch>,
    /// Whether it does not apply to operations with `limit_exempt`.
    pub skips_limit_exempt: bool,
    /// The policy for this series.
    pub policy: Box<dyn SeriesPolicy>,
}

/// The policies of one series.
pub(crate) struct BoundPolicies {
    set: Rc<PolicySet>,
    /// The first ones, which see each operation.
    observers: Box<[Option<BoundPolicy>]>,
    /// Those that may apply to its operations.
    candidates: PositionSet,
    /// The same for operations on no other resource.
    of_resource: PositionSet,
    /// The others, by position behind the observers; a policy that does not apply is `None`.
    bound: Box<[OnceCell<Box<Chunk>>]>,
}

type Chunk = [OnceCell<Option<BoundPolicy>>; CHUNK];

impl BoundPolicies {
    /// The policies of this set for a series.
    pub(crate) fn new(set: Rc<PolicySet>, key: &SeriesKey) -> Self {
        let mut found = Candidates::default();
        set.find_for_series(key.protocol.name, &key.name, &mut found);
        let candidates = found.policies.clone();
        set.index().narrow_to_resource(&key.resource, &mut found);
        let (observers, others) = set.split_at(set.observers());
        let observers =
            observers.iter().map(|it| BoundPolicy::new(it, set.listener(), key)).collect();
        let chunks = others.len().div_ceil(CHUNK);
        let bound = std::iter::repeat_with(OnceCell::new).take(chunks).collect();
        Self { set, observers, candidates, of_resource: found.policies, bound }
    }

    /// The policies of all series.
    pub(crate) fn set(&self) -> &PolicySet {
        &self.set
    }

    /// The policy at a position; `None` if it does not apply to the series.
    pub(crate) fn get(&self, position: usize, key: &SeriesKey) -> Option<&BoundPolicy> {
        if let Some(observer) = self.observers.get(position) {
            return observer.as_ref();
        }
        let place = position - self.observers.len();
        let chunk = self.bound.get(place / CHUNK)?.get_or_init(Box::default);
        let bind = || BoundPolicy::new(self.set.get(position)?, self.set.listener(), key);
        chunk[place % CHUNK].get_or_init(bind).as_ref()
    }

    /// All policies that apply to the series, in order.
    pub(crate) fn iter<'s>(&'s self, key: &'s SeriesKey) -> impl Iterator<Item = &'s BoundPolicy> {
        self.candidates.iter().filter_map(move |position| self.get(position, key))
    }

    /// How many chunks of policies are allocated.
    #[cfg(test)]
    pub(crate) fn allocated(&self) -> usize {
        self.bound.iter().filter(|chunk| chunk.get().is_some()).count()
    }

    /// Finds the policies that this operation of the series does not rule out.
    pub(crate) fn find(&self, operation: &Operation<'_>, found: &mut Candidates) {
        found.policies.copy_from(match operation.may_have_other_resources {
            true => &self.candidates,
            false => &self.of_resource,
        });
        self.set.index().narrow_to_operation(operation, found);
    }
}

impl BoundPolicy {
    fn new(active: &Rc<ActivePolicy>, listener: &str, key: &SeriesKey) -> Option<Self> {
        let residual = match active.applies(listener, key) {
            Applicability::Never => return None,
            Applicability::Always => None,
            Applicability::PerOperation(rest) => Some(rest),
        };
        let policy = active.policy.bind(key)?;
        let (active, skips_limit_exempt) = (Rc::clone(active), active.skips_limit_exempt());
        Some(Self { active, residual, skips_limit_exempt, policy })
    }
}
