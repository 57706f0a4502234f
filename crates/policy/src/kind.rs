//! A kind of policy: the key that it is configured under, and how its settings are read.

use super::rule::PolicyConfig;
use erased_serde::Deserializer;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use values::{Diagnostic, spanned::Spanned};

/// A configured policy, or all mistakes in its settings, each with its path of keys below the key
/// of the kind. `None` if the settings could not be read, which the deserializer has reported.
pub type BuiltPolicy = Option<Checked>;

/// A policy, or all mistakes in its settings.
pub(crate) type Checked = Result<Arc<dyn PolicyConfig>, Vec<Diagnostic>>;

/// A kind of policy. [`POLICIES`](super::kinds::POLICIES) has a row for each.
pub trait PolicyKind: Sync {
    /// The key of its settings: `rate_limit`.
    fn key(&self) -> &'static str;

    /// What it is for, in one line: the documentation of the key.
    fn summary(&self) -> &'static str;

    /// The JSON Schema of its settings.
    fn schema(&self, generator: &mut SchemaGenerator) -> Schema;

    /// Reads its settings and builds the policy.
    ///
    /// # Errors
    /// If the deserializer fails at the value as a whole.
    fn read(&self, from: &mut dyn Deserializer<'_>) -> Result<BuiltPolicy, erased_serde::Error>;
}

/// A kind of policy with settings of type `S`.
pub(super) struct Kind<S> {
    /// The key of its settings.
    pub(super) key: &'static str,
    /// What it is for, in one line.
    pub(super) summary: &'static str,
    /// Builds the policy from its settings, or returns all mistakes in them.
    pub(super) build: fn(S) -> Checked,
}

impl<S: DeserializeOwned + JsonSchema> PolicyKind for Kind<S> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Option<Spanned<S>>>()
    }

    fn read(&self, from: &mut dyn Deserializer<'_>) -> Result<BuiltPolicy, erased_serde::Error> {
        let settings: Spanned<S> = erased_serde::deserialize(from)?;
        Ok(settings.value.map(self.build))
    }
}
