//! Configured policies at the gate: what they reject, what counts, and changes while they run.

use super::*;
use crate::{
    Rule,
    attributes::ConnectPhase,
    testing::{self, TestClient},
};
use operation::{AttributeValue, Attributes, RejectMode};
use std::time::Duration;
use tollgate_metrics::{Effects, Metrics};

pub(super) struct Stage {
    live: Arc<Live>,
    pub(super) gate: Gate,
    pub(super) metrics: Metrics,
    pub(super) protocol: &'static Protocol,
}

/// A gate on the listener `db`, with these policies.
pub(super) fn stage(policies: &str) -> Stage {
    let list = policies.trim_start_matches('[').trim_end_matches(']');
    let rules = testing::rules(list).unwrap();
    let metrics = Metrics::new();
    let cardinality = || Arc::new(CardinalityLimit::new(10, ::metrics::Counter::noop()));
    let protocol = const { &TOY };
    let live = Live::new(rules);
    let from = PolicyEnv {
        has_preface: false,
        metrics: metrics.clone(),
        listener: "db".into(),
        protocol,
        cluster: Some(testing::cluster(&metrics)),
        callsites: cardinality(),
        shapes: None,
        lines: None,
        tap: Arc::default(),
        tracer: Arc::default(),
    };
    let gate = Gate::live(Arc::clone(&live), from, cardinality(), ::metrics::Gauge::noop());
    Stage { live, gate, metrics, protocol }
}

struct App(&'static str);

impl Attributes for App {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        (name == "app").then_some(self.0).into()
    }
}

impl Stage {
    /// The no that an operation of an application gets, if it gets one.
    fn no(&self, name: &str, app: &'static str, now: Instant) -> Option<Rejection> {
        let app = App(app);
        let found = Operation { protocol: self.protocol, name, attributes: &app, ..operation() };
        match self.gate.admit(&found, now) {
            Verdict::Reject(no) => Some(no),
            Verdict::Admit(_) => None,
            Verdict::Pending(_) | Verdict::NeedMore => {
                panic!("no policy of this test decides later")
            }
        }
    }

    fn is_refused(&self, name: &str) -> bool {
        self.no(name, "shop", Instant::now()).is_some()
    }

    /// What the policy of this name did.
    fn effects(&self, name: &str) -> Effects {
        let rules = self.live.rules();
        rules.iter().find(|rule| *rule.name == *name).unwrap().counts.effects()
    }

    fn arrival(&self, peer: &str) -> ConnectVerdict {
        let peer = peer.parse().ok();
        self.connect(&TestClient { peer, ..TestClient::default() }, ConnectPhase::BeforeHandshake)
    }

    fn connect(&self, client: &TestClient, phase: ConnectPhase) -> ConnectVerdict {
        self.gate.connect(client, phase, Instant::now())
    }
}

#[test]
fn what_matches_is_denied_and_counted_and_all_else_passes() {
    let stage = stage(
        "[{ name: no-drops, match: { operation: drop*, not: { app: admin } }, deny: { code: 50 } },
          { name: elsewhere, match: { listener: other, operation: \"*\" }, deny: {} }]",
    );
    let no = stage.no("dropDatabase", "shop", Instant::now()).unwrap();
    assert_eq!((no.reason, no.code, no.mode), (RejectReason::Denied, Some(50), RejectMode::Reply));
    assert_eq!(&*no.message, "the policy `no-drops` forbids this");
    assert_eq!(stage.no("drop", "admin", Instant::now()), None);
    assert!(!stage.is_refused("find"));
    let effects = Effects { refused: 1, ..Effects::default() };
    assert_eq!(stage.effects("no-drops"), effects);
}

#[test]
fn a_denial_has_the_configured_message_and_mode() {
    for (over, manner) in
        [("refuse", RejectMode::Reply), ("close", RejectMode::Close), ("reset", RejectMode::Reset)]
    {
        let stage = stage(&format!(
            "[{{ name: d, match: {{ operation: find }}, deny: {{ over: {over}, message: m }} }}]"
        ));
        let no = stage.no("find", "shop", Instant::now()).unwrap();
        assert_eq!((no.mode, &*no.message, no.code), (manner, "m", None));
    }
}

#[test]
fn a_dry_run_counts_and_rejects_nothing() {
    let stage = stage("[{ name: d, dry_run: true, match: { operation: find }, deny: {} }]");
    assert!(!stage.is_refused("find"));
    let effects = Effects { would_refuse: 1, ..Effects::default() };
    assert_eq!(stage.effects("d"), effects);
}

#[test]
fn a_disabled_policy_does_nothing_until_enabled() {
    let stage = stage("[{ name: d, enabled: false, match: { operation: find }, deny: {} }]");
    assert!(!stage.is_refused("find"));
    assert_eq!(stage.effects("d"), Effects::default());
    let switch = |enabled| stage.live.change("d", |rule| Rule { enabled, ..rule.clone() });
    switch(true).unwrap();
    assert!(stage.is_refused("find"));
    switch(false).unwrap();
    assert!(!stage.is_refused("find"));
}

#[test]
fn a_fault_applies_at_the_next_operation_and_until_its_end() {
    let stage = stage("[]");
    assert!(!stage.is_refused("find"));
    let rules = testing::rules("{ name: fault, match: { operation: find }, deny: {} }").unwrap();
    let rule = (*rules[0]).clone();
    let now = Instant::now();
    let end = now + Duration::from_secs(30);
    let fault = stage.live.add_fault(Rule { expires: Some(end), ..rule }, now).unwrap();
    assert!(stage.no("find", "shop", now).is_some());
    assert!(stage.no("insert", "shop", now).is_none());
    // It is expired and does not apply, though it is still listed.
    assert!(stage.no("find", "shop", end).is_none());
    assert!(stage.live.remove_fault(&fault.id));
    assert!(stage.no("find", "shop", now).is_none());
}

#[test]
fn a_denied_client_is_rejected_at_connect() {
    let stage = stage(
        "[{ name: inside, match: { listener: db, not: { peer: [10.0.0.0/8, 127.0.0.1] } },
            deny: { over: reset } },
          { name: dry, dry_run: true, match: { peer: 10.0.0.9 }, deny: {} }]",
    );
    let ConnectVerdict::Reject(no) = stage.arrival("192.0.2.1") else { panic!("it was let in") };
    assert_eq!(no.mode, RejectMode::Reset);
    assert!(matches!(stage.arrival("10.0.0.9"), ConnectVerdict::Accept(..)));
    assert!(!stage.is_refused("find"), "operations are not asked again");
    assert_eq!(stage.effects("inside").refused, 1);
    assert_eq!(stage.effects("dry").would_refuse, 1);
}

