//! Sets of HTTP statuses.

use crate::settings::StatusRange;

/// A set of HTTP statuses from 100 to 599.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusSet([u64; 8]);

impl StatusSet {
    /// The union of these ranges.
    pub fn new(ranges: impl IntoIterator<Item = StatusRange>) -> Self {
        let mut set = Self::default();
        for StatusRange { from, to } in ranges {
            (from..=to).for_each(|status| set.insert(status));
        }
        set
    }

    /// Adds a status; ignored outside 100 to 599.
    pub fn insert(&mut self, status: u16) {
        let at = usize::from(status.wrapping_sub(100));
        if let Some(word) = self.0.get_mut(at / 64).filter(|_| at < 500) {
            *word |= 1 << (at % 64);
        }
    }

    /// Whether it has the status.
    pub fn contains(&self, status: u16) -> bool {
        let at = usize::from(status.wrapping_sub(100));
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((100..600).filter(|it| self.contains(*it))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_exactly_its_ranges() {
        let ranges = [StatusRange { from: 500, to: 599 }, StatusRange { from: 409, to: 409 }];
        let set = StatusSet::new(ranges);
        for status in 0..=u16::MAX {
            let inside = (500..600).contains(&status) || status == 409;
            assert_eq!(set.contains(status), inside, "{status}");
        }
        assert!(StatusSet::new([StatusRange { from: 600, to: 999 }]).is_empty());
        assert!(!set.is_empty());
    }
}
