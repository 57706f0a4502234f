//! A replica set: which members there are, and what each of them is.
//!
//! Sources of the rules: MongoDB's driver specifications `server-discovery-and-monitoring` (members, stale
//! primaries) and `server-selection` (tags, staleness, latency window). They hold for any service with a
//! primary and copies; a [`MonitorConfig`](operation::MonitorConfig) knows the protocol.
//!
//! - `monitor`: asks each member, and keeps asking
//! - `selection`: which member may serve an operation

mod monitor;
mod selection;

pub(crate) use monitor::ask;

use crate::{
    Cluster, ConnectOptions, Endpoint, EndpointPlan, Exclusion, PickOptions,
    endpoint::MonitoredMember, events::Event,
};
use operation::{MemberState, Role};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time;
use values::Target;

/// How long no member has to be known before the seeds are asked again.
const SEEDS_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What is known of the replica set as a whole.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    /// The greatest term of a primary. One with a lesser term has been replaced.
    newest_term: Mutex<Vec<u8>>,
}

impl Topology {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.newest_term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// Forgets the newest term, since terms of another replica set have nothing to do with it.
    pub(crate) fn forget_term(&self) {
        self.topology.lock().clear();
    }

    /// Marks an endpoint whose connection was lost, or that has lost its role: it is not used until its
    /// monitor has asked it again, which happens at once. Without an effect in a cluster without roles.
    pub fn doubt(&self, endpoint: &Arc<Endpoint>) {
        if self.has_roles() && endpoint.set_role(Role::Unknown) != Role::Unknown {
            endpoint.recheck.notify_one();
            self.notify_change();
        }
    }

    /// Waits until the primary is known, at most as long as clients wait for a connection; in a cluster with
    /// roles, for a connection to no endpoint in particular.
    pub(crate) async fn wait_for_primary(&self, options: &ConnectOptions) {
        if !self.has_roles() || options.preferred.is_some() {
            return;
        }
        let mut changes = self.changes.subscribe();
        let found = async {
            while self.pick(PickOptions::default()).is_none() {
                // The sender lives as long as the cluster.
                let _ = changes.changed().await;
            }
        };
        let _ = time::timeout(self.plan().circuit_breaker.pending_timeout, found).await;
    }

    /// What the members are, if none of them is the primary.
    pub(crate) fn missing_primary(&self) -> Option<String> {
        let plan = self.replica_set()?;
        let set = self.set.load();
        if set.primary().is_some() {
            return None;
        }
        let word = |it: &Arc<Endpoint>| format!("{} is {}", it.name(), it.role().as_str());
        let members: Vec<_> = set.endpoints().map(word).collect();
        Some(format!("no primary of `{}` is known ({})", plan.name, members.join(", ")))
    }

    /// The newest replies of the members to their monitors.
    pub(crate) fn member_replies(&self) -> Vec<bytes::Bytes> {
        let set = self.set.load();
        let known = set.endpoints().filter(|endpoint| endpoint.role() != Role::Unknown);
        known.filter_map(|it| Some(it.member.load().as_ref()?.reply().clone())).collect()
    }

    /// Records what a member says of itself.
    fn member_reported(
        &self,
        endpoint: &Arc<Endpoint>,
        mut state: MemberState,
        rtt: Option<Duration>,
    ) {
        let mut newest_term = self.topology.lock();
        if endpoint.is_excluded(Exclusion::Removed) {
            return;
        }
        if state.role == Role::Primary {
            let is_stale = !state.term.is_empty() && state.term < *newest_term;
            if is_stale {
                state.role = Role::Unknown;
                state.description += ", which was replaced";
            } else {
                if !state.term.is_empty() {
                    newest_term.clone_from(&state.term);
                }
                self.demote_other_primaries(endpoint);
            }
        }
        let (role, members) = (state.role, state.members.take());
        let words = state.description.clone();
        endpoint.record_answer(true, &words, rtt);
        let before = endpoint.member.load_full();
        let tags_changed = before.as_ref().is_none_or(|before| before.tags() != state.tags);
        let reply_changed = before.is_none_or(|before| before.reply() != &state.reply);
        let member = MonitoredMember::new(state, rtt);
        self.show_lag(endpoint, &member, role);
        endpoint.member.store(Some(Arc::new(member)));
        let was_down = endpoint.readmit(Exclusion::Unhealthy);
        endpoint.end_interruption();
        let role_changed = endpoint.set_role(role) != role;
        if role_changed {
            self.events.report(&Event::Role { endpoint, role, reason: &words });
        }
        if let Some(members) = members {
            self.follow_members(members, role);
        }
        self.release_clients();
        drop(newest_term);
        if was_down {
            self.refresh();
        }
        if role_changed || tags_changed || reply_changed || was_down {
            self.notify_change();
        }
    }

