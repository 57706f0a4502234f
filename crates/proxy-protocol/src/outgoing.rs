//! Headers that are sent to endpoints.

use proxy_header::{ProxiedAddress, ProxyHeader, SslInfo, Tlv};
use std::net::{IpAddr, SocketAddr};

/// Which version is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text; addresses alone.
    V1,
    /// Binary, with fields.
    V2,
}

/// A header that is sent before a connection's first byte.
#[derive(Clone, Debug, Default)]
pub struct OutgoingHeader<'a> {
    /// The client's address, and the one that it connected to. `None`: the proxy speaks for itself, as
    /// for a health check.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// The connection's id.
    pub unique_id: Option<&'a [u8]>,
    /// What is known if the client's connection is encrypted.
    pub tls: Option<TlsFields<'a>>,
}

/// What is known of a client's TLS connection.
#[derive(Clone, Debug, Default)]
pub struct TlsFields<'a> {
    /// The name that the client asked for (SNI).
    pub server_name: Option<&'a str>,
    /// The application protocol (ALPN).
    pub alpn: Option<&'a str>,
    /// The version: `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite.
    pub cipher: &'a str,
    /// The client has sent a certificate, which was verified.
    pub has_certificate: bool,
    /// The common name of that certificate.
    pub common_name: Option<&'a str>,
}

impl OutgoingHeader<'_> {
    /// Appends the header's bytes.
    pub fn write(&self, version: Version, output: &mut Vec<u8>) {
        match version {
            Version::V1 => self.write_v1(output),
            Version::V2 => self.write_v2(output),
        }
    }

    fn write_v1(&self, output: &mut Vec<u8>) {
        // A line has addresses of one family.
        let same = |(from, to): &(SocketAddr, SocketAddr)| from.is_ipv4() == to.is_ipv4();
        match self.addresses.map(canonical).filter(same) {
            Some((from, to)) => {
                let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                let (ip, ports) = ((from.ip(), to.ip()), (from.port(), to.port()));
                let line = format!("PROXY {family} {} {} {} {}\r\n", ip.0, ip.1, ports.0, ports.1);
                output.extend_from_slice(line.as_bytes());
            }
            None => output.extend_from_slice(b"PROXY UNKNOWN\r\n"),
        }
    }

    fn write_v2(&self, output: &mut Vec<u8>) {
        let addresses = self.addresses.map(|addresses| {
            let (from, to) = one_family(canonical(addresses));
            ProxiedAddress::stream(from, to)
        });
        let mut fields = Vec::new();
        if let Some(id) = self.unique_id {
            fields.push(Tlv::UniqueId(id.into()));
        }
        if let Some(tls) = &self.tls {
            fields.extend(tls.alpn.map(|alpn| Tlv::Alpn(alpn.as_bytes().into())));
            fields.extend(tls.server_name.map(|name| Tlv::Authority(name.into())));
            fields.push(tls.field());
        }
        let header = ProxyHeader::with_tlvs(addresses.clone(), fields);
        let start = output.len();
        // Only fields of more than 64 KiB would make it fail. Without them it fits.
        if header.encode_v2(output).is_err() {
            output.truncate(start);
            let plain = ProxyHeader::with_tlvs(addresses, []);
            let _ = plain.encode_v2(output);
        }
    }
}

impl TlsFields<'_> {
    fn field(&self) -> Tlv<'static> {
        // `verify` is 0 for a verified certificate, and for none.
        let verified = self.has_certificate;
        let mut ssl = SslInfo::new(true, verified, verified, 0);
        ssl.append_tlv(Tlv::SslVersion(self.version.into()));
        ssl.append_tlv(Tlv::SslCipher(self.cipher.into()));
        if let Some(name) = self.common_name {
            ssl.append_tlv(Tlv::SslCn(name.into()));
        }
        Tlv::Ssl(ssl.into_owned())
    }
}

/// Addresses with IPv4-mapped ones as IPv4.
fn canonical((from, to): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    let plain = |it: SocketAddr| SocketAddr::new(it.ip().to_canonical(), it.port());
    (plain(from), plain(to))
}

/// The same addresses, both as IPv6 if they are of different families.
fn one_family((from, to): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    if from.is_ipv4() == to.is_ipv4() {
        return (from, to);
    }
    let mapped = |it: SocketAddr| match it.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), it.port()),
        IpAddr::V6(_) => it,
    };
    (mapped(from), mapped(to))
}
