//! Fixtures for tests of policies: a listener's environment, and operations to ask about.

use crate::{
    Decision, PolicyEnv, PolicySettings, SeriesPolicy, Settled, WorkerPolicy,
    matching::{Match, MatchSetting},
    rule::Rule,
    series::{CardinalityLimit, SeriesKey},
};
use cluster::{Cluster, ClusterPlan, EndpointPlan};
use operation::{AttributeValue, Attributes, Operation, Protocol, Settlement};
use serde::de::DeserializeOwned;
use std::{net::IpAddr, sync::Arc, time::Instant};
use tollgate_metrics::Metrics;
use values::{
    Diagnostic, Target,
    spanned::{Spanned, opt_value},
};

const TOY: &Protocol = &Protocol::plain("toy");

/// The environment of a listener called `front`.
pub(crate) fn policy_env() -> PolicyEnv {
    let metrics = Metrics::new();
    PolicyEnv {
        has_preface: false,
        cluster: Some(cluster(&metrics)),
        metrics,
        listener: "front".into(),
        protocol: TOY,
        callsites: Arc::new(CardinalityLimit::new(10, metrics::Counter::noop())),
        shapes: None,
        lines: None,
        tap: Arc::default(),
        tracer: Arc::default(),
    }
}

/// A cluster with one endpoint, at which nothing listens.
pub(crate) fn cluster(metrics: &Metrics) -> Arc<Cluster> {
    let endpoint = EndpointPlan::new(Target::Host("127.0.0.1".to_owned(), 1));
    Cluster::new(Arc::new(ClusterPlan::new("upstream", vec![endpoint])), metrics)
}

/// The policies of a list of settings, or the mistakes in the first of them that has some.
pub(crate) fn rules(policies: &str) -> Result<Vec<Arc<Rule>>, String> {
    let list: Vec<PolicySettings> = read(&format!("[{policies}]"))?;
    list.into_iter().map(|settings| build(settings).map(Arc::new)).collect()
}

/// Reads settings as a config has them, except that the first error ends the reading.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

/// The policy with these settings, without the checks that need the listeners of a config.
fn build(mut settings: PolicySettings) -> Result<Rule, String> {
    let flag =
        |flag: Option<Spanned<bool>>, default| flag.and_then(|it| it.value).unwrap_or(default);
    let (_, built) = settings.kinds.pop().unwrap();
    let shown = |mistakes: Vec<Diagnostic>| -> String {
        mistakes
            .iter()
            .map(|it| format!("{}: {}\n{}\n", it.path.join("."), it.message, it.hint))
            .collect()
    };
    let config = built.unwrap().map_err(shown)?;
    let matching = settings.matching.and_then(|it| it.value).map(compile).unwrap_or_default();
    Ok(Rule {
        name: opt_value(settings.name).unwrap().0,
        enabled: flag(settings.enabled, true),
        dry_run: flag(settings.dry_run, false),
        expires: config.lifetime().map(|lasts| Instant::now() + lasts),
        matching: Arc::new(matching),
        config,
        source: values::ObjectSource::default(),
        counts: Arc::default(),
    })
}

fn compile(setting: MatchSetting) -> Match {
    let mut made = Match::default();
    for (key, globs) in setting.keys {
        let globs = globs.value.unwrap();
        let globs: Vec<&str> = globs.iter().map(|glob| glob.value.as_deref().unwrap()).collect();
        made.add(&key.value.unwrap(), &globs).unwrap();
    }
    if let Some(not) = setting.not.and_then(|not| not.value) {
        made.exclude(compile(not));
    }
    made
}

/// A policy called `it` that does this.
pub(crate) fn rule(action: &str) -> Arc<Rule> {
    rules(&format!("{{ name: it, {action} }}")).unwrap().remove(0)
}

/// A policy's share on one worker.
pub(crate) fn policy(rule: &Rule, from: &PolicyEnv) -> Box<dyn WorkerPolicy> {
    rule.config.worker_policy(rule, from)
}

/// The policy's share for operations of a name on a resource.
pub(crate) fn series_policy(
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
pub(crate) struct TestClient {
    pub(crate) peer: Option<IpAddr>,
    pub(crate) user: Option<&'static str>,
    pub(crate) backs_off: Option<&'static str>,
    pub(crate) vpce: Option<&'static str>,
    /// The names in its certificate.
    pub(crate) names: &'static [&'static str],
}

/// The n-th client.
pub(crate) fn client(n: u32) -> TestClient {
    TestClient { peer: Some(IpAddr::V4(n.into())), ..TestClient::default() }
}

impl Attributes for TestClient {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        match name {
            "user" => self.user.into(),
            "backs_off" => self.backs_off.into(),
            "proxy.vpce" => self.vpce.into(),
            "tls.san" if !self.names.is_empty() => {
                AttributeValue::Repeated(self.names.iter().map(|&name| name.into()).collect())
            }
            _ => AttributeValue::Absent,
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
}

/// An operation of a client.
pub(crate) fn operation(client: &TestClient) -> Operation<'_> {
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
        query_shape: None,
    }
}

/// Asks about an operation of a client.
pub(crate) fn ask(bound: &dyn SeriesPolicy, client: &TestClient, now: Instant) -> (Decision, u64) {
    let mut memo = 0;
    let decision = bound.admit(&operation(client), now, &mut memo);
    (decision, memo)
}

/// Settles an operation.
pub(crate) fn settle(bound: &dyn SeriesPolicy, memo: u64, how: &Settlement<'_>) {
    let (name, resource) = ("find".into(), "shop.orders".into());
    let key = &SeriesKey { protocol: TOY, name, resource, confirmed: true };
    let (front, began, long_poll, may_have_callsite, policy_effects) =
        (&b""[..], how.now, false, false, &[][..]);
    bound.settle(
        &Settled {
            key,
            front,
            began,
            long_poll,
            may_have_callsite,
            query_shape: None,
            policy_effects,
            how,
        },
        memo,
    );
}

/// Random numbers that are the same each time (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
