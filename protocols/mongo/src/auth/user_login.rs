//! Users that are logged in: at the proxy, and at servers.

use crate::sasl::{ClientSecret, Verifier};
use operation::PoolUser;
use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Numbers the credentials of this process.
static LOGINS: AtomicU64 = AtomicU64::new(1);

/// A user's name, with the database that the user belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UserName {
    pub(crate) db: String,
    pub(crate) name: String,
}

impl UserName {
    pub(crate) fn new(name: &str, db: &str) -> Self {
        Self { db: db.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.db)
    }
}

/// What pooled connections log in as.
#[derive(Debug)]
pub(crate) struct UpstreamUser {
    pub(crate) name: UserName,
    /// The user in the pool's words.
    pub(crate) pool_user: PoolUser,
    pub(crate) secret: ClientSecret,
    /// The secret comes from a client's proof, and is of no use any more when a server refuses it.
    pub(crate) is_proven: bool,
}

impl UpstreamUser {
    pub(crate) fn new(name: &UserName, secret: ClientSecret, is_proven: bool) -> Arc<Self> {
        let login = LOGINS.fetch_add(1, Relaxed);
        let pool_user = PoolUser { name: name.to_string().into(), login };
        Arc::new(Self { name: name.clone(), pool_user, secret, is_proven })
    }
}

/// A user that clients have logged in as at the proxy.
#[derive(Debug)]
pub(crate) struct UserLogin {
    pub(crate) name: UserName,
    /// The one that has accepted the proof; `None`: a certificate is the proof.
    pub(super) verifier: Option<Arc<Verifier>>,
    /// The user that its operations are done as.
    pub(crate) upstream: Arc<UpstreamUser>,
    revoked: OnceLock<Revocation>,
}

/// Why a log-in is not valid any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revocation {
    /// The user was dropped.
    Dropped,
    /// The password was changed.
    PasswordChanged,
    /// A server refuses the key of the log-in.
    Refused,
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "the user was dropped",
            Self::PasswordChanged => "the password was changed",
            Self::Refused => {
                "a server refuses the log-in: the password was changed, or the user was dropped"
            }
        })
    }
}

impl UserLogin {
    pub(super) fn new(
        name: &UserName,
        verifier: Option<Arc<Verifier>>,
        upstream: Arc<UpstreamUser>,
    ) -> Self {
        Self { name: name.clone(), verifier, upstream, revoked: OnceLock::new() }
    }

    /// Ends the log-in for all its clients. Returns whether it was valid.
    pub(super) fn revoke(&self, why: Revocation) -> bool {
        self.revoked.set(why).is_ok()
    }

    /// Why it is not valid any more; `None`: it is.
    pub(crate) fn revocation(&self) -> Option<Revocation> {
        self.revoked.get().copied()
    }
}
