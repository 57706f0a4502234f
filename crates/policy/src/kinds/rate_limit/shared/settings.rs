//! What people write under `shared`, and what is made of it.

use super::attribute_hasher::{AttributeHasher, LEAST_KEY};
use crate::attributes::{self, AttributeNames, FromAttribute, normalize};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use values::{
    Diagnostic, FromText, HostPort, InRange, Target, keyword_schema, parse_keyword,
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

/// What is done with operations while the store can't be asked.
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
    /// What is done with operations while it can't be asked.
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
}

/// An entry of a descriptor.
#[derive(Clone, Debug)]
pub struct DescriptorEntryPlan {
    /// Its key, and the attribute that it takes its value from.
    pub key: Arc<str>,
    /// A value that is always the same.
    pub value: Option<Arc<str>>,
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
                wrong.push(Diagnostic::at(&["shared"], "nobody is named who could decide", hint));
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
        if let Some(fault) = file.and_then(values::irregular_file) {
            let path = ["shared", "redis", "password_file"];
            wrong.push(Diagnostic::at(&path, fault.message, fault.hint));
        }
        Some(RedisPlan {
            address: address("redis", &self.address, wrong)?,
            database: given(&self.database).map_or(0, |InRange(it)| it as u16),
            user,
            password_file: self.password_file.as_ref().and_then(|file| file.value.clone()),
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
            need("domain", "it tells which of the service's configurations is meant");
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
            wrong.push(Diagnostic::at(
                &path,
                "operations would be told at too great a length",
                hint,
            ));
        }
        let entry = |it: &EntrySettings| DescriptorEntryPlan {
            key: it.key.as_str().into(),
            value: it.value.as_deref().map(Into::into),
        };
        let descriptors = descriptors.iter().map(|one| one.iter().map(entry).collect()).collect();
        Some(ServicePlan { address: address?, domain, descriptors })
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
        let (key, store) = match &self.store {
            StorePlan::Redis(redis) => ("redis", redis.to_json()),
            StorePlan::Service(service) => ("rate_limit_service", service.to_json()),
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str) -> Result<Plan, Vec<Diagnostic>> {
        crate::testing::read::<Settings>(text).unwrap().plan()
    }

    /// Where something is wrong, and what.
    fn wrong(text: &str) -> Vec<(String, String)> {
        let wrong = planned(text).unwrap_err();
        wrong.into_iter().map(|it| (it.path.join("."), it.message)).collect()
    }

    #[test]
    fn a_redis_needs_only_an_address() {
        let plan = planned("redis: { address: 'redis:6379' }").unwrap();
        assert_eq!((plan.on_failure, plan.timeout), (OnStoreFailure::Allow, TIMEOUT));
        let shown = json!({
            "redis": { "address": "redis:6379", "database": 0 },
            "on_store_failure": "allow",
            "timeout": "20ms",
        });
        assert_eq!(plan.to_json(), shown);
    }

    #[test]
    fn everything_that_is_written_is_shown_but_no_password() {
        let plan = planned(
            "redis: { address: '[::1]:1', database: 3, user: ann, password_file: /run/secret }\n\
             on_store_failure: local\n\
             timeout: 5ms",
        );
        let shown = json!({
            "redis": {
                "address": "[::1]:1",
                "database": 3,
                "user": "ann",
                "password_file": "/run/secret",
            },
            "on_store_failure": "local",
            "timeout": "5ms",
        });
        assert_eq!(plan.unwrap().to_json(), shown);
    }

    #[test]
    fn a_service_receives_descriptors() {
        let plan = planned(
            "rate_limit_service:\n  \
               address: limits:8081\n  \
               domain: databases\n  \
               descriptors: [[{ key: user }, { key: generic_key, value: orders }], [{ key: peer }]]",
        );
        let shown = plan.unwrap().to_json();
        let descriptors = json!([
            [{ "key": "user" }, { "key": "generic_key", "value": "orders" }],
            [{ "key": "peer" }],
        ]);
        assert_eq!(shown["rate_limit_service"]["descriptors"], descriptors);
        assert_eq!(shown["rate_limit_service"]["domain"], "databases");
    }

    #[test]
    fn the_key_of_the_hash_is_read_from_a_file_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        let redis = "redis: { address: 'a:1' }";
        let text = format!("{redis}\nhash_key_file: {}\nplain: [user]", file.display());
        let refused = |part: &str| {
            let wrong = wrong(&text);
            assert_eq!(wrong[0].0, "shared.hash_key_file");
            assert!(wrong[0].1.contains(part), "{wrong:?}");
        };
        refused("can't be read");
        std::fs::write(&file, "short\nbut with a second line\n").unwrap();
        refused("a secret of 5 bytes can be guessed");
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        let plan = planned(&text).unwrap();
        assert!(!plan.hashes_in_public() && planned(redis).unwrap().hashes_in_public());
        let shown = plan.to_json();
        assert_eq!((&shown["hash_key_file"], &shown["plain"]), (&json!(file), &json!(["user"])));
        assert!(!format!("{shown} {plan:?}").contains("0123456789abcdef"));
        assert_eq!(
            wrong(&format!("{redis}\nplain: [[usr, user]]")),
            [("shared.plain.0".to_owned(), "unknown attribute `usr`".to_owned())]
        );
    }

    #[test]
    fn mistakes_say_where_they_are() {
        let one = |path: &str, message: &str| vec![(path.to_owned(), message.to_owned())];
        assert_eq!(wrong("timeout: 5ms"), one("shared", "nobody is named who could decide"));
        assert_eq!(wrong("redis: {}"), one("shared.redis.address", "`address` is missing"));
        let both = "redis: { address: 'a:1' }\nrate_limit_service: { address: 'a:1' }";
        assert_eq!(wrong(both), one("shared", "a limit has one store"));
        assert_eq!(
            wrong("redis: { address: 'a:1' }\ntimeout: 1m"),
            one("shared.timeout", "operations would wait too long for the store"),
        );
        assert_eq!(
            wrong("redis: { address: 'a:1', user: ann }"),
            one("shared.redis.user", "a user logs in with a password"),
        );
        let places: Vec<String> =
            wrong("rate_limit_service: {}").into_iter().map(|(path, _)| path).collect();
        let key = |key: &str| format!("shared.rate_limit_service.{key}");
        assert_eq!(places, [key("address"), key("domain"), key("descriptors")]);
        for empty in ["[]", "[[]]"] {
            let text = format!(
                "rate_limit_service: {{ address: 'a:1', domain: d, descriptors: {empty} }}"
            );
            let path = "shared.rate_limit_service.descriptors";
            assert_eq!(wrong(&text), one(path, "a descriptor has at least one entry"));
        }
    }
}
