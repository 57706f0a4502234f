//! A configured policy: what it matches and what it does.

use crate::{
    PolicyEnv, WorkerPolicy,
    attributes::{ConnectPhase, connect_phase},
    matching::Match,
};
use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tls::ClientTls;
use tollgate_metrics::EffectCounts;
use values::ObjectSource;

/// A configured policy, shared by all workers.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Whether it is in force.
    pub enabled: bool,
    /// It only counts and logs the effects that it would have.
    pub dry_run: bool,
    /// When it expires, if it does.
    pub expires: Option<Instant>,
    /// What it applies to.
    pub matching: Arc<Match>,
    /// What it does.
    pub config: Arc<dyn PolicyConfig>,
    /// As it was written.
    pub source: ObjectSource,
    /// How often it had an effect. A policy that replaces it continues these counts.
    pub counts: Arc<EffectCounts>,
}

impl Rule {
    /// Whether it decides about connections, and not about their operations.
    pub fn is_for_connections(&self) -> bool {
        self.connect_phase().is_some()
    }

    /// When it is asked about a connection; `None` if it decides about operations.
    pub(crate) fn connect_phase(&self) -> Option<ConnectPhase> {
        let own = self.matching.connect_phase();
        match self.config.stage() {
            Stage::Operation => None,
            Stage::Either => own,
            Stage::Connection => {
                let keys = self.config.depends_on();
                let keys = keys.iter().filter_map(|name| connect_phase(name));
                keys.chain(own).max().or(Some(ConnectPhase::BeforeHandshake))
            }
        }
    }

    /// Whether another rule has the same settings, and shares its state.
    pub(crate) fn is_equivalent(&self, other: &Rule) -> bool {
        self.name == other.name
            && (self.enabled, self.dry_run) == (other.enabled, other.dry_run)
            && self.expires == other.expires
            && self.matching == other.matching
            && self.has_same_action(other)
    }

    /// As in a config, including default values.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": &*self.name,
            "enabled": self.enabled,
            "dry_run": self.dry_run,
            "match": self.matching.to_json(),
            self.config.kind(): self.config.to_json(),
        })
    }

    /// This rule as the replacement of `previous`. The action keeps its state unless its settings were
    /// changed. If the rule has a lifetime, it begins when the rule is enabled.
    pub fn replacing(self, previous: &Rule, now: Instant) -> Self {
        let counts = Arc::clone(&previous.counts);
        if !self.has_same_action(previous) {
            return Self { counts, ..self };
        }
        let action = Arc::clone(&previous.config);
        let begins = self.enabled && !previous.enabled;
        let ends = || action.lifetime().and_then(|lifetime| now.checked_add(lifetime));
        let expires = if begins { ends() } else { previous.expires };
        Self { counts, expires, config: action, ..self }
    }

    /// Whether both have the same kind, with the same settings.
    fn has_same_action(&self, other: &Rule) -> bool {
        let kind = self.config.kind();
        kind == other.config.kind() && self.source.has_same_value(kind, &other.source)
    }

    /// Whether it has expired.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// The action of a configured policy. State that workers share belongs here: it lives until the
/// policy's settings change.
pub trait PolicyConfig: fmt::Debug + Send + Sync {
    /// Its key in the config: `rate_limit`.
    fn kind(&self) -> &'static str;

    /// Whether it decides about connections or operations.
    fn stage(&self) -> Stage;

    /// Whether it fails closed: a request that can't be read is then rejected.
    fn fails_closed(&self) -> bool {
        true
    }

    /// Whether it does not apply to operations that cost the service nothing (see
    /// [`operation::Operation::limit_exempt`]), unless `match` names operations.
    fn skips_limit_exempt(&self) -> bool {
        false
    }

    /// How long it is in force after it was enabled, if limited.
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

    /// The attributes that its decision depends on besides `match`, such as the parts of a limit's key.
    /// A request is held until they are known.
    fn depends_on(&self) -> Vec<Cow<'_, str>> {
        self.required_attribute().into_iter().map(Cow::Borrowed).collect()
    }

    /// Whether it bounds how many connections or operations clients may have.
    fn limits_clients(&self) -> bool {
        false
    }

    /// Whether it chooses the endpoints of reads, which only clusters with a `pool` can.
    fn routes_reads(&self) -> bool {
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

    /// How its connections to a store are encrypted, if they are.
    fn tls(&self) -> Option<&Arc<ClientTls>> {
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
    /// New connections.
    Connection,
    /// Operations.
    Operation,
    /// Connections if its `match` can be evaluated for them, otherwise operations.
    Either,
}
