//! Why a handshake failed, in words that logs, metrics and `/clusters` share.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible, PeerMisbehaved};
use std::{fmt, io};

/// Why there is no TLS connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The first bytes are no TLS record. They may be of a protocol that is known.
    NotTls(Plaintext),
    /// The endpoint does not offer TLS: it was asked in its protocol.
    Refused,
    /// No certificate is for the name that the client asks for.
    UnknownName,
    /// No version of TLS in common.
    Version,
    /// No cipher suite, key exchange group or signature scheme in common.
    Cipher,
    /// No application protocol (ALPN) in common.
    Alpn,
    /// The peer sent no certificate, and one is required.
    NoCertificate,
    /// The peer's certificate is not issued by an authority that is trusted here.
    UnknownIssuer,
    /// The peer's certificate is no longer valid.
    Expired,
    /// The peer's certificate is not valid yet.
    NotYetValid,
    /// The peer's certificate is revoked, or its state is not known and must be.
    Revoked,
    /// The server's certificate is for other names. They are listed.
    WrongName(String),
    /// The peer's certificate is not for this use (clientAuth or serverAuth).
    WrongPurpose,
    /// The peer's certificate can't be used. The text says why.
    BadCertificate(&'static str),
    /// The server's key is none of the pinned ones.
    Pin,
    /// The peer does not accept our certificate, or wants one. The text is its alert.
    PeerRejectsUs(&'static str),
    /// The peer sent another alert.
    Alert(String),
    /// The peer breaks the protocol.
    Protocol,
    /// The handshake took too long.
    Timeout,
    /// The peer closed the connection within the handshake.
    Closed,
    /// The peer reset the connection.
    Reset,
    /// The fault is on this side.
    Internal(String),
}

/// A protocol that is recognised by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// None that is known.
    Unknown,
    /// HTTP.
    Http,
    /// MongoDB's wire protocol.
    Mongo,
    /// A PROXY protocol header.
    ProxyHeader,
    /// PostgreSQL's: a request for TLS, or a StartupMessage.
    Postgres,
    /// SSH.
    Ssh,
}

