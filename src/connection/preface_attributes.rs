//! What is known of a connection before its protocol, of TLS and of a PROXY header: as attributes, and
//! as the PROXY header for an endpoint.

use super::session_info::SessionInfo;
use operation::AttributeValue;
use proxy_protocol::{Header, OutgoingHeader, TlsFields, Version};
use tls::TlsInfo;

/// An attribute of TLS or of a PROXY protocol header.
pub(super) fn preface_attribute<'a>(session: &'a SessionInfo, name: &str) -> AttributeValue<'a> {
    if let Some(name) = name.strip_prefix("proxy.") {
        return session.proxy.get().map_or(AttributeValue::Absent, |it| proxy(&it.0, name));
    }
    match name {
        "via" => match session.proxy.get() {
            Some(it) => it.1.to_string().into(),
            None => AttributeValue::Absent,
        },
        "sni" => session.server_name.get().map(String::as_str).into(),
        name => match (name.strip_prefix("tls."), session.tls.get()) {
            (Some(name), Some(tls)) => of_tls(tls, name),
            _ => AttributeValue::Absent,
        },
    }
}

/// The PROXY header for an endpoint: who the client is, and what is known of its TLS connection.
pub(super) fn outgoing_header(session: &SessionInfo, version: Version) -> Vec<u8> {
    let link = session.link;
    let tls = session.tls.get().map(|tls| TlsFields {
        server_name: tls.server_name.as_deref(),
        alpn: tls.alpn.as_deref(),
        version: if tls.version == "1.3" { "TLSv1.3" } else { "TLSv1.2" },
        cipher: tls.cipher,
        has_certificate: tls.peer.is_some(),
        common_name: tls.peer.as_deref().and_then(|peer| peer.common_name.as_deref()),
    });
    let id = session.id.to_be_bytes();
    let header =
        OutgoingHeader { addresses: Some((link.peer, link.local)), unique_id: Some(&id), tls };
    let mut bytes = Vec::new();
    header.write(version, &mut bytes);
    bytes
}

fn of_tls<'a>(tls: &'a TlsInfo, name: &str) -> AttributeValue<'a> {
    match (name, tls.peer.as_deref()) {
        ("version", _) => AttributeValue::known(tls.version),
        ("cipher", _) => AttributeValue::known(tls.cipher),
        ("alpn", _) => tls.alpn.as_deref().into(),
        (_, None) => AttributeValue::Absent,
        ("subject", Some(peer)) => AttributeValue::known(&peer.subject),
        ("issuer", Some(peer)) => AttributeValue::known(&peer.issuer),
        ("serial", Some(peer)) => AttributeValue::known(&peer.serial),
        ("fingerprint", Some(peer)) => AttributeValue::known(&peer.fingerprint),
        ("name", Some(peer)) => AttributeValue::known(peer.main_name()),
        ("cn", Some(peer)) => peer.common_name.as_deref().into(),
        ("dns", Some(peer)) => several(peer.dns.iter()),
        ("uri", Some(peer)) => several(peer.uris.iter()),
        ("email", Some(peer)) => several(peer.emails.iter()),
        ("san", Some(peer)) => {
            let names: Vec<_> = peer.names().map(Into::into).collect();
            if names.is_empty() { AttributeValue::Absent } else { AttributeValue::Repeated(names) }
        }
        _ => AttributeValue::Absent,
    }
}

/// A name of a certificate may be there several times.
fn several<'a>(names: impl Iterator<Item = &'a String>) -> AttributeValue<'a> {
    let mut names: Vec<_> = names.map(|name| name.as_str().into()).collect();
    match names.len() {
        0 => AttributeValue::Absent,
        1 => names.pop().map_or(AttributeValue::Absent, AttributeValue::Known),
        _ => AttributeValue::Repeated(names),
    }
}

fn proxy<'a>(header: &'a Header, name: &str) -> AttributeValue<'a> {
    let text = match name {
        "authority" => &header.authority,
        "alpn" => &header.alpn,
        "unique_id" => &header.unique_id,
        "vpce" => &header.vpc_endpoint,
        "link" => &header.link,
        "ssl.cn" => &header.certificate_name,
        _ => return AttributeValue::Absent,
    };
    text.as_deref().into()
}
