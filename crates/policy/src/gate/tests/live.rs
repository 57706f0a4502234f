//! Policies that people configured, and change while operations pass.

use super::*;
use crate::{
    ConnectDecision, ConnectionPermit, Rule,
    attributes::ConnectPhase,
    rule::{PolicyConfig, Stage},
    testing,
};
use operation::{Attributes, Direction};
use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use tollgate_metrics::{Metrics, table};

/// What a test's policy does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Refuse,
    Delay(u64),
    Pace,
}

#[derive(Debug)]
struct Act {
    does: Does,
    /// How many it was made for.
    made: AtomicUsize,
}

impl PolicyConfig for Act {
    fn kind(&self) -> &'static str {
        "act"
    }

    fn skips_limit_exempt(&self) -> bool {
        true
    }

    fn stage(&self) -> Stage {
        if self.does == Does::Pace { Stage::Connection } else { Stage::Operation }
    }

    fn worker_policy(&self, _: &Rule, _: &PolicyEnv) -> Box<dyn WorkerPolicy> {
        self.made.fetch_add(1, Relaxed);
        Box::new(Acting(self.does))
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

#[derive(Clone, Copy)]
struct Acting(Does);

impl WorkerPolicy for Acting {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        Some(Box::new(*self))
    }

    fn connect(&self, _: &dyn Attributes, _: Instant) -> ConnectDecision {
        ConnectDecision::AcceptWith(Box::new(*self))
    }
}

impl SeriesPolicy for Acting {
    fn admit(&self, _: &Operation<'_>, _: Instant, _: &mut u64) -> Decision {
        match self.0 {
            Does::Refuse => Decision::Reject(Rejection::new(RejectReason::Denied, "no")),
            Does::Delay(millis) => Decision::delay(Duration::from_millis(millis)),
            Does::Pace => Decision::Admit,
        }
    }
}

impl ConnectionPermit for Acting {
    fn max_chunk(&self, _: Direction) -> usize {
        10
    }
}

fn rule(name: &str, does: Does) -> Rule {
    Rule {
        name: name.into(),
        enabled: true,
        dry_run: false,
        expires: None,
        matching: Arc::default(),
        config: Arc::new(Act { does, made: AtomicUsize::new(0) }),
        source: values::ObjectSource::default(),
        counts: Arc::default(),
    }
}

/// A listener's gate with these policies, where they may be changed, and where they count.
fn live(rules: Vec<Rule>) -> (Gate, Arc<Live>, Metrics) {
    let metrics = Metrics::new();
    let cardinality = || Arc::new(CardinalityLimit::new(10, metrics::Counter::noop()));
    let from = PolicyEnv {
        has_preface: false,
        cluster: Some(testing::cluster(&metrics)),
        metrics: metrics.clone(),
        listener: "it".into(),
        protocol: const { &TOY },
        callsites: cardinality(),
        shapes: None,
        lines: None,
        tap: Arc::default(),
        tracer: Arc::default(),
    };
    let live = Live::new(rules.into_iter().map(Arc::new).collect());
    let gate = Gate::live(Arc::clone(&live), from, cardinality(), metrics::Gauge::noop());
    (gate, live, metrics)
}

fn admit(gate: &Gate) -> Verdict {
    gate.admit(&operation(), Instant::now())
}

/// How long an operation is delayed; `None` if it is refused.
fn delay(gate: &Gate) -> Option<Duration> {
    match admit(gate) {
        Verdict::Admit(ticket) => {
            Some(ticket.effects().map_or(Duration::ZERO, |terms| terms.delay))
        }
        Verdict::Reject(_) => None,
        Verdict::Pending(_) | Verdict::NeedMore => panic!("nobody is to be asked"),
    }
}

const LABELS: [(&str, &str); 2] = [("listener", "it"), ("policy", "one")];

fn counted(metrics: &Metrics, name: &str) -> bool {
    let mut text = String::new();
    metrics.render(&mut text);
    text.lines().any(|line| {
        line.starts_with(name)
            && LABELS.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")))
            && line.ends_with(" 1")
    })
}

#[test]
fn several_policies_apply_and_their_delays_add_up() {
    let rules = vec![rule("one", Does::Delay(10)), rule("two", Does::Delay(5))];
    let (gate, _, metrics) = live(rules);
    assert_eq!(delay(&gate), Some(Duration::from_millis(15)));
    assert!(counted(&metrics, table::POLICY_EFFECTS_TOTAL));
}

