//! Certificates with their keys, read from files.

use crate::{certificate::CertificateInfo, provider::provider};
use rustls::{
    Error, InconsistentKeys,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// The most bytes that a file of certificates may have.
const MAX_FILE: u64 = 4 << 20;

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then those that issued it (PEM).
    pub chain: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// Why files can't be used. The key is the config's key that names the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl LoadError {
    pub(crate) fn new(path: &Path, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into(), hint: hint.into() }
    }
}

/// A certificate that is ready to be shown.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) key: Arc<CertifiedKey>,
    /// What the certificate says.
    pub info: Arc<CertificateInfo>,
    /// Where it came from.
    pub files: CertificateFiles,
}

/// What was read from a file, for comparing it with what the file has later.
pub(crate) type Content = Vec<u8>;

/// Reads a file whole. Kubernetes swaps the directory that a link leads to, so both files of a pair
/// are read through their resolved paths.
pub(crate) fn read(path: &Path) -> Result<Content, LoadError> {
    let hint = "name a regular file that this process may read";
    let failed =
        |error: std::io::Error| LoadError::new(path, format!("can't be read: {error}"), hint);
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(LoadError::new(path, "is no regular file", hint));
    }
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(LoadError::new(path, "has more than 4 MiB", "name a file of certificates"));
    }
    Ok(bytes)
}

/// The files of a pair, both as they are now. A change between the two reads makes it read again.
pub(crate) fn read_pair(files: &CertificateFiles) -> Result<(Content, Content), LoadError> {
    let mut pair = (read(&files.chain)?, read(&files.key)?);
    for _ in 0..3 {
        let again = read(&files.chain)?;
        if again == pair.0 {
            break;
        }
        pair = (again, read(&files.key)?);
    }
    Ok(pair)
}

/// The certificates of a PEM file.
pub(crate) fn certificates(
    path: &Path,
    content: &[u8],
) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    let certificates = certificates.map_err(|error| not_pem(path, &error))?;
    if certificates.is_empty() {
        let hint = "a PEM file has lines `-----BEGIN CERTIFICATE-----`";
        return Err(LoadError::new(path, "has no certificate", hint));
    }
    Ok(certificates)
}

pub(crate) fn not_pem(path: &Path, error: &pem::Error) -> LoadError {
    LoadError::new(path, format!("is not PEM: {error:?}"), "convert it: `openssl x509 -inform der`")
}

impl Identity {
    /// Reads a certificate with its key.
    ///
    /// # Errors
    /// A file can't be read, is not PEM, or the two do not belong together.
    pub fn load(files: &CertificateFiles) -> Result<Self, LoadError> {
        let (chain, key) = read_pair(files)?;
        Self::from_content(files, &chain, &key)
    }

    pub(crate) fn from_content(
        files: &CertificateFiles,
        chain: &[u8],
        key: &[u8],
    ) -> Result<Self, LoadError> {
        let chain = certificates(&files.chain, chain)?;
        let key = private_key(&files.key, key)?;
        let info = chain.first().and_then(|first| CertificateInfo::read(first));
        let Some(info) = info else {
            let hint = "the first certificate of the file must be the server's own";
            return Err(LoadError::new(&files.chain, "is not encoded as X.509 has it", hint));
        };
        if info.version != 3 {
            let message = format!("is a certificate of X.509 version {}", info.version);
            let hint =
                "make one of version 3: `openssl req -x509 -addext subjectAltName=DNS:NAME …`";
            return Err(LoadError::new(&files.chain, message, hint));
        }
        let others = chain.get(1..).unwrap_or_default();
        let belongs = |other: &CertificateDer<'static>| {
            CertifiedKey::from_der(vec![other.clone()], key.clone_key(), &provider()).is_ok()
        };
        let key = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider());
        let key = key.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch)
                if others.iter().any(belongs) =>
            {
                let message = format!("has the certificate of {} not first", files.key.display());
                let hint = "the own certificate must be the first of the file, before its issuers";
                LoadError::new(&files.chain, message, hint)
            }
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let message = format!("is not the key of {}", files.chain.display());
                LoadError::new(&files.key, message, "name the certificate and the key of one pair")
            }
            other => {
                let hint =
                    "keys are RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519";
                LoadError::new(&files.key, format!("is a key that can't be used: {other}"), hint)
            }
        })?;
        Ok(Self { key: Arc::new(key), info: Arc::new(info), files: files.clone() })
    }

    /// What an operator should know of a certificate that can be loaded.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let info = &self.info;
        let chain = self.files.chain.display();
        let mut warnings = Vec::new();
        if info.not_after < now {
            warnings.push(format!("{chain} has expired: clients refuse it"));
        } else if info.not_before > now {
            warnings.push(format!("{chain} is not valid yet: clients refuse it"));
        }
        if info.dns.is_empty() && info.addresses.is_empty() && info.uris.is_empty() {
            warnings.push(format!(
                "{chain} has no subjectAltName: clients refuse it, whatever its common name is"
            ));
        }
        if let Some(bits) = info.rsa_bits {
            if bits < 2048 {
                warnings.push(format!("{chain} has an RSA key of {bits} bits: clients refuse it"));
            } else if bits > 2048 {
                warnings.push(format!(
                    "{chain} has an RSA key of {bits} bits, and each handshake pays for it: ECDSA on \
                     P-256 costs a tenth"
                ));
            }
        }
        warnings
    }
}

fn private_key(path: &Path, content: &[u8]) -> Result<PrivateKeyDer<'static>, LoadError> {
    if content.windows(9).any(|it| it == b"ENCRYPTED") {
        let hint = "write it without a password: `openssl pkey -in KEY -out KEY`";
        return Err(LoadError::new(path, "is an encrypted key", hint));
    }
    PrivateKeyDer::from_pem_slice(content).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let hint = "a PEM file of a key has a line `-----BEGIN PRIVATE KEY-----`";
            LoadError::new(path, "has no private key", hint)
        }
        other => not_pem(path, &other),
    })
}
