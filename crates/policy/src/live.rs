//! The configured policies in force, which may change while the proxy runs.

use super::rule::Rule;
use arc_swap::ArcSwap;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// The maximum number of faults at once.
pub const MAX_FAULTS: usize = 100;

/// The configured policies that are in force, in order, shared by all workers: faults added
/// through the admin API come before the policies of the config.
#[derive(Debug, Default)]
pub struct Live {
    rules: ArcSwap<Vec<Arc<Rule>>>,
    generation: AtomicU64,
    /// The parts from which `rules` is rebuilt; workers never lock it.
    state: Mutex<LiveState>,
    hook: ChangeHook,
}

/// See [`Live::on_change`].
#[derive(Default)]
struct ChangeHook(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for ChangeHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangeHook")
    }
}

#[derive(Debug, Default)]
struct LiveState {
    faults: Vec<LiveFault>,
    policies: Vec<LivePolicy>,
    /// The id of the last fault; ids are never reused.
    last_id: u64,
}

/// A fault added through the admin API.
#[derive(Clone, Debug)]
pub struct LiveFault {
    /// The id by which it is removed; never reused.
    pub id: String,
    /// The policy.
    pub rule: Arc<Rule>,
}

/// The maximum number of policies added to those of the config.
pub const MAX_ADDED: usize = 100;

/// A policy as configured and as changed since.
#[derive(Clone, Debug)]
pub struct LivePolicy {
    /// As in the config; `None` if it was added through the admin API.
    pub configured: Option<Arc<Rule>>,
    /// As in force now.
    pub current: Arc<Rule>,
}

impl LivePolicy {
    fn configured(rule: Arc<Rule>) -> Self {
        Self { current: Arc::clone(&rule), configured: Some(rule) }
    }

    /// Whether it differs from the config.
    pub fn is_changed(&self) -> bool {
        self.configured.as_ref().is_none_or(|configured| !Arc::ptr_eq(configured, &self.current))
    }

    /// Whether it was added through the admin API.
    pub(crate) fn is_added(&self) -> bool {
        self.configured.is_none()
    }
}

impl Live {
    /// Starts with the policies of the config.
    pub fn new(rules: Vec<Arc<Rule>>) -> Arc<Self> {
        let live = Self::default();
        live.replace(rules);
        Arc::new(live)
    }

    /// Sets a hook that is called after each change, so that open connections apply it at once. Only the
    /// first call has an effect.
    pub fn on_change(&self, hook: impl Fn() + Send + Sync + 'static) {
        let _ = self.hook.0.set(Box::new(hook));
    }

    /// Incremented with each change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The policies in force, in the order of evaluation.
    pub fn rules(&self) -> Arc<Vec<Arc<Rule>>> {
        self.rules.load_full()
    }

    /// Replaces the policies of the config. Faults stay.
    pub fn replace(&self, rules: Vec<Arc<Rule>>) {
        let mut state = self.state();
        state.policies = rules.into_iter().map(LivePolicy::configured).collect();
        self.publish(&state);
    }

    /// Replaces the policies of the config by those of a new one. A policy whose settings are the same stays the same
    /// object; one whose action is the same keeps its state. Faults stay. Returns the names of the policies
    /// whose changes through the admin API are lost with this.
    pub fn reload(&self, rules: Vec<Arc<Rule>>, now: Instant) -> Vec<Arc<str>> {
        let mut state = self.state();
        let before = std::mem::take(&mut state.policies);
        let known: Vec<_> = before.iter().filter_map(|it| it.configured.as_ref()).collect();
        let reload = |rule: Arc<Rule>| match known.iter().find(|it| it.name == rule.name) {
            Some(known) if known.is_equivalent(&rule) => Arc::clone(known),
            Some(known) => Arc::new((*rule).clone().replacing(known, now)),
            None => rule,
        };
        let rules = rules.into_iter().map(reload);
        state.policies = rules.map(LivePolicy::configured).collect();
        self.publish(&state);
        let lost = before.iter().filter(|it| it.is_changed());
        lost.map(|it| Arc::clone(&it.current.name)).collect()
    }

