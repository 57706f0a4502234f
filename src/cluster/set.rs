//! What a cluster consists of now: its endpoints with their places, and which of them are picked.

use super::{Endpoint, balance::Table};
use crate::config::plan::ClusterPlan;
use std::{sync::Arc, time::Instant};

#[cfg_attr(not(test), expect(dead_code, reason = "places do not count yet"))]
/// An endpoint, and its place among the others.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    /// Its share beside the others of its priority.
    pub(super) weight: u32,
    /// 0 is served first.
    pub(super) priority: u8,
    pub(super) zone: Option<Arc<str>>,
}

/// A snapshot: made anew when an endpoint comes, goes, or changes its state, and never changed.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) members: Vec<Member>,
    pub(super) table: Table,
}

impl Set {
    /// The set of these members, as they are `now`.
    pub(super) fn new(plan: &ClusterPlan, members: Vec<Member>, now: Instant) -> Self {
        let table = Table::new(plan, &members, now);
        Self { members, table }
    }

    /// Its endpoints.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.members.iter().map(|member| &member.endpoint)
    }
}
