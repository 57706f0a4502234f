//! Many policies: they decide as if each was evaluated on its own, and cost as if there were few.

use super::*;
use crate::{
    Rule,
    attributes::ConnectPhase,
    matching::{Applicability, Truth},
    testing::{self, Random},
};
use operation::{AttributeValue, Attributes, OTHER_RESOURCES};
use std::{collections::BTreeMap, net::IpAddr};
use tollgate_metrics::Metrics;

/// A protocol whose operations are about one resource, and one about several.
static PROTOCOLS: [Protocol; 2] = [
    Protocol::plain("one"),
    Protocol { attributes: &[OTHER_RESOURCES], ..Protocol::plain("several") },
];

const ATTRIBUTES: [&str; 5] = ["user", "comment", "callsite", "header.x-team", OTHER_RESOURCES];

/// A gate on the listener `db`, and where its policies can be changed.
fn gate(protocol: &'static Protocol, rules: Vec<Arc<Rule>>) -> (Gate, Arc<Live>) {
    let metrics = Metrics::new();
    let cardinality = || Arc::new(CardinalityLimit::new(10, ::metrics::Counter::noop()));
    let env = PolicyEnv { listener: "db".into(), protocol, ..testing::policy_env() };
    let env = PolicyEnv { cluster: Some(testing::cluster(&metrics)), metrics, ..env };
    let live = Live::new(rules);
    (Gate::live(Arc::clone(&live), env, cardinality(), ::metrics::Gauge::noop()), live)
}

/// What is known of an operation or a connection, and how often each attribute was asked for.
#[derive(Debug, Default)]
struct Facts {
    peer: Option<IpAddr>,
    values: BTreeMap<&'static str, AttributeValue<'static>>,
    asked: RefCell<BTreeMap<String, usize>>,
}

impl Facts {
    fn of(values: &[(&'static str, &'static str)]) -> Self {
        let values = values.iter().map(|(name, value)| (*name, AttributeValue::known(value)));
        Self { values: values.collect(), ..Self::default() }
    }

    /// How often this attribute was asked for since the last call.
    fn asked(&self, name: &str) -> usize {
        self.asked.borrow_mut().remove(name).unwrap_or(0)
    }
}

impl Attributes for Facts {
    fn get<'a>(&'a self, _: &'a [u8], name: &str) -> AttributeValue<'a> {
        *self.asked.borrow_mut().entry(name.to_owned()).or_default() += 1;
        self.values.get(name).cloned().unwrap_or(AttributeValue::Absent)
    }

    fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
}

