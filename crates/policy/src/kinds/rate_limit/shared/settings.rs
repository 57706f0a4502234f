//! The settings under `shared`, and their checks.

use super::{
    attribute_hasher::{AttributeHasher, LEAST_KEY},
    plan::{DescriptorEntryPlan, OnStoreFailure, Plan, RedisPlan, ServicePlan, StorePlan},
};
use crate::attributes::{self, AttributeNames, FromAttribute, normalize};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tls::{ClientTls, ClusterSettings};
use values::{
    Diagnostic, HostPort, InRange, Target,
    spanned::{Opt, Spanned},
};

/// How long an operation waits for the store by default.
const TIMEOUT: Duration = Duration::from_millis(20);
/// A wait that clients would take for a service that hangs.
const MAX_TIMEOUT: Duration = Duration::from_secs(5);
/// How many descriptors an operation may have, and entries each: they are sent every time.
const MAX_DESCRIPTORS: usize = 32;
/// The longest file with a secret that is read, in bytes.
const MAX_KEY_FILE: u64 = 64 << 10;

/// Keeps a limit across machines: a store that all of them ask decides. One of `redis` and
/// `rate_limit_service`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "keys and values, such as `{ redis: … }`")]
#[schemars(rename = "SharedLimit")]
#[schemars(extend("oneOf" = [{ "required": ["redis"] }, { "required": ["rate_limit_service"] }]))]
pub(crate) struct Settings {
    /// Keep the limit in a Redis or Valkey.
    redis: Option<Spanned<RedisSettings>>,
    /// Ask a service that speaks Envoy's rate-limit protocol, version 3. The limit is the
    /// service's: `rate` and `burst` hold only where `on_store_failure` is `local`.
    rate_limit_service: Option<Spanned<ServiceSettings>>,
    /// What is done with operations while the store can't be asked: `allow`, `refuse`, or `local`,
    /// which holds each machine to the limit by itself. Default: `allow`.
    on_store_failure: Opt<OnStoreFailure>,
    /// How long an operation waits for the store at most (up to `5s`). Default: `20ms`.
    timeout: Opt<Duration>,
    /// A file whose first line, of at least 16 bytes, is the key of the hash that the store gets in
    /// place of most values. All who share the limit need the same. It is read at the start.
    /// Default: none, a key that everybody knows.
    hash_key_file: Option<Spanned<PathBuf>>,
    /// Attributes whose values the store gets as they are, beside `peer`, `listener`, `protocol`,
    /// `operation` and `resource`. Default: none.
    plain: Option<Spanned<Vec<AttributeName>>>,
}

/// A Redis or Valkey.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "SharedLimitRedis")]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ address: \"redis:6379\" }`")]
struct RedisSettings {
    /// `host:port`.
    #[schemars(required)]
    address: Opt<HostPort>,
    /// The number of the database. Default: `0`.
    database: Opt<InRange<0, 65_535>>,
    /// Who to log in as. Default: the store's own default user.
    user: Option<Spanned<String>>,
    /// A file whose first line is the password. It is read at each connect. Default: none.
    password_file: Option<Spanned<PathBuf>>,
    /// How connections are encrypted. Default: not at all.
    tls: Option<Spanned<ClusterSettings>>,
}

/// A rate-limit service.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "SharedLimitService")]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ address: …, domain: … }`")]
struct ServiceSettings {
    /// `host:port`.
    #[schemars(required)]
    address: Opt<HostPort>,
    /// Which of the service's configurations is meant.
    #[schemars(required)]
    domain: Option<Spanned<String>>,
    /// The descriptors of an operation that the service receives: lists of entries. The operation
    /// is refused if it is over the limit of any of them.
    #[schemars(required)]
    descriptors: Option<Spanned<Vec<Vec<EntrySettings>>>>,
    /// How connections are encrypted. Default: not at all.
    tls: Option<Spanned<ClusterSettings>>,
}

/// An entry of a descriptor.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "DescriptorEntry")]
#[serde(deny_unknown_fields, expecting = "keys and values, such as `{ key: user }`")]
struct EntrySettings {
    /// Its key, and without `value` the attribute that it takes its value from. An operation that
    /// does not have it goes without the descriptor.
    key: String,
    /// A value that is always the same.
    value: Option<String>,
}

