//! Log-ins at the proxy: the users that may log in, and those that the proxy logs in as at servers. All
//! connections of a listener share this.
//!
//! - `client_login`: the log-in of one client
//! - `user_login`: users that are logged in
//! - `verifier_cache`, `users_info`: verifiers that servers show
//! - `failed_logins`: a limit against guessing
//! - `upstream_login`: the proxy's own log-in on a new connection

mod client_login;
mod failed_logins;
mod upstream_login;
mod user_login;
mod users_info;
mod verifier_cache;

pub(crate) use client_login::{ClientLogin, HelloLogin, LoginStep, foreign_mechanism};
pub(crate) use upstream_login::UpstreamLogin;
pub(crate) use user_login::UpstreamUser;

use crate::{
    operator_notices::OperatorNotices,
    sasl::{ClientSecret, Mechanism, Password, Verifier},
    settings::AuthSettings,
};
use failed_logins::FailedLogins;
use operation::{Identity, PoolUser, ServiceQuery};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use user_login::{Revocation, UserLogin, UserName};
use users_info::UsersInfo;
use values::Diagnostic;
use verifier_cache::{MAX_AGE, MIN_AGE, UserAnswer, VerifierCache};
use zeroize::Zeroizing;

/// The longest file with a secret that is read, in bytes.
const MAX_SECRET_FILE: u64 = 4096;

/// The users of a listener.
#[derive(Debug)]
pub(crate) struct Authenticator {
    listed: BTreeMap<UserName, ListedUser>,
    /// Users that log in by a certificate, by its subject.
    certificates: BTreeMap<String, Arc<UserLogin>>,
    /// The account that views users.
    lookup: Option<Arc<UpstreamUser>>,
    /// The user that the proxy logs in as for all clients; `None`: each client's own.
    shared_user: Option<Arc<UpstreamUser>>,
    cache: Mutex<VerifierCache>,
    logins: Mutex<Logins>,
    failed: Mutex<FailedLogins>,
    clock: Clock,
    notices: Arc<OperatorNotices>,
}

/// A user of the config.
#[derive(Debug)]
struct ListedUser {
    /// Those of a password are computed when they are needed.
    verifiers: OnceLock<Vec<Arc<Verifier>>>,
    /// With the password, if that is known.
    upstream: Option<(Password, Arc<UpstreamUser>)>,
}

/// Users that are logged in, or were a short while ago.
#[derive(Debug, Default)]
struct Logins {
    by_user: BTreeMap<(UserName, Mechanism), LoginEntry>,
    /// What pooled connections log in as, by [`PoolUser::login`].
    upstream: HashMap<u64, Arc<UpstreamUser>>,
}

#[derive(Debug)]
struct LoginEntry {
    login: Arc<UserLogin>,
    /// When a client was last logged in.
    used: Duration,
    /// When the server was last asked whether it is still valid.
    asked: Duration,
}

/// What is known of a user's verifier.
#[derive(Debug, PartialEq, Eq)]
enum VerifierSearch {
    Found(Arc<Verifier>),
    /// The user does not exist, or does not use the mechanism.
    Absent,
    /// The server does not let the proxy view users.
    Unavailable,
    /// The server was not asked.
    NotAsked,
}

/// The time since the start, which [`Authenticator::due_queries`] moves on about once a second.
#[derive(Debug, Default)]
struct Clock {
    start: OnceLock<Instant>,
    millis: AtomicU64,
}

impl Clock {
    fn advance(&self, now: Instant) {
        let since = now.saturating_duration_since(*self.start.get_or_init(|| now));
        self.millis.fetch_max(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.millis.load(Relaxed))
    }
}

