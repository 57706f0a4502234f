//! Globs of many policies on one attribute, looked up together: literals in a map, all others by the
//! literal pieces between their wildcards, which one automaton finds in a text.

use super::super::glob::{Glob, KnownText};
use crate::position_set::PositionSet;
use aho_corasick::AhoCorasick;
use foldhash::HashMap;
use std::{cell::RefCell, cmp::Reverse};

/// The globs of policies, and which policy has which.
#[derive(Debug, Default)]
pub(super) struct TextIndex {
    literals: HashMap<Box<str>, Vec<usize>>,
    wild: Option<WildGlobs>,
}

/// Globs with wildcards.
#[derive(Debug)]
struct WildGlobs {
    /// Finds the pieces in a text; `None` if there are none, or they are too long for one.
    automaton: Option<AhoCorasick>,
    /// By number of a piece, the globs that match only texts with this piece.
    by_piece: Vec<Vec<(Glob, usize)>>,
    /// Globs without a piece: `*`, `???`.
    without_piece: Vec<(Glob, usize)>,
    /// The pieces of the last text.
    seen: RefCell<PositionSet>,
}

impl TextIndex {
    /// An index of these globs, each with the position of its policy.
    pub(super) fn new<'g>(globs: impl IntoIterator<Item = (&'g Glob, usize)>) -> Self {
        let (mut literals, mut wild) = (HashMap::<Box<str>, Vec<usize>>::default(), Vec::new());
        for (glob, position) in globs {
            if glob.is_literal() {
                literals.entry(glob.text().into()).or_default().push(position);
            } else {
                wild.push((glob.clone(), position));
            }
        }
        Self { literals, wild: (!wild.is_empty()).then(|| WildGlobs::new(wild)) }
    }

    /// Adds the policies that have a glob for this text.
    pub(super) fn find(&self, text: &str, found: &mut PositionSet) {
        let literal = self.literals.get(text).into_iter().flatten();
        literal.for_each(|position| found.insert(*position));
        if let Some(wild) = &self.wild {
            wild.find(text, found);
        }
    }

    /// The same for a text of which a part may not be known: `false` if it could be any.
    pub(super) fn find_known(&self, text: KnownText<'_>, found: &mut PositionSet) -> bool {
        match text {
            KnownText::Whole(text) => self.find(text, found),
            KnownText::End(_) | KnownText::Front(_) => return false,
        }
        true
    }
}

impl WildGlobs {
    fn new(globs: Vec<(Glob, usize)>) -> Self {
        let mut uses: HashMap<Box<str>, usize> = HashMap::default();
        for piece in globs.iter().flat_map(|(glob, _)| glob.pieces()) {
            *uses.entry(piece.into()).or_default() += 1;
        }
        let mut by_piece: HashMap<Box<str>, Vec<(Glob, usize)>> = HashMap::default();
        let mut without_piece = Vec::new();
        for glob in globs {
            // The piece that the fewest globs have rules out the most texts.
            let rank = |piece: &&str| (uses.get(*piece).copied(), Reverse(piece.len()));
            match glob.0.pieces().min_by_key(rank).map(Box::from) {
                Some(piece) => by_piece.entry(piece).or_default().push(glob),
                None => without_piece.push(glob),
            }
        }
        let (pieces, mut by_piece): (Vec<_>, Vec<_>) = by_piece.into_iter().unzip();
        let automaton = AhoCorasick::new(pieces.iter().map(|piece| &**piece)).ok();
        let automaton = automaton.filter(|_| !pieces.is_empty());
        if automaton.is_none() {
            // The pieces are too long together, so each glob is tried.
            without_piece.extend(by_piece.drain(..).flatten());
        }
        Self { automaton, by_piece, without_piece, seen: RefCell::default() }
    }

    fn find(&self, text: &str, found: &mut PositionSet) {
        let mut add_matching = |globs: &[(Glob, usize)]| {
            let matching = globs.iter().filter(|(glob, _)| glob.matches(text));
            matching.for_each(|(_, position)| found.insert(*position));
        };
        add_matching(&self.without_piece);
        let Some(automaton) = &self.automaton else { return };
        let mut seen = self.seen.borrow_mut();
        seen.clear();
        automaton
            .find_overlapping_iter(text)
            .for_each(|piece| seen.insert(piece.pattern().as_usize()));
        seen.iter()
            .filter_map(|piece| self.by_piece.get(piece))
            .for_each(|globs| add_matching(globs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The globs of these that match a text.
    fn found(globs: &[&str], text: &str) -> Vec<usize> {
        let globs: Vec<Glob> = globs.iter().map(|glob| Glob::new(glob)).collect();
        let index = TextIndex::new(globs.iter().enumerate().map(|(at, glob)| (glob, at)));
        let mut found = PositionSet::default();
        index.find(text, &mut found);
        found.iter().collect()
    }

    #[test]
    fn literals_and_globs_are_found_by_one_lookup() {
        let globs = ["a", "a", "a*", "*a", "?", "*", "b", "b*", "*é*", "aa?"];
        assert_eq!(found(&globs, "a"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(found(&globs, "aé"), [2, 5, 8]);
        assert_eq!(found(&globs, ""), [5]);
        assert_eq!(found(&globs, "aab"), [2, 5, 9]);
    }

    #[test]
    fn similar_globs_are_found_by_their_rarest_piece() {
        let globs: Vec<Glob> =
            (0..500).map(|n| Glob::new(&format!("/api/*/team{n:03}*"))).collect();
        let index = TextIndex::new(globs.iter().enumerate().map(|(at, glob)| (glob, at)));
        let tried = |globs: &Vec<(Glob, usize)>| globs.len();
        let wild = index.wild.as_ref().unwrap();
        assert_eq!(wild.by_piece.iter().map(tried).max(), Some(1));
        let mut found = PositionSet::default();
        index.find("/api/v1/team123/orders", &mut found);
        assert_eq!(found.iter().collect::<Vec<_>>(), [123]);
    }
}
