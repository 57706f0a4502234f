//! A set of policies, by their positions in the order of evaluation: one bit each.

/// A set of positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PositionSet {
    /// The bits of positions 0 to 63, and so on. What is behind the last word is not in the set.
    words: Vec<u64>,
}

impl PositionSet {
    /// Adds a position.
    pub(crate) fn insert(&mut self, position: usize) {
        let word = position / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (position % 64);
    }

    /// Removes all positions. The memory is kept.
    pub(crate) fn clear(&mut self) {
        self.words.clear();
    }

    /// Makes this set the same as another. The memory is kept.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.words.clone_from(&other.words);
    }

    /// Whether both have a position in common.
    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(own, other)| own & other != 0)
    }

    /// Removes those of `members` that `found` does not have.
    pub(crate) fn retain_found(&mut self, members: &Self, found: &Self) {
        let found = found.words.iter().copied().chain(std::iter::repeat(0));
        for ((own, members), found) in self.words.iter_mut().zip(&members.words).zip(found) {
            *own &= !members | found;
        }
    }

    /// The first position that is not before `from`.
    pub(crate) fn next_from(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.words.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.words.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// The positions, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(self.next_from(0), |last| self.next_from(last + 1))
    }
}

impl FromIterator<usize> for PositionSet {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut set = Self::default();
        positions.into_iter().for_each(|position| set.insert(position));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(positions: &[usize]) -> PositionSet {
        positions.iter().copied().collect()
    }

    #[test]
    fn a_set_has_its_positions_in_order() {
        let set = set(&[500, 0, 63, 64, 129]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 129, 500]);
        assert_eq!([set.next_from(65), set.next_from(501)], [Some(129), None]);
        assert_eq!(PositionSet::default().next_from(1000), None);
    }

    #[test]
    fn only_members_that_were_not_found_are_removed() {
        let mut left = set(&[1, 2, 3, 200]);
        left.retain_found(&set(&[2, 3, 200]), &set(&[3, 4]));
        assert_eq!(left.iter().collect::<Vec<_>>(), [1, 3]);
        left.retain_found(&set(&[0]), &PositionSet::default());
        assert_eq!(left.iter().collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn sets_of_different_lengths_are_compared() {
        let (long, short) = (set(&[1, 500]), set(&[1, 2]));
        assert!(long.intersects(&short) && !set(&[500]).intersects(&short));
    }
}