    /// The policies of the config, in order.
    pub fn configured(&self) -> Vec<Arc<Rule>> {
        self.state().policies.iter().filter_map(|it| it.configured.clone()).collect()
    }

    /// The policies without faults, in order: added ones, the latest first, then those of the config.
    pub fn policies(&self) -> Vec<LivePolicy> {
        self.state().policies.clone()
    }

    /// Replaces the policy with this name, and returns the new one; `None` if there is no such policy. A
    /// change back to the configured settings restores the configured rule.
    pub fn change(&self, name: &str, change: impl FnOnce(&Rule) -> Rule) -> Option<LivePolicy> {
        let mut state = self.state();
        let policy = state.policies.iter_mut().find(|policy| *policy.current.name == *name)?;
        let changed = change(&policy.current);
        policy.current = match &policy.configured {
            Some(configured) if configured.is_equivalent(&changed) => Arc::clone(configured),
            _ => Arc::new(changed),
        };
        let policy = policy.clone();
        self.publish(&state);
        Some(policy)
    }

    /// Adds a policy before all others except faults; `None` if [`MAX_ADDED`] is reached.
    pub fn add(&self, rule: Rule) -> Option<LivePolicy> {
        let mut state = self.state();
        if state.policies.iter().filter(|policy| policy.is_added()).count() >= MAX_ADDED {
            return None;
        }
        let policy = LivePolicy { configured: None, current: Arc::new(rule) };
        state.policies.insert(0, policy.clone());
        self.publish(&state);
        Some(policy)
    }

    /// Removes an added policy. Returns whether there was one with this name.
    pub fn remove(&self, name: &str) -> bool {
        let mut state = self.state();
        let before = state.policies.len();
        state.policies.retain(|policy| !policy.is_added() || *policy.current.name != *name);
        let removed = state.policies.len() < before;
        if removed {
            self.publish(&state);
        }
        removed
    }

    /// The faults added through the admin API, the latest first: the order of evaluation.
    pub fn faults(&self, now: Instant) -> Vec<LiveFault> {
        self.expire(now);
        self.state().faults.clone()
    }

    /// Adds a fault before everything else; `None` if [`MAX_FAULTS`] is reached.
    pub fn add_fault(&self, rule: Rule, now: Instant) -> Option<LiveFault> {
        self.expire(now);
        let mut state = self.state();
        if state.faults.len() >= MAX_FAULTS {
            return None;
        }
        state.last_id += 1;
        let fault = LiveFault { id: state.last_id.to_string(), rule: Arc::new(rule) };
        state.faults.insert(0, fault.clone());
        self.publish(&state);
        Some(fault)
    }

    /// Removes a fault. Returns whether there was one with this id.
    pub fn remove_fault(&self, id: &str) -> bool {
        self.keep_faults(|fault| fault.id != id)
    }

    /// Removes expired faults. They have no effect, but workers read the clock while they are listed.
    pub fn expire(&self, now: Instant) {
        self.keep_faults(|fault| !fault.rule.is_expired(now));
    }

    fn keep_faults(&self, keep: impl Fn(&LiveFault) -> bool) -> bool {
        let mut state = self.state();
        let before = state.faults.len();
        state.faults.retain(keep);
        let dropped = state.faults.len() < before;
        if dropped {
            self.publish(&state);
        }
        dropped
    }

    fn state(&self) -> MutexGuard<'_, LiveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the policies. Each worker applies them at its next operation.
    fn publish(&self, state: &LiveState) {
        let faults = state.faults.iter().map(|fault| &fault.rule);
        let rules =
            faults.chain(state.policies.iter().map(|policy| &policy.current)).cloned().collect();
        self.rules.store(Arc::new(rules));
        self.generation.fetch_add(1, Ordering::Release);
        if let Some(hook) = self.hook.0.get() {
            hook();
        }
    }
}

#[cfg(test)]
mod tests;
