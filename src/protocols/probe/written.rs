//! How a health check's probe is written in the config.

use super::ProbePlan;
use crate::protocols::{
    Pooling,
    written::{NAMES, below, named},
};
use bytes::Bytes;
use mongo::ProbeSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, EnumAccess, Error, VariantAccess, Visitor};
use std::{borrow::Cow, fmt, sync::Arc};
use tcp::Exchange;
use values::Diagnostic;

/// How many bytes may be sent or expected.
const LONGEST: usize = 4096;

/// What people write under `probe`: a protocol's name, or `{ name: settings }`.
#[derive(Clone, Debug)]
pub(crate) enum WrittenProbe {
    /// A connection, and an exchange of bytes.
    Tcp(TcpSettings),
    /// `hello`.
    Mongo(ProbeSettings),
    /// A GET.
    Http(tollgate_http::probe::CheckSettings),
    /// `grpc.health.v1.Health/Check`.
    Grpc(grpc::probe::HealthCheckSettings),
}

/// What is sent to a service, and what its answer has to begin with. Without keys, connecting is
/// all there is to check.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "keys and values, such as `{ send: \"PING\\r\\n\", expect: \"+PONG\" }`"
)]
#[schemars(rename = "TcpProbe")]
pub(crate) struct TcpSettings {
    /// What is sent, as text: at most 4096 bytes. Default: nothing, the service speaks first.
    send: Option<String>,
    /// What is sent, as hex: `0a ff`. Default: that of `send`.
    send_hex: Option<String>,
    /// What the answer has to begin with, as text: at most 4096 bytes. Default: connecting is
    /// enough.
    expect: Option<String>,
    /// What the answer has to begin with, as hex: `0a ff`. Default: that of `expect`.
    expect_hex: Option<String>,
}

impl WrittenProbe {
    /// Its name in the config.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            WrittenProbe::Tcp(_) => "tcp",
            WrittenProbe::Mongo(_) => "mongo",
            WrittenProbe::Http(_) => "http",
            WrittenProbe::Grpc(_) => "grpc",
        }
    }

    /// The probe of a cluster with these settings, or all that is wrong with them.
    pub(crate) fn plan(
        self,
        cluster: &str,
        pooling: &Pooling,
    ) -> Result<ProbePlan, Vec<Diagnostic>> {
        let mut mistakes = Vec::new();
        let plan = match self {
            WrittenProbe::Tcp(settings) => ProbePlan::Tcp(settings.exchange(&mut mistakes)),
            WrittenProbe::Mongo(settings) => {
                if settings.replica_set.as_ref().is_some_and(String::is_empty) {
                    let hint = "write its name, or leave it out";
                    let path = ["mongo", "replica_set"];
                    mistakes.push(Diagnostic::at(&path, "the name is empty", hint));
                }
                ProbePlan::Mongo(Arc::new(mongo::MongoProbeContext::new(settings)))
            }
            WrittenProbe::Http(settings) => {
                let check =
                    tollgate_http::probe::HttpCheck::new(settings, pooling.version(), cluster);
                ProbePlan::Http(Arc::new(check.map_err(below("http"))?))
            }
            WrittenProbe::Grpc(settings) => {
                ProbePlan::Grpc(Arc::new(grpc::probe::HealthCheck::new(settings, cluster)))
            }
        };
        if mistakes.is_empty() { Ok(plan) } else { Err(mistakes) }
    }
}

impl TcpSettings {
    fn exchange(self, mistakes: &mut Vec<Diagnostic>) -> Exchange {
        let sends = self.send.is_some() || self.send_hex.is_some();
        let expects = self.expect.is_some() || self.expect_hex.is_some();
        if sends && !expects {
            let key = if self.send.is_some() { "send" } else { "send_hex" };
            let message = "something is sent, and nothing expected";
            let hint = "write what the answer begins with: `expect: \"+PONG\"`";
            mistakes.push(Diagnostic::at(&["tcp", key], message, hint));
        }
        Exchange {
            send: bytes(["send", "send_hex"], self.send, self.send_hex, mistakes),
            expect: bytes(["expect", "expect_hex"], self.expect, self.expect_hex, mistakes),
        }
    }
}

/// The bytes that were written as text or as hex.
fn bytes(
    [text_key, hex_key]: [&str; 2],
    text: Option<String>,
    hex: Option<String>,
    mistakes: &mut Vec<Diagnostic>,
) -> Bytes {
    let mut mistake = |key: &str, message: String, hint: &str| {
        mistakes.push(Diagnostic::at(&["tcp", key], message, hint));
    };
    let (key, bytes) = match (text, hex) {
        (None, None) => return Bytes::new(),
        (Some(_), Some(_)) => {
            let message = format!("`{hex_key}` beside `{text_key}`");
            mistake(hex_key, message, "leave the one or the other out");
            return Bytes::new();
        }
        (Some(text), None) => (text_key, text.into_bytes()),
        (None, Some(hex)) => match unhex(&hex) {
            Some(bytes) => (hex_key, bytes),
            None => {
                let message = format!("`{hex}` is not hex");
                mistake(hex_key, message, "two digits for each byte: `0a ff`");
                return Bytes::new();
            }
        },
    };
    if bytes.is_empty() {
        mistake(key, "there are no bytes here".to_owned(), "leave it out");
    } else if bytes.len() > LONGEST {
        mistake(key, format!("{} bytes are too many", bytes.len()), "at most 4096");
    }
    bytes.into()
}

/// Bytes of two hexadecimal digits each; spaces between them may help the eye.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Option<Vec<u8>> = text.chars().filter(|c| *c != ' ').map(digit).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect(),
    )
}

impl<'de> Deserialize<'de> for WrittenProbe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("Probe", NAMES, WrittenProbeVisitor)
    }
}

struct WrittenProbeVisitor;

impl<'de> Visitor<'de> for WrittenProbeVisitor {
    type Value = WrittenProbe;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a protocol's name, or `{ name: settings }`")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, written: A) -> Result<WrittenProbe, A::Error> {
        let (name, settings) = written.variant::<String>()?;
        match name.as_str() {
            "tcp" => settings.newtype_variant().map(WrittenProbe::Tcp),
            "mongo" => settings.newtype_variant().map(WrittenProbe::Mongo),
            "http" => settings.newtype_variant().map(WrittenProbe::Http),
            "grpc" => settings.newtype_variant().map(WrittenProbe::Grpc),
            other => Err(A::Error::unknown_variant(other, NAMES)),
        }
    }
}

impl JsonSchema for WrittenProbe {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Probe".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let settings = [
            ("tcp", "Connect, and exchange bytes.", generator.subschema_for::<TcpSettings>()),
            ("mongo", "`hello`.", generator.subschema_for::<ProbeSettings>()),
            ("http", "A GET.", generator.subschema_for::<tollgate_http::probe::CheckSettings>()),
            (
                "grpc",
                "`grpc.health.v1.Health/Check`.",
                generator.subschema_for::<grpc::probe::HealthCheckSettings>(),
            ),
        ];
        named("What a health check asks: a name, or `{ name: settings }`.", &settings)
    }
}
