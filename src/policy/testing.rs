//! Fixtures for tests of policies: a listener's environment, and operations to ask about.

use super::{Decision, PolicyEnv, SeriesPolicy, Settled, WorkerPolicy, rule::Rule};
use crate::{
    config,
    policy::series::{CardinalityLimit, SeriesKey},
};
use cluster::Cluster;
use operation::{AttributeValue, Attributes, ConnectionInfo, Operation, Protocol, Settlement};
use std::{net::IpAddr, sync::Arc, time::Instant};
use tollgate_metrics::Metrics;

const TOY: &Protocol = &Protocol::plain("toy");

/// The environment of a listener called `front`.
pub(super) fn policy_env() -> PolicyEnv {
    let plan = config::for_proxy("tcp", "127.0.0.1:0", "127.0.0.1:1", None).unwrap();
    let metrics = Metrics::new();
    PolicyEnv {
        cluster: Some(Cluster::new(Arc::clone(&plan.clusters[0]), &metrics)),
        metrics,
        listener: "front".into(),
        protocol: TOY,
        callsites: Arc::new(CardinalityLimit::new(10, metrics::Counter::noop())),
        access_log: None,
        lines: None,
    }
}

/// The policies of a config's `policies`, or what is wrong with it.
pub(super) fn rules(policies: &str) -> Result<Vec<Arc<Rule>>, String> {
    let rest = "listeners: { l: { address: 127.0.0.1:0, protocol: tcp, cluster: c } }\n\
                clusters: { c: { endpoints: [127.0.0.1:1] } }\n";
    let plan = config::parse("test.yaml", &format!("{rest}policies: [{policies}]\n"));
    plan.map(|plan| plan.policies.clone()).map_err(|problems| problems.to_string())
}

/// A policy called `it` that does this.
pub(super) fn rule(action: &str) -> Arc<Rule> {
    rules(&format!("{{ name: it, {action} }}")).unwrap().remove(0)
}

/// A policy's share on one worker.
pub(super) fn policy(rule: &Rule, from: &PolicyEnv) -> Box<dyn WorkerPolicy> {
    rule.config.worker_policy(rule, from)
}

/// The policy's share for operations of a name on a resource.
pub(super) fn series_policy(
    policy: &dyn WorkerPolicy,
    name: &str,
    resource: &str,
) -> Box<dyn SeriesPolicy> {
    let key =
        SeriesKey { protocol: TOY, name: name.into(), resource: resource.into(), confirmed: true };
    policy.bind(&key).unwrap()
}

/// A client and its attributes.
#[derive(Clone, Copy, Default)]
pub(super) struct TestClient {
    pub(super) peer: Option<IpAddr>,
    pub(super) user: Option<&'static str>,
    pub(super) backs_off: Option<&'static str>,
}

/// The n-th client.
pub(super) fn client(n: u32) -> TestClient {
    TestClient { peer: Some(IpAddr::V4(n.into())), ..TestClient::default() }
}

/// The connection of the n-th client.
pub(super) fn connection(n: u32) -> ConnectionInfo {
    let local = ([127, 0, 0, 1], 27017).into();
    ConnectionInfo { peer: (IpAddr::V4(n.into()), 40000).into(), local }
}

impl Attributes for TestClient {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        match name {
            "user" => self.user.into(),
            "backs_off" => self.backs_off.into(),
            _ => AttributeValue::Absent,
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
}

/// An operation of a client.
pub(super) fn operation(client: &TestClient) -> Operation<'_> {
    Operation {
        protocol: TOY,
        name: "find",
        resource: "shop.orders",
        head: b"",
        attributes: client,
        long_poll: false,
        limit_exempt: false,
        may_have_callsite: false,
        known_names: false,
        partial: false,
        may_have_other_resources: false,
    }
}

/// Asks about an operation of a client.
pub(super) fn ask(bound: &dyn SeriesPolicy, client: &TestClient, now: Instant) -> (Decision, u64) {
    let mut memo = 0;
    let decision = bound.admit(&operation(client), now, &mut memo);
    (decision, memo)
}

/// Settles an operation.
pub(super) fn settle(bound: &dyn SeriesPolicy, memo: u64, how: &Settlement<'_>) {
    let (name, resource) = ("find".into(), "shop.orders".into());
    let key = &SeriesKey { protocol: TOY, name, resource, confirmed: true };
    let (front, began, awaits, callsite, touched) = (&b""[..], how.now, false, false, &[][..]);
    bound.settle(
        &Settled { key, front, began, awaits, callsite, policy_effects: touched, how },
        memo,
    );
}

/// Random numbers that are the same each time (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