/// The name of an attribute. An unknown one is reported when the plan is made.
#[derive(Debug)]
struct AttributeName {
    text: String,
    known: bool,
}

impl FromAttribute for AttributeName {
    fn from_name(text: &str, names: Option<&AttributeNames<'_>>) -> Result<Self, Diagnostic> {
        let known = names.is_none_or(|names| names.contains(text));
        Ok(Self { text: text.to_owned(), known })
    }
}

impl<'de> Deserialize<'de> for AttributeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        attributes::read(deserializer)
    }
}

impl JsonSchema for AttributeName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

impl Settings {
    /// The plan. Mistakes have paths relative to `shared`.
    pub(crate) fn plan(self) -> Result<Plan, Vec<Diagnostic>> {
        let mut wrong = Vec::new();
        let store = self.store(&mut wrong);
        let timeout = given(&self.timeout).unwrap_or(TIMEOUT);
        if timeout > MAX_TIMEOUT {
            let message = "operations would wait too long for the store";
            wrong.push(Diagnostic::at(&["shared", "timeout"], message, "at most `5s`"));
        }
        let on_failure = given(&self.on_store_failure).unwrap_or_default();
        let hash_key_file = self.hash_key_file.as_ref().and_then(|file| file.value.clone());
        let hasher = self.attribute_hasher(hash_key_file.as_deref(), &mut wrong);
        match store {
            Some(store) if wrong.is_empty() => {
                Ok(Plan { store, on_failure, timeout, hasher, hash_key_file })
            }
            _ => Err(wrong),
        }
    }

    fn attribute_hasher(
        &self,
        file: Option<&Path>,
        wrong: &mut Vec<Diagnostic>,
    ) -> AttributeHasher {
        let plain = self.plain.as_ref().and_then(|list| list.value.as_ref());
        let plain = plain.into_iter().flatten();
        for (at, name) in plain.clone().enumerate().filter(|(_, it)| !it.known) {
            let name = &name.text;
            let path = ["shared", "plain", &at.to_string()];
            let hint = "name attributes as in `key`: `plain: [user]`";
            wrong.push(Diagnostic::at(&path, format!("unknown attribute `{name}`"), hint));
        }
        let key = file.and_then(|file| {
            let mut mistake = |message: String, hint: &str| {
                wrong.push(Diagnostic::at(&["shared", "hash_key_file"], message, hint));
            };
            let hint = "all who share the limit need a file with the same secret in its first line";
            let text = match values::read_text(file, MAX_KEY_FILE) {
                Ok(text) => text,
                Err(error) => {
                    mistake(format!("`{}` can't be read: {error}", file.display()), hint);
                    return None;
                }
            };
            let key = text.lines().next().unwrap_or_default().trim().to_owned();
            if key.len() < LEAST_KEY {
                let message = format!("a secret of {} bytes can be guessed", key.len());
                let hint = format!("write at least {LEAST_KEY} bytes: `openssl rand -hex 32`");
                mistake(message, &hint);
                return None;
            }
            Some(key)
        });
        let plain = plain.map(|name| (*normalize(&name.text)).into()).collect();
        AttributeHasher::new(key.as_ref().map(String::as_bytes), plain)
    }

    fn store(&self, wrong: &mut Vec<Diagnostic>) -> Option<StorePlan> {
        match (&self.redis, &self.rate_limit_service) {
            (Some(redis), None) => redis.value.as_ref()?.plan(wrong).map(StorePlan::Redis),
            (None, Some(service)) => service.value.as_ref()?.plan(wrong).map(StorePlan::Service),
            (None, None) => {
                let hint = "write `redis: { address: … }` or `rate_limit_service: { … }`";
                wrong.push(Diagnostic::at(&["shared"], "the limit has no store", hint));
                None
            }
            (Some(_), Some(_)) => {
                let hint = "write `redis` or `rate_limit_service`";
                wrong.push(Diagnostic::at(&["shared"], "a limit has one store", hint));
                None
            }
        }
    }
}

