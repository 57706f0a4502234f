//! Which member of a replica set may serve an operation.

use crate::{Endpoint, Exclusion, PickOptions, balance, endpoint::MonitoredMember, set::Set};
use operation::{Placement, ReadMode, ReadPreference, Role, TagSet};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// How much longer than that of the nearest member the round-trip time of a member may be that serves
/// reads: the default of drivers (`localThresholdMS`).
const LATENCY_WINDOW: Duration = Duration::from_millis(15);

/// How much older than a monitor's answer its facts may be: the time between two answers.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2);

/// Members, as bits by their place in the set. A replica set has at most 50.
type Members = u64;

impl Set {
    /// The member for an operation; `None` if none fits now.
    pub(crate) fn select(&self, options: PickOptions<'_>) -> Option<&Arc<Endpoint>> {
        match options.placement {
            None | Some(Placement::Primary | Placement::Pinned(_)) => {
                self.usable_primary(options.exclude)
            }
            Some(Placement::Endpoint(address)) => {
                self.at(*address).filter(|it| it.role() != Role::Unknown)
            }
            Some(Placement::Any) => {
                let of_role = |role| self.usable(role, options.exclude);
                self.least_loaded(of_role(Role::Primary) | of_role(Role::Secondary))
            }
            Some(Placement::Read(preference)) => self.for_read(preference, options.exclude),
        }
    }

    /// The usable endpoint with this address.
    pub(crate) fn at(&self, address: SocketAddr) -> Option<&Arc<Endpoint>> {
        self.endpoints().find(|it| it.address() == address).filter(|it| it.usable())
    }

    /// The primary, if it may be used. No other endpoint can replace it, so an ejection does not exclude it.
    fn usable_primary(&self, exclude: &[Arc<Endpoint>]) -> Option<&Arc<Endpoint>> {
        self.endpoints().find(|endpoint| {
            endpoint.role() == Role::Primary
                && (endpoint.usable() || endpoint.is_excluded_only(Exclusion::Ejected))
                && !exclude.iter().any(|other| Arc::ptr_eq(other, endpoint))
        })
    }

    fn for_read(
        &self,
        preference: &ReadPreference,
        exclude: &[Arc<Endpoint>],
    ) -> Option<&Arc<Endpoint>> {
        let secondary = || {
            let fit = self.usable(Role::Secondary, exclude);
            self.least_loaded(self.near(self.tagged(preference, self.fresh(preference, fit))))
        };
        match preference.mode {
            ReadMode::Primary => self.usable_primary(exclude),
            ReadMode::PrimaryPreferred => self.usable_primary(exclude).or_else(secondary),
            ReadMode::Secondary => secondary(),
            ReadMode::SecondaryPreferred => secondary().or_else(|| self.usable_primary(exclude)),
            ReadMode::Nearest => {
                let fit = self.usable(Role::Secondary, exclude);
                let fit = self.fresh(preference, fit) | self.usable(Role::Primary, exclude);
                self.least_loaded(self.near(self.tagged(preference, fit)))
            }
        }
    }

    /// The usable members with this role.
    fn usable(&self, role: Role, exclude: &[Arc<Endpoint>]) -> Members {
        self.those(Members::MAX, |endpoint| {
            endpoint.role() == role
                && endpoint.usable()
                && !exclude.iter().any(|other| Arc::ptr_eq(other, endpoint))
        })
    }

    /// Those of `members` that are not staler than the preference allows (specification `max-staleness`).
    fn fresh(&self, preference: &ReadPreference, members: Members) -> Members {
        let Some(most) = preference.max_staleness else { return members };
        let primary = self.primary().and_then(|it| it.member.load_full());
        let all = || self.endpoints().filter_map(|it| it.member.load_full());
        let newest = all().filter_map(|member| member.last_write()).max();
        let staleness = |member: &MonitoredMember| match (&primary, newest) {
            (Some(primary), _) => member.lag(primary),
            (None, Some(newest)) => newest.duration_since(member.last_write()?).ok(),
            (None, None) => None,
        };
        self.those(members, |endpoint| {
            let member = endpoint.member.load();
            let stale = member.as_ref().and_then(|member| staleness(member));
            stale.is_some_and(|lag| lag + HEARTBEAT <= most)
        })
    }

    /// Those of `members` that fit the first tag set which fits any.
    fn tagged(&self, preference: &ReadPreference, members: Members) -> Members {
        if preference.tag_sets.is_empty() {
            return members;
        }
        let fitting = |tags: &TagSet| {
            self.those(members, |endpoint| {
                let member = endpoint.member.load();
                let own = member.as_ref().map_or(&[][..], |member| member.tags());
                tags.iter().all(|tag| own.contains(tag))
            })
        };
        preference.tag_sets.iter().map(fitting).find(|fit| *fit != 0).unwrap_or(0)
    }

    /// Those of `members` within the latency window.
    fn near(&self, members: Members) -> Members {
        let rtt =
            |endpoint: &Arc<Endpoint>| endpoint.member.load().as_ref().and_then(|it| it.rtt());
        let fit = self.endpoints().enumerate().filter(|(at, _)| has(members, *at));
        let Some(least) = fit.filter_map(|(_, endpoint)| rtt(endpoint)).min() else {
            return members;
        };
        self.those(members, |endpoint| rtt(endpoint).is_none_or(|it| it <= least + LATENCY_WINDOW))
    }

    /// The less busy of two drawn from `members`.
    fn least_loaded(&self, members: Members) -> Option<&Arc<Endpoint>> {
        let count = members.count_ones();
        let nth = |nth: u32| {
            let place =
                (0..Members::BITS as usize).filter(|at| has(members, *at)).nth(nth as usize);
            place.and_then(|at| self.members.get(at)).map(|member| &member.endpoint)
        };
        if count < 2 {
            return nth(0);
        }
        let first = balance::below(count);
        let second = (first + 1 + balance::below(count - 1)) % count;
        let (first, second) = (nth(first)?, nth(second)?);
        let is_busier = first.active_operations() > second.active_operations();
        Some(if is_busier { second } else { first })
    }

    fn those(&self, members: Members, fits: impl Fn(&Arc<Endpoint>) -> bool) -> Members {
        let all = self.endpoints().enumerate().take(Members::BITS as usize);
        let fit = all.filter(|(at, endpoint)| has(members, *at) && fits(endpoint));
        fit.fold(0, |found, (at, _)| found | 1 << at)
    }
}

fn has(members: Members, at: usize) -> bool {
    members & 1 << at != 0
}
