//! From discovered addresses to the set of endpoints, and the removal of endpoints.

use super::{
    super::{CloseRequest, Exclusion, set::Member},
    Cluster,
    source::{DrainingEndpoint, Source, SourceTable},
};
use crate::{
    Endpoint,
    endpoint::{EndpointMetrics, host},
    plan::{ClusterPlan, EndpointPlan},
};
use foldhash::{HashMap, HashSet};
use operation::Role;
use std::{net::SocketAddr, sync::Arc};
use tokio::time::Instant;
use values::Target;

impl Cluster {
    /// Replaces the endpoints that do not come from the config. The state of those that existed
    /// before is kept, whatever their new weight, priority and zone.
    ///
    /// Called for the endpoints file and for the members of a replica set; a control plane (EDS) would use
    /// it too.
    pub(crate) fn set_discovered(&self, endpoints: Vec<EndpointPlan>) {
        let mut table = self.names.lock();
        let (before, own): (Vec<Source>, Vec<_>) =
            std::mem::take(&mut table.sources).into_iter().partition(|source| source.is_discovered);
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

    /// Replaces the endpoints of the config by those of a new one. The state of those that stay is kept,
    /// and members of a replica set stay until its monitors say otherwise.
    pub(crate) fn set_configured(&self, plan: &ClusterPlan, keeps_members: bool) {
        let mut table = self.names.lock();
        let before = std::mem::take(&mut table.sources);
        let (discovered, own): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|source| source.is_discovered);
        let mut own: HashMap<Target, Source> =
            own.into_iter().map(|source| (source.plan.at.clone(), source)).collect();
        for plan in plan.endpoints.iter().cloned() {
            let source = match own.remove(&plan.at) {
                Some(known) => Source { plan, ..known },
                None => table.new_source(plan, false),
            };
            table.sources.push(source);
        }
        if keeps_members {
            table.sources.extend(discovered);
        }
        for seed in plan.replica_set.iter().flat_map(|set| &set.seeds) {
            if !table.sources.iter().any(|source| source.plan.at == *seed) {
                let source = table.new_source(EndpointPlan::new(seed.clone()), true);
                table.sources.push(source);
            }
        }
        table.reads_file = plan.endpoints_file.is_some();
        if !table.reads_file {
            table.file_error = None;
        }
        // A file that was read already is compared with what it was before, so it is forgotten.
        table.file_seen = None;
        table.file_due = table.reads_file.then(Instant::now);
        table.register_written(&self.name, &self.names.metrics);
        table.register_capped(plan, &self.names.metrics);
        self.store(&mut table);
        drop(table);
        self.names.register_lookups();
        self.names.wake();
    }

    /// Replaces all endpoints: by these, and the seeds of the replica set. The endpoints file is not read
    /// any more.
    pub(crate) fn replace_endpoints(&self, endpoints: Vec<EndpointPlan>) {
        let mut table = self.names.lock();
        table.sources.clear();
        (table.file_due, table.file_error, table.reads_file) = (None, None, false);
        for plan in endpoints {
            let source = table.new_source(plan, false);
            table.sources.push(source);
        }
        let set = self.replica_set();
        for seed in set.iter().flat_map(|set| &set.seeds) {
            let source = table.new_source(EndpointPlan::new(seed.clone()), true);
            table.sources.push(source);
        }
        self.store(&mut table);
        // Names are looked up again when their time comes.
        self.names.wake();
    }

    /// The endpoints that have left, whose connections may still be open.
    pub(crate) fn leaving_endpoints(&self) -> Vec<Arc<Endpoint>> {
        let table = self.names.lock();
        table.draining.iter().map(|leaving| Arc::clone(&leaving.endpoint)).collect()
    }

    /// The targets of the endpoints that do not come from the config.
    pub(crate) fn discovered_targets(&self) -> Vec<Target> {
        let table = self.names.lock();
        let discovered = table.sources.iter().filter(|source| source.is_discovered);
        discovered.map(|source| source.plan.at.clone()).collect()
    }

