//! Clusters that speak a version of HTTP in which a listener's requests can't be made.

use super::Check;
use crate::{
    config::{located::Located, problem::At},
    protocols::Written,
};
use http::Version;

impl Check<'_> {
    pub(super) fn versions(
        &mut self,
        listener: &str,
        written: &Written,
        cluster: Option<&Located<String>>,
    ) {
        for (path, cluster) in written.switched() {
            if self.speaks(&cluster, Version::HTTP_2) {
                let message = format!("`{cluster}` speaks HTTP/2, where no connection can change");
                let hint = "lead it to a cluster with `http: { version: 1 }`";
                self.report.add(self.in_protocol(listener, &path), message, hint);
            }
        }
        if !written.needs_http2() {
            return;
        }
        let named = written.clusters().into_iter();
        let named = named.map(|(path, cluster)| (self.in_protocol(listener, &path), cluster));
        let default = cluster.and_then(|it| Some((it.at, it.value.clone()?)));
        for (at, cluster) in named.chain(default).collect::<Vec<_>>() {
            if self.speaks(&cluster, Version::HTTP_11) {
                let message = format!("`{cluster}` speaks HTTP/1.1, and gRPC needs HTTP/2");
                let hint = "leave out its `http: { version: 1 }`, or write `reverse_bridge: true` \
                            if its services speak no gRPC";
                self.report.add(at, message, hint);
            }
        }
    }

    /// Whether it is said of a cluster that it speaks this version.
    fn speaks(&self, cluster: &str, version: Version) -> bool {
        self.versions.get(cluster).is_some_and(|it| *it == version)
    }

    /// The place of what is written in a listener's protocol.
    pub(super) fn in_protocol(&self, listener: &str, path: &[String]) -> At {
        let keys = ["listeners", listener, "protocol"].into_iter();
        let place: Vec<_> = keys.chain(path.iter().map(String::as_str)).collect();
        self.tree.place(&place)
    }
}
