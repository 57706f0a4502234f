//! The key of a limit: which operations, or connections, share one allowance.

mod prefix;

use super::attributes::{self, AttributeNames, FromAttribute, connect_phase, normalize};
use crate::series;
use foldhash::{SharedSeed, quality::FoldHasher};
use operation::{AttributeValue, Attributes, Operation};
pub(crate) use prefix::Prefix;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    net::IpAddr,
    sync::LazyLock,
};
use values::{Diagnostic, spanned::Spanned};

/// The setting `key`.
pub(crate) type KeySetting = Option<Spanned<Vec<Spanned<KeyPart>>>>;

/// How many parts a key may have.
const MAX_PARTS: usize = 8;

/// The parts that every operation has.
const COMMON: [&str; 4] = ["listener", "protocol", "operation", "resource"];

/// The parts that a limit of connections may have.
const CONNECTION_PARTS: &str =
    "write peer, local, listener, protocol, or an attribute of TLS or of a PROXY header";

/// Whether this is a part that every operation has, and no attribute of a protocol.
pub(crate) fn is_common(part: &str) -> bool {
    COMMON.contains(&part) || Prefix::of(part).is_some()
}

/// The attributes that form a rate limit's key. Operations that agree in all parts share one
/// allowance; without parts there is one for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeySpec(Box<[KeyPart]>);

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyPart {
    /// The client's IP or its network, without the port.
    Peer(Prefix),
    Listener,
    Protocol,
    Operation,
    Resource,
    /// An attribute that the protocol's codec provides. A missing one counts as empty.
    Attribute(Box<str>),
}

impl KeyPart {
    /// The part with this name in the config.
    pub(crate) fn named(name: &str) -> Self {
        if let Some(prefix) = Prefix::of(name) {
            return KeyPart::Peer(prefix);
        }
        match name {
            "listener" => KeyPart::Listener,
            "protocol" => KeyPart::Protocol,
            "operation" => KeyPart::Operation,
            "resource" => KeyPart::Resource,
            other => KeyPart::Attribute((*normalize(other)).into()),
        }
    }

