//! Globs: `*` is any run of characters, also none; `?` is one; all else is itself.

/// A pattern for words. Case matters, and a dot is a character like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    text: Box<str>,
    /// It matches just what it says.
    plain: bool,
}

/// How sure a match has to be of what could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sure {
    /// Something fits that could stand there.
    Possible,
    /// Everything fits that could stand there.
    Certain,
}

impl Sure {
    /// What a match has to be for its opposite to be as sure as this.
    pub(super) fn opposite(self) -> Self {
        match self {
            Sure::Possible => Sure::Certain,
            Sure::Certain => Sure::Possible,
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
        if self.plain { *self.text == *word } else { fits(&self.text, word) }
    }

    /// Whether it matches a word of which only the end could be read.
    pub(super) fn matches_end(&self, end: &str, sure: Sure) -> bool {
        match sure {
            // Its front fits something, whatever it is; so some rest of it has to fit the end.
            Sure::Possible => {
                let mut places = self.text.char_indices().map(|(at, _)| at);
                end.is_empty() || places.any(|at| fits(self.text.get(at..).unwrap_or(""), end))
            }
            // Only a `*` takes anything, and what is before the end may be nothing, too.
            Sure::Certain => {
                let wild = self.text.chars().take_while(|c| is_wild(*c));
                wild.into_iter().any(|c| c == '*') && fits(&self.text, end)
            }
        }
    }
}

/// Whether this is more than itself.
pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(is_wild)
}

fn is_wild(c: char) -> bool {
    matches!(c, '*' | '?')
}

/// Whether a glob matches a word. Where it does not, only the last `*` takes one character more:
/// what an earlier one took, it might as well have. So the steps are at most the one's length
/// times the other's.
fn fits(glob: &str, word: &str) -> bool {
    let (mut glob, mut word) = (glob.chars(), word.chars());
    let mut again = None;
    loop {
        let found = word.clone().next();
        match (glob.next(), found) {
            (Some('*'), _) if glob.as_str().is_empty() => return true,
            (Some('*'), _) => again = Some((glob.clone(), word.clone())),
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                word.next();
            }
            _ => {
                let Some((after, from)) = &mut again else { return false };
                if from.next().is_none() {
                    return false;
                }
                (glob, word) = (after.clone(), from.clone());
            }
        }
    }
}
