//! Policies that come by themselves, while the proxy runs. They are read and checked as those of a
//! file are.

use super::{
    check::Policies,
    decode,
    located::Located,
    problem::{Problems, Report},
    read,
    scope::Scope,
    yaml::{Node, Value},
};
use crate::policy::{
    Rule,
    configured::{ACTIONS, Written},
};
use serde::Deserialize;
use std::{cell::RefCell, time::Duration};
use values::Mistake;
use values::{FromText, Text};

/// What problems call the text.
const NAME: &str = "body";

/// What a policy is called that came without a name.
const FAULT: &str = "fault";

/// What is wanted of a policy.
#[derive(Clone, Debug)]
pub enum Change {
    /// To be switched on or off, or to take effect or not.
    Switch(Switch),
    /// To give place to another.
    Whole(Box<Rule>),
}

/// See [`Change::Switch`]. What is not said stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Whether it is switched on.
    pub enabled: Option<bool>,
    /// Whether it only counts and logs what it would do.
    pub dry_run: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{\"enabled\": false}`")]
struct WrittenSwitch {
    enabled: Option<Located<bool>>,
    dry_run: Option<Located<bool>>,
}

/// Reads what is wanted of the policy of this name: `{"enabled": false}`, `{"dry_run": true}`, or
/// a whole policy, whose name may be left out.
pub fn change(name: &str, text: &[u8], scope: &Scope) -> Result<Change, Problems> {
    let hint = "write what is to change, `{\"enabled\": false}`, or a whole policy";
    let (report, tree) = tree(text, hint)?;
    if is_switch(&tree) {
        let report = RefCell::new(report);
        let written: Option<WrittenSwitch> = decode::decode(&tree, &report);
        let report = report.into_inner();
        return match written {
            Some(written) if report.is_empty() => Ok(Change::Switch(Switch {
                enabled: written.enabled.and_then(|it| it.value),
                dry_run: written.dry_run.and_then(|it| it.value),
            })),
            _ => Err(report.finish()),
        };
    }
    let check = |rule: &Rule| {
        let other = || format!("this is the policy `{}`, and not `{name}`", rule.name);
        let hint = "a policy keeps its name: leave it out here";
        if *rule.name == *name { None } else { Some(Mistake::new(&["name"], other(), hint)) }
    };
    let rule = policy(report, &tree, scope, name, check)?;
    Ok(Change::Whole(Box::new(rule)))
}

/// Reads a fault: a policy, and how long it lasts. `taken` tells which names are those of others.
pub fn fault(
    text: &[u8],
    scope: &Scope,
    taken: impl Fn(&str) -> bool,
) -> Result<(Rule, Duration), Problems> {
    let hint = "write a policy with a time: `{\"deny\": {}, \"for\": \"30s\"}`";
    let (mut report, tree) = tree(text, hint)?;
    let at = tree.at;
    let inside = || ACTIONS.iter().find_map(|action| tree.child(action)?.1.child("for"));
    let lasts = match (tree.child("for"), inside()) {
        (Some((_, node)), _) => {
            let cell = RefCell::new(report);
            let lasts: Option<Text<Duration>> = decode::decode(node, &cell);
            report = cell.into_inner();
            lasts.map(|Text(lasts)| lasts)
        }
        // What does it have a look at this itself.
        (None, Some((_, node))) => Duration::from_text(node.as_text()).ok(),
        (None, None) => {
            let hint = "write how long it lasts: `\"for\": \"30s\"`";
            report.add(at, "the key `for` is missing", hint);
            None
        }
    };
    let tree = tree.without("for");
    let check = |rule: &Rule| {
        let message = format!("there is a policy `{}` already", rule.name);
        let hint = "give it another name, or none";
        taken(&rule.name).then(|| Mistake::new(&["name"], message, hint))
    };
    let rule = policy(report, &tree, scope, FAULT, check)?;
    // It was right, or else there would be no rule.
    Ok((rule, lasts.unwrap_or_default()))
}

/// Reads a policy, of which nothing but what the report tells is wrong so far.
fn policy(
    report: Report,
    tree: &Node,
    scope: &Scope,
    name: &str,
    check: impl Fn(&Rule) -> Option<Mistake>,
) -> Result<Rule, Problems> {
    let report = RefCell::new(report);
    let written: Option<Written> = decode::decode(tree, &report);
    let mut report = report.into_inner();
    let mut policies = Policies::alone(tree, scope, &mut report);
    let rule = written.and_then(|written| policies.policy(tree.at, written, Some(name)));
    if let Some(mistake) = rule.as_ref().and_then(check) {
        report.fault(tree.place(&mistake.path), mistake.fault);
    }
    match rule {
        Some(rule) if report.is_empty() => Ok(rule),
        _ => Err(report.finish()),
    }
}

fn tree(text: &[u8], hint: &str) -> Result<(Report, Node), Problems> {
    let (report, tree) = match text.trim_ascii() {
        [] => (Report::new(NAME, ""), Node::map([])),
        _ => read(NAME, super::text_of(NAME, text)?, hint)?,
    };
    match &tree.value {
        Value::Map(entries) if entries.is_empty() => {
            Err(Problems::one(NAME, "nothing is asked for".to_owned(), hint))
        }
        _ => Ok((report, tree)),
    }
}

/// Whether all that is written is a switch.
fn is_switch(tree: &Node) -> bool {
    let Value::Map(entries) = &tree.value else { return false };
    entries.iter().all(|(key, _)| matches!(key.as_text(), "enabled" | "dry_run"))
}