/// Policies and operations that are made by chance, of few words so that many match.
struct Chance(Random);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0.below(end as u64) as usize
    }

    fn is(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn word(&mut self) -> &'static str {
        self.one(&["a", "b", "ab", "a.b", "b.a", "é", ""])
    }

    fn glob(&mut self) -> &'static str {
        self.one(&[
            "a", "b", "ab", "a.b", "é", "a*", "*b", "*.*", "?", "a?b", "*é*", "*", "b.?", "x",
        ])
    }

    fn resource(&mut self) -> &'static str {
        self.one(&["a", "a.b", "b.a", "ab", "", "?", "?.?", "?.b", "a.?"])
    }

    /// A match as a config has it.
    fn matching(&mut self, depth: usize) -> String {
        let mut keys = Vec::new();
        for key in ["listener", "protocol", "operation", "resource", "peer", "tls.cn"] {
            let percent = if key == "listener" || key == "protocol" { 10 } else { 30 };
            if self.is(percent) {
                keys.push(self.condition(key));
            }
        }
        for key in ATTRIBUTES {
            if self.is(20) {
                keys.push(self.condition(key));
            }
        }
        if depth > 0 && self.is(30) {
            keys.push(format!("not: {}", self.matching(depth - 1)));
        }
        format!("{{ {} }}", keys.join(", "))
    }

    fn condition(&mut self, key: &str) -> String {
        let values: Vec<&str> = (0..=self.below(2))
            .map(|_| match key {
                "listener" => self.one(&["db", "d*", "web"]),
                "protocol" => self.one(&["one", "several", "*e*"]),
                "peer" => self.one(&[
                    "10.0.0.0/8",
                    "10.0.0.7",
                    "::ffff:10.0.0.7",
                    "10.0.*",
                    "2001:db8::/32",
                    "*::?",
                ]),
                _ => self.glob(),
            })
            .collect();
        format!("{key}: {values:?}")
    }

    fn rules(&mut self) -> Vec<Arc<Rule>> {
        let count = self.one(&[0, 1, 5, 30, 70, 140]);
        let rule = |n| {
            let (matching, dry_run) = (self.matching(2), self.is(60));
            let does = match self.is(70) {
                true => "deny: {}".to_owned(),
                false => {
                    let delay = n + 1;
                    format!(
                        "fault: {{ percent: 100, delay: {{ min: {delay}ms, max: {delay}ms }} }}"
                    )
                }
            };
            format!("{{ name: r{n}, dry_run: {dry_run}, match: {matching}, {does} }}")
        };
        let text: Vec<String> = (0..count).map(rule).collect();
        testing::rules(&text.join(", ")).unwrap()
    }

    fn facts(&mut self) -> Facts {
        let mut facts = Facts::default();
        let peers = ["10.0.0.7", "::ffff:10.0.0.8", "11.0.0.7", "2001:db8::1", "::1"];
        facts.peer = self.is(80).then(|| self.one(&peers).parse().unwrap());
        for name in ATTRIBUTES.into_iter().chain(["tls.cn"]) {
            let mut value = || match name {
                OTHER_RESOURCES => self.resource().into(),
                _ => self.word().into(),
            };
            let values = [value(), value()];
            let [first, _] = values.clone();
            let value = match self.below(8) {
                0..=3 => AttributeValue::Known(first),
                4 => AttributeValue::Multiple(values.into()),
                5 if name != OTHER_RESOURCES => AttributeValue::Repeated(values.into()),
                6 => AttributeValue::Unknown,
                7 => AttributeValue::Unread,
                _ => continue,
            };
            facts.values.insert(name, value);
        }
        facts
    }

    fn operation<'a>(&mut self, facts: &'a Facts, protocol: &'static Protocol) -> Operation<'a> {
        Operation {
            protocol,
            name: self.one(&["a", "ab", "b", "?"]),
            resource: self.resource(),
            attributes: facts,
            partial: self.is(20),
            may_have_callsite: self.is(50),
            may_have_other_resources: !protocol.attributes.is_empty() && self.is(50),
            known_names: self.is(50),
            ..operation()
        }
    }
}

/// What became of an operation or a connection: its verdict, and what each policy has counted.
type Decided = (String, Vec<[u64; 4]>);

fn counted(rules: &[Arc<Rule>]) -> Vec<[u64; 4]> {
    let counts = rules.iter().map(|rule| rule.counts.effects());
    counts.map(|it| [it.refused, it.would_refuse, it.modified, it.would_modify]).collect()
}

/// What policies decide that are evaluated one after the other. `truth` is of the match; `unknown` is
/// what the error adds.
fn one_by_one(
    rules: &[Arc<Rule>],
    truth: impl Fn(&Rule) -> Truth,
    unknown: impl Fn(&Rule) -> Option<String>,
) -> Decided {
    let (mut counts, mut delay) = (counted(rules), 0);
    for (rule, count) in rules.iter().zip(&mut counts) {
        let truth = truth(rule);
        let denies = rule.config.kind() == "deny";
        if truth == Truth::No || truth.is_in_doubt() && !denies {
            continue;
        }
        count[usize::from(!denies) * 2 + usize::from(rule.dry_run)] += 1;
        if denies && !rule.dry_run {
            let unknown = unknown(rule).map_or(String::new(), |it| format!(", unknown: {it}"));
            return (format!("{} refuses{unknown}", rule.name), counts);
        }
        if !rule.dry_run {
            delay += rule.name[1..].parse::<u64>().unwrap() + 1;
        }
    }
    (format!("delay {delay}"), counts)
}

