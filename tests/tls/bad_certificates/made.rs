//! The certificates of the table: each differs from a good one in one way.

use crate::support::certificates::{Certificates, authority, params};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair, PKCS_RSA_SHA256, PublicKeyData,
    SignatureAlgorithm, SigningKey, date_time_ymd,
};

/// The serial number of the certificate that is revoked.
const REVOKED: u64 = 4711;

/// Writes `NAME.crt` and `NAME.key` for each, and `revoked.pem`.
pub(super) fn write(certificates: &Certificates) {
    let names = ["localhost"];
    certificates.issue("good", &names);
    certificates
        .issue_with("expired", &names, |params| params.not_after = date_time_ymd(2025, 1, 1));
    certificates.issue_with("not-yet-valid", &names, |params| {
        params.not_before = date_time_ymd(2095, 1, 1)
    });
    certificates.issue("wrong-name", &["other.example.net"]);
    certificates.issue("no-name", &[]);
    certificates.issue_with("wrong-purpose", &names, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    });
    certificates.issue_with("revoked", &names, |params| {
        params.serial_number = Some(REVOKED.into());
    });
    certificates.revoke(REVOKED);
    let key = KeyPair::generate().unwrap();
    let self_signed = params(&names).self_signed(&key).unwrap();
    certificates.write("self-signed", &self_signed.pem(), &key.serialize_pem());
    let other = KeyPair::generate().unwrap();
    let stranger = CertifiedIssuer::self_signed(authority("a stranger"), other).unwrap();
    let issued = params(&names).signed_by(&key, &stranger).unwrap();
    certificates.write("unknown-issuer", &issued.pem(), &key.serialize_pem());
    let good = std::fs::read_to_string(certificates.path("good.crt")).unwrap();
    certificates.write("other-key", &good, &key.serialize_pem());
    let short = params(&names).signed_by(&ShortKey::new(), certificates.issuer()).unwrap();
    certificates.write("rsa-1024", &short.pem(), &key.serialize_pem());
    let issued = params(&names).signed_by(&key, certificates.issuer()).unwrap();
    let version_1 = version_1(issued.der(), certificates.issuer().key());
    certificates.write("version-1", &pem(&version_1), &key.serialize_pem());
    write_chains(certificates);
}

/// Writes those whose issuers are in the wrong order, missing, or too many.
fn write_chains(certificates: &Certificates) {
    let mut issuers: Vec<CertifiedIssuer<'_, KeyPair>> = Vec::new();
    for number in 1..=10 {
        let issuer = issuers.last().unwrap_or(certificates.issuer());
        let (params, key) = (authority(&format!("step {number}")), KeyPair::generate().unwrap());
        issuers.push(CertifiedIssuer::signed_by(params, key, issuer).unwrap());
    }
    let write = |name: &str, depth: usize, order: fn(Vec<String>) -> Vec<String>| {
        let key = KeyPair::generate().unwrap();
        let own = params(&["localhost"]).signed_by(&key, &issuers[depth - 1]).unwrap();
        let between = issuers[..depth].iter().rev().map(CertifiedIssuer::pem);
        let chain = std::iter::once(own.pem()).chain(between).collect();
        certificates.write(name, &order(chain).concat(), &key.serialize_pem());
    };
    write("shuffled", 2, |chain| vec![chain[0].clone(), chain[2].clone(), chain[1].clone()]);
    write("issuer-first", 1, |chain| chain.into_iter().rev().collect());
    write("no-intermediate", 2, |chain| vec![chain[0].clone(), chain[2].clone()]);
    write("ten-deep", 10, |chain| chain);
}

/// An RSA key of 1024 bits, with which nothing can be signed.
struct ShortKey(Vec<u8>);

impl ShortKey {
    fn new() -> Self {
        let modulus = [&[0][..], &[0xC5; 128]].concat();
        let numbers = [element(0x02, &modulus), element(0x02, &[1, 0, 1])].concat();
        Self(element(0x30, &numbers))
    }
}

impl PublicKeyData for ShortKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

/// The same certificate as one of version 1: without a version, and without extensions.
fn version_1(certificate: &[u8], issuer: &impl SigningKey) -> Vec<u8> {
    const VERSION: u8 = 0xA0;
    const EXTENSIONS: u8 = 0xA3;
    let (parts, _) = content(certificate);
    let (fields, _) = content(parts);
    let kept = elements(fields).filter(|it| ![VERSION, EXTENSIONS].contains(&it[0]));
    let fields = element(0x30, &kept.collect::<Vec<_>>().concat());
    let algorithm = elements(parts).nth(1).unwrap();
    let signature = [&[0][..], &issuer.sign(&fields).unwrap()].concat();
    element(0x30, &[&fields, algorithm, &element(0x03, &signature)].concat())
}

/// An element of DER (X.690).
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let head: &[u8] = match length {
        ..=0x7F => &[tag, low],
        0x80..=0xFF => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}

/// The content of the first element, and what follows the element.
fn content(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, at) = match der[1] {
        short @ ..=0x7F => (usize::from(short), 2),
        0x81 => (usize::from(der[2]), 3),
        _ => (usize::from(u16::from_be_bytes([der[2], der[3]])), 4),
    };
    (&der[at..at + length], &der[at + length..])
}

/// All elements.
fn elements(mut der: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (_, rest) = (!der.is_empty()).then(|| content(der))?;
        let whole = &der[..der.len() - rest.len()];
        der = rest;
        Some(whole)
    })
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}
