//! A policy as it is configured: keys that every policy has, and the key of its kind.

use super::{
    kind::{BuiltPolicy, PolicyKind},
    kinds::{POLICIES, keys},
    matching::MatchSetting,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor,
};
use serde_json::Value;
use std::{borrow::Cow, fmt, sync::LazyLock};
use values::{
    FilesRead, Name, recording,
    spanned::{Opt, Spanned},
};

/// The settings of one policy.
#[derive(Debug, Default)]
pub struct PolicySettings {
    /// Its name in logs and metrics.
    pub name: Opt<Name>,
    /// Whether it is switched on.
    pub enabled: Option<Spanned<bool>>,
    /// Whether it only counts and logs.
    pub dry_run: Option<Spanned<bool>>,
    /// What it applies to.
    pub matching: Option<Spanned<MatchSetting>>,
    /// Each kind's key that is set, and the policy that was built from its settings.
    pub kinds: Vec<(&'static str, BuiltPolicy)>,
    /// The files that were read to build it.
    pub files: FilesRead,
}

/// One policy: its name, what it applies to, and one key that says what it does.
#[derive(JsonSchema)]
#[schemars(rename = "Policy", deny_unknown_fields)]
#[expect(dead_code, reason = "the keys that every policy has, for the schema")]
struct CommonKeys {
    /// Its name in logs and metrics (1 to 64 letters, digits, `_`, `.` and `-`).
    #[schemars(required)]
    name: Opt<Name>,
    /// Whether it is switched on. Default: `true`.
    enabled: Option<Spanned<bool>>,
    /// Only count and log what it would do. Default: `false`.
    dry_run: Option<Spanned<bool>>,
    /// What it applies to. Default: everything.
    #[schemars(rename = "match")]
    matching: Option<Spanned<MatchSetting>>,
}

/// All keys of a policy.
static KEYS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| ["name", "enabled", "dry_run", "match"].into_iter().chain(keys()).collect());

impl<'de> Deserialize<'de> for PolicySettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = || deserializer.deserialize_struct("Policy", &KEYS, SettingsVisitor);
        let (settings, files) = recording(read);
        settings.map(|settings| Self { files, ..settings })
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = PolicySettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy's keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PolicySettings, A::Error> {
        let mut settings = PolicySettings::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "name" => settings.name = map.next_value()?,
                "enabled" => settings.enabled = map.next_value()?,
                "dry_run" => settings.dry_run = map.next_value()?,
                "match" => settings.matching = map.next_value()?,
                key => match POLICIES.iter().find(|kind| kind.key() == key) {
                    Some(kind) => {
                        let built = map.next_value_seed(KindSeed(*kind))?;
                        settings.kinds.push((kind.key(), built));
                    }
                    // The deserializer has reported the key.
                    None => drop(map.next_value::<IgnoredAny>()?),
                },
            }
        }
        settings.kinds.sort_by_key(|(key, _)| keys().position(|known| known == *key));
        Ok(settings)
    }
}

/// Reads the settings of this kind.
struct KindSeed(&'static dyn PolicyKind);

impl<'de> DeserializeSeed<'de> for KindSeed {
    type Value = BuiltPolicy;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<BuiltPolicy, D::Error> {
        let mut erased = <dyn erased_serde::Deserializer<'de>>::erase(deserializer);
        self.0.read(&mut erased).map_err(D::Error::custom)
    }
}

impl JsonSchema for PolicySettings {
    fn schema_name() -> Cow<'static, str> {
        CommonKeys::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = CommonKeys::json_schema(generator);
        let kinds: Vec<(String, Value)> = POLICIES
            .iter()
            .map(|kind| {
                let mut schema = kind.schema(generator);
                schema.insert("description".to_owned(), kind.summary().into());
                (kind.key().to_owned(), schema.to_value())
            })
            .collect();
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.extend(kinds);
        }
        schema
    }
}
