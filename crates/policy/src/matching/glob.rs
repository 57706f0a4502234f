//! Globs: `*` matches any characters, or none; `?` matches one; every other character matches itself.

use super::truth::Truth;
use values::glob_matches;

/// A pattern for texts. It is case-sensitive, and dots are not special.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    text: Box<str>,
    /// It has no wildcards.
    is_literal: bool,
}

/// A text of which a part may not be known: `?` in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownText<'a> {
    /// All of it is known.
    Whole(&'a str),
    /// Only its end is known: `.orders` of `?.orders`, and nothing of `?`.
    End(&'a str),
    /// Only its front is known: `shop.` of `shop.?`.
    Front(&'a str),
}

impl<'a> KnownText<'a> {
    /// An operation's name: all of it is known, or nothing.
    pub(super) fn name(name: &'a str) -> Self {
        if name == "?" { KnownText::End("") } else { KnownText::Whole(name) }
    }

    /// An operation's resource (see [`operation::Operation::resource`]).
    pub(super) fn resource(resource: &'a str) -> Self {
        let end = |end: &&str| end.is_empty() || end.starts_with('.');
        match (resource.strip_prefix('?').filter(end), resource.strip_suffix('?')) {
            (Some(end), _) if end != ".?" => KnownText::End(end),
            (Some(_), _) => KnownText::End(""),
            (None, Some(front)) if front.ends_with('.') => KnownText::Front(front),
            _ => KnownText::Whole(resource),
        }
    }
}

impl Glob {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.into(), is_literal: !is_glob(text) }
    }

    /// The pattern.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches only the text that is the same.
    pub(super) fn is_literal(&self) -> bool {
        self.is_literal
    }

    /// The texts between its wildcards: a text that it matches has them all.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &str> {
        self.text.split(is_wild).filter(|piece| !piece.is_empty())
    }

    /// Whether it matches a text.
    pub(super) fn matches(&self, text: &str) -> bool {
        if self.is_literal { *self.text == *text } else { glob_matches(&self.text, text) }
    }

    /// Whether it matches a text; `Unknown` if that depends on the unknown part.
    pub(super) fn matches_known(&self, text: KnownText<'_>) -> Truth {
        let suffixes = || self.text.char_indices().filter_map(|(at, _)| self.text.get(at..));
        let prefixes = || {
            let ends = self.text.char_indices().map(|(at, c)| at + c.len_utf8());
            ends.filter_map(|at| self.text.get(..at))
        };
        let (possible, certain) = match text {
            KnownText::Whole(text) => return self.matches(text).into(),
            // The unknown front may match any front of the pattern, so a match is possible if some
            // rest of the pattern matches the end. It is certain only if a `*` covers the front.
            KnownText::End(end) => (
                end.is_empty() || suffixes().any(|rest| glob_matches(rest, end)),
                self.text.chars().take_while(|c| is_wild(*c)).any(|c| c == '*')
                    && glob_matches(&self.text, end),
            ),
            KnownText::Front(front) => (
                prefixes().any(|part| glob_matches(part, front)),
                self.text.chars().rev().take_while(|c| is_wild(*c)).any(|c| c == '*')
                    && glob_matches(&self.text, front),
            ),
        };
        match (certain, possible) {
            (true, _) => Truth::Yes,
            (false, true) => Truth::Unknown,
            (false, false) => Truth::No,
        }
    }
}

/// Whether a text contains wildcards.
pub fn is_glob(text: &str) -> bool {
    text.contains(is_wild)
}

fn is_wild(c: char) -> bool {
    matches!(c, '*' | '?')
}
