//! Addresses, and `host:port` as people write it.

use super::{Fault, FromText, is_digits};
use schemars::{Schema, json_schema};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

impl FromText for SocketAddr {
    const EXPECTED: &str = "an address such as `127.0.0.1:27017`";

    fn from_text(text: &str) -> Result<Self, Fault> {
        let (host, port) =
            split_host_port(text, "write `:27017` for every interface, or `127.0.0.1:27017`")?;
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

/// Takes `host:port` apart; the host loses its brackets.
///
/// # Errors
/// What is wrong with it; `hint` is what to write instead.
pub fn split_host_port<'t>(text: &'t str, hint: &str) -> Result<(&'t str, u16), Fault> {
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
}