#[test]
fn the_first_rejection_ends_the_evaluation() {
    let (gate, _, metrics) = live(vec![rule("one", Does::Refuse), rule("two", Does::Delay(5))]);
    assert_eq!(delay(&gate), None);
    assert!(counted(&metrics, table::REFUSALS_TOTAL));
}

#[test]
fn a_policy_that_is_switched_off_does_nothing() {
    let off = Rule { enabled: false, ..rule("one", Does::Refuse) };
    let (gate, _, metrics) = live(vec![off]);
    assert_eq!(delay(&gate), Some(Duration::ZERO));
    assert!(!counted(&metrics, table::REFUSALS_TOTAL));
}

#[test]
fn a_policy_without_effect_counts_and_nothing_more() {
    for (does, name) in [
        (Does::Refuse, table::DRY_RUN_REFUSALS_TOTAL),
        (Does::Delay(10), table::DRY_RUN_POLICY_EFFECTS_TOTAL),
    ] {
        let (gate, _, metrics) = live(vec![Rule { dry_run: true, ..rule("one", does) }]);
        assert_eq!(delay(&gate), Some(Duration::ZERO), "{does:?}");
        assert!(counted(&metrics, name), "{does:?}");
        assert!(!counted(&metrics, table::REFUSALS_TOTAL), "{does:?}");
        assert!(!counted(&metrics, table::POLICY_EFFECTS_TOTAL), "{does:?}");
    }
}

#[test]
fn a_change_holds_from_the_next_operation_on() {
    let (gate, live, _) = live(vec![rule("one", Does::Delay(10)), rule("two", Does::Refuse)]);
    assert_eq!(delay(&gate), None);
    let rules = live.rules();
    let off = Arc::new(Rule { enabled: false, ..(*rules[1]).clone() });
    live.replace(vec![Arc::clone(&rules[0]), off]);
    assert_eq!(delay(&gate), Some(Duration::from_millis(10)));
    let made = format!("{:?}", rules[0].config);
    assert!(made.contains("made: 1"), "the one that did not change stayed: {made}");
}

#[test]
fn an_operation_ends_with_the_policies_that_it_began_with() {
    let (gate, live, _) = live(vec![rule("one", Does::Delay(10))]);
    let Verdict::Admit(ticket) = admit(&gate) else { panic!("it goes on") };
    live.replace(vec![Arc::new(rule("two", Does::Refuse)), Arc::new(rule("one", Does::Refuse))]);
    assert_eq!(delay(&gate), None);
    let confirmed = Settlement { confirmed: true, ..Settlement::new(Outcome::Ok, Instant::now()) };
    ticket.settle(&confirmed);
    assert_eq!(delay(&gate), None);
}

#[test]
fn limit_exempt_operations_pass_a_limit() {
    let (gate, ..) = live(vec![rule("one", Does::Refuse)]);
    assert_eq!(delay(&gate), None);
    let light = Operation { limit_exempt: true, ..operation() };
    assert!(matches!(gate.admit(&light, Instant::now()), Verdict::Admit(_)));
}

#[test]
fn a_policy_ends_when_its_time_is_over() {
    let now = Instant::now();
    let ends = |expires| Rule { expires: Some(expires), ..rule("one", Does::Refuse) };
    let (gate, ..) = live(vec![ends(now)]);
    assert_eq!(delay(&gate), Some(Duration::ZERO));
    let (gate, ..) = live(vec![ends(now + Duration::from_secs(60))]);
    assert_eq!(delay(&gate), None);
    let later = gate.admit(&operation(), now + Duration::from_secs(61));
    assert!(matches!(later, Verdict::Admit(_)));
}

#[test]
fn a_connection_permit_is_enforced_unless_in_dry_run() {
    let (client, phase) = (testing::client(1), ConnectPhase::BeforeHandshake);
    for (dry_run, most) in [(false, 10), (true, usize::MAX)] {
        let (gate, ..) = live(vec![Rule { dry_run, ..rule("one", Does::Pace) }]);
        let ConnectVerdict::Accept(delay, permits) = gate.connect(&client, phase, Instant::now())
        else {
            panic!("it was turned away");
        };
        assert_eq!((delay, permits.max_chunk(Direction::Up)), (Duration::ZERO, most));
        assert!(!permits.is_empty());
    }
}
