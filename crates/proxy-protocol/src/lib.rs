//! The PROXY protocol, versions 1 and 2: which client a load balancer speaks for, and what it knows of
//! that client (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>).
//!
//! This crate does no I/O. [`read`] reads a header from the first bytes of a connection, and
//! [`OutgoingHeader`] writes one. The crate `proxy-header` knows the layout; what it leaves to its users
//! is checked here: the length, the checksum, fields that overrun the header, and UDP.

mod outgoing;
mod settings;

pub use outgoing::{OutgoingHeader, TlsFields, Version};
pub use settings::ListenerSettings;

use proxy_header::{ParseConfig, Protocol, ProxyHeader, Tlv};
use std::{fmt, net::SocketAddr};

/// The longest header of version 1, in bytes, with its line end.
pub(crate) const MAX_V1: usize = 107;

/// The longest header of version 2 that is read unless more is allowed, in bytes.
pub(crate) const MAX_V2: usize = 536;

/// The first bytes of every header of version 1.
const V1: &[u8] = b"PROXY ";

/// The first bytes of every header of version 2.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes of a version 2 header before its addresses.
const V2_FIXED: usize = 16;

/// The type of the checksum field.
const CRC32C: u8 = 0x03;

/// Amazon's field of VPC endpoints, and its only known kind.
const AWS: (u8, u8) = (0xEA, 0x01);

/// Azure's field of private endpoints, and its only known kind.
const AZURE: (u8, u8) = (0xEE, 0x01);

/// Google's field of Private Service Connect: a connection id of 8 bytes.
const GOOGLE: u8 = 0xE0;

/// Which versions a listener accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accepted {
    /// Either.
    #[default]
    Any,
    /// Version 1 alone.
    V1,
    /// Version 2 alone.
    V2,
}

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The client's address, and the one that it connected to. `None`: the sender speaks for itself,
    /// as for a health check, or does not know.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// The host name that the client asked for (TLS: SNI).
    pub authority: Option<String>,
    /// The application protocol that was agreed upon.
    pub alpn: Option<String>,
    /// The sender's id of the connection, in lower-case hexadecimal digits.
    pub unique_id: Option<String>,
    /// The id of the VPC endpoint that the client came through (Amazon).
    pub vpc_endpoint: Option<String>,
    /// The id of the private link that the client came through (Azure, Google).
    pub link: Option<String>,
    /// Whether the client's connection to the sender was encrypted.
    pub is_encrypted: bool,
    /// The common name of the client's certificate, if the sender has verified it.
    pub certificate_name: Option<String>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// More bytes are needed.
    Incomplete,
    /// A header, and its length in bytes. What lies behind it is the client's.
    Header(Box<Header>, usize),
    /// No header that can be accepted.
    Invalid(Invalid),
}

/// Why the first bytes are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// They are no header.
    Missing,
    /// They are a header of a version that is not accepted here.
    Version,
    /// The header is longer than allowed.
    TooLong,
    /// The header's checksum is wrong.
    Checksum,
    /// The header is for UDP.
    Udp,
    /// The header breaks the protocol.
    Malformed,
    /// A second header follows the first.
    Repeated,
}

impl Invalid {
    /// The reason, as metrics and logs have it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "no_proxy_header",
            Self::Version => "proxy_header_version",
            Self::TooLong => "proxy_header_too_long",
            Self::Checksum => "proxy_header_checksum",
            Self::Udp => "proxy_header_udp",
            Self::Malformed => "proxy_header_malformed",
            Self::Repeated => "proxy_header_repeated",
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the connection does not begin with a PROXY protocol header",
            Self::Version => "the PROXY protocol header has a version that is not accepted here",
            Self::TooLong => "the PROXY protocol header is too long",
            Self::Checksum => "the checksum of the PROXY protocol header is wrong",
            Self::Udp => "the PROXY protocol header is for UDP",
            Self::Malformed => "the PROXY protocol header breaks the protocol",
            Self::Repeated => "there are two PROXY protocol headers",
        })
    }
}

/// Whether bytes begin like a header. `None` if more bytes are needed to know.
pub(crate) fn looks_like_header(bytes: &[u8]) -> Option<bool> {
    let begins = |known: &[u8]| bytes.starts_with(known);
    if begins(V1) || begins(V2) {
        return Some(true);
    }
    let could = V1.starts_with(bytes) || V2.starts_with(bytes);
    if could { None } else { Some(false) }
}

