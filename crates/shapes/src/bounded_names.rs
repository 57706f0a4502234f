//! A few of many names: the first distinct ones.

/// How many names are kept.
const MAX_NAMES: usize = 8;

/// The first distinct names, at most eight.
#[derive(Clone, Debug, Default)]
pub(crate) struct BoundedNames(Vec<Box<str>>);

impl BoundedNames {
    /// Adds a name, unless it is empty, known, or there is no room.
    pub(crate) fn add(&mut self, name: &str) {
        if !name.is_empty() && !self.is_full() && !self.0.iter().any(|known| **known == *name) {
            self.0.push(name.into());
        }
    }

    /// Adds all names of another list.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|name| self.add(name));
    }

    /// Whether no further name fits.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MAX_NAMES
    }

    /// The names, in the order in which they came.
    pub(crate) fn to_vec(&self) -> Vec<String> {
        self.0.iter().map(|name| name.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_names_are_kept_until_there_is_no_room() {
        let mut names = BoundedNames::default();
        ["a", "", "b", "a"].into_iter().for_each(|name| names.add(name));
        assert_eq!(names.to_vec(), ["a", "b"]);
        (0..100).for_each(|number| names.add(&number.to_string()));
        assert_eq!(names.to_vec().len(), MAX_NAMES);
    }
}
