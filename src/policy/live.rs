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

/// The configured policies that are in force, in order, as all workers share them: faults that
/// somebody asked for come before those of the config.
#[derive(Debug, Default)]
pub struct Live {
    rules: ArcSwap<Vec<Arc<Rule>>>,
    generation: AtomicU64,
    /// What they are made of. Workers never look at it.
    parts: Mutex<Parts>,
    nudge: Nudge,
}

/// See [`Live::nudges`].
#[derive(Default)]
struct Nudge(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for Nudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nudge")
    }
}

#[derive(Debug, Default)]
struct Parts {
    faults: Vec<Fault>,
    policies: Vec<Changed>,
    /// How many faults there were in all.
    asked: u64,
}

/// A policy that somebody asked for while the proxy runs, for some time.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What it is called by whoever takes it back. No other ever has the same.
    pub id: String,
    /// The policy.
    pub rule: Arc<Rule>,
}

/// How many policies may be added to those of the config.
pub const MAX_ADDED: usize = 100;

/// A policy, and what became of it.
#[derive(Clone, Debug)]
pub struct Changed {
    /// As the config has it; `None` if it was added since.
    pub from: Option<Arc<Rule>>,
    /// As it is now.
    pub now: Arc<Rule>,
}

impl Changed {
    /// Whether it is not as the config has it.
    pub fn is_changed(&self) -> bool {
        self.from.as_ref().is_none_or(|from| !Arc::ptr_eq(from, &self.now))
    }

    /// Whether the config does not have it at all.
    pub fn is_added(&self) -> bool {
        self.from.is_none()
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
    pub fn nudges(&self, nudge: impl Fn() + Send + Sync + 'static) {
        let _ = self.nudge.0.set(Box::new(nudge));
    }

    /// Grows with each change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Those in force.
    pub fn rules(&self) -> Arc<Vec<Arc<Rule>>> {
        self.rules.load_full()
    }

    /// Puts others in the place of those of the config. Faults stay.
    pub fn replace(&self, rules: Vec<Arc<Rule>>) {
        let mut parts = self.parts();
        parts.policies = rules
            .into_iter()
            .map(|from| Changed { now: Arc::clone(&from), from: Some(from) })
            .collect();
        self.publish(&parts);
    }

    /// The policies, in order: those that were added, the latest first, and those of the config.
    pub fn policies(&self) -> Vec<Changed> {
        self.parts().policies.clone()
    }

    /// Puts another in the place of the policy of this name, and returns it; `None` if there is
    /// no such policy. One that comes out as it was in the config is the config's again.
    pub fn change(&self, name: &str, change: impl FnOnce(&Rule) -> Rule) -> Option<Changed> {
        let mut parts = self.parts();
        let policy = parts.policies.iter_mut().find(|it| *it.now.name == *name)?;
        let changed = change(&policy.now);
        policy.now = match &policy.from {
            Some(from) if from.is_equivalent(&changed) => Arc::clone(from),
            _ => Arc::new(changed),
        };
        let policy = policy.clone();
        self.publish(&parts);
        Some(policy)
    }

    /// Puts a policy before all others, behind faults alone; `None` if as many were added as may be.
    pub fn add(&self, rule: Rule) -> Option<Changed> {
        let mut parts = self.parts();
        if parts.policies.iter().filter(|it| it.is_added()).count() >= MAX_ADDED {
            return None;
        }
        let policy = Changed { from: None, now: Arc::new(rule) };
        parts.policies.insert(0, policy.clone());
        self.publish(&parts);
        Some(policy)
    }

    /// Takes a policy back that was added. Tells whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let mut parts = self.parts();
        let before = parts.policies.len();
        parts.policies.retain(|it| !it.is_added() || *it.now.name != *name);
        let removed = parts.policies.len() < before;
        if removed {
            self.publish(&parts);
        }
        removed
    }

    /// The faults that somebody asked for, the latest first, as operations meet them.
    pub fn faults(&self, now: Instant) -> Vec<Fault> {
        self.expire(now);
        self.parts().faults.clone()
    }

    /// Puts a fault before everything else; `None` if there are as many as there may be.
    pub fn add_fault(&self, rule: Rule, now: Instant) -> Option<Fault> {
        self.expire(now);
        let mut parts = self.parts();
        if parts.faults.len() >= MAX_FAULTS {
            return None;
        }
        parts.asked += 1;
        let fault = Fault { id: parts.asked.to_string(), rule: Arc::new(rule) };
        parts.faults.insert(0, fault.clone());
        self.publish(&parts);
        Some(fault)
    }

    /// Takes a fault back. Tells whether there was one.
    pub fn remove_fault(&self, id: &str) -> bool {
        self.keep_faults(|fault| fault.id != id)
    }

    /// Drops faults that have ended. They apply no more anyway, but workers look at the clock
    /// for as long as they are there.
    pub fn expire(&self, now: Instant) {
        self.keep_faults(|fault| !fault.rule.is_expired(now));
    }

    fn keep_faults(&self, keep: impl Fn(&Fault) -> bool) -> bool {
        let mut parts = self.parts();
        let before = parts.faults.len();
        parts.faults.retain(keep);
        let dropped = parts.faults.len() < before;
        if dropped {
            self.publish(&parts);
        }
        dropped
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has workers take it up, all at once, each at its next operation.
    fn publish(&self, parts: &Parts) {
        let faults = parts.faults.iter().map(|fault| &fault.rule);
        let rules = faults.chain(parts.policies.iter().map(|it| &it.now)).cloned().collect();
        self.rules.store(Arc::new(rules));
        self.generation.fetch_add(1, Ordering::Release);
        if let Some(nudge) = self.nudge.0.get() {
            nudge();
        }
    }
}

#[cfg(test)]
mod tests;
