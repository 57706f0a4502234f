//! Lists of revoked certificates, read from a file.

use crate::identity::{LoadError, not_pem};
use rustls::pki_types::{CertificateRevocationListDer, pem::PemObject};
use std::{path::Path, time::Duration};
use x509_cert::{
    crl::CertificateList,
    der::{Decode, Encode},
    spki::ObjectIdentifier,
};

/// The extension that limits a list to a part of an issuer's certificates (RFC 5280, 5.2.5).
const ISSUING_DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");

/// Which certificates a list is about: those of an issuer, or a part of them.
type Scope = (Vec<u8>, Option<Vec<u8>>);

/// The lists in `content`, the newest one for each scope. The verifier would use the first one that it
/// finds, which may be an old one.
pub(crate) fn revocation_lists(
    path: &Path,
    content: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, LoadError> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(content).collect();
    let lists = lists.map_err(|error| not_pem(path, &error))?;
    if lists.is_empty() {
        let hint = "a PEM file of revocation lists has lines `-----BEGIN X509 CRL-----`";
        return Err(LoadError::new(path, "has no revocation list", hint));
    }
    let known: Vec<_> = lists.iter().map(|list| scope_and_time(list)).collect();
    let is_newest = |(number, this): (usize, &Option<(Scope, Duration)>)| {
        let Some((scope, issued)) = this else { return true };
        let same = known.iter().enumerate().filter_map(|(other, it)| Some((other, it.as_ref()?)));
        let mut same = same.filter(|(_, (other, _))| other == scope);
        same.all(|(other, (_, other_issued))| (other_issued, other) <= (issued, number))
    };
    let newest: Vec<bool> = known.iter().enumerate().map(is_newest).collect();
    let kept = lists.into_iter().zip(newest).filter(|(_, is_newest)| *is_newest);
    Ok(kept.map(|(list, _)| list).collect())
}

/// The scope of a list, and when it was issued, since 1970. `None` if it can't be read: the verifier
/// reports why.
fn scope_and_time(list: &[u8]) -> Option<(Scope, Duration)> {
    let list =
        CertificateList::<x509_cert::certificate::Rfc5280>::from_der(list).ok()?.tbs_cert_list;
    let extensions = list.crl_extensions.iter().flatten();
    let mut parts = extensions.filter(|it| it.extn_id == ISSUING_DISTRIBUTION_POINT);
    let part = parts.next().map(|it| it.extn_value.as_bytes().to_vec());
    Some(((list.issuer.to_der().ok()?, part), list.this_update.to_unix_duration()))
}