impl HandshakeFailure {
    /// The reason, as metrics and logs have it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotTls(Plaintext::Unknown) => "plaintext",
            Self::NotTls(Plaintext::Http) => "looks_like_http",
            Self::NotTls(Plaintext::Mongo) => "looks_like_mongo",
            Self::NotTls(Plaintext::ProxyHeader) => "looks_like_proxy_header",
            Self::NotTls(Plaintext::Postgres) => "looks_like_postgres",
            Self::NotTls(Plaintext::Ssh) => "looks_like_ssh",
            Self::Refused => "refused",
            Self::UnknownName => "unknown_name",
            Self::Version => "version",
            Self::Cipher => "cipher",
            Self::Alpn => "alpn",
            Self::NoCertificate => "no_certificate",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::WrongName(_) => "wrong_name",
            Self::WrongPurpose => "wrong_purpose",
            Self::BadCertificate(_) => "bad_certificate",
            Self::Pin => "pin",
            Self::PeerRejectsUs(_) => "peer_rejects_us",
            Self::Alert(_) => "alert",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Internal(_) => "internal",
        }
    }

    /// The failure that rustls reports.
    pub(crate) fn from_rustls(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::from_certificate(error),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::NoApplicationProtocol => Self::Alpn,
            Error::AlertReceived(alert) => Self::from_alert(alert),
            Error::PeerIncompatible(incompatible) => Self::from_incompatible(&incompatible),
            Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => {
                Self::Alpn
            }
            Error::PeerMisbehaved(_)
            | Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::DecryptError
            | Error::PeerSentOversizedRecord => Self::Protocol,
            other => Self::Internal(other.to_string()),
        }
    }

    /// The failure of the socket below; or the one that this crate has put into the error.
    pub fn from_io(error: &io::Error) -> Self {
        if let Some(known) = error.get_ref().and_then(|it| it.downcast_ref::<Self>()) {
            return known.clone();
        }
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Reset,
        }
    }

    fn from_certificate(error: CertificateError) -> Self {
        use CertificateError as C;
        match error {
            C::Expired | C::ExpiredContext { .. } => Self::Expired,
            C::NotValidYet | C::NotValidYetContext { .. } => Self::NotYetValid,
            C::Revoked
            | C::UnknownRevocationStatus
            | C::ExpiredRevocationList
            | C::ExpiredRevocationListContext { .. } => Self::Revoked,
            C::UnknownIssuer => Self::UnknownIssuer,
            C::NotValidForName => Self::WrongName("no name".to_owned()),
            C::NotValidForNameContext { presented, .. } => Self::WrongName(names(&presented)),
            C::InvalidPurpose | C::InvalidPurposeContext { .. } => Self::WrongPurpose,
            C::BadEncoding => Self::BadCertificate("it is not encoded as X.509 has it"),
            C::UnhandledCriticalExtension => {
                Self::BadCertificate("it has a critical extension that is not known")
            }
            C::BadSignature => Self::BadCertificate(
                "a signature is wrong: the certificate is not the peer's, it has an RSA key of less \
                 than 2048 bits, or `ca` has another authority of the same name",
            ),
            C::UnsupportedSignatureAlgorithmContext { .. }
            | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Self::BadCertificate(
                "its signature algorithm is not supported, or the peer's is not",
            ),
            C::ApplicationVerificationFailure => Self::Pin,
            C::Other(other) => Self::BadCertificate(unnamed(&other.to_string())),
            _ => Self::BadCertificate("it can't be verified"),
        }
    }

    fn from_incompatible(incompatible: &PeerIncompatible) -> Self {
        use PeerIncompatible as P;
        match incompatible {
            // Clients of TLS 1.1 and older do not send this extension.
            P::SignatureAlgorithmsExtensionRequired
            | P::ServerDoesNotSupportTls12Or13
            | P::ServerTlsVersionIsDisabledByOurConfig
            | P::SupportedVersionsExtensionRequired
            | P::Tls12NotOffered
            | P::Tls12NotOfferedOrEnabled => Self::Version,
            _ => Self::Cipher,
        }
    }

    fn from_alert(alert: AlertDescription) -> Self {
        use AlertDescription as A;
        match alert {
            A::BadCertificate => Self::PeerRejectsUs("bad_certificate"),
            A::UnsupportedCertificate => Self::PeerRejectsUs("unsupported_certificate"),
            A::CertificateRevoked => Self::PeerRejectsUs("certificate_revoked"),
            A::CertificateExpired => Self::PeerRejectsUs("certificate_expired"),
            A::CertificateUnknown => Self::PeerRejectsUs("certificate_unknown"),
            A::UnknownCA => Self::PeerRejectsUs("unknown_ca"),
            A::AccessDenied => Self::PeerRejectsUs("access_denied"),
            A::CertificateRequired | A::NoCertificate => {
                Self::PeerRejectsUs("certificate_required")
            }
            A::DecryptError => Self::PeerRejectsUs("decrypt_error"),
            A::UnrecognisedName => Self::UnknownName,
            A::ProtocolVersion => Self::Version,
            A::HandshakeFailure | A::InsufficientSecurity => Self::Cipher,
            A::NoApplicationProtocol => Self::Alpn,
            A::CloseNotify | A::UserCanceled => Self::Closed,
            other => Self::Alert(format!("{other:?}")),
        }
    }
}

