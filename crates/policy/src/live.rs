//! The configured policies that are in force now. They may change while the proxy runs.

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

/// How many faults there may be at once.
pub const MAX_FAULTS: usize = 100;

/// The configured policies that are in force, in order, shared by all workers: faults added
/// through the admin API come before the policies of the config.
#[derive(Debug, Default)]
pub struct Live {
    rules: ArcSwap<Vec<Arc<Rule>>>,
    generation: AtomicU64,
    /// What they are made of. Workers never look at it.
    state: Mutex<LiveState>,
    hook: ChangeHook,
}

/// See [`Live::on_change`].
#[derive(Default)]
struct ChangeHook(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for ChangeHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nudge")
    }
}

#[derive(Debug, Default)]
struct LiveState {
    faults: Vec<LiveFault>,
    policies: Vec<LivePolicy>,
    /// How many faults there were in all.
    last_id: u64,
}

/// A fault added through the admin API.
#[derive(Clone, Debug)]
pub struct LiveFault {
    /// The id that removes it. Ids are never used twice.
    pub id: String,
    /// The policy.
    pub rule: Arc<Rule>,
}

/// How many policies may be added to those of the config.
pub const MAX_ADDED: usize = 100;

/// A policy, and what became of it.
#[derive(Clone, Debug)]
pub struct LivePolicy {
    /// As the config has it; `None` if it was added since.
    pub configured: Option<Arc<Rule>>,
    /// As it is now.
    pub current: Arc<Rule>,
}

impl LivePolicy {
    /// Whether it is not as the config has it.
    pub fn is_changed(&self) -> bool {
        self.configured.as_ref().is_none_or(|configured| !Arc::ptr_eq(configured, &self.current))
    }

    /// Whether the config does not have it at all.
    pub(crate) fn is_added(&self) -> bool {
        self.configured.is_none()
    }
}

impl Live {
    /// These to begin with.
    pub fn new(rules: Vec<Arc<Rule>>) -> Arc<Self> {
        let live = Self::default();
        live.replace(rules);
        Arc::new(live)
    }

    /// Has `nudge` called with each change, so that open connections take it up at once.
    pub fn on_change(&self, hook: impl Fn() + Send + Sync + 'static) {
        let _ = self.hook.0.set(Box::new(hook));
    }

    /// Grows with each change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Those in force.
    pub fn rules(&self) -> Arc<Vec<Arc<Rule>>> {
        self.rules.load_full()
    }

    /// Replaces the policies of the config. Faults stay.
    pub fn replace(&self, rules: Vec<Arc<Rule>>) {
        let mut state = self.state();
        state.policies = rules
            .into_iter()
            .map(|configured| LivePolicy {
                current: Arc::clone(&configured),
                configured: Some(configured),
            })
            .collect();
        self.publish(&state);
    }

    /// The policies, in order: those that were added, the latest first, and those of the config.
    pub fn policies(&self) -> Vec<LivePolicy> {
        self.state().policies.clone()
    }

    /// Replaces the policy of this name, and returns the new one; `None` if there is no such
    /// policy. A policy that is again as in the config counts as the config's.
    pub fn change(&self, name: &str, change: impl FnOnce(&Rule) -> Rule) -> Option<LivePolicy> {
        let mut state = self.state();
        let policy = state.policies.iter_mut().find(|it| *it.current.name == *name)?;
        let changed = change(&policy.current);
        policy.current = match &policy.configured {
            Some(configured) if configured.is_equivalent(&changed) => Arc::clone(configured),
            _ => Arc::new(changed),
        };
        let policy = policy.clone();
        self.publish(&state);
        Some(policy)
    }

    /// Puts a policy before all others, behind faults alone; `None` if as many were added as may be.
    pub fn add(&self, rule: Rule) -> Option<LivePolicy> {
        let mut state = self.state();
        if state.policies.iter().filter(|it| it.is_added()).count() >= MAX_ADDED {
            return None;
        }
        let policy = LivePolicy { configured: None, current: Arc::new(rule) };
        state.policies.insert(0, policy.clone());
        self.publish(&state);
        Some(policy)
    }

    /// Removes a policy that was added. Returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let mut state = self.state();
        let before = state.policies.len();
        state.policies.retain(|it| !it.is_added() || *it.current.name != *name);
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

    /// Puts a fault before everything else; `None` if there are as many as there may be.
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

    /// Removes a fault. Returns whether there was one.
    pub fn remove_fault(&self, id: &str) -> bool {
        self.keep_faults(|fault| fault.id != id)
    }

    /// Drops faults that have ended. They do not apply any longer, but workers read the clock for
    /// as long as they are listed.
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

    /// Has workers take it up, all at once, each at its next operation.
    fn publish(&self, state: &LiveState) {
        let faults = state.faults.iter().map(|fault| &fault.rule);
        let rules = faults.chain(state.policies.iter().map(|it| &it.current)).cloned().collect();
        self.rules.store(Arc::new(rules));
        self.generation.fetch_add(1, Ordering::Release);
        if let Some(hook) = self.hook.0.get() {
            hook();
        }
    }
}

#[cfg(test)]
mod tests;
