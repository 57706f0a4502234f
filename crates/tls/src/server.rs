//! The side that accepts connections: which certificate a client is shown, and which it must show.

use crate::{
    certificate::{CertificateInfo, name_matches},
    client_hello::ClientHello,
    failure::HandshakeFailure,
    identity::{CertificateFiles, Content, Identity, LoadError, certificates, read, read_pair},
    info::TlsInfo,
    provider::{MinVersion, provider},
    revocation::revocation_lists,
    stream::TlsStream,
};
use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};
use serde::{Serialize, Serializer};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// What a listener's clients get and must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsPlan {
    /// The certificates, of which one is chosen by the name that a client asks for.
    pub certificates: Vec<CertificateFiles>,
    /// Certificates that clients may have, if they are asked for one.
    pub client_certificates: Option<ClientCertificates>,
    /// The lowest version.
    pub min_version: MinVersion,
    /// The application protocols (ALPN), best first. None: the client's offer is not looked at.
    pub alpn: Vec<Vec<u8>>,
    /// Clients without TLS are served.
    pub allow_plaintext: bool,
    /// Clients that ask for a name without a certificate are refused, and so are those that ask for
    /// none. Otherwise they get the first certificate.
    pub strict_names: bool,
}

/// Which certificates clients may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Their issuers (PEM).
    pub ca: PathBuf,
    /// Clients without one are refused.
    pub required: bool,
    /// Revoked ones (PEM).
    pub crl: Option<PathBuf>,
    /// A certificate whose state no list has is refused, and so are lists that have expired.
    pub strict_crl: bool,
    /// Open connections whose certificate is no longer accepted are closed, once `ca` or `crl` changes.
    pub close_revoked: bool,
}

/// The TLS side of a listener. All workers share it.
pub struct ServerTls {
    plan: ServerTlsPlan,
    loaded: ArcSwap<Loaded>,
    /// Called when open connections must be verified again.
    verify_again: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// What was made of the files.
struct Loaded {
    config: Arc<ServerConfig>,
    certificates: Arc<CertificateSet>,
    /// Verifies clients' certificates, if they are asked for one.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    contents: Contents,
    /// The key that session tickets are encrypted with. Clients that come back must find the same
    /// rules for client certificates, so where there are any there are no tickets.
    tickets: Option<Arc<dyn ProducesTickets>>,
}

/// What the files had.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    pairs: Vec<(Content, Content)>,
    client_ca: Option<Content>,
    crl: Option<Content>,
}

impl Contents {
    fn read(plan: &ServerTlsPlan) -> Result<Self, LoadError> {
        let pairs: Result<_, _> = plan.certificates.iter().map(read_pair).collect();
        let clients = plan.client_certificates.as_ref();
        let crl = clients.and_then(|it| it.crl.as_deref());
        Ok(Self {
            pairs: pairs?,
            client_ca: clients.map(|it| read(&it.ca)).transpose()?,
            crl: crl.map(read).transpose()?,
        })
    }
}

/// By what they are made from.
impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.plan == other.plan
    }
}

impl Eq for ServerTls {}

/// As in a config.
impl Serialize for ServerTls {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        crate::ListenerSettings::from(&self.plan).serialize(to)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file can't be used.
    pub fn load(plan: ServerTlsPlan) -> Result<Self, LoadError> {
        let loaded = Loaded::new(&plan, Contents::read(&plan)?, None)?;
        Ok(Self { plan, loaded: ArcSwap::from_pointee(loaded), verify_again: OnceLock::new() })
    }

    /// Reads the files again. New connections get what they have now; open ones keep what they have, unless
    /// the rules for clients have changed and the plan closes them then. Returns whether anything has
    /// changed.
    ///
    /// # Errors
    /// A file can't be used; nothing has changed then.
    pub fn reload(&self) -> Result<bool, LoadError> {
        let contents = Contents::read(&self.plan)?;
        let before = self.loaded.load();
        if contents == before.contents {
            return Ok(false);
        }
        let same_rules =
            contents.client_ca == before.contents.client_ca && contents.crl == before.contents.crl;
        self.loaded.store(Arc::new(Loaded::new(&self.plan, contents, before.tickets.clone())?));
        if let Some(verify_again) = self.verify_again.get()
            && self.closes_revoked()
            && !same_rules
        {
            verify_again();
        }
        Ok(true)
    }

    /// Whether open connections whose certificate is no longer accepted are closed.
    fn closes_revoked(&self) -> bool {
        self.plan.client_certificates.as_ref().is_some_and(|clients| clients.close_revoked)
    }

    /// Sets what is called when open connections must be verified again by [`ServerTls::accepts`]. The
    /// first call counts.
    pub fn on_rules_change(&self, verify_again: impl Fn() + Send + Sync + 'static) {
        let _ = self.verify_again.set(Box::new(verify_again));
    }

    /// What a handshake by `config` has led to. `server_name` is what the client asked for.
    ///
    /// # Errors
    /// The rules for clients have changed within the handshake, and its certificate is no longer accepted.
    pub fn info(
        &self,
        stream: &TlsStream,
        config: &Arc<ServerConfig>,
        server_name: Option<String>,
    ) -> Result<TlsInfo, HandshakeFailure> {
        let mut info = stream.info(server_name);
        if self.closes_revoked() {
            let chain = stream.peer_certificates();
            info.chain = chain.map(|der| CertificateDer::from(der.to_vec())).collect();
            let is_current = Arc::ptr_eq(config, &self.loaded.load().config);
            if !is_current && !self.accepts(&info.chain) {
                return Err(HandshakeFailure::Revoked);
            }
        }
        Ok(info)
    }

