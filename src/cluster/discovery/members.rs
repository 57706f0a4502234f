//! From what was found to the set that is picked from, and how endpoints leave it.

use super::{
    super::{Out, Wish, set::Member},
    Cluster,
    source::{Source, Table},
};
use crate::{
    cluster::{Endpoint, endpoint::Meters},
    config::plan::{EndpointPlan, Target},
};
use foldhash::{HashMap, HashSet};
use std::{net::SocketAddr, sync::Arc};
use tokio::time::Instant;

/// An endpoint that was removed.
pub(super) struct Leaving {
    endpoint: Arc<Endpoint>,
    /// Until then its connections may go on.
    pub(super) until: Instant,
}

impl Cluster {
    /// Makes these the endpoints beside those of the config. What is known of one that was there
    /// before is kept, whatever its weight, priority and zone are now.
    ///
    /// The file of endpoints comes in here; a control plane that tells of endpoints (EDS) would
    /// too.
    pub(super) fn supply(&self, endpoints: Vec<EndpointPlan>) {
        let mut table = self.names.lock();
        let (before, own): (Vec<Source>, Vec<_>) =
            std::mem::take(&mut table.sources).into_iter().partition(|source| source.supplied);
        let mut before: HashMap<Target, Source> =
            before.into_iter().map(|source| (source.plan.at.clone(), source)).collect();
        table.sources = own;
        for plan in endpoints {
            let source = match before.remove(&plan.at) {
                Some(known) => Source { plan, ..known },
                None => table.new_source(plan, true),
            };
            table.sources.push(source);
        }
        self.store(&mut table);
    }

    /// Makes the endpoints in the table the ones to pick from.
    pub(in crate::cluster) fn publish(&self) {
        self.store(&mut self.names.lock());
    }

    /// Like `publish`, for who holds the table locked, so that the newest one is stored last.
    ///
    /// An address stays the same endpoint whatever name it is found by: its connections go on.
    pub(super) fn store(&self, table: &mut Table) {
        let now = Instant::now();
        let mut changed = false;
        self.change(|before| {
            let mut known: HashMap<SocketAddr, Arc<Endpoint>> = HashMap::default();
            let leaving = table.leaving.iter().map(|leaving| &leaving.endpoint);
            for endpoint in leaving.chain(before.iter().map(|member| &member.endpoint)) {
                known.insert(endpoint.address(), Arc::clone(endpoint));
            }
            let members = self.members(table, &known);
            let stay: HashSet<SocketAddr> = members.iter().map(|m| m.endpoint.address()).collect();
            for endpoint in members.iter().map(|member| &member.endpoint) {
                if endpoint.bring_back(Out::Removed) {
                    endpoint.wishes(endpoint.usual_wish());
                    changed = true;
                }
            }
            table.leaving.retain(|leaving| !stay.contains(&leaving.endpoint.address()));
            for endpoint in before.iter().map(|member| &member.endpoint) {
                if !stay.contains(&endpoint.address()) {
                    endpoint.take_out(Out::Removed);
                    endpoint.wishes(Wish::Rest);
                    let until = now + self.plan.drain_timeout;
                    table.leaving.push(Leaving { endpoint: Arc::clone(endpoint), until });
                    changed = true;
                }
            }
            members
        });
        table.note_who_left(now);
        if changed {
            self.nudge();
        }
    }

    fn members(
        &self,
        table: &mut Table,
        known: &HashMap<SocketAddr, Arc<Endpoint>>,
    ) -> Vec<Member> {
        let register = |name| Meters::new(&self.plan.name, name, false, &self.names.metrics);
        let mut members = Vec::new();
        let mut seen = HashSet::default();
        for index in 0..table.sources.len() {
            let EndpointPlan { weight, priority, zone, .. } = table.sources[index].plan.clone();
            for found in table.sources[index].found.clone() {
                // An address that several names stand for is one endpoint.
                if !seen.insert(found.address) {
                    continue;
                }
                let endpoint = known.get(&found.address).cloned().unwrap_or_else(|| {
                    let meters = table.meters(&found.name, register);
                    Arc::new(Endpoint::new(found.address, found.name, meters))
                });
                let (weight, priority) = found.place.unwrap_or((weight, priority));
                members.push(Member { endpoint, weight, priority, zone: zone.clone() });
            }
        }
        members
    }

    /// Closes what still leads to endpoints that were removed, where their time is over.
    pub(super) fn let_go(&self) {
        let now = Instant::now();
        let mut table = self.names.lock();
        let before = table.leaving.len();
        table.leaving.retain(|Leaving { endpoint, until }| {
            let over = *until <= now;
            if over {
                endpoint.wishes(Wish::Removed);
            }
            !over
        });
        let changed = table.leaving.len() < before;
        table.forget_who_left(now);
        drop(table);
        if changed {
            self.nudge();
        }
    }
}
