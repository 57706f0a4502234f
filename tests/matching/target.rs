//! What is done with a fuzzer's bytes: they make a match and an operation, and whether the one
//! applies to the other is worked out by the proxy and by a slow reference.

#[path = "input.rs"]
mod input;
#[path = "reference.rs"]
mod reference;

use input::{Bytes, Case, DEEPEST, FACTS, GLOB, PROTOCOLS, TEXT};
use operation::{AttributeValue, Operation};
use policy::matching::{Applicability, Match, Truth, testing};
use policy::series::SeriesKey;
use reference::{OTHERS, Value, Wanted, Weighed, Word, World};
use std::{borrow::Cow, collections::BTreeMap};

/// How many operations are tried at most instead of one that is not completely known.
const MOST_WORLDS: usize = 2048;

/// Bytes make a match and an operation. The proxy says yes or no only where every operation that
/// it may be says the same, and is in doubt only where a key, taken for itself, is.
pub(crate) fn matching(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let wanted = bytes.wanted(DEEPEST);
    let case = bytes.case();
    let made = made(&wanted);
    let operation = case.operation();
    let truth = weighed(&made, &case, &operation);

    let reference = case.weigh(&wanted, false);
    let expected = match reference {
        Weighed { may_fail: false, .. } => Truth::Yes,
        Weighed { may_hold: false, .. } => Truth::No,
        Weighed { unread: true, .. } => Truth::Unread,
        Weighed { unread: false, .. } => Truth::Unknown,
    };
    let told = || format!("{wanted:?} of {}", case.told());
    assert_eq!(truth, expected, "{}", told());

    for world in case.worlds(&wanted) {
        let holds = reference::holds(&wanted, &world, false);
        let denied = if holds { Truth::No } else { Truth::Yes };
        assert_ne!(truth, denied, "{}, which may be {world:?}", told());
    }
    let is_ruled_out = testing::is_ruled_out(&made, &operation);
    assert!(!is_ruled_out || truth == Truth::No, "{}: it is ruled out", told());
    explained(&wanted, &made, &case, truth);
    let protocol = PROTOCOLS[case.protocol].name;
    let may_apply = made.may_apply(case.listener, protocol);
    assert!(may_apply || truth == Truth::No, "{}: it can't apply, and does", told());
    if made.connect_phase().is_some() {
        let matches_connection = made.matches_connection(case.listener, protocol, &case);
        assert_eq!(Truth::from(matches_connection), truth, "{}: of the connection", told());
    }
}

/// Bytes make a glob and a text: whether the one matches the other.
pub(crate) fn glob(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let (glob, text) = (bytes.text(&GLOB, 12), bytes.text(&TEXT, 12));
    let wanted = Wanted { keys: vec![("user", vec![glob.clone()])], not: None };
    let facts = BTreeMap::from([("user", AttributeValue::Known(text.clone().into()))]);
    let case = Case { facts, ..Bytes(&[]).case() };
    let truth = weighed(&made(&wanted), &case, &case.operation());
    assert_eq!(truth, Truth::from(reference::fits(&glob, &text)), "{glob:?} and {text:?}");
}

fn made(wanted: &Wanted) -> Match {
    let keys = wanted.keys.iter();
    let keys: Vec<_> =
        keys.map(|(key, globs)| (*key, globs.iter().map(String::as_str).collect())).collect();
    let mut made = testing::made(&keys).expect("all clients can be read");
    if let Some(not) = &wanted.not {
        testing::exclude(&mut made, self::made(not));
    }
    made
}

/// As the gate does it: once for the series, and then for the operation.
fn weighed(made: &Match, case: &Case, operation: &Operation<'_>) -> Truth {
    let key = SeriesKey {
        protocol: operation.protocol,
        name: operation.name.into(),
        resource: operation.resource.into(),
        confirmed: true,
    };
    match made.applies(case.listener, &key) {
        Applicability::Never => Truth::No,
        Applicability::Always => Truth::Yes,
        Applicability::PerOperation(rest) => made.matches(&rest, operation),
    }
}

/// What is explained to people is what happens, and the key that is blamed decides.
fn explained(wanted: &Wanted, made: &Match, case: &Case, truth: Truth) {
    let (told, key) = testing::explained(made, case.listener, &case.operation());
    assert_eq!(told.is_in_doubt(), truth.is_in_doubt());
    assert!(told == truth || told.is_in_doubt(), "{told:?} is explained, and {truth:?} it is");
    let Some(key) = key else { return assert_eq!(truth, Truth::Yes) };
    let blamed = if truth == Truth::No {
        match &wanted.not {
            Some(not) if key == "not" => !case.weigh(not, true).may_fail,
            _ => case.keys(wanted, false).any(|(name, it)| *name == key && !it.may_hold),
        }
    } else {
        let mut levels = std::iter::successors(Some(wanted), |it| it.not.as_deref()).enumerate();
        levels.any(|(depth, level)| {
            case.keys(level, depth % 2 == 1).any(|(name, it)| *name == key && it.in_doubt())
        })
    };
    assert!(blamed, "{key} does not decide about {wanted:?} of {}", case.told());
}

impl Case {
    /// What a match may be, each key in doubt for itself, and each glob of a key too.
    fn weigh(&self, wanted: &Wanted, negated: bool) -> Weighed {
        let not = wanted.not.as_ref().map(|not| self.weigh(not, !negated).not());
        Weighed::all(self.keys(wanted, negated).map(|(_, weighed)| weighed).chain(not))
    }

