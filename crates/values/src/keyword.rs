//! Keywords, and the one that was probably meant.

use crate::{Diagnostic, FromText};
use schemars::{Schema, json_schema};

/// The word nearest to `word`, if it is similar enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(word, other);
    let found = known.into_iter().map(|other| (distance(other), other)).min()?;
    (found.0 <= 1 + word.chars().count() / 4).then_some(found.1)
}

/// `, did you mean …?` if a word is near.
pub fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |near| format!(", did you mean `{near}`?"))
}

/// A type whose values are keywords in a config.
pub trait Keyword: Copy + PartialEq + 'static {
    /// What is expected, as the end of "expected …".
    const EXPECTED: &str;

    /// Each keyword and its value.
    const WORDS: &[(&str, Self)];

    /// The keyword in a config.
    fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }
}

impl<T: Keyword> FromText for T {
    const EXPECTED: &str = <T as Keyword>::EXPECTED;

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, T::WORDS)
    }

    fn schema() -> Schema {
        keyword_schema(T::WORDS)
    }
}

/// The value of a keyword.
///
/// # Errors
/// If it is unknown, with the known ones as a hint.
pub fn parse_keyword<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Diagnostic> {
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*meaning);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let near = did_you_mean(nearest(text, known.iter().copied()));
    Err(Diagnostic::new(
        format!("unknown value `{text}`{near}"),
        format!("write one of {}", known.join(", ")),
    ))
}

/// The JSON schema of keywords.
pub fn keyword_schema<T>(words: &[(&str, T)]) -> Schema {
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    json_schema!({ "enum": known })
}
