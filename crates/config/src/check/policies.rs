//! Policies: each has a name, a match, and one action.

use super::Check;
use crate::{
    report::Report,
    scope::{ListenerScope, Scope},
};
use policy::{
    PolicySettings, Rule,
    kinds::keys,
    matching::{Match, MatchSetting},
    rule::{PolicyConfig, Stage},
};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use values::{Node, ObjectSource, Span, spanned::Spanned};

/// Checks policies, of a config or a single one.
pub(crate) struct Policies<'a> {
    pub(super) report: &'a mut Report,
    pub(super) scope: &'a Scope,
    /// The node with the policies.
    tree: &'a Node,
    /// The keys from there to the current policy.
    path: Vec<String>,
    /// The listeners that its match allows.
    pub(super) reached: Vec<ListenerScope>,
}

impl<'a> Policies<'a> {
    /// Checks the policies of a config.
    pub(super) fn new(check: &'a mut Check<'_>, scope: &'a Scope) -> Self {
        Self::alone(check.tree, scope, check.report)
    }

    /// Checks a single policy.
    pub(crate) fn alone(tree: &'a Node, scope: &'a Scope, report: &'a mut Report) -> Self {
        Self { report, scope, tree, path: Vec::new(), reached: Vec::new() }
    }

    /// All policies of a list, in order.
    pub(super) fn list(mut self, list: Spanned<Vec<Spanned<PolicySettings>>>) -> Vec<Arc<Rule>> {
        let mut rules: Vec<Arc<Rule>> = Vec::new();
        let mut places: BTreeMap<Arc<str>, Span> = BTreeMap::new();
        for (index, Spanned { at, value }) in list.value.unwrap_or_default().into_iter().enumerate()
        {
            self.path = vec!["policies".to_owned(), index.to_string()];
            let Some(rule) = value.and_then(|written| self.policy(at, written, None)) else {
                continue;
            };
            let place = self.place(&["name"]);
            let first = *places.entry(Arc::clone(&rule.name)).or_insert(place);
            if first != place {
                let message = format!("there are two policies called `{}`", rule.name);
                let first = self.report.place(first);
                let hint = format!(
                    "the other policy is at {first}; names tell policies apart in logs and metrics"
                );
                self.report.add(place, message, hint);
            }
            rules.push(Arc::new(rule));
        }
        rules
    }

    /// One policy. One without a name gets `name`, if there is one to be had.
    pub(crate) fn policy(
        &mut self,
        at: Span,
        mut written: PolicySettings,
        name: Option<&str>,
    ) -> Option<Rule> {
        let action = self.action(at, &mut written);
        let stage = action.as_ref().map(|action| (action.kind(), action.stage()));
        let matching = written.matching.map(|matching| self.matching(matching, stage));
        let name = match (written.name, name) {
            (Some(written), _) => written.value.map(|name| name.text().clone()),
            (None, Some(name)) => Some(name.into()),
            (None, None) => {
                let hint = "give it one: it is what logs and metrics call it";
                self.report.add(at, "the key `name` is missing", hint);
                None
            }
        };
        let flag = |flag: Option<Spanned<bool>>, default| {
            flag.and_then(|flag| flag.value).unwrap_or(default)
        };
        let (matching, action) = (matching.unwrap_or_default(), action?);
        self.can_judge(&*action, &matching);
        self.can_stream(&*action, &matching);
        let node = self.tree.descend(&self.path);
        let source = node.map(|node| ObjectSource::new(node, written.files)).unwrap_or_default();
        Some(Rule {
            name: name?,
            enabled: flag(written.enabled, true),
            dry_run: flag(written.dry_run, false),
            expires: action.lifetime().map(|lasts| Instant::now() + lasts),
            matching: Arc::new(matching),
            config: action,
            source,
            counts: Arc::default(),
        })
    }

    /// The action of a policy.
    fn action(&mut self, at: Span, written: &mut PolicySettings) -> Option<Arc<dyn PolicyConfig>> {
        let kinds = &mut written.kinds;
        if kinds.len() > 1 {
            let keys: Vec<&str> = kinds.iter().map(|(key, _)| *key).collect();
            let message = format!("a policy does one thing, and this one has {}", keys.join(", "));
            self.report.add(at, message, "write a policy for each, with the same `match`");
            return None;
        }
        let Some((key, built)) = kinds.pop() else {
            let hint = format!("write one of {}", keys().collect::<Vec<_>>().join(", "));
            self.report.add(at, "this policy does nothing", hint);
            return None;
        };
        match built? {
            Ok(action) => Some(action),
            Err(errors) => {
                for error in errors {
                    let mut path = vec![key];
                    path.extend(error.path.iter().map(String::as_str));
                    self.report.add_diagnostic(self.place(&path), error);
                }
                None
            }
        }
    }

    /// What a policy applies to. `stage` is the kind of the policy and what it decides about.
    fn matching(
        &mut self,
        Spanned { at, value }: Spanned<MatchSetting>,
        stage: Option<(&str, Stage)>,
    ) -> Match {
        let Some(written) = value else { return Match::default() };
        if let Some((kind, Stage::Connection)) = stage {
            self.of_connections(kind, &written);
        }
        let before = self.report.count();
        self.reached = self.matched_listeners(&written);
        let matching = self.compile(written);
        // An invalid key was reported already.
        if self.report.count() == before {
            self.reaches_a_listener(at, &matching);
        }
        matching
    }

    /// The span at the end of this path in the current policy.
    pub(super) fn place(&self, keys: &[&str]) -> Span {
        let path: Vec<&str> = self.path.iter().map(String::as_str).chain(keys.to_vec()).collect();
        self.tree.place(&path)
    }
}
