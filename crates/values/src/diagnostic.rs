//! Diagnostics: what is wrong with a config, where, and how to fix it.

use serde::de::Error;
use std::fmt;

/// An error in a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The keys that lead to the invalid value, from the outer value inwards. Empty for the value
    /// itself.
    pub path: Vec<String>,
    /// What is invalid.
    pub message: String,
    /// How to fix it; may be empty.
    pub hint: String,
    /// The position in a file, once it is known.
    pub location: Option<Box<Location>>,
}

/// A position in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The name of the file.
    pub file: String,
    /// The line, counted from 1; 0 for the whole file.
    pub line: u32,
    /// The column in characters, counted from 1; 0 for the whole file.
    pub column: u32,
    /// The line with the position underlined; empty for the whole file.
    pub snippet: String,
}

impl Diagnostic {
    /// An error of a value whose position is not known yet.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { path: Vec::new(), message: message.into(), hint: hint.into(), location: None }
    }

    /// An error at the end of `path`.
    pub fn at(path: &[&str], message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(message, hint).below(path)
    }

    /// The same error, for a value that holds this one under `keys`.
    #[must_use]
    pub fn below<K: ToString>(mut self, keys: &[K]) -> Self {
        self.path.splice(..0, keys.iter().map(K::to_string));
        self
    }

    /// The line, counted from 1; 0 if it is not known.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.location.as_ref().map_or(0, |it| it.line)
    }

    /// The column in characters, counted from 1; 0 if it is not known.
    #[must_use]
    pub fn column(&self) -> u32 {
        self.location.as_ref().map_or(0, |it| it.column)
    }

    /// The line with the position underlined; empty if it is not known.
    #[must_use]
    pub fn snippet(&self) -> &str {
        self.location.as_ref().map_or("", |it| &it.snippet)
    }
}

/// `file:line:column: message`, the snippet and the hint, each on its own lines.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snippet = self.snippet();
        if let Some(Location { file, line, column, .. }) = self.location.as_deref() {
            match line {
                0 => write!(f, "{file}: ")?,
                _ => write!(f, "{file}:{line}:{column}: ")?,
            }
        }
        f.write_str(&self.message)?;
        if !snippet.is_empty() {
            write!(f, "\n{snippet}")?;
        }
        match (&*self.hint, snippet) {
            ("", _) => Ok(()),
            (hint, "") => write!(f, "\n  hint: {hint}"),
            // Below the snippet's rule, which is beside the line number.
            (hint, _) => {
                let gutter = self.line().to_string().len();
                write!(f, "\n{:gutter$} = hint: {hint}", "")
            }
        }
    }
}

/// Converts an error for `decode`, which separates message and hint again.
pub fn to_serde_error<E: Error>(error: Diagnostic) -> E {
    E::custom(format_args!("{}\n{}", error.message, error.hint))
}
