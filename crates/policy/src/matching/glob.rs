//! Globs: `*` is any run of characters, also none; `?` is one; all else is itself.

use super::truth::Truth;
use values::glob_matches;

/// A pattern for words. Case matters, and a dot is a character like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    text: Box<str>,
    /// It matches just what it says.
    plain: bool,
}

/// A word of which a part may not be known: `?` stands for that part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownText<'a> {
    /// All of it is known.
    Whole(&'a str),
    /// Only its end is: `.orders` of `?.orders`, and nothing of `?`.
    End(&'a str),
    /// Only its front is: `shop.` of `shop.?`.
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
        Self { text: text.into(), plain: !is_glob(text) }
    }

    /// As it is written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches a word.
    pub(super) fn matches(&self, word: &str) -> bool {
        if self.plain { *self.text == *word } else { glob_matches(&self.text, word) }
    }

    /// Whether it matches a word, as far as that is known.
    pub(super) fn matches_known(&self, word: KnownText<'_>) -> Truth {
        let rests = || self.text.char_indices().filter_map(|(at, _)| self.text.get(at..));
        let fronts = || {
            let ends = self.text.char_indices().map(|(at, c)| at + c.len_utf8());
            ends.filter_map(|at| self.text.get(..at))
        };
        let (possible, certain) = match word {
            KnownText::Whole(word) => return self.matches(word).into(),
            // Its front fits something, whatever that is; so some rest of it has to fit the end.
            // And only a `*` takes whatever is before the end.
            KnownText::End(end) => (
                end.is_empty() || rests().any(|rest| glob_matches(rest, end)),
                self.text.chars().take_while(|c| is_wild(*c)).any(|c| c == '*')
                    && glob_matches(&self.text, end),
            ),
            KnownText::Front(front) => (
                fronts().any(|part| glob_matches(part, front)),
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

/// Whether this is more than itself.
pub fn is_glob(text: &str) -> bool {
    text.contains(is_wild)
}

fn is_wild(c: char) -> bool {
    matches!(c, '*' | '?')
}
