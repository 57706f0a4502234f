//! Policies: a name each, what they match, and one thing that they do.

use super::Check;
use crate::{
    config::{located::Located, problem::At},
    policy::{
        Rule,
        configured::{ACTIONS, Written},
        matching::Match,
        rule::Action,
    },
};
use std::{sync::Arc, time::Instant};

impl Check<'_> {
    pub(super) fn policies(&mut self, list: Located<Vec<Located<Written>>>) -> Vec<Arc<Rule>> {
        let mut rules: Vec<Arc<Rule>> = Vec::new();
        for Located { at, value } in list.value.unwrap_or_default() {
            let Some(rule) = value.and_then(|written| self.policy(at, written)) else { continue };
            if rules.iter().any(|known| known.name == rule.name) {
                let message = format!("there are two policies called `{}`", rule.name);
                self.report.add(at, message, "names tell policies apart in logs and metrics");
            }
            rules.push(Arc::new(rule));
        }
        rules
    }

    fn policy(&mut self, at: At, mut written: Written) -> Option<Rule> {
        let hint = "give it one: it is what logs and metrics call it";
        let action = self.action(at, &mut written);
        let name = self.need("name", at, hint, written.name)?.value?.0.0;
        let flag = |flag: Option<Located<bool>>, default| {
            flag.and_then(|flag| flag.value).unwrap_or(default)
        };
        let action = action?;
        Some(Rule {
            name,
            enabled: flag(written.enabled, true),
            dry_run: flag(written.dry_run, false),
            expires: action.lasts().map(|lasts| Instant::now() + lasts),
            matching: Arc::new(Match::default()),
            action,
        })
    }

    /// The one thing that a policy does.
    fn action(&mut self, at: At, written: &mut Written) -> Option<Arc<dyn Action>> {
        let mut actions = written.actions();
        if actions.len() > 1 {
            let keys: Vec<&str> = actions.iter().map(|(key, _)| *key).collect();
            let message = format!("a policy does one thing, and this one has {}", keys.join(", "));
            self.report.add(at, message, "write a policy for each, with the same `match`");
            return None;
        }
        let Some((key, made)) = actions.pop() else {
            let hint = format!("write one of {}", ACTIONS.join(", "));
            self.report.add(at, "this policy does nothing", hint);
            return None;
        };
        match made? {
            Ok(action) => Some(action),
            Err(mistakes) => {
                for mistake in mistakes {
                    let message = format!("{key}: {}", mistake.fault.message);
                    self.report.add(at, message, mistake.fault.hint);
                }
                None
            }
        }
    }
}