impl Authenticator {
    /// Reads the passwords of the settings, which were checked.
    ///
    /// # Errors
    /// Files that can't be read, each with its path of keys.
    pub(crate) fn new(
        settings: &AuthSettings,
        notices: Arc<OperatorNotices>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let (mut listed, mut mistakes) = (BTreeMap::new(), Vec::new());
        let mut shared_user = None;
        for (index, user) in settings.users.iter().enumerate() {
            let name = UserName::new(&user.name, &user.db);
            let index = index.to_string();
            let (mut verifiers, mut upstream) = (OnceLock::new(), None);
            if let Some(file) = &user.verifier_file {
                match read_verifier(file, &["auth", "users", &index, "verifier_file"]) {
                    Ok(verifier) => verifiers = vec![Arc::new(verifier)].into(),
                    Err(mistake) => mistakes.push(mistake),
                }
            }
            if let Some(file) = &user.password_file {
                match read_password(file, &["auth", "users", &index, "password_file"]) {
                    Ok(password) => upstream = Some(with_password(&name, password)),
                    Err(mistake) => mistakes.push(mistake),
                }
            }
            if settings.log_in_as.as_ref().is_some_and(|text| user.is_named(text)) {
                shared_user = upstream.as_ref().map(|(_, user)| Arc::clone(user));
            }
            listed.insert(name, ListedUser { verifiers, upstream });
        }
        let mut certificates = BTreeMap::new();
        for user in &settings.users {
            let name = UserName::new(&user.name, &user.db);
            let own = listed.get(&name).and_then(|user: &ListedUser| user.upstream.as_ref());
            let upstream = shared_user.as_ref().or(own.map(|(_, user)| user));
            if let (Some(subject), Some(upstream)) = (&user.x509, upstream) {
                let login = UserLogin::new(&name, None, Arc::clone(upstream));
                certificates.insert(subject.clone(), Arc::new(login));
            }
        }
        let mut lookup = None;
        if let Some(account) = &settings.lookup {
            let name = UserName::new(&account.user, &account.db);
            match read_password(&account.password_file, &["auth", "lookup", "password_file"]) {
                Ok(password) => lookup = Some(with_password(&name, password).1),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let with_passwords = listed.values().filter_map(|user| user.upstream.as_ref());
        let permanent = with_passwords.map(|(_, user)| user).chain(&lookup);
        let upstream = permanent
            .map(|user| (user.pool_user.login, Arc::clone(user)))
            .collect::<HashMap<_, _>>();
        Ok(Self {
            listed,
            certificates,
            lookup,
            shared_user,
            cache: Mutex::default(),
            logins: Mutex::new(Logins { upstream, ..Logins::default() }),
            failed: Mutex::default(),
            clock: Clock::default(),
            notices,
        })
    }

    /// The verifier of a user for a mechanism.
    fn verifier(&self, user: &UserName, mechanism: Mechanism) -> VerifierSearch {
        if let Some(listed) = self.listed.get(user) {
            let verifiers = listed.verifiers(user);
            let found = verifiers.iter().find(|verifier| verifier.mechanism == mechanism);
            return found
                .map_or(VerifierSearch::Absent, |it| VerifierSearch::Found(Arc::clone(it)));
        }
        match lock(&self.cache).get(user, self.clock.now()) {
            Some(UserAnswer::Unavailable) => VerifierSearch::Unavailable,
            Some(answer) => match answer.verifier(mechanism) {
                Some(verifier) => VerifierSearch::Found(Arc::clone(verifier)),
                None => VerifierSearch::Absent,
            },
            None if self.lookup.is_none() => VerifierSearch::Absent,
            None => VerifierSearch::NotAsked,
        }
    }

    /// The user that a client with this certificate logs in as.
    fn certificate_login(&self, subject: &str) -> Option<Arc<UserLogin>> {
        self.certificates.get(subject).cloned()
    }

    /// Whether clients log in by certificates.
    pub(crate) fn accepts_certificates(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// Whether the server must be asked before a wrong proof of this user is known to be wrong.
    fn may_have_changed(&self, user: &UserName) -> bool {
        self.lookup.is_some()
            && !self.listed.contains_key(user)
            && lock(&self.cache).may_have_changed(user, self.clock.now())
    }

    /// Records a log-in that the verifier has accepted. Clients that have proved the same share it.
    fn log_in(
        &self,
        name: &UserName,
        verifier: &Arc<Verifier>,
        secret: ClientSecret,
    ) -> Arc<UserLogin> {
        let now = self.clock.now();
        let mut logins = lock(&self.logins);
        let key = (name.clone(), verifier.mechanism);
        if let Some(entry) = logins.by_user.get_mut(&key)
            && entry.login.verifier.as_ref() == Some(verifier)
        {
            entry.used = now;
            return Arc::clone(&entry.login);
        }
        logins.revoke(&key, Revocation::PasswordChanged, &self.notices);
        let of_config = self.listed.get(name).and_then(|user| user.upstream.as_ref());
        let known = self.shared_user.as_ref().or(of_config.map(|(_, user)| user)).cloned();
        let upstream = known.unwrap_or_else(|| UpstreamUser::new(name, secret, true));
        logins.upstream.insert(upstream.pool_user.login, Arc::clone(&upstream));
        let login = Arc::new(UserLogin::new(name, Some(Arc::clone(verifier)), upstream));
        let entry = LoginEntry { login: Arc::clone(&login), used: now, asked: now };
        logins.by_user.insert(key, entry);
        login
    }

    /// Records what the server has answered about a user. Log-ins that are not valid any more end.
    fn learn(&self, user: &UserName, answer: UserAnswer) {
        let mut logins = lock(&self.logins);
        for mechanism in Mechanism::ALL {
            let key = (user.clone(), mechanism);
            let Some(entry) = logins.by_user.get(&key) else { continue };
            match &answer {
                UserAnswer::Unknown => logins.revoke(&key, Revocation::Dropped, &self.notices),
                UserAnswer::Known(_)
                    if answer.verifier(mechanism) != entry.login.verifier.as_ref() =>
                {
                    logins.revoke(&key, Revocation::PasswordChanged, &self.notices);
                }
                UserAnswer::Known(_) | UserAnswer::Unavailable => {}
            }
        }
        drop(logins);
        lock(&self.cache).insert(user.clone(), answer, self.clock.now());
    }

    /// Records that the server does not let the proxy view users.
    fn lookup_failed(&self, user: &UserName, error: &str) {
        self.notices.record_failed_lookup(error);
        lock(&self.cache).insert(user.clone(), UserAnswer::Unavailable, self.clock.now());
    }

    /// A server has refused the log-in of this user. A key that a client has proved ends with it.
    fn refused(&self, user: &UpstreamUser) {
        if !user.is_proven {
            return;
        }
        lock(&self.cache).remove(&user.name);
        let mut logins = lock(&self.logins);
        for mechanism in Mechanism::ALL {
            let key = (user.name.clone(), mechanism);
            let refused = logins.by_user.get(&key);
            if refused.is_some_and(|it| it.login.upstream.pool_user == user.pool_user) {
                logins.revoke(&key, Revocation::Refused, &self.notices);
            }
        }
    }

    fn allows(&self, peer: IpAddr, user: Option<&UserName>) -> bool {
        lock(&self.failed).allows(peer, user, self.clock.now())
    }

    fn record_failure(&self, peer: IpAddr, user: Option<UserName>) {
        lock(&self.failed).record(peer, user, self.clock.now());
    }

    /// What pooled connections of this user log in with; `None`: the log-in is not valid any more.
    pub(crate) fn upstream_user(&self, user: &PoolUser) -> Option<Arc<UpstreamUser>> {
        lock(&self.logins).upstream.get(&user.login).cloned()
    }

    /// The identity of connections that all clients use; `None`: each user has its own.
    pub(crate) fn shared_identity(&self) -> Option<Identity> {
        let user = Some(self.shared_user.as_ref()?.pool_user.clone());
        Some(Identity { user, application: None })
    }

    /// Asks the server for a user; `None`: no account may do that.
    pub(crate) fn query(self: &Arc<Self>, user: UserName) -> Option<ServiceQuery> {
        let account = self.lookup.as_ref()?.pool_user.clone();
        let identity = Identity { user: Some(account), application: None };
        let subject = user.to_string().into();
        let exchange = Box::new(UsersInfo { authenticator: Arc::clone(self), user });
        Some(ServiceQuery { subject, identity, exchange })
    }

    /// The servers are others from now on: users are looked up there.
    pub(crate) fn forget_verifiers(&self) {
        *lock(&self.cache) = VerifierCache::default();
    }

    /// Forgets the keys of users without clients, and asks whether the other users are still valid. Called
    /// about once a second.
    pub(crate) fn due_queries(self: &Arc<Self>, now: Instant) -> Vec<ServiceQuery> {
        self.clock.advance(now);
        let now = self.clock.now();
        let mut logins = lock(&self.logins);
        let mut unused = Vec::new();
        let mut due = Vec::new();
        for (key, entry) in &mut logins.by_user {
            if Arc::strong_count(&entry.login) > 1 {
                entry.used = now;
            } else if now.saturating_sub(entry.used) >= MAX_AGE {
                unused.push(key.clone());
                continue;
            }
            let is_looked_up = !self.listed.contains_key(&key.0);
            if is_looked_up
                && now.saturating_sub(entry.asked) >= MIN_AGE
                && lock(&self.cache).get(&key.0, now).is_none()
            {
                entry.asked = now;
                due.push(key.0.clone());
            }
        }
        unused.iter().for_each(|key| logins.remove(key));
        drop(logins);
        due.into_iter().filter_map(|user| self.query(user)).collect()
    }
}

impl ListedUser {
    fn verifiers(&self, user: &UserName) -> &[Arc<Verifier>] {
        self.verifiers.get_or_init(|| {
            let Some((password, _)) = &self.upstream else { return Vec::new() };
            let of = |mechanism| {
                let salt = Verifier::new_salt(mechanism).ok()?;
                Some(Arc::new(Verifier::of_password(mechanism, &user.name, password, salt)))
            };
            Mechanism::ALL.into_iter().filter_map(of).collect()
        })
    }
}

impl Logins {
    /// Ends a log-in for all its clients.
    fn revoke(&mut self, key: &(UserName, Mechanism), why: Revocation, notices: &OperatorNotices) {
        if let Some(entry) = self.by_user.get(key)
            && entry.login.revoke(why)
        {
            notices.record_revocation(&entry.login.name.to_string(), &why.to_string());
        }
        self.remove(key);
    }

    fn remove(&mut self, key: &(UserName, Mechanism)) {
        if let Some(LoginEntry { login, .. }) = self.by_user.remove(key)
            && login.upstream.is_proven
        {
            self.upstream.remove(&login.upstream.pool_user.login);
        }
    }
}

fn with_password(name: &UserName, password: Password) -> (Password, Arc<UpstreamUser>) {
    let user = UpstreamUser::new(name, password.clone().into(), false);
    (password, user)
}

fn read_password(file: &Path, path: &[&str]) -> Result<Password, Diagnostic> {
    read_secret(file, path, "password").map(Password::new)
}

fn read_verifier(file: &Path, path: &[&str]) -> Result<Verifier, Diagnostic> {
    let text = read_secret(file, path, "verifier")?;
    Verifier::parse(&text).ok_or_else(|| {
        let message = format!("the first line of {} is no verifier", file.display());
        let hint =
            "write `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`, the format of RFC 5803";
        Diagnostic::at(path, message, hint)
    })
}

/// The first line of a file, which is this.
fn read_secret(file: &Path, path: &[&str], what: &str) -> Result<Zeroizing<String>, Diagnostic> {
    let text = values::read_text(file, MAX_SECRET_FILE).map(Zeroizing::new).map_err(|error| {
        let message = format!("can't read the {what} in {}: {error}", file.display());
        Diagnostic::at(path, message, format!("its first line is the {what}"))
    })?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        let message = format!("the first line of {} is empty", file.display());
        return Err(Diagnostic::at(path, message, format!("it is the {what}")));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// No code panics while it holds one of the locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
