//! The plan of a replica set, whose members are found by asking them.

use operation::MonitorConfig;
use serde::{Serialize, Serializer};
use std::{collections::BTreeMap, sync::Arc};
use values::{Target, host_port};

/// A replica set as the source of a cluster's endpoints.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaSetPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Members to ask first.
    #[serde(serialize_with = "as_text")]
    pub seeds: Vec<Target>,
    /// Where members are dialled whose own names can't be, by these names.
    #[serde(serialize_with = "map_as_text", skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Target>,
    /// Makes the monitors of its members.
    #[serde(skip)]
    pub monitor: Arc<dyn MonitorConfig>,
}

impl ReplicaSetPlan {
    /// Where the member with this name is dialled; `None` if the name is no address.
    pub(crate) fn dialled_at(&self, name: &str) -> Option<Target> {
        self.members.get(name).cloned().or_else(|| host_port(name).ok())
    }
}

fn as_text<S: Serializer>(targets: &[Target], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(targets.iter().map(Target::to_string))
}

fn map_as_text<S: Serializer>(
    targets: &BTreeMap<String, Target>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_map(targets.iter().map(|(name, target)| (name, target.to_string())))
}
