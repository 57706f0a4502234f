//! Conditions on the value of a header or query parameter.

use super::pattern;
use crate::settings::ValueMatch;
use regex::bytes::Regex;
use values::Diagnostic;

/// A condition on a header or parameter. If it occurs more than once, one value must fulfil it.
#[derive(Clone, Debug)]
pub(super) struct ValueTest {
    /// All must hold for the same value.
    tests: Box<[ValueCheck]>,
    presence: Presence,
    not: Option<Box<ValueTest>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Presence {
    Needed,
    Forbidden,
    /// It may be present or not.
    Free,
}

#[derive(Clone, Debug)]
enum ValueCheck {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Regex),
    Range(i64, i64),
}

/// Returns whether any value fulfils the given test.
pub(super) type AnyValue<'a> = &'a dyn Fn(&dyn Fn(&[u8]) -> bool) -> bool;

impl ValueTest {
    /// Compiles it.
    pub(super) fn new(settings: &ValueMatch) -> Result<Self, Diagnostic> {
        let ValueMatch { exact, prefix, suffix, contains, regex, present, range, not } = settings;
        let mut tests = Vec::new();
        let bytes = |text: &String| text.as_bytes().into();
        tests.extend(exact.as_ref().map(|text| ValueCheck::Exact(bytes(text))));
        tests.extend(prefix.as_ref().map(|text| ValueCheck::Prefix(bytes(text))));
        tests.extend(suffix.as_ref().map(|text| ValueCheck::Suffix(bytes(text))));
        tests.extend(contains.as_ref().map(|text| ValueCheck::Contains(bytes(text))));
        if let Some(regex) = regex {
            let regex = pattern::whole_bytes(regex).map_err(|error| error.below(&["regex"]))?;
            tests.push(ValueCheck::Regex(regex));
        }
        match range.as_deref() {
            None => {}
            Some(&[from, to]) if from <= to => tests.push(ValueCheck::Range(from, to)),
            Some(_) => {
                let hint = "write the first and the last, `[1, 9]`";
                let message = "a range needs two numbers in order";
                return Err(Diagnostic::at(&["range"], message, hint));
            }
        }
        let more = !tests.is_empty() || not.is_some();
        let presence = match present {
            Some(false) if more => {
                let message = "what is not there can't be anything";
                return Err(Diagnostic::at(&["present"], message, "leave out the other keys"));
            }
            Some(false) => Presence::Forbidden,
            Some(true) => Presence::Needed,
            None if !tests.is_empty() => Presence::Needed,
            None if not.is_some() => Presence::Free,
            None => {
                let hint = "write what it has to be, or `present: true`";
                return Err(Diagnostic::new("this says nothing", hint));
            }
        };
        let not = not.as_ref().map(|not| ValueTest::new(not).map(Box::new)).transpose();
        let not = not.map_err(|error| Diagnostic { path: vec!["not".to_owned()], ..error })?;
        Ok(Self { tests: tests.into(), presence, not })
    }

    /// Whether the condition holds.
    pub(super) fn holds(&self, any: AnyValue<'_>) -> bool {
        let there = match self.presence {
            Presence::Needed => any(&|value| self.tests.iter().all(|test| test.fits(value))),
            Presence::Forbidden => !any(&|_| true),
            Presence::Free => true,
        };
        there && self.not.as_ref().is_none_or(|not| !not.holds(any))
    }
}

impl ValueCheck {
    fn fits(&self, value: &[u8]) -> bool {
        match self {
            ValueCheck::Exact(text) => **text == *value,
            ValueCheck::Prefix(text) => value.starts_with(text),
            ValueCheck::Suffix(text) => value.ends_with(text),
            ValueCheck::Contains(text) => memchr::memmem::find(value, text).is_some(),
            ValueCheck::Regex(regex) => regex.is_match(value),
            ValueCheck::Range(from, to) => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                number.is_some_and(|number: i64| (*from..=*to).contains(&number))
            }
        }
    }
}
