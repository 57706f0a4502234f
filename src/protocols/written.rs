//! How a listener's protocol is written in the config.

use super::{Mongo, Protocol, Tcp, WrittenProbe, probe::TcpSettings};
use operation::Codec;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, EnumAccess, Error, VariantAccess, Visitor};
use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};
use values::Node;
use values::{Diagnostic, host_port};

/// What people write under `protocol`: a name, or `{ name: settings }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolConfig {
    /// Raw TCP, which has nothing to set.
    Tcp(NoSettings),
    /// MongoDB.
    Mongo(mongo::Settings),
    /// HTTP.
    Http(Box<tollgate_http::Settings>),
    /// gRPC.
    Grpc(Box<grpc::Settings>),
}

/// Nothing can be set.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "nothing")]
pub(crate) struct NoSettings {}

/// The names of all protocols that can be read.
pub(crate) const NAMES: &[&str] = &["tcp", "mongo", "http", "grpc"];

/// What is written for a protocol where no file says anything but where operations go: `None` if its
/// name, and `cluster` beside it, are all.
pub(crate) fn without_a_file(protocol: &str, cluster: &str) -> Option<Node> {
    if protocol != "http" {
        return None;
    }
    // Who needs no file wants WebSockets to work, too.
    let route = [
        ("name", Node::text("default")),
        ("cluster", Node::text(cluster)),
        ("upgrade", Node::word("true")),
    ];
    let routes = Node::list([Node::map(route)]);
    Some(Node::map([("http", Node::map([("routes", routes)]))]))
}

impl ProtocolConfig {
    /// What a health check asks of a service that speaks this, unless something else is said.
    pub(crate) fn probe(&self) -> WrittenProbe {
        match self {
            ProtocolConfig::Tcp(_) => WrittenProbe::Tcp(TcpSettings::default()),
            ProtocolConfig::Mongo(_) => WrittenProbe::Mongo(mongo::ProbeSettings::default()),
            ProtocolConfig::Http(_) => {
                WrittenProbe::Http(tollgate_http::probe::CheckSettings::fallback())
            }
            ProtocolConfig::Grpc(settings) if settings.reverse_bridge.0.is_some() => {
                WrittenProbe::Http(tollgate_http::probe::CheckSettings::fallback())
            }
            ProtocolConfig::Grpc(_) => {
                WrittenProbe::Grpc(grpc::probe::HealthCheckSettings::lenient())
            }
        }
    }

    /// What it is called, and which attributes it has.
    pub(crate) fn describe(&self) -> &'static operation::Protocol {
        match self {
            ProtocolConfig::Tcp(_) => const { &Tcp::PROTOCOL },
            ProtocolConfig::Mongo(_) => const { &Mongo::PROTOCOL },
            ProtocolConfig::Http(_) => const { &tollgate_http::PROTOCOL },
            ProtocolConfig::Grpc(_) => const { &grpc::Grpc::PROTOCOL },
        }
    }

    /// Whether its settings say where every operation goes, or how it is answered.
    pub(crate) fn routes(&self) -> bool {
        match self {
            ProtocolConfig::Tcp(_) | ProtocolConfig::Mongo(_) => false,
            ProtocolConfig::Http(settings) => !settings.routes.is_empty(),
            ProtocolConfig::Grpc(settings) => !settings.routes.is_empty(),
        }
    }

    /// The names of its routes, which are the resources of its operations; `None` where operations
    /// may be about anything. What goes to the listener's own `cluster` is the route `default`.
    pub(crate) fn route_names(&self, cluster: bool) -> Option<Vec<Arc<str>>> {
        let routes = match self {
            ProtocolConfig::Tcp(_) | ProtocolConfig::Mongo(_) => return None,
            ProtocolConfig::Http(settings) => &settings.routes,
            ProtocolConfig::Grpc(settings) => &settings.routes,
        };
        let names = routes.iter().map(|route| Arc::clone(route.name.text()));
        Some(names.chain(cluster.then(|| "default".into())).collect())
    }

    /// What is wrong with the order of its routes; of those that `unsure` names it is not known which
    /// requests they are for.
    pub(crate) fn unreached(&self, unsure: &dyn Fn(usize) -> bool) -> Vec<Diagnostic> {
        let (key, routes) = match self {
            ProtocolConfig::Tcp(_) | ProtocolConfig::Mongo(_) => return Vec::new(),
            ProtocolConfig::Http(settings) => ("http", &settings.routes),
            ProtocolConfig::Grpc(settings) => ("grpc", &settings.routes),
        };
        below(key)(tollgate_http::unreachable_routes(routes, unsure))
    }

    /// The clusters that its settings name, each with the keys that lead there.
    pub(crate) fn clusters(&self) -> Vec<(Vec<String>, String)> {
        let (key, routes) = match self {
            ProtocolConfig::Tcp(_) | ProtocolConfig::Mongo(_) => return Vec::new(),
            ProtocolConfig::Http(settings) => ("http", &settings.routes),
            ProtocolConfig::Grpc(settings) => ("grpc", &settings.routes),
        };
        let named = tollgate_http::clusters(routes).into_iter();
        let below = |path: Vec<String>| [vec![key.to_owned()], path].concat();
        named.map(|(path, name)| (below(path), name.to_owned())).collect()
    }

    /// The protocol with these settings, or all that is wrong with them. What it sends nowhere
    /// itself goes to `cluster`.
    pub(crate) fn protocol(self, cluster: Option<&str>) -> Result<Protocol, Vec<Diagnostic>> {
        match self {
            ProtocolConfig::Tcp(NoSettings {}) => Ok(Protocol::Tcp(Arc::new(()))),
            ProtocolConfig::Mongo(settings) => {
                let mistakes = mongo_mistakes(&settings);
                if !mistakes.is_empty() {
                    return Err(mistakes);
                }
                Ok(Protocol::Mongo(Arc::new(mongo::MongoListener::new(settings))))
            }
            ProtocolConfig::Http(settings) => {
                let listener = tollgate_http::HttpListener::new(*settings, cluster);
                listener.map(|it| Protocol::Http(Arc::new(it))).map_err(below("http"))
            }
            ProtocolConfig::Grpc(settings) => {
                let listener = grpc::GrpcListener::new(*settings, cluster);
                listener.map(|it| Protocol::Grpc(Arc::new(it))).map_err(below("grpc"))
            }
        }
    }
}

