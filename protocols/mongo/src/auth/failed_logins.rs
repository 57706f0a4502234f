//! Limits how often a client may fail to log in: guessing passwords stays slow, and costs no hashes.

use super::user_login::UserName;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// How many failures in a row are answered by a check of the proof.
const BURST: u32 = 10;

/// How long after a failure one more is allowed.
const REFILL: Duration = Duration::from_secs(1);

/// How many addresses and users are remembered.
const MAX_ENTRIES: usize = 1024;

/// The address of a client, and the user that it claims to be; `None` for users that do not exist. Clients
/// behind one address that are other users are not affected.
type FailureKey = (IpAddr, Option<UserName>);

/// Failed log-ins. Times are those of [`super::Clock`].
#[derive(Debug, Default)]
pub(super) struct FailedLogins(HashMap<FailureKey, Failures>);

/// The failures of one key that count at a time.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    at: Duration,
}

impl Failures {
    fn count_at(self, now: Duration) -> u32 {
        let refilled = now.saturating_sub(self.at).as_secs() / REFILL.as_secs();
        self.count.saturating_sub(u32::try_from(refilled).unwrap_or(u32::MAX))
    }
}

impl FailedLogins {
    /// Whether a client may try to be this user now.
    pub(super) fn allows(&self, peer: IpAddr, user: Option<&UserName>, now: Duration) -> bool {
        let failures = self.0.get(&(network(peer), user.cloned()));
        failures.is_none_or(|failures| failures.count_at(now) < BURST)
    }

    /// Records a failure.
    pub(super) fn record(&mut self, peer: IpAddr, user: Option<UserName>, now: Duration) {
        let key = (network(peer), user);
        if self.0.len() >= MAX_ENTRIES && !self.0.contains_key(&key) {
            self.0.retain(|_, failures| failures.count_at(now) > 0);
            let fewest = self.0.iter().min_by_key(|(_, failures)| failures.count_at(now));
            if self.0.len() >= MAX_ENTRIES
                && let Some(fewest) = fewest.map(|(key, _)| key.clone())
            {
                self.0.remove(&fewest);
            }
        }
        let failures = self.0.entry(key).or_insert(Failures { count: 0, at: now });
        *failures = Failures { count: (failures.count_at(now) + 1).min(BURST), at: now };
    }
}

/// The address, or the /64 network of an IPv6 address: a host has all of it.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(number: u32) -> IpAddr {
        IpAddr::from(std::net::Ipv4Addr::from_bits(number))
    }

    #[test]
    fn failures_are_limited_by_address_and_user() {
        let mut failed = FailedLogins::default();
        let ann = UserName::new("ann", "admin");
        for _ in 0..BURST {
            assert!(failed.allows(peer(1), Some(&ann), SECOND));
            failed.record(peer(1), Some(ann.clone()), SECOND);
        }
        assert!(!failed.allows(peer(1), Some(&ann), SECOND));
        assert!(failed.allows(peer(2), Some(&ann), SECOND));
        assert!(failed.allows(peer(1), Some(&UserName::new("bob", "admin")), SECOND));
        assert!(failed.allows(peer(1), None, SECOND));
        assert!(failed.allows(peer(1), Some(&ann), SECOND * 2), "one more a second");
        failed.record(peer(1), Some(ann.clone()), SECOND * 2);
        assert!(!failed.allows(peer(1), Some(&ann), SECOND * 2));
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let mut failed = FailedLogins::default();
        for host in 0..u128::from(BURST) {
            let address = Ipv6Addr::from_bits((0x2001_0db8 << 96) | host);
            failed.record(address.into(), None, SECOND);
        }
        assert!(!failed.allows("2001:db8::ffff".parse().unwrap(), None, SECOND));
        assert!(failed.allows("2001:db8:0:1::1".parse().unwrap(), None, SECOND));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut failed = FailedLogins::default();
        (0..BURST).for_each(|_| failed.record(peer(0), None, SECOND));
        for number in 1..10_000 {
            failed.record(peer(number), None, SECOND);
            assert!(failed.0.len() <= MAX_ENTRIES);
        }
        assert!(!failed.allows(peer(0), None, SECOND), "the one with most failures is kept");
    }
}
