//! Warnings for the operator about the replica set behind a listener, found in `hello` replies.
//!
//! A driver treats a listener as one server. If several members reply behind it, applications see
//! elections that did not happen; if a member has no listener, they may see no primary. Only the
//! `hello` replies show this.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// The members seen behind one listener, and the notices that were not logged yet.
#[derive(Debug, Default)]
pub(crate) struct ReplicaSetNotices {
    /// The member that replied first.
    first: OnceLock<Box<str>>,
    several_members: AtomicBool,
    hidden_member: AtomicBool,
    /// Whether `notices` has any.
    pending: AtomicBool,
    notices: Mutex<Vec<String>>,
}

impl ReplicaSetNotices {
    /// Records that this member of `set` replied.
    pub(crate) fn record_member(&self, me: &str, set: &str) {
        let first = self.first.get_or_init(|| me.into());
        if !first.eq_ignore_ascii_case(me) && !self.several_members.swap(true, Relaxed) {
            self.push(format!(
                "several members of the replica set `{set}` answer behind this listener ({first}, {me}): \
                 to drivers they are one server that is now the primary and now a secondary; \
                 give each member a listener of its own"
            ));
        }
    }

    /// Records that this member of `set` has no listener, so drivers do not see it.
    pub(crate) fn record_hidden(&self, host: &str, set: &str) {
        if !self.hidden_member.swap(true, Relaxed) {
            self.push(format!(
                "{host} of the replica set `{set}` is not in `members`: drivers do not see it"
            ));
        }
    }

    fn push(&self, notice: String) {
        let notice = crate::comment::printable(&notice, 1024).into_owned();
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
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
        let members = ReplicaSetNotices::default();
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
}
