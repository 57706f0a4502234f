//! Addresses: where a listener listens, and what an endpoint is dialled by.

use super::{
    plan::{EndpointPlan, Target},
    problem::Fault,
    value::{FromText, Text, is_digits, told},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

impl FromText for SocketAddr {
    const EXPECTED: &str = "an address such as `127.0.0.1:27017`";

    fn from_text(text: &str) -> Result<Self, Fault> {
        let (host, port) = split(text, "write `:27017` for every interface, or `127.0.0.1:27017`")?;
        let ip = match host {
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => host.parse().map_err(|_| {
                let hint = format!(
                    "write an IP address: `127.0.0.1:{port}` for this machine alone, \
                     `:{port}` for every interface"
                );
                Fault::new(format!("`{host}` is not an IP address"), hint)
            })?,
        };
        Ok(SocketAddr::new(ip, port))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^.*:[0-9]{1,5}$",
            "examples": ["127.0.0.1:27017", ":27017", "[::1]:27017"],
        })
    }
}

/// Reads `host:port`, the port not 0.
pub(crate) fn host_port(text: &str) -> Result<Target, Fault> {
    let (host, port) = split(text, "write `host:port`: `db-1.example.net:27017`")?;
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let is_name = !host.is_empty() && host.len() <= 253 && !host.contains(odd);
    if !is_name && host.parse::<Ipv6Addr>().is_err() {
        let hint = "a name has letters, digits, `.`, `-` and `_`";
        return Err(Fault::new(format!("`{host}` is neither a name nor an address"), hint));
    }
    if port == 0 {
        return Err(Fault::new(
            format!("`{text}`: port 0 can't be dialled"),
            "ports are 1 to 65535",
        ));
    }
    Ok(Target::Host(host.to_owned(), port))
}

/// Takes `host:port` apart; the host loses its brackets.
fn split<'t>(text: &'t str, hint: &str) -> Result<(&'t str, u16), Fault> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let message = format!("`{text}` is a URL");
        return Err(Fault::new(message, format!("leave `{scheme}://` out: `{rest}`")));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        let hint = format!("write `[{text}]:27017`, with quotes around it");
        return Err(Fault::new(format!("`{text}` has no port"), hint));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Fault::new(format!("`{text}` has no port"), hint));
    };
    if !is_digits(port) {
        return Err(Fault::new(format!("`{port}` is not a port"), hint));
    }
    let number = port
        .parse()
        .map_err(|_| Fault::new(format!("there is no port {port}"), "ports end at 65535"))?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match inner {
        Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => Ok((inner, number)),
        Some(inner) => Err(Fault::new(format!("`{inner}` is not an IPv6 address"), hint)),
        None if host.contains(':') => {
            let hint = "an IPv6 address needs brackets: \"[::1]:27017\"";
            Err(Fault::new(format!("`{text}` has more than one `:`"), hint))
        }
        None => Ok((host, number)),
    }
}

/// An endpoint: `host:port`, or `{ address: host:port }`.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint(pub(crate) EndpointPlan);

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Endpoint", &["address"], EndpointVisitor)
    }
}

struct EndpointVisitor;

impl<'de> Visitor<'de> for EndpointVisitor {
    type Value = Endpoint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`host:port`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Endpoint, E> {
        host_port(text).map(EndpointPlan::new).map(Endpoint).map_err(told)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Endpoint, A::Error> {
        let mut endpoint = None;
        while map.next_key::<IgnoredAny>()?.is_some() {
            endpoint = Some(map.next_value::<Text<Dialled>>()?);
        }
        let address = endpoint.ok_or_else(|| A::Error::missing_field("address"))?;
        Ok(Endpoint(EndpointPlan::new(address.0.0)))
    }
}

struct Dialled(Target);

impl FromText for Dialled {
    const EXPECTED: &str = "`host:port`";

    fn from_text(text: &str) -> Result<Self, Fault> {
        host_port(text).map(Dialled)
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^.+:[0-9]{1,5}$",
            "examples": ["db-1:27017", "10.0.0.1:27017", "[::1]:27017"],
        })
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut address = Dialled::schema();
        let description = "`host:port`; a name stands for all addresses that it has.";
        address.insert("description".into(), description.into());
        json_schema!({
            "description": "An endpoint: `host:port`, or `{ address: host:port }`.",
            "anyOf": [Dialled::schema(), {
                "type": "object",
                "properties": { "address": address },
                "required": ["address"],
                "additionalProperties": false,
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_take_an_address_or_just_a_port() {
        let shown = |text: &str| SocketAddr::from_text(text).map(|it| it.to_string());
        for (text, address) in [
            (":8080", "0.0.0.0:8080"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:8080", "[::1]:8080"),
            ("[::]:65535", "[::]:65535"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(address), "{text}");
        }
        for text in [
            "",
            ":",
            "8080",
            "127.0.0.1",
            "127.0.0.1:",
            ":65536",
            ":-1",
            ":+1",
            "::1",
            "[::1]",
            "localhost:80",
            "1.2.3:80",
            "[127.0.0.1]:80",
            "http://127.0.0.1:80",
            "1.2.3.4:80:80",
        ] {
            assert!(SocketAddr::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn endpoints_take_names_too() {
        for text in ["db:1", "db-1.example.net:27017", "my_db:1", "10.0.0.1:1", "[::1]:1"] {
            assert_eq!(host_port(text).unwrap().to_string(), text);
        }
        let long = format!("{}:1", "a".repeat(254));
        for text in [
            "db", "db:", ":1", "db:0", "db:65536", "a b:1", "::1:1", "[db]:1", "u@db:1", "db:1/x",
            &long,
        ] {
            assert!(host_port(text).is_err(), "{text}");
        }
    }
}