/// Mistakes in the settings under this key.
pub(super) fn below(key: &str) -> impl Fn(Vec<Diagnostic>) -> Vec<Diagnostic> {
    move |mut mistakes| {
        mistakes.iter_mut().for_each(|it| it.path.insert(0, key.to_owned()));
        mistakes
    }
}

fn mongo_mistakes(settings: &mongo::Settings) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    let mut address = |path: &[&str], text: &str| {
        if let Err(fault) = host_port(text) {
            mistakes.push(Diagnostic::at(&[&["mongo"], path].concat(), fault.message, fault.hint));
        }
    };
    if let Some(advertise) = &settings.advertise {
        address(&["advertise"], advertise);
    }
    for (member, listener) in &settings.members {
        address(&["members", member], member);
        address(&["members", member], listener);
    }
    let mut taken = BTreeMap::new();
    for (member, listener) in &settings.members {
        if let Some(other) = taken.insert(listener, member) {
            let message = format!("`{listener}` stands for two members: {other} and {member}");
            let hint = "each member needs a listener of its own";
            mistakes.push(Diagnostic::at(&["mongo", "members", member], message, hint));
        }
    }
    if !settings.rewrite_hello && (settings.advertise.is_some() || !settings.members.is_empty()) {
        let message = "`rewrite_hello: false` makes `advertise` and `members` useless";
        let hint = "leave out the one or the other";
        mistakes.push(Diagnostic::at(&["mongo", "rewrite_hello"], message, hint));
    }
    for (collection, key) in &settings.shard_keys {
        let path = ["mongo", "shard_keys", collection];
        let named =
            collection.split_once('.').is_some_and(|(db, rest)| !db.is_empty() && !rest.is_empty());
        if !named {
            let message = format!("`{collection}` is not a `database.collection`");
            mistakes.push(Diagnostic::at(&path, message, "write `shop.orders: [customer]`"));
        }
        if key.is_empty() || key.iter().any(String::is_empty) {
            let message = format!("the shard key of `{collection}` has a field without a name");
            mistakes.push(Diagnostic::at(&path, message, "name its fields: `[customer, _id]`"));
        }
    }
    mistakes
}

impl<'de> Deserialize<'de> for ProtocolConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("Protocol", NAMES, ProtocolConfigVisitor)
    }
}

struct ProtocolConfigVisitor;

impl<'de> Visitor<'de> for ProtocolConfigVisitor {
    type Value = ProtocolConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a protocol's name, or `{ name: settings }`")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, written: A) -> Result<ProtocolConfig, A::Error> {
        let (name, settings) = written.variant::<String>()?;
        match name.as_str() {
            "tcp" => settings.newtype_variant().map(ProtocolConfig::Tcp),
            "mongo" => settings.newtype_variant().map(ProtocolConfig::Mongo),
            "http" => settings.newtype_variant().map(Box::new).map(ProtocolConfig::Http),
            "grpc" => settings.newtype_variant().map(Box::new).map(ProtocolConfig::Grpc),
            other => Err(A::Error::unknown_variant(other, NAMES)),
        }
    }
}

impl JsonSchema for ProtocolConfig {
    fn schema_name() -> Cow<'static, str> {
        "Protocol".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let settings = [
            (
                "tcp",
                "Any bytes: one operation a connection.",
                generator.subschema_for::<NoSettings>(),
            ),
            ("mongo", "MongoDB's wire protocol.", generator.subschema_for::<mongo::Settings>()),
            ("http", "HTTP/1.1 and HTTP/2.", generator.subschema_for::<tollgate_http::Settings>()),
            ("grpc", "gRPC.", generator.subschema_for::<grpc::Settings>()),
        ];
        named("What a listener's clients speak: a name, or `{ name: settings }`.", &settings)
    }
}

/// The schema of a protocol's name, or `{ name: settings }`.
pub(super) fn named(description: &str, settings: &[(&str, &str, Schema)]) -> Schema {
    let names: Vec<&str> = settings.iter().map(|(name, ..)| *name).collect();
    let properties: serde_json::Map<_, _> = settings
        .iter()
        .map(|(name, what, schema)| {
            let value = serde_json::json!({
                "description": what,
                "anyOf": [schema, { "type": "null" }],
            });
            ((*name).to_owned(), value)
        })
        .collect();
    json_schema!({
        "description": description,
        "anyOf": [{ "enum": names }, {
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        }],
    })
}
