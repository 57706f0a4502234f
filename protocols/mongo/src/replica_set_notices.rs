//! What the members of a replica set say of themselves, held against how the listener shows them.
//!
//! A driver takes a listener for one server. Where several members answer behind it, or where one of
//! the set is not named, applications see elections that are none, or no primary at all; only the
//! answers to `hello` tell.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// What was seen behind one listener, and what of it an operator has yet to hear.
#[derive(Debug, Default)]
pub(crate) struct ReplicaSetNotices {
    /// The member that answered first.
    first: OnceLock<Box<str>>,
    several_members: AtomicBool,
    hidden_member: AtomicBool,
    /// There are notices.
    pending: AtomicBool,
    notices: Mutex<Vec<String>>,
}

impl ReplicaSetNotices {
    /// This member of `set` has answered.
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

    /// This member of `set` has no listener, so drivers are not told of it.
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

    /// What was noticed and not told yet.
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
    fn a_second_member_and_one_without_a_listener_are_noticed_once_each() {
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
