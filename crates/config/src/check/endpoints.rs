//! Endpoints of a cluster or of an endpoints file.

use super::given;
use crate::{
    file::{EndpointConfig, EndpointKeys},
    report::Report,
};
use cluster::EndpointPlan;
use std::collections::BTreeSet;
use values::{HostPort, Span, SrvTarget, Target, Text, spanned::Spanned};

/// How a list of endpoints relates to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// The list is complete.
    All,
    /// The cluster has other endpoints too.
    Some,
}

/// Makes plans of endpoints, without duplicates.
pub(crate) fn endpoints(
    report: &mut Report,
    Spanned { at, value }: Spanned<Vec<Spanned<EndpointConfig>>>,
    listed: Listed,
) -> Vec<EndpointPlan> {
    let Some(written) = value else { return Vec::new() };
    if written.is_empty() {
        let hint = "list one at least: `[\"host:port\"]`";
        report.add(at, "there is no endpoint", hint);
    }
    let mut seen = BTreeSet::new();
    let mut endpoints = Vec::new();
    for Spanned { at, value } in written {
        let Some((at, endpoint)) = value.and_then(|written| endpoint(report, at, written)) else {
            continue;
        };
        let written = endpoint.at.to_string();
        if !seen.insert(written.to_ascii_lowercase()) {
            report.add(at, format!("`{written}` is here twice"), "list each endpoint once");
        }
        endpoints.push((at, endpoint));
    }
    // SRV records may have any priorities.
    let known = endpoints.iter().all(|(_, endpoint)| matches!(endpoint.at, Target::Host(..)));
    if listed == Listed::All && known {
        no_gap(report, &endpoints);
    }
    endpoints.into_iter().map(|(_, endpoint)| endpoint).collect()
}

/// An endpoint, and its span for conflicts with others.
fn endpoint(
    report: &mut Report,
    at: Span,
    written: EndpointConfig,
) -> Option<(Span, EndpointPlan)> {
    let keys = match written {
        EndpointConfig::Short(target) => return Some((at, EndpointPlan::new(target.0))),
        EndpointConfig::Long(keys) => keys,
    };
    let EndpointKeys { address, srv, weight, priority, zone, server_name } = *keys;
    let named = match (address, srv) {
        (Some(_), Some(srv)) => {
            let hint = "leave the one or the other out, or make it two endpoints";
            report.add(srv.at, "`srv` beside `address`", hint);
            return None;
        }
        (None, None) => {
            let hint = "write where it is: `address: host:port`";
            report.add(at, "the key `address` is missing", hint);
            return None;
        }
        (Some(address), None) => {
            let Text(HostPort(target)) = address.value?;
            (address.at, target)
        }
        (None, Some(srv)) => {
            let own = [("weight", weight.as_ref().map(|it| it.at))];
            let own = own.into_iter().chain([("priority", priority.as_ref().map(|it| it.at))]);
            for (key, at) in own.filter_map(|(key, at)| Some((key, at?))) {
                let message = format!("`{key}` beside `srv`: each SRV record has a {key} itself");
                report.add(at, message, "leave it out");
            }
            let Text(SrvTarget { target, .. }) = srv.value?;
            (srv.at, target)
        }
    };
    let (at, target) = named;
    let at = priority.as_ref().map_or(at, |priority| priority.at);
    let plan = EndpointPlan {
        weight: super::number(weight, 1),
        priority: super::number(priority, 0),
        zone: given(&zone).map(|zone| zone.0),
        server_name: given(&server_name).map(|name| name.0.into()),
        ..EndpointPlan::new(target)
    };
    Some((at, plan))
}

/// A gap in the priorities means a forgotten endpoint or another first number.
fn no_gap(report: &mut Report, endpoints: &[(Span, EndpointPlan)]) {
    let there: BTreeSet<u8> = endpoints.iter().map(|(_, endpoint)| endpoint.priority).collect();
    for (at, endpoint) in endpoints {
        let Some(before) = endpoint.priority.checked_sub(1) else { continue };
        if !there.contains(&before) {
            let message = format!("there is priority {}, but no {before}", endpoint.priority);
            report.add(*at, message, "priorities are 0, 1, 2 and so on, without a gap");
        }
    }
}

/// Reports endpoints of a cluster without `tls` that need it.
pub(super) fn unencrypted(
    report: &mut Report,
    written: Option<&Spanned<Vec<Spanned<EndpointConfig>>>>,
) {
    let endpoints = written.and_then(|it| it.value.as_ref()).into_iter().flatten();
    for endpoint in endpoints {
        let Some(EndpointConfig::Long(keys)) = &endpoint.value else { continue };
        if let Some(name) = &keys.server_name {
            let hint = "add `tls: {}` to the cluster, or leave `server_name` out";
            report.add(name.at, "`server_name` is for TLS, and the cluster has no `tls`", hint);
        }
        if let Some(Spanned { at, value: Some(Text(srv)) }) = &keys.srv
            && srv.implies_tls
        {
            let message = "this URL implies TLS, and the cluster has no `tls`";
            let hint =
                format!("add `tls: {{}}` to the cluster; without TLS: `srv: {}`", srv.target);
            report.add(*at, message, hint);
        }
    }
}