fn expected(rules: &[Arc<Rule>], operation: &Operation<'_>) -> Decided {
    let Operation { protocol, name, resource, .. } = *operation;
    let key = SeriesKey { protocol, name: name.into(), resource: resource.into(), confirmed: true };
    let truth = |rule: &Rule| match rule.matching.applies("db", &key) {
        _ if rule.connect_phase().is_some() => Truth::No,
        Applicability::Never => Truth::No,
        Applicability::Always => Truth::Yes,
        Applicability::PerOperation(rest) => rule.matching.matches(&rest, operation),
    };
    if operation.partial && rules.iter().any(|rule| truth(rule) == Truth::Unread) {
        return ("more".to_owned(), counted(rules));
    }
    let unknown = |rule: &Rule| {
        let known = crate::matching::KnownFields::of("db", operation);
        let key = rule.matching.key_in_doubt(&known, operation);
        truth(rule).is_in_doubt().then(|| key.unwrap_or("request".to_owned()))
    };
    one_by_one(rules, truth, unknown)
}

fn decided(gate: &Gate, rules: &[Arc<Rule>], operation: &Operation<'_>) -> Decided {
    let verdict = match gate.admit(operation, Instant::now()) {
        Verdict::NeedMore => "more".to_owned(),
        Verdict::Reject(no) => {
            let unknown = no.message.split("its `").nth(1).and_then(|rest| rest.split('`').next());
            let unknown = unknown.map_or(String::new(), |it| format!(", unknown: {it}"));
            format!("{} refuses{unknown}", no.policy.unwrap())
        }
        Verdict::Admit(ticket) => {
            let delay = ticket.effects().map_or(0, |effects| effects.delay.as_millis());
            let confirmed = operation.resource.len() % 2 == 1;
            let how = Settlement { confirmed, ..Settlement::new(Outcome::Ok, Instant::now()) };
            ticket.settle(&how);
            format!("delay {delay}")
        }
        Verdict::Pending(_) => panic!("no policy of this test decides later"),
    };
    (verdict, counted(rules))
}

#[test]
fn many_policies_decide_as_if_evaluated_one_by_one() {
    for seed in 0..60 {
        let mut chance = Chance(Random(seed));
        let protocol = &PROTOCOLS[chance.below(2)];
        let mut rules = chance.rules();
        let (gate, live) = gate(protocol, rules.clone());
        for round in 0..40 {
            if chance.is(10) {
                // Half of the policies stay, in front of others.
                rules.retain(|_| chance.is(50));
                rules.extend(chance.rules());
                live.replace(rules.clone());
            }
            let facts = chance.facts();
            let operation = chance.operation(&facts, protocol);
            let expected = expected(&rules, &operation);
            facts.asked.borrow_mut().clear();
            let told = || format!("seed {seed}, round {round}: {facts:?}, {:?}", operation.name);
            assert_eq!(decided(&gate, &rules, &operation), expected, "{}", told());
            // Call sites are counted too, when an operation ends.
            facts.asked("callsite");
            let asked = facts.asked.borrow().values().max().copied().unwrap_or(0);
            assert!(asked <= if operation.partial { 2 } else { 1 }, "{}", told());
        }
    }
}

#[test]
fn many_policies_decide_about_a_connection_one_by_one() {
    for seed in 0..60 {
        let mut chance = Chance(Random(seed));
        let rules = chance.rules();
        let (gate, _) = gate(&PROTOCOLS[0], rules.clone());
        for phase in [ConnectPhase::BeforeHandshake, ConnectPhase::AfterHandshake].repeat(10) {
            let facts = chance.facts();
            let truth = |rule: &Rule| {
                let asked = rule.connect_phase() == Some(phase);
                (asked && rule.matching.matches_connection("db", "one", &facts)).into()
            };
            let expected = one_by_one(&rules, truth, |_| None);
            let verdict = match gate.connect(&facts, phase, Instant::now()) {
                ConnectVerdict::Reject(no) => format!("{} refuses", no.policy.unwrap()),
                ConnectVerdict::Accept(delay, _) => format!("delay {}", delay.as_millis()),
            };
            assert_eq!((verdict, counted(&rules)), expected, "seed {seed}: {facts:?}");
        }
    }
}