    /// Shows how far a secondary is behind the primary, as far as both have said.
    fn show_lag(&self, endpoint: &Endpoint, member: &MonitoredMember, role: Role) {
        let set = self.set.load();
        let primary = set.primary().and_then(|it| it.member.load_full());
        let behind = |primary: Arc<MonitoredMember>| member.lag(&primary);
        let lag = match role {
            Role::Primary => Some(Duration::ZERO),
            Role::Secondary => primary.and_then(behind),
            Role::Unknown => None,
        };
        lag.into_iter().for_each(|lag| endpoint.set_lag(lag));
    }

    /// There is one primary: a newer one replaces those before it.
    fn demote_other_primaries(&self, newest: &Arc<Endpoint>) {
        let set = self.set.load_full();
        for other in set.endpoints().filter(|it| it.name() != newest.name()) {
            if other.role() == Role::Primary {
                other.set_role(Role::Unknown);
                other.recheck.notify_one();
                let reason = "another member is the primary now";
                self.events.report(&Event::Role { endpoint: other, role: Role::Unknown, reason });
            }
        }
    }

    /// Asks the clients that have a connection of their own to a member which is not the primary to leave
    /// it. One that is in doubt keeps them as long as no other member is the primary.
    fn release_clients(&self) {
        let set = self.set.load_full();
        let has_primary = set.primary().is_some();
        let mut changed = false;
        for endpoint in set.endpoints() {
            let lost = match endpoint.role() {
                Role::Primary => false,
                Role::Secondary => true,
                Role::Unknown => has_primary,
            };
            changed |= endpoint.set_role_lost(lost);
        }
        if changed {
            self.notify_connections();
        }
    }

    /// Records that a member can't be asked. One that is silent may be frozen, or cut off without a word:
    /// nothing comes on the other connections to it either, so they close, with operations under way too
    /// (specification `server-discovery-and-monitoring`, "interruptInUseConnections").
    fn member_lost(&self, endpoint: &Arc<Endpoint>, reason: &str, is_silent: bool) {
        endpoint.record_answer(false, reason, None);
        let role_changed = endpoint.set_role(Role::Unknown) != Role::Unknown;
        let fails_newly = endpoint.exclude(Exclusion::Unhealthy);
        if fails_newly {
            self.events.report(&Event::Health { endpoint, healthy: false, reason });
            self.refresh();
        }
        self.release_clients();
        if is_silent && endpoint.interrupt_connections() {
            self.notify_connections();
        }
        if role_changed || fails_newly {
            self.notify_change();
        }
        self.request_refresh();
    }

    /// The members that a member names become the endpoints. The primary's list replaces all others; as
    /// long as there is no primary, lists add up.
    fn follow_members(&self, members: Vec<String>, role: Role) {
        let Some(plan) = self.replica_set() else { return };
        let adds_up = role != Role::Primary;
        if adds_up && self.set.load().primary().is_some() {
            return;
        }
        let mut targets = if adds_up { self.discovered_targets() } else { Vec::new() };
        for name in members {
            match plan.dialled_at(&name) {
                Some(target) => targets.push(target),
                None => tracing::warn!(
                    cluster = &*self.name,
                    member = name,
                    "a member of the replica set has no name that can be dialled: it is not used"
                ),
            }
        }
        self.set_targets(targets);
    }

    /// Adds the seeds to the members that are known.
    fn add_seeds(&self) {
        let Some(plan) = self.replica_set() else { return };
        let mut targets = self.discovered_targets();
        targets.extend(plan.seeds.iter().cloned());
        self.set_targets(targets);
    }

    /// These become the endpoints, each once.
    fn set_targets(&self, mut after: Vec<Target>) {
        let mut before = self.discovered_targets();
        before.sort_unstable_by_key(Target::to_string);
        after.sort_unstable_by_key(Target::to_string);
        after.dedup();
        if before != after {
            self.set_discovered(after.into_iter().map(EndpointPlan::new).collect());
            // New names are looked up now.
            self.request_refresh();
        }
    }
}

#[cfg(test)]
mod tests;
