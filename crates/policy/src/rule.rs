//! A configured policy: what it matches and what it does.

use crate::{PolicyEnv, PolicySource, WorkerPolicy, matching::Match};
use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tollgate_metrics::EffectCounts;

/// A configured policy, shared by all workers.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// It is switched on.
    pub enabled: bool,
    /// It only counts and logs what it would do.
    pub dry_run: bool,
    /// When it ends by itself.
    pub expires: Option<Instant>,
    /// What it applies to.
    pub matching: Arc<Match>,
    /// What it does.
    pub config: Arc<dyn PolicyConfig>,
    /// As it was written.
    pub source: PolicySource,
    /// How often it had an effect. A policy that replaces it continues these counts.
    pub counts: Arc<EffectCounts>,
}

impl Rule {
    /// Whether it decides about connections, and not about their operations.
    pub fn is_for_connections(&self) -> bool {
        match self.config.stage() {
            Stage::Connection => true,
            Stage::Operation => false,
            Stage::Either => self.matching.is_known_at_connect(),
        }
    }

    /// Whether another one is the same but for its place in memory, and shares its state.
    pub(crate) fn is_equivalent(&self, other: &Rule) -> bool {
        self.name == other.name
            && (self.enabled, self.dry_run) == (other.enabled, other.dry_run)
            && self.expires == other.expires
            && self.matching == other.matching
            && self.has_same_action(other)
    }

    /// As a config would have it, with all that can be left out.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": &*self.name,
            "enabled": self.enabled,
            "dry_run": self.dry_run,
            "match": self.matching.to_json(),
            self.config.kind(): self.config.to_json(),
        })
    }

    /// The same as a replacement for `known`, of which a part was changed. Its action keeps its
    /// state unless the action was changed; what lasts for some time begins when it is switched on.
    pub fn replacing(self, known: &Rule, now: Instant) -> Self {
        let did = Arc::clone(&known.counts);
        if !self.has_same_action(known) {
            return Self { counts: did, ..self };
        }
        let action = Arc::clone(&known.config);
        let begins = self.enabled && !known.enabled;
        let ends = || action.lifetime().and_then(|lasts| now.checked_add(lasts));
        let expires = if begins { ends() } else { known.expires };
        Self { counts: did, expires, config: action, ..self }
    }

    /// Whether both have the same kind, with the same settings.
    fn has_same_action(&self, other: &Rule) -> bool {
        let kind = self.config.kind();
        kind == other.config.kind() && self.source.has_same_value(kind, &other.source)
    }

    /// Whether it has ended by itself.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// What a configured policy does. State that workers share belongs here: it lives until the policy
/// is changed.
pub trait PolicyConfig: fmt::Debug + Send + Sync {
    /// The key that it is written under: `rate_limit`.
    fn kind(&self) -> &'static str;

    /// What it decides about.
    fn stage(&self) -> Stage;

    /// Whether it fails closed: a request that can't be read is then rejected.
    fn fails_closed(&self) -> bool {
        true
    }

    /// Whether operations that cost the service nothing pass it (see
    /// [`Operation::limit_exempt`]), unless `match` names operations.
    fn skips_light(&self) -> bool {
        false
    }

    /// For how long it lasts from when it was switched on, if that is limited.
    fn lifetime(&self) -> Option<Duration> {
        None
    }

    /// Whether its effects need an operation that is the connection itself
    /// ([`operation::Protocol::stream`]).
    fn needs_stream(&self) -> bool {
        false
    }

    /// The attribute that it requires, if any: an operation without it is treated as the worst
    /// case, so a config in which that can happen is an error.
    fn required_attribute(&self) -> Option<&'static str> {
        None
    }

    /// The words and attributes of an operation that it decides by, beside what it matches, as
    /// the parts of a limit's key. A request is held until they are known.
    fn depends_on(&self) -> Vec<Cow<'_, str>> {
        self.required_attribute().into_iter().map(Cow::Borrowed).collect()
    }

    /// Whether it bounds how many connections or operations clients may have.
    fn limits_clients(&self) -> bool {
        false
    }

    /// Whether it rejects every operation that it applies to.
    fn rejects_all(&self) -> bool {
        false
    }

    /// A hint about a valid but questionable setting, for `tollgate check`.
    fn hint(&self) -> Option<String> {
        None
    }

    /// Its share on one worker, for one listener. `rule` is the policy that it is part of.
    fn worker_policy(&self, rule: &Rule, from: &PolicyEnv) -> Box<dyn WorkerPolicy>;

    /// Its settings as a config would have them, without secrets.
    fn to_json(&self) -> serde_json::Value;
}

/// What a policy decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connections, as they come.
    Connection,
    /// Operations.
    Operation,
    /// Connections where what it matches is known by then, otherwise operations.
    Either,
}
