//! The config of the admin interface: an address, or a map.

use crate::plan::ControlAddress;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{
    Deserialize, Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer,
};
use std::{borrow::Cow, fmt, net::SocketAddr, path::PathBuf};
use values::spanned::Opt;
use values::spanned::Spanned;
use values::{Diagnostic, FromText, OrOff, to_serde_error};

/// The admin interface, as an address or with its keys.
#[derive(Debug)]
pub(crate) enum Admin {
    /// `ip:port`, or `off`.
    Short(OrOff<SocketAddr>),
    /// A map.
    Long(Box<AdminKeys>),
}

/// The addresses of the admin interface, for reading and for changes. Every key is optional.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Admin")]
pub(crate) struct AdminKeys {
    /// The address where metrics and state are served: `ip:port`. Default: `127.0.0.1:9901`.
    pub(crate) address: Opt<SocketAddr>,
    /// The address for requests that change something: `ip:port`, or `unix:/PATH`, a Unix socket
    /// for the proxy's own user alone (mode 0600). `address` then rejects such requests. Default:
    /// at `address`, if that is a loopback address or there is a `token_file`, and else nowhere.
    pub(crate) control: Opt<ControlAddress>,
    /// A file whose first line is the bearer token for requests that change something. It is read
    /// at the start. Default: no token is needed.
    pub(crate) token_file: Option<Spanned<PathBuf>>,
    /// Host names with a dot that requests may use (`proxy.example.net`, `*.example.net`, or `*`
    /// for every name). IP addresses, `localhost` and names without a dot are always accepted.
    /// Default: no others.
    pub(crate) allowed_hosts: Option<Spanned<Vec<Spanned<String>>>>,
    /// How clients are encrypted, at `address` and at a `control` that is an address. Default: not at
    /// all.
    pub(crate) tls: Option<Spanned<tls::AdminSettings>>,
}

const KEYS: &[&str] = &["address", "control", "token_file", "allowed_hosts", "tls"];

impl<'de> Deserialize<'de> for Admin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Admin", KEYS, AdminVisitor)
    }
}

struct AdminVisitor;

impl<'de> Visitor<'de> for AdminVisitor {
    type Value = Admin;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(<OrOff<SocketAddr>>::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Admin, E> {
        FromText::from_text(text).map(Admin::Short).map_err(to_serde_error)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Admin, A::Error> {
        let keys = AdminKeys::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Admin::Long(keys.into()))
    }
}

impl JsonSchema for Admin {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AdminOrText".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = <OrOff<SocketAddr>>::schema();
        json_schema!({ "anyOf": [text, generator.subschema_for::<AdminKeys>()] })
    }
}

/// The maximum length of the path of a Unix socket, in bytes, on the supported systems.
const LONGEST_PATH: usize = 103;

impl FromText for ControlAddress {
    const EXPECTED: &str = "`ip:port` or `unix:/PATH`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let Some(path) = text.strip_prefix("unix:") else {
            return SocketAddr::from_text(text).map(ControlAddress::Tcp).map_err(|error| {
                Diagnostic {
                    hint: format!("{}; or `unix:/run/tollgate.sock`", error.hint),
                    ..error
                }
            });
        };
        if path.is_empty() || path.contains('\0') {
            return Err(Diagnostic::new(
                "the socket has no path",
                "write `unix:/run/tollgate.sock`",
            ));
        }
        if path.len() > LONGEST_PATH {
            let message = format!("the path of the socket has {} bytes", path.len());
            return Err(Diagnostic::new(message, format!("at most {LONGEST_PATH}")));
        }
        Ok(ControlAddress::Unix(path.into()))
    }

    fn schema() -> Schema {
        let path = json_schema!({ "type": "string", "pattern": "^unix:.+$" });
        json_schema!({ "anyOf": [SocketAddr::schema(), path] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_is_an_address_or_the_path_of_a_socket() {
        let read = |text: &str| ControlAddress::from_text(text);
        assert_eq!(
            read("127.0.0.1:9902"),
            Ok(ControlAddress::Tcp("127.0.0.1:9902".parse().unwrap()))
        );
        assert_eq!(read("unix:/run/a.sock"), Ok(ControlAddress::Unix("/run/a.sock".into())));
        for (text, told) in [
            ("unix:", "the socket has no path"),
            (&*format!("unix:/{}", "a".repeat(103)), "has 104 bytes"),
            ("localhost:9902", "`localhost` is not an IP"),
            ("/run/a.sock", "/run/a.sock"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(told), "{error:?}");
        }
        assert!(read("localhost:1").unwrap_err().hint.contains("unix:/run/tollgate.sock"));
    }
}
