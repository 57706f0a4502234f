//! Replica sets as the source of a cluster's endpoints.

use super::Check;
use crate::file::ReplicaSetConfig;
use cluster::ReplicaSetPlan;
use operation::MonitorConfig;
use protocols::PROTOCOLS;
use std::sync::Arc;
use values::{Span, host_port, spanned::Spanned};

/// What is written beside `replica_set`: the key, and where it is.
pub(super) type BesideReplicaSet = [(&'static str, Option<Span>); 4];

impl Check<'_> {
    /// The replica set of a cluster.
    pub(super) fn replica_set(
        &mut self,
        cluster: &str,
        Spanned { at, value }: Spanned<ReplicaSetConfig>,
        beside: BesideReplicaSet,
    ) -> Option<ReplicaSetPlan> {
        for (key, place) in beside {
            let Some(place) = place else { continue };
            let message = match key {
                "health_check" => {
                    "the members of a `replica_set` are asked for their state all the time"
                }
                "lb_policy" => "the role and the read preference decide which member is used",
                _ => "the members of a `replica_set` are found by asking them",
            };
            self.report.add(place, message, format!("leave `{key}` out, or `replica_set`"));
        }
        self.followed.insert(cluster.to_owned());
        let written = value?;
        let name = self.need("name", at, "write its name: `name: rs0`", written.name)?;
        let name_text = name.value?;
        if name_text.is_empty() {
            let hint = "write the name of the replica set, as in `replicaSet=`";
            self.report.add(name.at, "the name is empty", hint);
        }
        let hint = "write a member: `seeds: [\"db-1.example.net:27017\"]`";
        let seeds = self.need("seeds", at, hint, written.seeds)?;
        let seeds_at = seeds.at;
        let seeds: Vec<_> = seeds.value?.into_iter().filter_map(|it| Some(it.value?.0.0)).collect();
        if seeds.is_empty() {
            self.report.add(seeds_at, "there is no member to ask", hint);
        }
        let mut members = std::collections::BTreeMap::new();
        for (name, Spanned { at, value }) in written.members.unwrap_or_default() {
            if let Err(fault) = host_port(&name) {
                self.report.add(at, fault.message, fault.hint);
            }
            members.extend(value.map(|address| (name.to_ascii_lowercase(), address.0.0)));
        }
        let monitor = self.monitors(cluster, at, &name_text)?;
        Some(ReplicaSetPlan { name: name_text.into(), seeds, members, monitor })
    }

    /// What follows the members, by the protocol of the cluster's listeners.
    fn monitors(&mut self, cluster: &str, at: Span, name: &str) -> Option<Arc<dyn MonitorConfig>> {
        let users = self.cluster_protocols.get(cluster);
        let monitors = users.into_iter().flatten().map(|user| (user, user.member_monitors(name)));
        let mut found = None;
        for (user, monitors) in monitors {
            if monitors.is_none() {
                let message = format!("`{}` has no replica sets", user.describe().name);
                let hint = "write the servers as `endpoints: [host:port]`";
                self.report.add(at, message, hint);
                return None;
            }
            found = found.or(monitors);
        }
        // No listener uses the cluster.
        let any = || PROTOCOLS.iter().find_map(|it| it.default_settings().member_monitors(name));
        found.or_else(any)
    }
}
