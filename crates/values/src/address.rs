//! Addresses and `host:port` texts.

use super::{Diagnostic, FromText, hide, is_digits, octal};
use schemars::{Schema, json_schema};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

impl FromText for SocketAddr {
    const EXPECTED: &str = "an address such as `127.0.0.1:27017`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let usual = "write `:27017` for every interface, or `127.0.0.1:27017`";
        if is_digits(text) && text.parse().is_ok_and(|port: u16| port > 0) {
            let hint = format!("write `:{text}` for every interface, or `127.0.0.1:{text}`");
            return Err(Diagnostic::new(format!("`{text}` is a port without an address"), hint));
        }
        let (host, port) = split_host_port(text, usual)?;
        let ip = match host {
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => host.parse().map_err(|_| {
                let hint = format!(
                    "write an IP address: `127.0.0.1:{port}` for this machine alone, \
                     `:{port}` for every interface"
                );
                Diagnostic::new(format!("`{host}` is not an IP address"), hint)
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

/// Splits `host:port`; brackets are removed from the host.
///
/// # Errors
/// If the text is invalid; `hint` is what to write instead.
pub(crate) fn split_host_port<'t>(text: &'t str, hint: &str) -> Result<(&'t str, u16), Diagnostic> {
    if let Some(error) = more_than_an_address(text, hint) {
        return Err(error);
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        let hint = format!("write `[{text}]:27017`, with quotes around it");
        return Err(Diagnostic::new(format!("`{text}` has no port"), hint));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(Diagnostic::new(format!("`{text}` has no port"), hint));
    };
    if !is_digits(port) {
        return Err(Diagnostic::new(format!("`{port}` is not a port"), hint));
    }
    octal(port, port)?;
    let number = port
        .parse()
        .map_err(|_| Diagnostic::new(format!("there is no port {port}"), "ports end at 65535"))?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match inner {
        Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => Ok((inner, number)),
        Some(inner) => Err(Diagnostic::new(format!("`{inner}` is not an IPv6 address"), hint)),
        None if host.contains(':') => {
            let hint = "an IPv6 address needs brackets: \"[::1]:27017\"";
            Err(Diagnostic::new(format!("`{text}` has more than one `:`"), hint))
        }
        None => Ok((host, number)),
    }
}

/// The default ports of URLs.
const PORTS: [(&str, u16); 6] = [
    ("mongodb", 27017),
    ("redis", 6379),
    ("http", 80),
    ("grpc", 50051),
    ("postgres", 5432),
    ("postgresql", 5432),
];

/// The error for a URL, user info, a path, or a list of addresses. The hint contains host and port
/// only: user info belongs to the clients, and a password must not be repeated.
fn more_than_an_address(text: &str, usual: &str) -> Option<Diagnostic> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let (login, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => (true, rest),
        None => (false, rest),
    };
    let hosts = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let shown = hide(text);
    let message = match scheme {
        _ if hosts.contains(',') => format!("`{shown}` is a list of addresses"),
        Some(_) => format!("`{shown}` is a URL"),
        None if login => format!("`{shown}` contains a user, and clients log in themselves"),
        None if hosts.len() < rest.len() => format!("`{shown}` has more than a host and a port"),
        None => return None,
    };
    let port = PORTS.iter().find(|(known, _)| Some(*known) == scheme).map(|(_, port)| *port);
    let whole = |host: &str| match port {
        Some(port) if !host.is_empty() && split_host_port(host, "").is_err() => {
            let whole = format!("{host}:{port}");
            if split_host_port(&whole, "").is_ok() { whole } else { host.to_owned() }
        }
        _ => host.to_owned(),
    };
    let each: Vec<String> = hosts.split(',').filter(|it| !it.is_empty()).map(whole).collect();
    let good = |host: &String| split_host_port(host, "").is_ok();
    let hint = match each.as_slice() {
        [one] if good(one) => format!("write host and port alone: `{one}`"),
        [_, _, ..] if each.iter().all(good) => {
            let each: Vec<String> = each.iter().map(|one| format!("\"{one}\"")).collect();
            format!("write each for itself, endpoints as a list: `[{}]`", each.join(", "))
        }
        _ => usual.to_owned(),
    };
    Some(Diagnostic::new(message, hint))
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
    fn a_port_alone_has_a_hint() {
        let error = SocketAddr::from_text("27018").unwrap_err();
        assert_eq!(error.hint, "write `:27018` for every interface, or `127.0.0.1:27018`");
    }

    #[test]
    fn hints_for_a_pasted_uri_contain_only_host_and_port() {
        let error_of = |text: &str| split_host_port(text, "write `host:port`").unwrap_err();
        for (text, hint) in [
            ("mongodb://user:s3cret@db:27017/shop?replicaSet=rs0", "`db:27017`"),
            ("mongodb://user:s3cret@db/shop", "`db:27017`"),
            ("user:s3cret@db:27017/shop", "`db:27017`"),
            ("redis://:s3cret@cache", "`cache:6379`"),
            ("http://user:s3cret@shop.example/", "`shop.example:80`"),
            ("http://[::1]:8080/x", "`[::1]:8080`"),
            ("mongodb://[::1]", "`[::1]:27017`"),
            ("ftp://user:s3cret@db", "write `host:port`"),
            ("db:27017/shop", "`db:27017`"),
            ("mongodb://u:s3cret@a:1,b/x", "`[\"a:1\", \"b:27017\"]`"),
            ("a:27017,b:27017", "`[\"a:27017\", \"b:27017\"]`"),
            ("a,b", "write `host:port`"),
        ] {
            let Diagnostic { message, hint: shown, .. } = error_of(text);
            assert!(shown.contains(hint), "{text}: {shown}");
            assert!(!message.contains("s3cret") && !shown.contains("s3cret"), "{message} {shown}");
        }
        assert!(error_of("a:27017,b:27017").message.contains("is a list of addresses"));
    }
}