impl RedisSettings {
    fn plan(&self, wrong: &mut Vec<Diagnostic>) -> Option<RedisPlan> {
        let user = self.user.as_ref().and_then(|user| user.value.clone());
        if self.user.is_some() && self.password_file.is_none() {
            let hint = "write `password_file` too";
            let path = ["shared", "redis", "user"];
            wrong.push(Diagnostic::at(&path, "a user logs in with a password", hint));
        }
        let file = self.password_file.as_ref().and_then(|file| file.value.as_deref());
        if let Some(fault) = file.and_then(|file| values::wrong_secret_file(file, MAX_KEY_FILE)) {
            let path = ["shared", "redis", "password_file"];
            wrong.push(Diagnostic::at(&path, fault.message, fault.hint));
        }
        Some(RedisPlan {
            address: address("redis", &self.address, wrong)?,
            database: given(&self.database).map_or(0, |InRange(it)| it as u16),
            user,
            password_file: self.password_file.as_ref().and_then(|file| file.value.clone()),
            tls: store_tls("redis", self.tls.as_ref(), Vec::new(), wrong),
        })
    }
}

impl ServiceSettings {
    fn plan(&self, wrong: &mut Vec<Diagnostic>) -> Option<ServicePlan> {
        const KEY: &str = "rate_limit_service";
        let address = address(KEY, &self.address, wrong);
        let mut need = |key: &str, hint: &str| {
            wrong.push(Diagnostic::at(&["shared", KEY, key], format!("`{key}` is missing"), hint));
        };
        if self.domain.is_none() {
            need("domain", "it selects one of the service's configurations");
        }
        if self.descriptors.is_none() {
            need("descriptors", "write what limits depend on: `[[{ key: user }]]`");
        }
        let domain = self.domain.as_ref()?.value.clone()?;
        let descriptors = self.descriptors.as_ref()?.value.as_ref()?;
        let hint = "write what limits depend on: `[[{ key: user }]]`";
        let path = ["shared", KEY, "descriptors"];
        if descriptors.is_empty() || descriptors.iter().any(Vec::is_empty) {
            wrong.push(Diagnostic::at(&path, "a descriptor has at least one entry", hint));
        }
        let longest = descriptors.iter().map(Vec::len).max().unwrap_or(0).max(descriptors.len());
        if longest > MAX_DESCRIPTORS {
            let hint = format!("at most {MAX_DESCRIPTORS} descriptors, and entries in each");
            wrong.push(Diagnostic::at(&path, "there are too many descriptors or entries", hint));
        }
        let entry = |it: &EntrySettings| DescriptorEntryPlan {
            key: it.key.as_str().into(),
            value: it.value.as_deref().map(Into::into),
        };
        let descriptors = descriptors.iter().map(|one| one.iter().map(entry).collect()).collect();
        let tls = store_tls(KEY, self.tls.as_ref(), vec![b"h2".to_vec()], wrong);
        Some(ServicePlan { address: address?, domain, descriptors, tls })
    }
}

/// Reads the files of a store's `tls`. `alpn` has the application protocols that are spoken.
fn store_tls(
    store: &str,
    written: Option<&Spanned<ClusterSettings>>,
    alpn: Vec<Vec<u8>>,
    wrong: &mut Vec<Diagnostic>,
) -> Option<Arc<ClientTls>> {
    match written?.value.as_ref()?.load(alpn) {
        Ok(tls) => Some(Arc::new(tls)),
        Err(error) => {
            let keys = ["shared", store, "tls"].map(str::to_owned);
            let path = keys.into_iter().chain(error.path).collect();
            wrong.push(Diagnostic { path, ..error });
            None
        }
    }
}

fn address(key: &str, written: &Opt<HostPort>, wrong: &mut Vec<Diagnostic>) -> Option<Target> {
    if written.is_none() {
        let hint = "write where it is: `host:port`";
        wrong.push(Diagnostic::at(&["shared", key, "address"], "`address` is missing", hint));
    }
    given(written).map(|dialled| dialled.0)
}

fn given<T: Clone>(value: &Opt<T>) -> Option<T> {
    Some(value.as_ref()?.value.as_ref()?.0.clone())
}

#[cfg(test)]
mod tests;