    /// Its name in a config.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        match self {
            KeyPart::Peer(prefix) => prefix.name().into(),
            KeyPart::Listener => "listener".into(),
            KeyPart::Protocol => "protocol".into(),
            KeyPart::Operation => "operation".into(),
            KeyPart::Resource => "resource".into(),
            KeyPart::Attribute(name) => Cow::Borrowed(name),
        }
    }

    /// Whether connections have it, and not only their operations.
    fn is_of_connections(&self) -> bool {
        match self {
            KeyPart::Peer(_) | KeyPart::Listener | KeyPart::Protocol => true,
            KeyPart::Operation | KeyPart::Resource => false,
            KeyPart::Attribute(name) => connect_phase(name).is_some(),
        }
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl KeySpec {
    /// What was written, checked.
    pub(crate) fn new(written: KeySetting, mistakes: &mut Vec<Diagnostic>) -> Self {
        let list = written.and_then(|list| list.value).unwrap_or_default();
        let parts = list.into_iter().map(|part| part.value).collect();
        // An invalid part has been reported already.
        let Some::<Vec<KeyPart>>(parts) = parts else { return Self::default() };
        let twice = parts.iter().enumerate().find(|(at, part)| parts[..*at].contains(part));
        if let Some((at, part)) = twice {
            let path = ["key", &at.to_string()];
            let message = format!("`{part}` is there twice");
            mistakes.push(Diagnostic::at(&path, message, "write it once"));
        }
        if parts.len() > MAX_PARTS {
            let message = format!("a key has at most {MAX_PARTS} parts");
            mistakes.push(Diagnostic::at(&["key"], message, "leave some out"));
        }
        Self(parts.into())
    }

    /// The same for a limit of connections, of which less is known.
    pub(crate) fn for_connections(written: KeySetting, mistakes: &mut Vec<Diagnostic>) -> Self {
        let key_spec = Self::new(written, mistakes);
        for (at, part) in key_spec.0.iter().enumerate().filter(|(_, it)| !it.is_of_connections()) {
            let message = format!("`{part}` is not known when a connection comes");
            let path = ["key", &at.to_string()];
            mistakes.push(Diagnostic::at(&path, message, CONNECTION_PARTS));
        }
        key_spec
    }

    /// Whether it has no parts, so that there is one key for all.
    pub(crate) fn is_constant(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of its parts, as a config would have them.
    pub(crate) fn names(&self) -> Vec<Cow<'_, str>> {
        self.0.iter().map(KeyPart::name).collect()
    }

    /// A hasher of the keys of a series' operations.
    pub(crate) fn hasher(&self, listener: &str, key: &series::SeriesKey) -> KeyHasher {
        let mut base = hasher();
        for part in &self.0 {
            match part {
                KeyPart::Listener => listener.hash(&mut base),
                KeyPart::Protocol => key.protocol.name.hash(&mut base),
                KeyPart::Operation => key.name.hash(&mut base),
                KeyPart::Resource => key.resource.hash(&mut base),
                KeyPart::Peer(_) | KeyPart::Attribute(_) => {}
            }
        }
        let varies = |part: &&KeyPart| matches!(part, KeyPart::Peer(_) | KeyPart::Attribute(_));
        KeyHasher { base, per_operation: self.0.iter().filter(varies).cloned().collect() }
    }

    /// The key of a connection.
    pub(crate) fn connection_key(
        &self,
        listener: &str,
        protocol: &str,
        connection: &dyn Attributes,
    ) -> u64 {
        let mut hasher = hasher();
        for part in &self.0 {
            match part {
                KeyPart::Peer(prefix) => hash_peer(*prefix, connection.peer(), &mut hasher),
                KeyPart::Listener => listener.hash(&mut hasher),
                KeyPart::Protocol => protocol.hash(&mut hasher),
                KeyPart::Attribute(name) => hash_fact(&connection.get(b"", name), &mut hasher),
                KeyPart::Operation | KeyPart::Resource => {}
            }
        }
        hasher.finish()
    }
}

/// Computes the keys of one series' operations: the parts that they share are hashed already.
#[derive(Clone)]
pub(crate) struct KeyHasher {
    base: FoldHasher<'static>,
    per_operation: Box<[KeyPart]>,
}

impl KeyHasher {
    /// The key of an operation. Nothing is allocated, unless an attribute has to be put together.
    pub(crate) fn key(&self, operation: &Operation<'_>) -> u64 {
        let mut hasher = self.base.clone();
        for part in &self.per_operation {
            if let KeyPart::Attribute(name) = part {
                hash_fact(&operation.attribute(name), &mut hasher);
            } else if let KeyPart::Peer(prefix) = part {
                hash_peer(*prefix, operation.attributes.peer(), &mut hasher);
            }
        }
        hasher.finish()
    }
}

/// What is not known is one value of its own: operations about which a fact is not known share one
/// allowance, so that hiding it gains nothing. An operation that is about several things shares it
/// too: with an allowance for each combination, one more name would be one more allowance.
fn hash_fact(fact: &AttributeValue<'_>, hasher: &mut FoldHasher<'_>) {
    match fact {
        AttributeValue::Known(value) => value.hash(hasher),
        AttributeValue::Repeated(values) => values.hash(hasher),
        AttributeValue::Absent => "".hash(hasher),
        AttributeValue::Multiple(_) | AttributeValue::Unread | AttributeValue::Unknown => {
            hasher.write_u8(0)
        }
    }
}

fn hash_peer(prefix: Prefix, peer: Option<IpAddr>, hasher: &mut FoldHasher<'_>) {
    hasher.write_u128(peer.map_or(0, |peer| prefix.bits(peer)));
}

/// The same for the whole process, and unknown outside: who could find keys that fall together
/// would use up the allowance of others.
fn hasher() -> FoldHasher<'static> {
    static SEEDS: LazyLock<(u64, SharedSeed)> =
        LazyLock::new(|| (random(), SharedSeed::from_u64(random())));
    FoldHasher::with_seed(SEEDS.0, &SEEDS.1)
}

/// 64 bits from the operating system.
#[expect(clippy::disallowed_types, reason = "for its randomness, and no map's")]
fn random() -> u64 {
    std::hash::RandomState::new().hash_one(())
}

impl FromAttribute for KeyPart {
    fn from_name(text: &str, names: Option<&AttributeNames<'_>>) -> Result<Self, Diagnostic> {
        if is_common(text) || names.is_some_and(|names| names.contains(text)) {
            return Ok(KeyPart::named(text));
        }
        if let Some(fault) = Prefix::fault(text) {
            return Err(fault);
        }
        let Some(names) = names else { return Ok(KeyPart::named(text)) };
        let known: Vec<&str> = COMMON.into_iter().chain(names.iter()).collect();
        let near = names.suggest(text, &known);
        let hint = format!("the attributes here: {}", known.join(", "));
        Err(Diagnostic::new(format!("unknown attribute `{text}`{near}"), hint))
    }
}

impl<'de> Deserialize<'de> for KeyPart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        attributes::read(deserializer)
    }
}

impl JsonSchema for KeyPart {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "an attribute's name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["peer", "peer/64", "user", "resource"] })
    }
}

#[cfg(test)]
mod tests;