    /// Publishes the endpoints of the table.
    pub(crate) fn publish(&self) {
        self.store(&mut self.names.lock());
    }

    /// Like `publish`, with the table locked by the caller, so that the newest one is stored last.
    ///
    /// An address stays the same endpoint whichever name it is found by, so its connections
    /// continue.
    pub(super) fn store(&self, table: &mut SourceTable) {
        let now = Instant::now();
        let mut changed = false;
        self.update_set(|before| {
            let mut known: HashMap<SocketAddr, Arc<Endpoint>> = HashMap::default();
            let leaving = table.draining.iter().map(|leaving| &leaving.endpoint);
            for endpoint in leaving.chain(before.iter().map(|member| &member.endpoint)) {
                known.insert(endpoint.address(), Arc::clone(endpoint));
            }
            let members = self.members(table, &known);
            let stay: HashSet<SocketAddr> = members.iter().map(|m| m.endpoint.address()).collect();
            for endpoint in members.iter().map(|member| &member.endpoint) {
                if endpoint.readmit(Exclusion::Removed) {
                    endpoint.set_close_request(endpoint.default_close_request());
                    changed = true;
                }
            }
            table.draining.retain(|leaving| !stay.contains(&leaving.endpoint.address()));
            for endpoint in before.iter().map(|member| &member.endpoint) {
                if !stay.contains(&endpoint.address()) {
                    endpoint.exclude(Exclusion::Removed);
                    endpoint.set_role(Role::Unknown);
                    endpoint.set_close_request(CloseRequest::WhenIdle);
                    let until = now + self.plan().drain_timeout;
                    table
                        .draining
                        .push(DrainingEndpoint { endpoint: Arc::clone(endpoint), deadline: until });
                    changed = true;
                }
            }
            members
        });
        table.mark_absent_names(now);
        if changed {
            self.notify_connections();
        }
    }

    fn members(
        &self,
        table: &mut SourceTable,
        known: &HashMap<SocketAddr, Arc<Endpoint>>,
    ) -> Vec<Member> {
        let register = |name| EndpointMetrics::new(&self.name, name, false, &self.names.metrics);
        let destination = self.destination.load();
        let tls = destination.tls.as_ref();
        let own = tls.and_then(|tls| tls.plan().server_name.as_deref());
        let mut members = Vec::new();
        let mut seen = HashSet::default();
        for index in 0..table.sources.len() {
            let EndpointPlan { weight, priority, zone, server_name, .. } =
                table.sources[index].plan.clone();
            for found in table.sources[index].found.clone() {
                // An address with several names is one endpoint.
                if !seen.insert(found.address) {
                    continue;
                }
                let name = server_name.as_deref().or(own).unwrap_or(host(&found.name)).to_owned();
                let endpoint = known.get(&found.address).cloned().unwrap_or_else(|| {
                    let meters = table.meters(&found.name, register);
                    Arc::new(Endpoint::new(found.address, found.name, meters))
                });
                // The address may have had another name before.
                endpoint.set_server_name(&name);
                let (weight, priority) = found.rank.unwrap_or((weight, priority));
                members.push(Member { endpoint, weight, priority, zone: zone.clone() });
            }
        }
        members
    }

    /// Closes connections to removed endpoints whose time is over.
    pub(super) fn close_removed(&self) {
        let now = Instant::now();
        let mut table = self.names.lock();
        let before = table.draining.len();
        table.draining.retain(|DrainingEndpoint { endpoint, deadline: until }| {
            let over = *until <= now;
            if over {
                endpoint.set_close_request(CloseRequest::Removed);
            }
            !over
        });
        let changed = table.draining.len() < before;
        table.forget_absent_names(now);
        drop(table);
        if changed {
            self.notify_connections();
        }
    }
}