    fn keys<'w>(
        &'w self,
        wanted: &'w Wanted,
        negated: bool,
    ) -> impl Iterator<Item = (&'w &'static str, Weighed)> {
        wanted.keys.iter().map(move |(key, globs)| (key, self.weigh_key(key, globs, negated)))
    }

    fn weigh_key(&self, key: &str, globs: &[String], negated: bool) -> Weighed {
        let one = |word: &Word| {
            Weighed::any(globs.iter().map(|glob| {
                let words = word.completions(&[glob]);
                Weighed::of(words.iter().map(|word| reference::fits(glob, word)), self.partial)
            }))
        };
        let several = |words: Vec<Weighed>| match negated {
            true => Weighed::all(words),
            false => Weighed::any(words),
        };
        let fact =
            |word: fn(&str) -> Word| match self.facts.get(key).unwrap_or(&AttributeValue::Absent) {
                AttributeValue::Absent => Weighed::of([false], false),
                AttributeValue::Known(value) => one(&word(value)),
                AttributeValue::Repeated(values) => {
                    Weighed::any(values.iter().map(|value| one(&word(value))))
                }
                AttributeValue::Multiple(values) => {
                    several(values.iter().map(|value| one(&word(value))).collect())
                }
                AttributeValue::Unread => Weighed::of([true, false], self.partial),
                AttributeValue::Unknown => Weighed::of([true, false], false),
            };
        match key {
            "operation" => one(&Word::name(&self.operation)),
            "resource" => {
                let own = one(&Word::resource(&self.resource));
                match self.facts.get(OTHERS).unwrap_or(&AttributeValue::Absent) {
                    AttributeValue::Absent => own,
                    _ => several(vec![own, self.weigh_key(OTHERS, globs, negated)]),
                }
            }
            OTHERS => fact(Word::resource),
            "listener" | "protocol" | "peer" => {
                Weighed::of([reference::key_holds(key, globs, &self.known(), negated)], false)
            }
            _ => fact(|value| Word::Whole(value.to_owned())),
        }
    }

    /// Only what is known for certain.
    fn known(&self) -> World {
        World {
            listener: self.listener.to_owned(),
            protocol: PROTOCOLS[self.protocol].name.to_owned(),
            operation: self.operation.clone(),
            resource: self.resource.clone(),
            peer: self.peer,
            attributes: BTreeMap::new(),
        }
    }

    /// Operations that this one may be.
    fn worlds(&self, wanted: &Wanted) -> impl Iterator<Item = World> {
        let operations = Word::name(&self.operation).completions(&globs(wanted, &["operation"]));
        let about = globs(wanted, &["resource", OTHERS]);
        let resources = Word::resource(&self.resource).completions(&about);
        let facts: Vec<(&'static str, Vec<Value>)> = FACTS
            .iter()
            .map(|name| {
                let globs = if *name == OTHERS { about.clone() } else { globs(wanted, &[name]) };
                (*name, self.values(name, &globs))
            })
            .collect();
        let counts = facts.iter().map(|(_, values)| values.len());
        let all = counts.product::<usize>() * operations.len() * resources.len();
        let known = self.known();
        (0..all).step_by(all.div_ceil(MOST_WORLDS)).map(move |at| {
            let mut at = at;
            let mut pick = |len: usize| {
                let place = at % len;
                at /= len;
                place
            };
            World {
                operation: operations[pick(operations.len())].clone(),
                resource: resources[pick(resources.len())].clone(),
                attributes: facts
                    .iter()
                    .map(|(name, values)| (*name, values[pick(values.len())].clone()))
                    .collect(),
                ..known.clone()
            }
        })
    }

    /// What an attribute may be.
    fn values(&self, name: &str, globs: &[&str]) -> Vec<Value> {
        let word = |value: &str| match name {
            OTHERS => Word::resource(value),
            _ => Word::Whole(value.to_owned()),
        };
        // Of several words at most one is completed at a time; the others are their first.
        let several = |values: &[Cow<'_, str>]| -> Vec<Vec<String>> {
            let all: Vec<Vec<String>> =
                values.iter().map(|value| word(value).completions(globs)).collect();
            let most = all.iter().map(Vec::len).max().unwrap_or(1);
            let at = |at: usize| all.iter().map(|words| words[at % words.len()].clone()).collect();
            (0..most).map(at).collect()
        };
        match self.facts.get(name).unwrap_or(&AttributeValue::Absent) {
            AttributeValue::Absent => vec![Value::Absent],
            AttributeValue::Known(value) => {
                several(std::slice::from_ref(value)).into_iter().map(Value::Any).collect()
            }
            AttributeValue::Repeated(values) => {
                several(values).into_iter().map(Value::Any).collect()
            }
            AttributeValue::Multiple(values) => {
                several(values).into_iter().map(Value::Each).collect()
            }
            AttributeValue::Unread | AttributeValue::Unknown => {
                let words = Word::End(String::new()).completions(globs);
                let pairs = words.windows(2).map(|pair| Value::Each(pair.to_vec()));
                let each = words.iter().map(|word| Value::Each(vec![word.clone()]));
                [Value::Absent].into_iter().chain(each).chain(pairs).collect()
            }
        }
    }
}

/// All globs of some keys, at any depth.
fn globs<'w>(wanted: &'w Wanted, keys: &[&str]) -> Vec<&'w str> {
    let levels = std::iter::successors(Some(wanted), |it| it.not.as_deref());
    let found = levels.flat_map(|level| &level.keys).filter(|(key, _)| keys.contains(key));
    found.flat_map(|(_, globs)| globs.iter().map(String::as_str)).collect()
}