    /// Whether a client with this certificate and these issuers is accepted now.
    pub fn accepts(&self, chain: &[CertificateDer<'static>]) -> bool {
        let loaded = self.loaded.load();
        match (&loaded.verifier, chain.split_first()) {
            (Some(verifier), Some((own, issuers))) => {
                verifier.verify_client_cert(own, issuers, UnixTime::now()).is_ok()
            }
            _ => true,
        }
    }

    /// The config for the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().config)
    }

    /// Whether there is a certificate for what a client asks for.
    pub fn serves(&self, hello: &ClientHello) -> bool {
        !self.plan.strict_names
            || hello
                .server_name
                .as_deref()
                .is_some_and(|name| self.loaded.load().certificates.named(name).next().is_some())
    }

    /// The certificates as they are now.
    pub fn identities(&self) -> Vec<Identity> {
        self.loaded.load().certificates.identities.clone()
    }

    /// What it was made from.
    pub fn plan(&self) -> &ServerTlsPlan {
        &self.plan
    }
}

impl Loaded {
    fn new(
        plan: &ServerTlsPlan,
        contents: Contents,
        tickets: Option<Arc<dyn ProducesTickets>>,
    ) -> Result<Self, LoadError> {
        let pairs = plan.certificates.iter().zip(&contents.pairs);
        let identities: Result<Vec<_>, _> =
            pairs.map(|(files, (chain, key))| Identity::from_content(files, chain, key)).collect();
        let certificates = Arc::new(CertificateSet { identities: identities? });
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(plan.min_version.versions());
        let first = plan.certificates.first().map_or(Path::new(""), |it| &it.chain);
        let failed = |error: rustls::Error| LoadError::new(first, error.to_string(), "");
        let builder = builder.map_err(failed)?;
        let (ca, crl) = (contents.client_ca.as_deref(), contents.crl.as_deref());
        let clients = plan.client_certificates.as_ref();
        let verifier = clients.map(|clients| client_verifier(clients, ca, crl)).transpose()?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&certificates) as _);
        config.alpn_protocols.clone_from(&plan.alpn);
        let tickets = if plan.client_certificates.is_some() {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            None
        } else {
            let tickets = tickets.map_or_else(rustls::crypto::aws_lc_rs::Ticketer::new, Ok);
            let tickets = tickets.map_err(failed)?;
            config.ticketer = Arc::clone(&tickets);
            Some(tickets)
        };
        Ok(Self { config: Arc::new(config), certificates, verifier, contents, tickets })
    }
}

/// Verifies clients' certificates.
fn client_verifier(
    clients: &ClientCertificates,
    ca: Option<&[u8]>,
    crl: Option<&[u8]>,
) -> Result<Arc<dyn ClientCertVerifier>, LoadError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&clients.ca, ca.unwrap_or_default())? {
        add_root(&mut roots, &clients.ca, authority)?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if let (Some(path), Some(content)) = (&clients.crl, crl) {
        builder =
            builder.with_crls(revocation_lists(path, content)?).only_check_end_entity_revocation();
        builder = if clients.strict_crl {
            builder.enforce_revocation_expiration()
        } else {
            builder.allow_unknown_revocation_status()
        };
    }
    if !clients.required {
        builder = builder.allow_unauthenticated();
    }
    let path = clients.crl.as_ref().unwrap_or(&clients.ca);
    builder.build().map_err(|error| LoadError::new(path, error.to_string(), ""))
}

/// Adds an authority that is trusted.
pub(crate) fn add_root(
    roots: &mut RootCertStore,
    path: &Path,
    authority: CertificateDer<'static>,
) -> Result<(), LoadError> {
    let subject = CertificateInfo::read(&authority).map(|info| info.subject);
    roots.add(authority).map_err(|error| {
        let subject = subject.unwrap_or_default();
        let message = format!("has an authority `{subject}` that can't be used: {error}");
        LoadError::new(path, message, "leave it out, or replace it by one of X.509 version 3")
    })
}

/// The certificates of a listener.
#[derive(Debug)]
struct CertificateSet {
    identities: Vec<Identity>,
}

impl CertificateSet {
    /// The certificates for a name: exact ones, or else wildcards.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Identity> {
        let exact = |it: &&Identity| it.info.dns.iter().any(|dns| dns.eq_ignore_ascii_case(name));
        let any_exact = self.identities.iter().any(|it| exact(&it));
        self.identities.iter().filter(move |it| {
            if any_exact {
                exact(it)
            } else {
                it.info.dns.iter().any(|dns| name_matches(dns, name))
            }
        })
    }
}

impl ResolvesServerCert for CertificateSet {
    fn resolve(&self, hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let signs = |identity: &&Identity| {
            identity.key.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let named = hello.server_name().and_then(|name| self.named(name).find(signs));
        let chosen = named.or_else(|| self.identities.iter().find(signs));
        chosen.or(self.identities.first()).map(|identity| Arc::clone(&identity.key))
    }
}
