//! Names of attributes: which ones a protocol has, and how settings name them.
//!
//! Policies know no protocol, so the names of all attributes are handed in by what reads the
//! settings: see [`ATTRIBUTE`].

use operation::Protocol;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use std::{borrow::Cow, fmt, marker::PhantomData};
use values::{Diagnostic, to_serde_error};

/// Attributes of operations of every protocol.
const COMMON: [&str; 25] = [
    "peer",
    "local",
    "endpoint",
    "cluster",
    "via",
    "sni",
    "tls.version",
    "tls.cipher",
    "tls.alpn",
    "tls.name",
    "tls.san",
    "tls.dns",
    "tls.uri",
    "tls.email",
    "tls.cn",
    "tls.subject",
    "tls.issuer",
    "tls.serial",
    "tls.fingerprint",
    "proxy.authority",
    "proxy.alpn",
    "proxy.unique_id",
    "proxy.vpce",
    "proxy.link",
    "proxy.ssl.cn",
];

/// Names of attributes in other software, and their names here.
const ALIASES: [(&str, &str); 19] = [
    ("action", "operation"),
    ("application", "app"),
    ("appname", "app"),
    ("client_ip", "peer"),
    ("cmd", "operation"),
    ("command", "operation"),
    ("db", "database"),
    ("ip", "peer"),
    ("method", "operation"),
    ("namespace", "resource"),
    ("ns", "resource"),
    ("op", "operation"),
    ("remote_ip", "peer"),
    ("route", "resource"),
    ("source", "peer"),
    ("source_ip", "peer"),
    ("url", "path"),
    ("uri", "path"),
    ("username", "user"),
];

/// The names of all attributes that operations may have. A name that ends in a dot stands for all
/// that begin with it: `header.`.
#[derive(Clone, Debug)]
pub struct AttributeNames<'a>(Vec<&'a str>);

impl AttributeNames<'static> {
    /// The attributes of these protocols.
    pub fn of<'p>(protocols: impl IntoIterator<Item = &'p Protocol>) -> Self {
        let own = protocols.into_iter().flat_map(|protocol| protocol.attributes);
        let mut names: Vec<_> = COMMON.into_iter().chain(own.copied()).collect();
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        Self(names)
    }
}

impl<'a> AttributeNames<'a> {
    /// The names, without repetition.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().copied()
    }

    /// Whether operations of any protocol have this attribute.
    pub fn contains(&self, attribute: &str) -> bool {
        self.iter().any(|name| is_named(attribute, name))
    }

    /// `, did you mean …?` if a known word is similar to this one or its alias.
    pub fn suggest(&self, word: &str, known: &[&str]) -> String {
        let lower = word.to_ascii_lowercase();
        let otherwise = ALIASES.iter().find(|(other, _)| *other == lower).map(|(_, name)| *name);
        let own = otherwise.filter(|name| known.contains(name));
        let own = own.or_else(|| (word != lower && self.contains(&lower)).then_some(&*lower));
        match own {
            Some(own) => format!(", did you mean `{own}`?"),
            None => values::did_you_mean(values::nearest(word, known.iter().copied())),
        }
    }
}

/// Whether a name, which may be a prefix, stands for this attribute.
fn is_named(attribute: &str, name: &str) -> bool {
    match name.ends_with('.') {
        true => attribute.strip_prefix(name).is_some_and(|rest| !rest.is_empty()),
        false => attribute == name,
    }
}

/// Whether policies can match this attribute of a protocol's operations.
pub fn is_matchable(protocol: &Protocol, attribute: &str) -> bool {
    let mut names = COMMON.iter().chain(protocol.attributes);
    names.any(|name| is_named(attribute, name)) && !is_late(protocol, attribute)
}

/// When policies about connections are asked: each of them once, as soon as all that it names is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectPhase {
    /// Before the TLS handshake. The addresses and the PROXY header are known.
    BeforeHandshake,
    /// After the handshake, or after the ClientHello where TLS passes through.
    AfterHandshake,
}

/// The first phase in which an attribute of a connection is known; `None` if only operations have it.
pub fn connect_phase(attribute: &str) -> Option<ConnectPhase> {
    match attribute {
        "peer" | "local" | "via" => Some(ConnectPhase::BeforeHandshake),
        "sni" => Some(ConnectPhase::AfterHandshake),
        _ if attribute.starts_with("proxy.") => Some(ConnectPhase::BeforeHandshake),
        _ if attribute.starts_with("tls.") => Some(ConnectPhase::AfterHandshake),
        _ => None,
    }
}

/// Whether operations of a protocol have this attribute, but only after policies decide.
pub fn is_late(protocol: &Protocol, attribute: &str) -> bool {
    protocol.log_only.contains(&attribute)
}

/// The attribute's name. Names of headers are case-insensitive (RFC 9110, section 5.1): they are
/// returned in lower case.
pub fn normalize(attribute: &str) -> Cow<'_, str> {
    let capital = |c: char| c.is_ascii_uppercase();
    match attribute.split_once('.') {
        Some((_, rest)) if rest.contains(capital) => attribute.to_ascii_lowercase().into(),
        _ => attribute.into(),
    }
}

/// Asks the deserializer for a list: the text of an attribute's name, then the names of all
/// attributes. A deserializer that does not know these names returns the text alone, and any name
/// is accepted.
pub const ATTRIBUTE: &str = "$attribute";

/// A type that is read from the name of an attribute.
pub(super) trait FromAttribute: Sized {
    /// Reads the text. `known` is `None` if the names of attributes are not known.
    fn from_name(text: &str, known: Option<&AttributeNames<'_>>) -> Result<Self, Diagnostic>;
}

/// Reads a `T` from the name of an attribute, with the names of all attributes at hand.
pub(super) fn read<'de, T: FromAttribute, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_newtype_struct(ATTRIBUTE, NameVisitor(PhantomData))
}

struct NameVisitor<T>(PhantomData<T>);

impl<'de, T: FromAttribute> Visitor<'de> for NameVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute's name")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<T, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_name(text, None).map_err(to_serde_error)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut texts: Vec<String> = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        let Some((text, names)) = texts.split_first() else {
            return Err(de::Error::invalid_length(0, &self));
        };
        let names = AttributeNames(names.iter().map(String::as_str).collect());
        T::from_name(text, Some(&names)).map_err(to_serde_error)
    }
}