/// What an operator reads. The peer is the subject.
impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls(Plaintext::Unknown) => f.write_str("the first bytes are not TLS"),
            Self::NotTls(Plaintext::Http) => f.write_str("the first bytes are HTTP, not TLS"),
            Self::NotTls(Plaintext::Mongo) => {
                f.write_str("the first bytes are MongoDB's, without TLS (`tls=true`)")
            }
            Self::NotTls(Plaintext::ProxyHeader) => f.write_str(
                "the first bytes are a PROXY protocol header, which is not expected here",
            ),
            Self::NotTls(Plaintext::Postgres) => {
                f.write_str("the first bytes are PostgreSQL's: `sslmode=require`, and `starttls: postgres` here")
            }
            Self::NotTls(Plaintext::Ssh) => f.write_str("the first bytes are SSH, not TLS"),
            Self::Refused => f.write_str("the endpoint does not offer TLS (PostgreSQL: `ssl = on`)"),
            Self::UnknownName => f.write_str("no certificate for the requested name"),
            Self::Version => f.write_str("no TLS version in common"),
            Self::Cipher => f.write_str("no cipher suite, group or signature scheme in common"),
            Self::Alpn => f.write_str("no application protocol (ALPN) in common"),
            Self::NoCertificate => f.write_str("no certificate was sent, and one is required"),
            Self::UnknownIssuer => {
                f.write_str("the certificate's issuer is not trusted here (`ca`)")
            }
            Self::Expired => f.write_str("the certificate has expired"),
            Self::NotYetValid => f.write_str("the certificate is not valid yet"),
            Self::Revoked => f.write_str("the certificate is revoked"),
            Self::WrongName(names) => {
                write!(f, "the certificate is for {names} (`server_name`)")
            }
            Self::WrongPurpose => {
                f.write_str("the certificate is not for this use (extendedKeyUsage)")
            }
            Self::BadCertificate(why) => write!(f, "the certificate can't be used: {why}"),
            Self::Pin => f.write_str("the certificate's key is none of `pins`"),
            Self::PeerRejectsUs(alert) => {
                write!(f, "the peer does not accept our certificate (alert {alert})")
            }
            Self::Alert(alert) => write!(f, "the peer ended the handshake (alert {alert})"),
            Self::Protocol => f.write_str("the bytes break the TLS protocol"),
            Self::Timeout => f.write_str("the TLS handshake took too long"),
            Self::Closed => f.write_str("the connection was closed within the TLS handshake"),
            Self::Reset => f.write_str("the connection was reset within the TLS handshake"),
            Self::Internal(why) => write!(f, "TLS failed on this side: {why}"),
        }
    }
}

impl std::error::Error for HandshakeFailure {}

impl From<HandshakeFailure> for io::Error {
    fn from(failure: HandshakeFailure) -> Self {
        let kind = match failure {
            HandshakeFailure::Timeout => io::ErrorKind::TimedOut,
            HandshakeFailure::Closed => io::ErrorKind::UnexpectedEof,
            HandshakeFailure::Reset => io::ErrorKind::ConnectionReset,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, failure)
    }
}

/// What is wrong, for an error of the verifier that rustls has no name for.
fn unnamed(error: &str) -> &'static str {
    match error {
        "UnsupportedCertVersion" => {
            "it is of X.509 version 1: make one of version 3, with subjectAltName"
        }
        "CaUsedAsEndEntity" => {
            "it is an authority's: a chain begins with the peer's own certificate"
        }
        "EndEntityUsedAsCa" => "it is issued by one that is no authority's (basicConstraints)",
        "MaximumPathDepthExceeded"
        | "MaximumPathBuildCallsExceeded"
        | "MaximumSignatureChecksExceeded" => "it has too many issuers: at most 6 may be sent",
        "PathLenConstraintViolated" => {
            "it has more issuers than one of them allows (basicConstraints, pathlen)"
        }
        "NameConstraintViolation" => {
            "one of its issuers must not issue its names (nameConstraints)"
        }
        _ => "it can't be verified",
    }
}

/// A list of names in words. The verifier writes each with its kind: `DnsName("db.example.net")`.
fn names(presented: &[String]) -> String {
    const MOST: usize = 4;
    let plain = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(name).trim_matches('"').to_owned()
    };
    let first: Vec<String> = presented.iter().take(MOST).map(plain).collect();
    match presented.len().saturating_sub(MOST) {
        _ if first.is_empty() => "no name (it has no subjectAltName)".to_owned(),
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
