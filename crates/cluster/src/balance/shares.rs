//! How groups of endpoints share the picks: the first gets as many as it can carry, the next the
//! rest. The formulas are Envoy's.

/// How much more than its share an endpoint is trusted to carry, in percent: Envoy's
/// overprovisioning factor of 1.4. A group sheds load when fewer than 1 / 1.4 of it are usable.
const OVERPROVISIONING: usize = 140;

/// How many endpoints of a group are usable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsableCount {
    pub(crate) usable: usize,
    pub(crate) all: usize,
}

impl UsableCount {
    /// Counts endpoints, given whether each is usable.
    pub(super) fn of(usable: impl Iterator<Item = bool>) -> Self {
        usable.fold(Self::default(), |count, usable| Self {
            usable: count.usable + usize::from(usable),
            all: count.all + 1,
        })
    }

    /// The part of all picks that the group can carry, in percent.
    fn availability(self) -> usize {
        (OVERPROVISIONING * self.usable).checked_div(self.all).unwrap_or(0).min(100)
    }
}

/// Whether the groups cannot carry all picks.
pub(super) fn overloaded(groups: &[UsableCount]) -> bool {
    availability(groups) < 100
}

/// Each group's share of the picks by what it can carry, in percent; the sum is 100. If none can
/// carry anything, the first gets all.
pub(super) fn by_health(groups: &[UsableCount]) -> Vec<u32> {
    let total = availability(groups).max(1);
    let mut left = 100;
    let carried = groups.iter().map(|group| {
        let share = (group.availability() * 100 / total).min(left);
        left -= share;
        share
    });
    let carried = carried.collect();
    rounded(carried, |group| groups[group].availability() > 0)
}

/// Each group's share by its size, whatever its health: for when all panic.
pub(super) fn by_size(groups: &[UsableCount]) -> Vec<u32> {
    let all = groups.iter().map(|group| group.all).sum::<usize>().max(1);
    let shares = groups.iter().map(|group| group.all * 100 / all).collect();
    rounded(shares, |group| groups[group].all > 0)
}

fn availability(groups: &[UsableCount]) -> usize {
    groups.iter().map(|group| group.availability()).sum::<usize>().min(100)
}

/// Adds the rounding rest to the first group that `takes`, or else to the first of all.
fn rounded(shares: Vec<usize>, takes: impl Fn(usize) -> bool) -> Vec<u32> {
    let rest = 100 - shares.iter().sum::<usize>();
    let first = (0..shares.len()).find(|&group| takes(group)).unwrap_or(0);
    let whole = |(group, share)| (share + if group == first { rest } else { 0 }) as u32;
    shares.into_iter().enumerate().map(whole).collect()
}

/// The parts in the order in which they are tried: first the one that `by` selects by percentage,
/// then the others.
pub(super) fn in_order<T>(
    parts: &[(u32, T)],
    by: impl FnOnce() -> u64,
) -> impl Iterator<Item = &T> {
    let first = match parts.len() {
        0 | 1 => 0,
        _ => chosen(parts.iter().map(|(share, _)| *share), by()),
    };
    let others = parts.iter().enumerate().filter(move |(index, _)| *index != first);
    parts.get(first).into_iter().chain(others.map(|(_, part)| part)).map(|(_, part)| part)
}

/// The index of the percentage range that a hash falls into, exactly as in Envoy.
fn chosen(shares: impl Iterator<Item = u32>, hash: u64) -> usize {
    let percent = (hash % 100) as u32;
    let ends = shares.scan(0, |end, share| {
        *end += share;
        Some(*end)
    });
    ends.take_while(|&end| end <= percent).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(groups: &[(usize, usize)]) -> Vec<UsableCount> {
        groups.iter().map(|&(usable, all)| UsableCount { usable, all }).collect()
    }

    fn shares(groups: &[(usize, usize)]) -> Vec<u32> {
        by_health(&counts(groups))
    }

    #[test]
    fn the_first_group_carries_all_until_too_few_are_usable() {
        assert_eq!(shares(&[(10, 10), (10, 10)]), [100, 0]);
        assert_eq!(shares(&[(72, 100), (10, 10)]), [100, 0]);
        assert_eq!(shares(&[(71, 100), (10, 10)]), [99, 1]);
        assert_eq!(shares(&[(5, 10), (10, 10)]), [70, 30]);
        assert_eq!(shares(&[(1, 4), (4, 4)]), [35, 65]);
        assert_eq!(shares(&[(0, 10), (10, 10)]), [0, 100]);
    }

    #[test]
    fn what_the_second_can_t_carry_falls_to_the_third() {
        // The rows of Envoy's documentation on priority levels.
        assert_eq!(shares(&[(100, 100), (100, 100), (100, 100)]), [100, 0, 0]);
        assert_eq!(shares(&[(72, 100), (72, 100), (100, 100)]), [100, 0, 0]);
        assert_eq!(shares(&[(71, 100), (71, 100), (100, 100)]), [99, 1, 0]);
        assert_eq!(shares(&[(50, 100), (50, 100), (100, 100)]), [70, 30, 0]);
        assert_eq!(shares(&[(25, 100), (100, 100), (100, 100)]), [35, 65, 0]);
        assert_eq!(shares(&[(25, 100), (25, 100), (100, 100)]), [35, 35, 30]);
    }

    #[test]
    fn overloaded_groups_are_scaled_and_the_first_gets_the_rest() {
        assert_eq!(shares(&[(25, 100), (25, 100), (20, 100)]), [37, 35, 28]);
        assert_eq!(shares(&[(5, 100), (0, 100), (0, 100)]), [100, 0, 0]);
        assert_eq!(shares(&[(0, 100), (10, 100), (5, 100)]), [0, 67, 33]);
        assert!(overloaded(&counts(&[(25, 100), (25, 100), (20, 100)])));
        assert!(!overloaded(&counts(&[(25, 100), (25, 100), (22, 100)])));
    }

    #[test]
    fn nothing_usable_leaves_all_to_the_first() {
        assert_eq!(shares(&[(0, 3), (0, 5)]), [100, 0]);
        assert_eq!(shares(&[(0, 0), (0, 5)]), [100, 0]);
        assert!(shares(&[]).is_empty());
    }

    #[test]
    fn sizes_share_whatever_the_health() {
        assert_eq!(by_size(&counts(&[(0, 1), (0, 2)])), [34, 66]);
        assert_eq!(by_size(&counts(&[(0, 0), (0, 7), (0, 7)])), [0, 50, 50]);
    }

    #[test]
    fn a_hash_falls_to_a_part_by_its_last_two_digits() {
        // As Envoy's BasicFailover: at 70 % and 30 %, 69 is the first and 71 the second.
        let parts = [(70, 'a'), (0, 'b'), (30, 'c')];
        let order = |by| in_order(&parts, || by).collect::<String>();
        assert_eq!(
            [0, 69, 70, 99, 100, 12_371].map(order),
            ["abc", "abc", "cab", "cab", "abc", "cab"]
        );
        assert_eq!(in_order::<char>(&[], || 5).count(), 0);
    }
}