/// The number of policies that are evaluated for an operation, without those that observe.
fn evaluated(gate: &Gate, operation: &Operation<'_>) -> usize {
    let series = gate.inner.series.find(operation);
    let mut candidates = Candidates::default();
    series.bound.find(operation, &mut candidates);
    let built_in = |it: &usize| series.policy(*it).is_some_and(|it| it.active.rule.is_none());
    candidates.policies.iter().filter(|it| !built_in(it)).count()
}

#[test]
fn of_many_rules_only_those_that_may_match_are_evaluated() {
    let mut facts = Facts::of(&[("user", "u7"), ("comment", "job-7-x"), ("callsite", "c7")]);
    facts.peer = "10.0.0.7".parse().ok();
    for condition in [
        "operation: opN",
        "resource: 'shop.N'",
        "resource: '*.N'",
        "peer: 10.0.0.N",
        "peer: '*.0.0.N'",
        "user: uN",
        "comment: 'job-N-*'",
        "comment: '*-N-?'",
        "callsite: cN",
        "{ user: uN, comment: 'job-7-*' }",
    ] {
        let condition = condition.trim_matches(['{', '}']);
        let rule = |n: usize| {
            let wanted = condition.replace('N', &n.to_string());
            format!("{{ name: r{n}, match: {{ {wanted} }}, concurrency_limit: {{ max: 9 }} }}")
        };
        for (numbers, count) in [(0..200, 1), (8..200, 0)] {
            let text: Vec<String> = numbers.map(rule).collect();
            let (gate, _) = gate(&PROTOCOLS[1], testing::rules(&text.join(", ")).unwrap());
            let (attributes, protocol, may_have_callsite) = (&facts, &PROTOCOLS[1], true);
            let found = Operation {
                name: "op7",
                resource: "shop.7",
                attributes,
                protocol,
                may_have_callsite,
                ..operation()
            };
            assert_eq!(evaluated(&gate, &found), count, "{condition}");
            drop(gate.admit(&found, Instant::now()));
            let bound = gate.inner.series.find(&found).bound.allocated();
            assert!(bound <= 1, "{condition}: {bound} parts are bound");
        }
    }
}

#[test]
fn an_attribute_is_found_once_for_many_rules() {
    let facts = Facts::of(&[("query_hash", "a7"), ("header.a", "a"), ("header.b", "b")]);
    let text: Vec<String> = (0..100)
        .map(|n| {
            format!(
                "{{ name: m{n}, match: {{ query_hash: '*7', not: {{ header.a: x{n} }} }},
                    concurrency_limit: {{ max: 9, key: [query_hash, header.b, header.k{n}] }} }}"
            )
        })
        .collect();
    let (gate, _) = gate(&PROTOCOLS[0], testing::rules(&text.join(", ")).unwrap());
    let found = Operation { attributes: &facts, ..operation() };
    for _ in 0..2 {
        let Verdict::Admit(_) = gate.admit(&found, Instant::now()) else { panic!("it passes") };
        for name in ["query_hash", "header.a", "header.b", "header.k0", "header.k99"] {
            assert_eq!(facts.asked(name), 1, "{name}");
        }
    }
}

#[test]
fn a_limit_by_resource_counts_each_resource_apart() {
    let rules = "{ name: fair, rate_limit: { rate: 1/h, burst: 9, key: [resource] } }";
    let (gate, _) = gate(&PROTOCOLS[1], testing::rules(rules).unwrap());
    let passes = |resource, known_names| {
        let found = Operation { resource, known_names, protocol: &PROTOCOLS[1], ..operation() };
        matches!(gate.admit(&found, Instant::now()), Verdict::Admit(_))
    };
    // Some operations have a series of their own, which is made again for each.
    let pushed = (0..100).filter(|n| passes("shop.runaway", n % 2 == 0)).count();
    let honest = (0..9).filter(|n| passes("shop.honest", n % 2 == 0)).count();
    assert_eq!((pushed, honest), (9, 9));
}
