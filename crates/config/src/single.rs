//! Single policies, from requests to the running proxy. They are read and checked like those of a
//! file.

use super::{
    check::Policies,
    decode, input,
    report::{Diagnostics, Report},
    scope::Scope,
};
use policy::{PolicySettings, Rule, kinds::keys};
use std::{
    cell::RefCell,
    time::{Duration, Instant},
};
use values::{Diagnostic, FilesRead, FromText, Node, ObjectSource, Text, Value};

/// The file name in diagnostics.
const NAME: &str = "body";

/// The default name of a fault policy.
const FAULT: &str = "fault";

/// Reads a change of a policy, `{"enabled": false}` or `{"rate_limit": {"rate": "100/s"}}`, and
/// returns the whole policy: keys that are not in the text stay, keys with `null` are removed. The
/// policy's action keeps its state unless the action itself changes.
pub fn change(known: &Rule, text: &[u8], scope: &Scope) -> Result<Rule, Diagnostics> {
    let (report, tree) = tree(text, "write what is to change: `{\"enabled\": false}`")?;
    let tree = known.source.merged(&tree, &keys().collect::<Vec<_>>());
    let name = &*known.name;
    let check = |rule: &Rule| {
        let other = || format!("this is the policy `{}`, and not `{name}`", rule.name);
        let hint = "a policy keeps its name: leave it out here";
        if *rule.name == *name { None } else { Some(Diagnostic::at(&["name"], other(), hint)) }
    };
    Ok(policy(report, &tree, scope, name, check)?.replacing(known, Instant::now()))
}

/// Reads a new policy called `name`. `None` if it has no `match`, so that a part of a policy with a
/// misspelt name does not become a policy for everything.
pub fn addition(name: &str, text: &[u8], scope: &Scope) -> Result<Option<Rule>, Diagnostics> {
    let hint = "write a policy: `{\"match\": {\"app\": \"importer\"}, \"deny\": {}}`";
    let (report, tree) = tree(text, hint)?;
    if tree.child("match").is_none() || !keys().any(|key| tree.child(key).is_some()) {
        return Ok(None);
    }
    let named = ObjectSource::new(&Node::map([("name", Node::text(name))]), FilesRead::default())
        .merged(&tree, &keys().collect::<Vec<_>>());
    let check = |rule: &Rule| {
        let other = || format!("this is the policy `{}`, and not `{name}`", rule.name);
        let hint = "its name is at the end of the path: leave it out here";
        if *rule.name == *name { None } else { Some(Diagnostic::at(&["name"], other(), hint)) }
    };
    policy(report, &named, scope, name, check).map(Some)
}

/// Reads a fault: a policy, and how long it lasts. `taken` returns which names are in use.
pub fn fault(
    text: &[u8],
    scope: &Scope,
    taken: impl Fn(&str) -> bool,
) -> Result<(Rule, Duration), Diagnostics> {
    let hint = "write a policy with a time: `{\"deny\": {}, \"for\": \"30s\"}`";
    let (mut report, tree) = tree(text, hint)?;
    let at = tree.at;
    let inside = || keys().find_map(|key| tree.child(key)?.1.child("for"));
    let lasts = match (tree.child("for"), inside()) {
        (Some((_, node)), _) => {
            let cell = RefCell::new(report);
            let lasts: Option<Text<Duration>> = decode::decode(node, &cell);
            report = cell.into_inner();
            lasts.map(|Text(lasts)| lasts)
        }
        // `Duration::from_text` reports its own errors.
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
        taken(&rule.name).then(|| Diagnostic::at(&["name"], message, hint))
    };
    let rule = policy(report, &tree, scope, FAULT, check)?;
    // It was valid, otherwise there would be no rule.
    Ok((rule, lasts.unwrap_or_default()))
}

/// Reads a policy from a text without errors so far, apart from those in the report.
fn policy(
    report: Report,
    tree: &Node,
    scope: &Scope,
    name: &str,
    check: impl Fn(&Rule) -> Option<Diagnostic>,
) -> Result<Rule, Diagnostics> {
    let report = RefCell::new(report);
    let written: Option<PolicySettings> = decode::decode(tree, &report);
    let mut report = report.into_inner();
    let mut policies = Policies::alone(tree, scope, &mut report);
    let rule = written.and_then(|written| policies.policy(tree.at, written, Some(name)));
    if let Some(error) = rule.as_ref().and_then(check) {
        report.add_diagnostic(tree.place(&error.path), error);
    }
    match rule {
        Some(rule) if report.is_empty() => Ok(rule),
        _ => Err(report.finish()),
    }
}

fn tree(text: &[u8], hint: &str) -> Result<(Report, Node), Diagnostics> {
    let (report, tree) = match text.trim_ascii() {
        [] => (Report::new(NAME, ""), Node::map([])),
        _ => input::read_alone(NAME, text, hint)?,
    };
    match &tree.value {
        Value::Map(entries) if entries.is_empty() => {
            Err(Diagnostics::for_file(NAME, "nothing is asked for".to_owned(), hint))
        }
        _ => Ok((report, tree)),
    }
}
