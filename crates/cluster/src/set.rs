//! A snapshot of a cluster: its endpoints, and the table that picks read.

use super::{Endpoint, balance::PickTable};
use crate::plan::ClusterPlan;
use operation::Role;
use std::{sync::Arc, time::Instant};

/// An endpoint with its weight, priority and zone.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    /// Its share among those of its priority.
    pub(super) weight: u32,
    /// 0 is used first.
    pub(super) priority: u8,
    pub(super) zone: Option<Arc<str>>,
}

/// An immutable snapshot, replaced when an endpoint is added, removed, or changes its state.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) members: Vec<Member>,
    pub(super) table: PickTable,
}

impl Set {
    /// The set of these members at `now`.
    pub(super) fn new(plan: &ClusterPlan, members: Vec<Member>, now: Instant) -> Self {
        let table = PickTable::new(plan, &members, now);
        Self { members, table }
    }

    /// Its endpoints.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.members.iter().map(|member| &member.endpoint)
    }

    /// The primary, if the endpoints have roles and one of them is it.
    pub(super) fn primary(&self) -> Option<&Arc<Endpoint>> {
        self.endpoints().find(|endpoint| endpoint.role() == Role::Primary)
    }

    /// In panic, when picks ignore health or fail: how many endpoints are usable, as text.
    pub(super) fn panic_reason(&self) -> Option<String> {
        self.table.panics().then(|| self.describe())
    }

    /// How many endpoints are usable, as text.
    pub(super) fn describe(&self) -> String {
        self.table.describe()
    }
}
