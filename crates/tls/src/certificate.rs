//! What a certificate says: for policies, logs, `/tls` and `check`.

use aws_lc_rs::digest::{SHA256, digest};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_cert::{
    Certificate, TbsCertificate, Version,
    der::{Decode, Encode, Reader, SliceReader, referenced::OwnedToRef},
    ext::pkix::{BasicConstraints, SubjectAltName, name::GeneralName},
    spki::{ObjectIdentifier, SubjectPublicKeyInfoRef},
};

/// The object identifier of an RSA key (RFC 3279, 2.3.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// The fields of a certificate, read once a connection or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The subject as RFC 4514 writes it: `CN=orders,O=Example`.
    pub subject: String,
    /// The issuer in the same form.
    pub issuer: String,
    /// The subject's common name.
    pub common_name: Option<String>,
    /// DNS names of the subjectAltName.
    pub dns: Vec<String>,
    /// IP addresses of the subjectAltName.
    pub addresses: Vec<IpAddr>,
    /// URIs of the subjectAltName, such as a SPIFFE id.
    pub uris: Vec<String>,
    /// E-mail addresses of the subjectAltName.
    pub emails: Vec<String>,
    /// The serial number, in lower-case hexadecimal digits.
    pub serial: String,
    /// SHA-256 of the certificate, in lower-case hexadecimal digits.
    pub fingerprint: String,
    /// From when it is valid, in seconds since 1970.
    pub not_before: u64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: u64,
    /// The version of X.509: 1 or 3.
    pub version: u8,
    /// The length of an RSA key in bits; `None` for other keys.
    pub rsa_bits: Option<usize>,
    /// Whether it may issue certificates.
    pub is_authority: bool,
}

impl CertificateInfo {
    /// Reads a certificate. `None` if it is not encoded as X.509 has it.
    pub fn read(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let fields = certificate.tbs_certificate();
        let mut info = Self {
            subject: fields.subject().to_string(),
            issuer: fields.issuer().to_string(),
            common_name: common_name(fields),
            dns: Vec::new(),
            addresses: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            serial: hex(fields.serial_number().as_bytes()),
            fingerprint: hex(digest(&SHA256, der).as_ref()),
            not_before: fields.validity().not_before.to_unix_duration().as_secs(),
            not_after: fields.validity().not_after.to_unix_duration().as_secs(),
            version: match fields.version() {
                Version::V1 => 1,
                Version::V2 => 2,
                Version::V3 => 3,
            },
            rsa_bits: rsa_bits(fields.subject_public_key_info().owned_to_ref()),
            is_authority: matches!(
                fields.get_extension::<BasicConstraints>(),
                Ok(Some((_, BasicConstraints { ca: true, .. })))
            ),
        };
        if let Ok(Some((_, SubjectAltName(names)))) = fields.get_extension() {
            names.into_iter().for_each(|name| info.add_name(name));
        }
        Some(info)
    }

    fn add_name(&mut self, name: GeneralName) {
        match name {
            GeneralName::DnsName(name) => self.dns.push(name.as_str().to_owned()),
            GeneralName::Rfc822Name(name) => self.emails.push(name.as_str().to_owned()),
            GeneralName::UniformResourceIdentifier(uri) => self.uris.push(uri.as_str().to_owned()),
            GeneralName::IpAddress(bytes) => {
                let bytes = bytes.as_bytes();
                let v4 = <[u8; 4]>::try_from(bytes).map(|it| IpAddr::V4(Ipv4Addr::from(it)));
                let v6 = <[u8; 16]>::try_from(bytes).map(|it| IpAddr::V6(Ipv6Addr::from(it)));
                self.addresses.extend(v4.or(v6).ok());
            }
            _ => {}
        }
    }

    /// All names of the subjectAltName, in the order URI, DNS, e-mail, IP address.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let texts = [&self.uris, &self.dns, &self.emails].into_iter().flatten().cloned();
        texts.chain(self.addresses.iter().map(IpAddr::to_string))
    }

    /// The one name that a log has: a URI, or else a DNS name, or else the common name.
    pub fn main_name(&self) -> &str {
        let names = [self.uris.first(), self.dns.first(), self.common_name.as_ref()];
        names.into_iter().flatten().next().map_or(&self.subject, |name| name)
    }

    /// Whether it is for this DNS name, which may be met by a wildcard of one label (RFC 9525, 6.3).
    pub fn is_for(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let host = host.trim_end_matches('.');
        self.dns.iter().any(|name| name_matches(name, host))
    }

    /// Until when it is valid.
    pub fn expires(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.not_after)
    }
}

/// Whether a DNS name, or a wildcard of one label, matches a host.
pub fn name_matches(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(host),
    }
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo), as pins have it.
pub fn key_digest(der: &[u8]) -> Option<[u8; 32]> {
    let certificate = Certificate::from_der(der).ok()?;
    let key = certificate.tbs_certificate().subject_public_key_info().to_der().ok()?;
    digest(&SHA256, &key).as_ref().try_into().ok()
}

fn common_name(fields: &TbsCertificate) -> Option<String> {
    use x509_cert::ext::pkix::name::DirectoryString;
    let name: DirectoryString = fields.subject().common_name().ok().flatten()?;
    Some(name.value().into_owned())
}

/// The bits of an RSA modulus: the first integer of the key's sequence (RFC 8017, A.1.1).
fn rsa_bits(key: SubjectPublicKeyInfoRef<'_>) -> Option<usize> {
    if key.algorithm.oid != RSA {
        return None;
    }
    let bytes = key.subject_public_key.as_bytes()?;
    let mut reader = SliceReader::new(bytes).ok()?;
    let modulus = reader
        .sequence(|inner| {
            let modulus = x509_cert::der::asn1::UintRef::decode(inner)?;
            x509_cert::der::asn1::UintRef::decode(inner)?;
            Ok::<_, x509_cert::der::Error>(modulus)
        })
        .ok()?;
    let bytes = modulus.as_bytes();
    let first = bytes.iter().position(|byte| *byte != 0)?;
    let leading = bytes.get(first)?.leading_zeros() as usize;
    Some((bytes.len() - first) * 8 - leading)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