/// A client behind a VPC endpoint, with these names in its certificate.
fn named(names: &'static [&'static str]) -> TestClient {
    TestClient { names, vpce: Some("vpce-1"), ..testing::client(7) }
}

#[test]
fn each_policy_is_asked_once_as_soon_as_it_can_decide() {
    let stage = stage(
        "[{ name: by-address, match: { peer: 0.0.0.7 }, connection_limit: { max: 9 } },
          { name: by-header, connection_limit: { max: 9, key: [peer, proxy.vpce] } },
          { name: by-name, match: { not: { tls.san: x } }, connection_limit: { max: 9 } },
          { name: by-key, connection_limit: { max: 9, key: [tls.san] } },
          { name: new, rate_limit: { rate: 9/s, unit: connections, key: [sni] } }]",
    );
    let permits = |phase| match stage.connect(&named(&["a", "b"]), phase) {
        ConnectVerdict::Accept(_, permits) => permits,
        ConnectVerdict::Reject(no) => panic!("{no:?}"),
    };
    let mut all = permits(ConnectPhase::BeforeHandshake);
    assert_eq!(format!("{all:?}"), "ConnectionPermits(2)");
    all.extend(permits(ConnectPhase::AfterHandshake));
    assert_eq!(format!("{all:?}"), "ConnectionPermits(4)");
}

#[test]
fn one_of_several_names_denies_a_connection() {
    let stage = stage(
        "[{ name: it, match: { tls.san: 'b*' }, deny: {} },
          { name: unnamed, dry_run: true, match: { not: { tls.san: '*' } }, deny: {} }]",
    );
    let arrival = |names, phase| stage.connect(&named(names), phase);
    let (before, after) = (ConnectPhase::BeforeHandshake, ConnectPhase::AfterHandshake);
    assert!(matches!(arrival(&["a", "b"], before), ConnectVerdict::Accept(..)));
    assert!(matches!(arrival(&["a", "b"], after), ConnectVerdict::Reject(..)));
    assert!(matches!(arrival(&["a", "c"], after), ConnectVerdict::Accept(..)));
    assert!(matches!(arrival(&[], after), ConnectVerdict::Accept(..)));
    assert!(!stage.is_refused("find"), "operations are not asked again");
    assert_eq!(stage.effects("unnamed").would_refuse, 1);
}

#[test]
fn connections_of_a_key_of_tls_share_a_limit() {
    let stage = stage("[{ name: it, connection_limit: { max: 1, key: [tls.san] } }]");
    let arrival = |names| stage.connect(&named(names), ConnectPhase::AfterHandshake);
    let is_accepted = |verdict: &ConnectVerdict| matches!(verdict, ConnectVerdict::Accept(..));
    let both = arrival(&["a", "b"]);
    let first = arrival(&["a"]);
    assert!(is_accepted(&both) && is_accepted(&first), "the whole list is the key");
    assert!(!is_accepted(&arrival(&["a"])));
    drop(first);
    assert!(is_accepted(&arrival(&["a"])));
    let unnamed = arrival(&[]);
    assert!(is_accepted(&unnamed) && !is_accepted(&arrival(&[])), "absent is one key");
}
