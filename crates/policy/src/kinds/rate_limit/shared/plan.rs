//! The plan of a shared limit: its settings, checked and with defaults.

use super::attribute_hasher::AttributeHasher;
use schemars::Schema;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tls::ClientTls;
use values::{Diagnostic, FromText, Target, keyword_schema, parse_keyword};

/// What is done with operations while the store is unreachable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// They go on.
    #[default]
    Allow,
    /// They are refused.
    Refuse,
    /// A limiter of this process decides.
    Local,
}

impl FromText for OnStoreFailure {
    const EXPECTED: &str = "`allow`, `refuse` or `local`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, &OnStoreFailure::WORDS)
    }

    fn schema() -> Schema {
        keyword_schema(&OnStoreFailure::WORDS)
    }
}

impl OnStoreFailure {
    /// Every word for it, as in a config.
    pub(crate) const WORDS: [(&str, Self); 3] =
        [("allow", Self::Allow), ("refuse", Self::Refuse), ("local", Self::Local)];

    /// The word for it in a config.
    fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

/// How a limit is shared.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The store that decides.
    pub store: StorePlan,
    /// What is done with operations while it is unreachable.
    pub on_failure: OnStoreFailure,
    /// How long an operation waits for it at most.
    pub timeout: Duration,
    /// What the store gets to see of attributes.
    pub hasher: AttributeHasher,
    /// Where the key of the hash comes from, if it is a secret.
    pub hash_key_file: Option<PathBuf>,
}

/// The store that decides.
#[derive(Clone, Debug)]
pub enum StorePlan {
    /// A Redis.
    Redis(RedisPlan),
    /// A rate-limit service.
    Service(ServicePlan),
}

/// A Redis or Valkey.
#[derive(Clone, Debug)]
pub struct RedisPlan {
    /// Where it is.
    pub address: Target,
    /// The number of the database.
    pub database: u16,
    /// Who to log in as.
    pub user: Option<String>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// How connections are encrypted.
    pub tls: Option<Arc<ClientTls>>,
}

/// A rate-limit service.
#[derive(Clone, Debug)]
pub struct ServicePlan {
    /// Where it is.
    pub address: Target,
    /// Which of its configurations is meant.
    pub domain: String,
    /// The descriptors of an operation that it receives.
    pub descriptors: Vec<Vec<DescriptorEntryPlan>>,
    /// How connections are encrypted.
    pub tls: Option<Arc<ClientTls>>,
}

/// An entry of a descriptor.
#[derive(Clone, Debug)]
pub struct DescriptorEntryPlan {
    /// Its key, and the attribute that it takes its value from.
    pub key: Arc<str>,
    /// A value that is always the same.
    pub value: Option<Arc<str>>,
}

impl StorePlan {
    /// How connections to it are encrypted.
    pub(crate) fn tls(&self) -> Option<&Arc<ClientTls>> {
        match self {
            StorePlan::Redis(redis) => redis.tls.as_ref(),
            StorePlan::Service(service) => service.tls.as_ref(),
        }
    }
}

impl Plan {
    /// Whether the store gets values hashed with a key that everybody knows.
    pub(crate) fn hashes_in_public(&self) -> bool {
        !self.hasher.is_secret()
    }

    /// Whether the store sees an attribute's value as it is.
    pub(crate) fn shows(&self, attribute: &str) -> bool {
        self.hasher.shows(attribute)
    }

    /// As a config would have it.
    pub fn to_json(&self) -> Value {
        let (key, mut store) = match &self.store {
            StorePlan::Redis(redis) => ("redis", redis.to_json()),
            StorePlan::Service(service) => ("rate_limit_service", service.to_json()),
        };
        if let Some(tls) = self.store.tls() {
            store["tls"] = json!(**tls);
        }
        let mut shown = json!({
            key: store,
            "on_store_failure": self.on_failure.as_str(),
            "timeout": values::duration_text(self.timeout),
        });
        if let Some(file) = &self.hash_key_file {
            shown["hash_key_file"] = json!(file);
        }
        if !self.hasher.plain().is_empty() {
            shown["plain"] = json!(self.hasher.plain());
        }
        shown
    }
}
impl RedisPlan {
    fn to_json(&self) -> Value {
        let mut shown = json!({ "address": self.address.to_string(), "database": self.database });
        if let Some(user) = &self.user {
            shown["user"] = json!(user);
        }
        if let Some(file) = &self.password_file {
            shown["password_file"] = json!(file);
        }
        shown
    }
}

impl ServicePlan {
    fn to_json(&self) -> Value {
        let entry = |entry: &DescriptorEntryPlan| match &entry.value {
            Some(value) => json!({ "key": &*entry.key, "value": &**value }),
            None => json!({ "key": &*entry.key }),
        };
        let descriptors = self.descriptors.iter();
        let descriptors: Value =
            descriptors.map(|one| one.iter().map(entry).collect::<Value>()).collect();
        json!({
            "address": self.address.to_string(),
            "domain": self.domain,
            "descriptors": descriptors,
        })
    }
}