/// Reads a header from the first bytes of a connection, which may be cut at any place. `max_v2` is the
/// longest header of version 2, in bytes.
pub fn read(bytes: &[u8], accepted: Accepted, max_v2: usize) -> FirstBytes {
    match looks_like_header(bytes) {
        None => return FirstBytes::Incomplete,
        Some(false) => return FirstBytes::Invalid(Invalid::Missing),
        Some(true) => {}
    }
    let is_v1 = bytes.starts_with(V1);
    let allowed = match accepted {
        Accepted::Any => true,
        Accepted::V1 => is_v1,
        Accepted::V2 => !is_v1,
    };
    if !allowed {
        return FirstBytes::Invalid(Invalid::Version);
    }
    let read = if is_v1 { read_v1(bytes) } else { read_v2(bytes, max_v2) };
    match read {
        Ok(Some((header, length))) => {
            let rest = bytes.get(length..).unwrap_or_default();
            match looks_like_header(rest) {
                Some(true) => FirstBytes::Invalid(Invalid::Repeated),
                _ => FirstBytes::Header(Box::new(header), length),
            }
        }
        Ok(None) => FirstBytes::Incomplete,
        Err(invalid) => FirstBytes::Invalid(invalid),
    }
}

type Read = Result<Option<(Header, usize)>, Invalid>;

fn read_v1(bytes: &[u8]) -> Read {
    let line = bytes.get(..bytes.len().min(MAX_V1)).unwrap_or_default();
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() >= MAX_V1 { Err(Invalid::TooLong) } else { Ok(None) };
    };
    let line = line.get(..=end).unwrap_or_default();
    if line.starts_with(b"PROXY UDP") {
        return Err(Invalid::Udp);
    }
    let (header, length) = parse(line)?;
    if length != line.len() {
        return Err(Invalid::Malformed);
    }
    let addresses = header.proxied_address().map(|it| (it.source, it.destination));
    Ok(Some((Header { addresses, ..Header::default() }, length)))
}

fn read_v2(bytes: &[u8], max: usize) -> Read {
    let Some(fixed) = bytes.get(..V2_FIXED) else { return Ok(None) };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > max {
        return Err(Invalid::TooLong);
    }
    let Some(whole) = bytes.get(..length) else { return Ok(None) };
    let (parsed, _) = parse(whole)?;
    let mut header = Header::default();
    if let Some(address) = parsed.proxied_address() {
        if address.protocol == Protocol::Datagram {
            return Err(Invalid::Udp);
        }
        header.addresses = Some((address.source, address.destination));
    }
    for field in parsed.tlvs() {
        let field = field.map_err(|_| Invalid::Malformed)?;
        if let Tlv::Crc32c(expected) = field {
            check(whole, expected)?;
        }
        header.add(field)?;
    }
    Ok(Some((header, length)))
}

fn parse(bytes: &[u8]) -> Result<(ProxyHeader<'_>, usize), Invalid> {
    ProxyHeader::parse(bytes, ParseConfig::default()).map_err(|_| Invalid::Malformed)
}

/// Compares the checksum of a whole header, with the checksum's own bytes as zeros.
fn check(whole: &[u8], expected: u32) -> Result<(), Invalid> {
    let field = [&[CRC32C, 0, 4][..], &expected.to_be_bytes()].concat();
    let at = whole.windows(field.len()).position(|it| it == field).ok_or(Invalid::Malformed)?;
    let mut zeroed = whole.to_vec();
    zeroed[at + 3..at + field.len()].fill(0);
    if crc32c::crc32c(&zeroed) == expected { Ok(()) } else { Err(Invalid::Checksum) }
}

impl Header {
    fn add(&mut self, field: Tlv<'_>) -> Result<(), Invalid> {
        match field {
            Tlv::Authority(name) => self.authority = Some(name.into_owned()),
            Tlv::Alpn(name) => self.alpn = Some(String::from_utf8_lossy(&name).into_owned()),
            Tlv::UniqueId(id) => self.unique_id = Some(hex(&id)),
            Tlv::Ssl(ssl) => {
                self.is_encrypted = ssl.client_ssl();
                for inner in ssl.tlvs() {
                    match inner.map_err(|_| Invalid::Malformed)? {
                        // The sender's `verify` is 0 for a certificate that it has verified.
                        Tlv::SslCn(name) if ssl.verify() == 0 => {
                            self.certificate_name = Some(name.into_owned());
                        }
                        _ => {}
                    }
                }
            }
            Tlv::Custom(kind, bytes) => self.add_custom(kind, &bytes),
            _ => {}
        }
        Ok(())
    }

    fn add_custom(&mut self, kind: u8, bytes: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match (kind, bytes) {
            (kind, [sub, id @ ..]) if (kind, *sub) == AWS => self.vpc_endpoint = Some(text(id)),
            // Azure's link id is a number of 4 bytes, lowest first.
            (kind, [sub, id @ ..]) if (kind, *sub) == AZURE => {
                let id = <[u8; 4]>::try_from(id).ok();
                self.link = id.map(|id| u32::from_le_bytes(id).to_string());
            }
            (GOOGLE, id) => {
                let id = <[u8; 8]>::try_from(id).ok();
                self.link = id.map(|id| u64::from_be_bytes(id).to_string());
            }
            _ => {}
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
