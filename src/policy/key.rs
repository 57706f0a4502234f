//! The key of a limit: which operations, or connections, share one allowance.

mod prefix;

use crate::{
    config::{Fault, FromText, Located, Mistake, Text, attributes, is_attribute, meant, normal},
    series,
};
use foldhash::{SharedSeed, quality::FoldHasher};
use operation::{AttributeValue, ConnectionInfo, Operation};
pub(crate) use prefix::Prefix;
use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    net::IpAddr,
    sync::LazyLock,
};

/// What people write under `key`.
pub(crate) type WrittenKey = Option<Located<Vec<Located<Text<Part>>>>>;

/// How many parts a key may have.
const MOST_PARTS: usize = 8;

/// The parts that every operation has.
const WORDS: [&str; 4] = ["listener", "protocol", "operation", "resource"];

/// Whether this is a part that every operation has, and no attribute of a protocol.
pub(crate) fn is_common(part: &str) -> bool {
    WORDS.contains(&part) || Prefix::of(part).is_some()
}

/// What tells operations apart. Those that agree in all parts share one allowance; without parts
/// there is one for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grouping(Box<[Part]>);

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The client's IP or its network, without the port.
    Peer(Prefix),
    Listener,
    Protocol,
    Operation,
    Resource,
    /// What the protocol's codec tells of an operation. One that is missing is the empty one.
    Attribute(Box<str>),
}

impl Part {
    /// What a name in a config stands for.
    pub(crate) fn named(name: &str) -> Self {
        if let Some(prefix) = Prefix::of(name) {
            return Part::Peer(prefix);
        }
        match name {
            "listener" => Part::Listener,
            "protocol" => Part::Protocol,
            "operation" => Part::Operation,
            "resource" => Part::Resource,
            other => Part::Attribute((*normal(other)).into()),
        }
    }

    /// Its name in a config.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        match self {
            Part::Peer(prefix) => prefix.name().into(),
            Part::Listener => "listener".into(),
            Part::Protocol => "protocol".into(),
            Part::Operation => "operation".into(),
            Part::Resource => "resource".into(),
            Part::Attribute(name) => Cow::Borrowed(name),
        }
    }

    /// Whether it is known when a connection comes.
    fn is_of_connections(&self) -> bool {
        matches!(self, Part::Peer(_) | Part::Listener | Part::Protocol)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Grouping {
    /// What was written, checked.
    pub(crate) fn of(written: WrittenKey, mistakes: &mut Vec<Mistake>) -> Self {
        let list = written.and_then(|list| list.value).unwrap_or_default();
        let parts = list.into_iter().map(|part| part.value.map(|Text(part)| part)).collect();
        // What is wrong with a part is told already.
        let Some::<Vec<Part>>(parts) = parts else { return Self::default() };
        let twice = parts.iter().enumerate().find(|(at, part)| parts[..*at].contains(part));
        if let Some((at, part)) = twice {
            let path = ["key", &at.to_string()];
            let message = format!("`{part}` is there twice");
            mistakes.push(Mistake::new(&path, message, "once tells as much apart"));
        }
        if parts.len() > MOST_PARTS {
            let message = format!("a key has at most {MOST_PARTS} parts");
            mistakes.push(Mistake::new(&["key"], message, "leave some out"));
        }
        Self(parts.into())
    }

    /// The same for a limit of connections, of which less is known.
    pub(crate) fn of_connections(written: WrittenKey, mistakes: &mut Vec<Mistake>) -> Self {
        let grouping = Self::of(written, mistakes);
        for (at, part) in grouping.0.iter().enumerate().filter(|(_, it)| !it.is_of_connections()) {
            let message = format!("`{part}` is not known when a connection comes");
            let path = ["key", &at.to_string()];
            mistakes.push(Mistake::new(&path, message, "write peer, listener or protocol"));
        }
        grouping
    }

    /// The names of its parts, as a config would have them.
    pub(crate) fn names(&self) -> Vec<Cow<'_, str>> {
        self.0.iter().map(Part::name).collect()
    }

    /// How the operations of a series are told apart.
    pub(crate) fn bind(&self, listener: &str, key: &series::SeriesKey) -> Group {
        let mut same = hasher();
        for part in &self.0 {
            match part {
                Part::Listener => listener.hash(&mut same),
                Part::Protocol => key.protocol.name.hash(&mut same),
                Part::Operation => key.name.hash(&mut same),
                Part::Resource => key.resource.hash(&mut same),
                Part::Peer(_) | Part::Attribute(_) => {}
            }
        }
        let varies = |part: &&Part| matches!(part, Part::Peer(_) | Part::Attribute(_));
        Group { same, varying: self.0.iter().filter(varies).cloned().collect() }
    }

    /// The key of a connection.
    pub(crate) fn of_link(&self, listener: &str, protocol: &str, link: &ConnectionInfo) -> u64 {
        let mut hasher = hasher();
        for part in &self.0 {
            match part {
                Part::Peer(prefix) => hash_peer(*prefix, Some(link.peer.ip()), &mut hasher),
                Part::Listener => listener.hash(&mut hasher),
                Part::Protocol => protocol.hash(&mut hasher),
                Part::Operation | Part::Resource | Part::Attribute(_) => {}
            }
        }
        hasher.finish()
    }
}

/// How the operations of one series are told apart: what they have in common is hashed already.
#[derive(Clone)]
pub(crate) struct Group {
    same: FoldHasher<'static>,
    varying: Box<[Part]>,
}

impl Group {
    /// The key of an operation. Nothing is allocated, unless an attribute has to be put together.
    pub(crate) fn of(&self, operation: &Operation<'_>) -> u64 {
        let mut hasher = self.same.clone();
        for part in &self.varying {
            if let Part::Attribute(name) = part {
                hash_fact(&operation.attribute(name), &mut hasher);
            } else if let Part::Peer(prefix) = part {
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

impl FromText for Part {
    const EXPECTED: &str = "an attribute's name";

    fn from_text(text: &str) -> Result<Self, Fault> {
        if is_common(text) || is_attribute(text) {
            return Ok(Part::named(text));
        }
        if let Some(fault) = Prefix::fault(text) {
            return Err(fault);
        }
        let known: Vec<&str> = WORDS.into_iter().chain(attributes()).collect();
        let near = meant(text, &known);
        let hint = format!("the attributes here: {}", known.join(", "));
        Err(Fault::new(format!("unknown attribute `{text}`{near}"), hint))
    }

    fn schema() -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["peer", "peer/64", "user", "resource"] })
    }
}

#[cfg(test)]
mod tests;
