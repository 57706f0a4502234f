//! Limits how many connections are open at a time.

use crate::series::SeriesKey;
use crate::{
    ConnectDecision, ConnectionPermit, PolicyEnv, SeriesPolicy, WorkerPolicy,
    key::{KeySetting, KeySpec},
    kind::Kind,
    over_limit::OverLimit,
    rule::{PolicyConfig, Rule, Stage},
};
use foldhash::HashMap;
use operation::{Attributes, RejectReason, Rejection};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use values::{
    Count, Diagnostic,
    spanned::{Opt, opt_value},
};

/// The row of this kind of policy.
pub(super) static KIND: Kind<Settings> = Kind {
    key: "connection_limit",
    summary: "Limit how many connections are open at a time.",
    build: Settings::build,
};

/// In how many parts keys are counted, so that workers seldom meet.
const SHARDS: usize = 16;

/// Limits how many connections are open at a time, over all workers.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ConnectionLimit")]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ max: 50, key: [peer] }`")]
pub(super) struct Settings {
    /// How many connections may be open at a time.
    #[schemars(required)]
    max: Opt<Count>,
    /// Which connections are counted together: those that agree in all of these, of `peer`
    /// (or its network: `peer/64`), `listener`, `protocol`, and attributes of TLS and of PROXY
    /// headers (`tls.uri`, `sni`, `proxy.vpce`). `[]`: all of them. Default: `[]`.
    key: KeySetting,
    /// How a connection beyond the limit is rejected: `refuse`, `close` or `reset`. Default:
    /// `refuse`.
    #[schemars(extend("enum" = ["refuse", "close", "reset"]))]
    over: Opt<OverLimit>,
}

impl Settings {
    fn build(self) -> Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>> {
        let mut mistakes = Vec::new();
        if self.max.is_none() {
            let hint = "write how many may be open: `max: 50`";
            mistakes.push(Diagnostic::at(&["max"], "`max` is missing", hint));
        }
        let over = opt_value(self.over).unwrap_or_default();
        if over.delays() {
            let message = format!("`{}` is not supported by a connection limit", over.as_str());
            let hint = "write refuse, close or reset; to hold connections back, limit their rate";
            mistakes.push(Diagnostic::at(&["over"], message, hint));
        }
        let key_spec = KeySpec::for_connections(self.key, &mut mistakes);
        match opt_value(self.max) {
            Some(max) if mistakes.is_empty() => {
                let open = Arc::new(OpenConnections { max: max.0, shards: Default::default() });
                Ok(Arc::new(ConnectionLimit { key_spec: Arc::new(key_spec), over, open }))
            }
            _ => Err(mistakes),
        }
    }
}

/// A limit of connections, as all workers share it.
#[derive(Debug)]
struct ConnectionLimit {
    key_spec: Arc<KeySpec>,
    over: OverLimit,
    open: Arc<OpenConnections>,
}

/// How many connections are open, by key. A key without any is gone, so there are never more keys
/// than connections, and those are bounded already.
#[derive(Debug)]
struct OpenConnections {
    max: usize,
    shards: [Mutex<HashMap<u64, usize>>; SHARDS],
}

impl OpenConnections {
    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, usize>> {
        let shard = &self.shards[(key >> 32) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more, if it may be.
    fn enter(&self, key: u64) -> bool {
        let mut shard = self.shard(key);
        let open = shard.entry(key).or_default();
        let room = *open < self.max;
        *open += usize::from(room);
        room
    }

    fn leave(&self, key: u64) {
        let mut shard = self.shard(key);
        if let Some(open) = shard.get_mut(&key) {
            *open -= 1;
            if *open == 0 {
                shard.remove(&key);
            }
        }
        // Give back memory after a burst of connections.
        if shard.capacity() > 64 && shard.len() < shard.capacity() / 8 {
            shard.shrink_to_fit();
        }
    }
}

impl PolicyConfig for ConnectionLimit {
    fn kind(&self) -> &'static str {
        KIND.key
    }

    fn stage(&self) -> Stage {
        Stage::Connection
    }

    fn depends_on(&self) -> Vec<Cow<'_, str>> {
        self.key_spec.names()
    }

    fn limits_clients(&self) -> bool {
        true
    }

    fn worker_policy(&self, rule: &Rule, from: &PolicyEnv) -> Box<dyn WorkerPolicy> {
        let max = self.open.max;
        let message = format!("the policy `{}` allows {max} connections at a time", rule.name);
        let mut rejection = Rejection::new(RejectReason::Overloaded, message);
        rejection.mode = self.over.reject_mode();
        Box::new(WorkerConnectionLimit {
            listener: Arc::clone(&from.listener),
            protocol: from.protocol.name,
            key_spec: Arc::clone(&self.key_spec),
            open: Arc::clone(&self.open),
            rejection,
        })
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "max": self.open.max,
            "key": self.key_spec.names(),
            "over": self.over.as_str(),
        })
    }
}

/// The limit on one worker, for one listener.
struct WorkerConnectionLimit {
    listener: Arc<str>,
    protocol: &'static str,
    key_spec: Arc<KeySpec>,
    open: Arc<OpenConnections>,
    rejection: Rejection,
}

impl WorkerPolicy for WorkerConnectionLimit {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        None
    }

    fn connect(&self, connection: &dyn Attributes, _: Instant) -> ConnectDecision {
        let key = self.key_spec.connection_key(&self.listener, self.protocol, connection);
        match self.open.enter(key) {
            true => ConnectDecision::AcceptWith(Box::new(CountedConnection {
                key,
                open: Arc::clone(&self.open),
            })),
            false => ConnectDecision::Reject(self.rejection.clone()),
        }
    }
}

/// A connection's place; given back when it ends.
struct CountedConnection {
    key: u64,
    open: Arc<OpenConnections>,
}

impl ConnectionPermit for CountedConnection {}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.open.leave(self.key);
    }
}

#[cfg(test)]
mod tests;
