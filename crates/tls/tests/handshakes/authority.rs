//! Certificates that are made for a test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is all test, helpers too")]

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;
use tls::CertificateFiles;

/// An authority that clients and servers may trust.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its key, in files.
pub(crate) struct Pair {
    folder: TempDir,
    serial: u64,
}

static SERIAL: AtomicU64 = AtomicU64::new(1);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        let number = SERIAL.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("test authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// The authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.issue_with(names, |_| {})
    }

    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair::write(&certificate.pem(), &key.serialize_pem(), serial)
    }

    /// A list that revokes these.
    pub(crate) fn revocation_list(&self, revoked: &[&Pair]) -> PathBuf {
        self.revocation_lists(&[(time::Duration::ZERO, revoked)])
    }

    /// Lists with their ages, which revoke these, in one file.
    pub(crate) fn revocation_lists(&self, lists: &[(time::Duration, &[&Pair])]) -> PathBuf {
        let path = self.folder.path().join("crl.pem");
        let pem: String =
            lists.iter().map(|(age, revoked)| self.revocation_list_pem(*age, revoked)).collect();
        fs::write(&path, pem).unwrap();
        path
    }

    fn revocation_list_pem(&self, age: time::Duration, revoked: &[&Pair]) -> String {
        let now = time::OffsetDateTime::now_utc() - age;
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + time::Duration::days(1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|pair| RevokedCertParams {
                    serial_number: SerialNumber::from(pair.serial),
                    revocation_time: now,
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Pair {
    pub(crate) fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Self::write(&params.self_signed(&key).unwrap().pem(), &key.serialize_pem(), 0)
    }

    fn write(certificate: &str, key: &str, serial: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tls.crt"), certificate).unwrap();
        fs::write(folder.path().join("tls.key"), key).unwrap();
        Self { folder, serial }
    }

    pub(crate) fn files(&self) -> CertificateFiles {
        let file = |name: &str| self.folder.path().join(name);
        CertificateFiles { chain: file("tls.crt"), key: file("tls.key") }
    }

    /// Writes another pair over this one.
    pub(crate) fn replace(&self, with: &Pair) {
        let (own, new) = (self.files(), with.files());
        fs::copy(new.chain, own.chain).unwrap();
        fs::copy(new.key, own.key).unwrap();
    }

    /// The digest that a pin has.
    pub(crate) fn key_digest(&self) -> [u8; 32] {
        let pem = fs::read(self.files().chain).unwrap();
        let der = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&pem);
        tls::key_digest(&der.unwrap()).unwrap()
    }
}
