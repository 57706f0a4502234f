//! Warnings for the operator that only the handshakes behind a listener show.
//!
//! A driver treats a listener as one server. If several members reply behind it, applications see
//! elections that did not happen; if a member has no listener, they may see no primary. And a server
//! sees the proxy's certificate, never that of a client.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// How many notices wait to be logged.
const MAX_NOTICES: usize = 100;

/// What was seen behind one listener, and the notices that were not logged yet.
#[derive(Debug, Default)]
pub(crate) struct OperatorNotices {
    /// The member that replied first.
    first: OnceLock<Box<str>>,
    several_members: AtomicBool,
    hidden_member: AtomicBool,
    certificate_login: AtomicBool,
    login: AtomicBool,
    login_at_server: AtomicBool,
    failed_lookup: AtomicBool,
    /// Whether `notices` has any.
    pending: AtomicBool,
    notices: Mutex<Vec<String>>,
}

impl OperatorNotices {
    /// Records that this member of `set` replied.
    pub(crate) fn record_member(&self, me: &str, set: &str) {
        let first = self.first.get_or_init(|| me.into());
        if !first.eq_ignore_ascii_case(me) && !self.several_members.swap(true, Relaxed) {
            self.push(format!(
                "several members of the replica set `{set}` answer behind this listener as if they were \
                 one server ({first}, {me}): name the set in the cluster, \
                 `replica_set: {{ name: {set}, seeds: [\"{me}\"] }}`, or give each member a listener"
            ));
        }
    }

    /// The servers are others from now on, so that another member that replies is no mistake.
    pub(crate) fn expect_other_members(&self) {
        self.several_members.store(true, Relaxed);
    }

    /// Records that this member of `set` has no listener, so drivers do not see it.
    pub(crate) fn record_hidden(&self, host: &str, set: &str) {
        if !self.hidden_member.swap(true, Relaxed) {
            self.push(format!(
                "{host} of the replica set `{set}` is not in `members`: drivers do not see it"
            ));
        }
    }

    /// Records that a client logs in by its certificate (MONGODB-X509).
    pub(crate) fn record_certificate_login(&self) {
        if !self.certificate_login.swap(true, Relaxed) {
            self.push(
                "a client logs in by MONGODB-X509, but the server sees the proxy's certificate (the \
                 cluster's `tls.certificate`), if any, and never the client's: log in by SCRAM, or pass \
                 TLS through to the server on a `tcp` listener"
                    .to_owned(),
            );
        }
    }

    /// Records that a client of a pool has logged in.
    pub(crate) fn record_login(&self) {
        if !self.login.swap(true, Relaxed) {
            self.push(
                "clients log in, so each gets an upstream connection of its own: they share those of the \
                 pool if they log in at the proxy (`auth` in the listener's settings, docs/log-ins.md)"
                    .to_owned(),
            );
        }
    }

    /// Records that a client logs in by a mechanism that the proxy can't do.
    pub(crate) fn record_login_at_server(&self, mechanism: &str) {
        if !self.login_at_server.swap(true, Relaxed) {
            self.push(format!(
                "a client logs in by {mechanism}, which only the server can check: such clients get \
                 upstream connections of their own, beside the pool"
            ));
        }
    }

    /// Records that the server does not let the proxy view users.
    pub(crate) fn record_failed_lookup(&self, error: &str) {
        if !self.failed_lookup.swap(true, Relaxed) {
            self.push(format!(
                "users can't log in, since the server answers usersInfo with {error}: the account \
                 `auth.lookup` needs the privilege `viewUser` on the users' databases"
            ));
        }
    }

    /// Records that the log-in of a user has ended for all its clients.
    pub(crate) fn record_revocation(&self, user: &str, why: &str) {
        self.push(format!(
            "the log-in of `{user}` is not valid any more, and its clients are closed: {why}"
        ));
    }

    /// Records that the servers behind the listener support no retryable writes.
    pub(crate) fn record_unsupported_retries(&self) {
        self.push(
            "the servers know no retryable writes, so none is made retryable \
             (failover.retryable_writes: add)"
                .to_owned(),
        );
    }

    fn push(&self, notice: String) {
        let notice = crate::comment::printable(&notice, 1024).into_owned();
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() < MAX_NOTICES {
            notices.push(notice);
        }
        drop(notices);
        self.pending.store(true, Relaxed);
    }

    /// A notice that was not logged yet.
    pub(crate) fn pop(&self) -> Option<String> {
        if !self.pending.load(Relaxed) {
            return None;
        }
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        let notice = notices.pop();
        self.pending.store(!notices.is_empty(), Relaxed);
        notice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unexpected_members_are_noticed_once_each() {
        let members = OperatorNotices::default();
        members.record_member("a:1", "rs0");
        members.record_member("A:1", "rs0");
        assert_eq!(members.pop(), None, "it is the same one");
        for _ in 0..3 {
            members.record_member("b:1", "rs0");
            members.record_hidden("c:1", "rs0");
        }
        let notices: Vec<String> = std::iter::from_fn(|| members.pop()).collect();
        assert_eq!(notices.len(), 2, "{notices:?}");
        assert!(notices[1].contains("`rs0`") && notices[1].contains("(a:1, b:1)"), "{notices:?}");
        assert!(notices[0].starts_with("c:1 of"), "{notices:?}");
    }

    #[test]
    fn logins_by_certificate_are_noticed_once() {
        let notices = OperatorNotices::default();
        (0..3).for_each(|_| notices.record_certificate_login());
        assert!(notices.pop().unwrap().contains("MONGODB-X509"));
        assert_eq!(notices.pop(), None);
    }
}
