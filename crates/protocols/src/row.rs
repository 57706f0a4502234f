//! A row of the registry, made of a protocol's parts.

use super::{
    Pooling, ProbePlan,
    entry::{NamedSchema, ProtocolEntry, ProtocolSettings, UncheckedProbe},
};
use erased_serde::Deserializer;
use operation::{AttributeValue, Protocol};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt::Debug, marker::PhantomData, sync::Arc};
use values::{Diagnostic, Node};

/// What the registry needs of a protocol.
pub(super) trait ProtocolParts: Debug + Sized + Send + Sync + 'static {
    /// The name of its crate, with which the targets of its log messages begin.
    const CRATE: &'static str;
    /// What the protocol is, in one line.
    const SUMMARY: &'static str;
    /// What its health check asks, in one line.
    const PROBE_SUMMARY: &'static str;
    /// Whether operations are requests with a target.
    const HAS_TARGETS: bool = false;

    /// A listener's settings.
    type Settings: Clone + Debug + Default + DeserializeOwned + JsonSchema + Serialize + Send + Sync;
    /// A health check's settings.
    type Probe: Clone + Debug + DeserializeOwned + JsonSchema + Send + Sync;

    /// Its name, its attributes and what it counts.
    fn describe() -> &'static Protocol;

    /// The settings, ready for checks.
    fn written(settings: Self::Settings) -> Arc<dyn ProtocolSettings>;

    /// The health check with these settings, for this cluster.
    ///
    /// # Errors
    /// All mistakes in the settings, each with its path of keys.
    fn probe(
        settings: Self::Probe,
        cluster: &str,
        pooling: &Pooling,
    ) -> Result<ProbePlan, Vec<Diagnostic>>;

    /// The health check of a service behind a listener with these settings.
    fn fallback_probe(settings: &Self::Settings) -> Arc<dyn UncheckedProbe>;

    /// Why no operation has a name that this glob matches; `None` if one can.
    fn no_operation(glob: &str) -> Option<Diagnostic>;

    /// See [`ProtocolEntry::without_file`].
    fn without_file(cluster: &str) -> Option<Node> {
        let _ = cluster;
        None
    }

    /// See [`ProtocolEntry::normal_glob`].
    fn normal_glob(attribute: &str, glob: &str) -> Option<String> {
        let _ = (attribute, glob);
        None
    }

    /// See [`ProtocolEntry::attribute_value`].
    fn attribute_value<'a>(attribute: &str, text: &'a str) -> AttributeValue<'a> {
        let _ = attribute;
        AttributeValue::known(text)
    }
}

/// The row of a protocol.
#[derive(Debug)]
pub(super) struct Row<P>(PhantomData<fn() -> P>);

impl<P> Row<P> {
    /// The row.
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<P: ProtocolParts> ProtocolEntry for Row<P> {
    fn describe(&self) -> &'static Protocol {
        P::describe()
    }

    fn crate_name(&self) -> &'static str {
        P::CRATE
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> NamedSchema {
        named::<P>(P::SUMMARY, generator.subschema_for::<P::Settings>())
    }

    fn probe_schema(&self, generator: &mut SchemaGenerator) -> NamedSchema {
        named::<P>(P::PROBE_SUMMARY, generator.subschema_for::<P::Probe>())
    }

    fn read(
        &self,
        from: &mut dyn Deserializer<'_>,
    ) -> Result<Arc<dyn ProtocolSettings>, erased_serde::Error> {
        erased_serde::deserialize(from).map(P::written)
    }

    fn read_probe(
        &self,
        from: &mut dyn Deserializer<'_>,
    ) -> Result<Arc<dyn UncheckedProbe>, erased_serde::Error> {
        Ok(Arc::new(WrittenProbe::<P>(erased_serde::deserialize(from)?)))
    }

    fn default_settings(&self) -> Arc<dyn ProtocolSettings> {
        P::written(P::Settings::default())
    }

    fn without_file(&self, cluster: &str) -> Option<Node> {
        P::without_file(cluster)
    }

    fn no_operation(&self, glob: &str) -> Option<Diagnostic> {
        P::no_operation(glob)
    }

    fn normal_glob(&self, attribute: &str, glob: &str) -> Option<String> {
        P::normal_glob(attribute, glob)
    }

    fn attribute_value<'a>(&self, attribute: &str, text: &'a str) -> AttributeValue<'a> {
        P::attribute_value(attribute, text)
    }

    fn has_targets(&self) -> bool {
        P::HAS_TARGETS
    }
}

fn named<P: ProtocolParts>(description: &'static str, schema: Schema) -> NamedSchema {
    NamedSchema { name: P::describe().name, description, schema }
}

/// The settings of a health check in this protocol.
#[derive(Debug)]
pub(super) struct WrittenProbe<P: ProtocolParts>(pub(super) P::Probe);

impl<P: ProtocolParts> UncheckedProbe for WrittenProbe<P> {
    fn name(&self) -> &'static str {
        P::describe().name
    }

    fn plan(&self, cluster: &str, pooling: &Pooling) -> Result<ProbePlan, Vec<Diagnostic>> {
        P::probe(self.0.clone(), cluster, pooling).map_err(below(self.name()))
    }
}

/// Puts this key before the paths of mistakes.
pub(super) fn below(key: &str) -> impl Fn(Vec<Diagnostic>) -> Vec<Diagnostic> {
    move |mut mistakes| {
        mistakes.iter_mut().for_each(|it| it.path.insert(0, key.to_owned()));
        mistakes
    }
}

/// Settings in the shape of the config, without those that are not set.
pub(super) fn to_json(settings: &impl Serialize) -> Value {
    let mut json = serde_json::to_value(settings).unwrap_or_default();
    if let Some(keys) = json.as_object_mut() {
        keys.retain(|_, value| !value.is_null());
    }
    json
}
