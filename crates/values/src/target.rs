//! Addresses of endpoints.

use crate::{Diagnostic, FromText, split_host_port};
use schemars::{Schema, json_schema};
use std::{fmt, net::Ipv6Addr};

/// How an endpoint is addressed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address, or a name to resolve (without brackets), and the port.
    Host(String, u16),
    /// The full name of an SRV record, which has names, ports, weights and priorities.
    Srv(String),
}

/// `host:port`, an IPv6 address in brackets, or the name of an SRV record.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Target::Host(host, port) => write!(f, "{host}:{port}"),
            Target::Srv(name) => f.write_str(name),
        }
    }
}

/// Parses `host:port`; the port is not 0.
pub fn host_port(text: &str) -> Result<Target, Diagnostic> {
    let (host, port) = split_host_port(text, "write `host:port`: `db-1.example.net:27017`")?;
    if !is_host_name(host) && host.parse::<Ipv6Addr>().is_err() {
        let hint = "a name has letters, digits, `.`, `-` and `_`";
        return Err(Diagnostic::new(format!("`{host}` is neither a name nor an address"), hint));
    }
    if port == 0 {
        return Err(Diagnostic::new(
            format!("`{text}`: port 0 can't be dialled"),
            "ports are 1 to 65535",
        ));
    }
    Ok(Target::Host(host.to_owned(), port))
}

/// Where an endpoint is dialled.
#[derive(Clone, Debug)]
pub struct HostPort(pub Target);

impl FromText for HostPort {
    const EXPECTED: &str = "`host:port`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        if text.contains("+srv://") {
            let hint = format!("write it as `{{ srv: {text} }}`");
            return Err(Diagnostic::new("this is the URL of an SRV record", hint));
        }
        host_port(text).map(HostPort)
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^.+:[0-9]{1,5}$",
            "examples": ["db-1:27017", "10.0.0.1:27017", "[::1]:27017"],
        })
    }
}

/// The name that an SRV record is looked up by.
#[derive(Clone, Debug)]
pub struct SrvTarget {
    /// The record.
    pub target: Target,
    /// It is written as a URL whose connections are encrypted unless its options say otherwise.
    pub implies_tls: bool,
}

/// The services whose `+srv` URLs imply TLS: MongoDB's (its specification of initial DNS seedlist
/// discovery).
const ENCRYPTED_SERVICES: [&str; 1] = ["mongodb"];

/// The name or the address of a host, without a port.
#[derive(Clone, Debug)]
pub struct HostName(pub String);

impl FromText for HostName {
    const EXPECTED: &str = "the name of a host";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        if is_host_name(text) || text.parse::<Ipv6Addr>().is_ok() {
            return Ok(HostName(text.to_owned()));
        }
        let hint = "write a name without a port: `db-1.example.net`";
        Err(Diagnostic::new(format!("`{text}` is not the name of a host"), hint))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["db-1.example.net"] })
    }
}

impl FromText for SrvTarget {
    const EXPECTED: &str = "the name of an SRV record";

    /// `SERVICE+srv://HOST`, as in connection strings, is `_SERVICE._tcp.HOST`.
    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let (service, name) = match text.split_once("+srv://") {
            Some((service, host)) => (Some(service), host),
            None if text.contains("://") => {
                let hint = "write `_service._tcp.example.net`, or `service+srv://example.net`";
                return Err(Diagnostic::new("this is the URL of no SRV record", hint));
            }
            None => (None, text),
        };
        let shown = service.map_or(String::new(), |service| format!("{service}+srv://"));
        if let Some((_, host)) = name.rsplit_once('@') {
            let hint = format!("who logs in is the clients' business: `{shown}{}`", host_of(host));
            return Err(Diagnostic::new("an SRV record has no user and no password", hint));
        }
        if host_of(name).len() < name.len() {
            let hint = format!("write the name alone: `{shown}{}`", host_of(name));
            return Err(Diagnostic::new("an SRV record has no port, path and options", hint));
        }
        if !is_host_name(name) || service.is_some_and(|service| !is_host_name(service)) {
            let hint = "write `_service._tcp.example.net`";
            return Err(Diagnostic::new(
                format!("`{text}` is not the name of an SRV record"),
                hint,
            ));
        }
        let name = service.map_or(name.to_owned(), |service| format!("_{service}._tcp.{name}"));
        let implies_tls = service.is_some_and(|it| ENCRYPTED_SERVICES.contains(&it));
        Ok(SrvTarget { target: Target::Srv(name), implies_tls })
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "examples": ["_db._tcp.example.net", "db+srv://example.net"],
        })
    }
}

/// The host of a URL and everything after it.
fn host_of(text: &str) -> &str {
    text.split([':', '/', '?', '#']).next().unwrap_or_default()
}

/// Whether this can be the name of a host.
pub fn is_host_name(text: &str) -> bool {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    !text.is_empty() && text.len() <= 253 && !text.contains(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    #[test]
    fn an_srv_record_is_named_or_meant_by_a_url() {
        let named = |text: &str| SrvTarget::from_text(text).map(|srv| srv.target.to_string());
        let record = Ok("_mongodb._tcp.db.example.net".to_owned());
        assert_eq!(named("_mongodb._tcp.db.example.net"), record);
        assert_eq!(named("mongodb+srv://db.example.net"), record);
        for (text, encrypted) in
            [("mongodb+srv://db", true), ("db+srv://db", false), ("_mongodb._tcp.db", false)]
        {
            assert_eq!(SrvTarget::from_text(text).unwrap().implies_tls, encrypted, "{text}");
        }
        for text in ["", "a b", "mongodb+srv://", "+srv://db", "http://db", "db:1", "m+srv://db/x"]
        {
            assert!(named(text).is_err(), "{text}");
        }
        let error = named("mongodb+srv://me:secret@db.example.net/?tls=true").unwrap_err();
        assert!(error.hint.contains("`mongodb+srv://db.example.net`"), "{error:?}");
        assert!(!error.message.contains("secret") && !error.hint.contains("secret"));
    }
}
