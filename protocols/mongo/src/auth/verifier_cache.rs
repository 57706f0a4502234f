//! Verifiers that a server has shown, and users that it does not know.

use super::user_login::UserName;
use crate::sasl::{Mechanism, Verifier};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// How long a verifier is used before the server is asked again.
pub(super) const MAX_AGE: Duration = Duration::from_secs(300);

/// How long a user counts as unknown.
pub(super) const MIN_AGE: Duration = Duration::from_secs(10);

/// How old an answer is before a wrong proof has the server asked again.
const RECHECK_AGE: Duration = Duration::from_secs(1);

/// How many users are remembered.
const MAX_USERS: usize = 10_000;

/// What a server has answered about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UserAnswer {
    /// The user exists, with these verifiers; none: SCRAM is not for this user.
    Known(Vec<Arc<Verifier>>),
    /// The server does not know the user.
    Unknown,
    /// The server does not let the proxy view users.
    Unavailable,
}

impl UserAnswer {
    /// The verifier of a mechanism.
    pub(super) fn verifier(&self, mechanism: Mechanism) -> Option<&Arc<Verifier>> {
        let Self::Known(verifiers) = self else { return None };
        verifiers.iter().find(|verifier| verifier.mechanism == mechanism)
    }

    fn max_age(&self) -> Duration {
        match self {
            Self::Known(_) => MAX_AGE,
            Self::Unknown => MIN_AGE,
            Self::Unavailable => Duration::from_secs(1),
        }
    }
}

/// Answers about users, by name. Times are those of [`super::Clock`].
#[derive(Debug, Default)]
pub(super) struct VerifierCache(HashMap<UserName, (UserAnswer, Duration)>);

impl VerifierCache {
    /// The answer about a user, unless it is too old.
    pub(super) fn get(&self, user: &UserName, now: Duration) -> Option<&UserAnswer> {
        let (answer, at) = self.0.get(user)?;
        (now.saturating_sub(*at) < answer.max_age()).then_some(answer)
    }

    /// Whether the answer about a user is so old that a wrong proof may be right by now.
    pub(super) fn may_have_changed(&self, user: &UserName, now: Duration) -> bool {
        self.0.get(user).is_none_or(|(_, at)| now.saturating_sub(*at) >= RECHECK_AGE)
    }

    /// Records an answer. Answers that are too old make room for it, or all do.
    pub(super) fn insert(&mut self, user: UserName, answer: UserAnswer, now: Duration) {
        if self.0.len() >= MAX_USERS && !self.0.contains_key(&user) {
            self.0.retain(|_, (answer, at)| now.saturating_sub(*at) < answer.max_age());
            if self.0.len() >= MAX_USERS {
                self.0.clear();
            }
        }
        self.0.insert(user, (answer, now));
    }

    /// Forgets a user, so that the server is asked again.
    pub(super) fn remove(&mut self, user: &UserName) {
        self.0.remove(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn answers_are_used_for_their_time() {
        let mut cache = VerifierCache::default();
        let ann = UserName::new("ann", "admin");
        assert!(cache.may_have_changed(&ann, SECOND));
        for (answer, max_age) in [
            (UserAnswer::Known(Vec::new()), 300),
            (UserAnswer::Unknown, 10),
            (UserAnswer::Unavailable, 1),
        ] {
            cache.insert(ann.clone(), answer.clone(), SECOND);
            assert_eq!(cache.get(&ann, SECOND * max_age), Some(&answer));
            assert_eq!(cache.get(&ann, SECOND * (max_age + 1)), None, "{answer:?}");
            assert!(!cache.may_have_changed(&ann, SECOND));
            assert!(cache.may_have_changed(&ann, SECOND * 2));
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = VerifierCache::default();
        for number in 0..3 * MAX_USERS {
            let user = UserName::new(&number.to_string(), "admin");
            cache.insert(user.clone(), UserAnswer::Unknown, SECOND);
            assert!(cache.get(&user, SECOND).is_some() && cache.0.len() <= MAX_USERS);
        }
    }
}
