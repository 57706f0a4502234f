//! Error messages: what was expected, what was found, and a suggestion.

use crate::report::SHORTENED;
use serde::de::{self, Unexpected};
use std::fmt;
use values::{Diagnostic, Span, did_you_mean, hide, nearest};

/// An error on its way to the reader that reports it.
#[derive(Debug)]
pub(super) struct Error {
    /// Where it occurred, if known.
    pub(super) at: Option<Span>,
    /// `None` if it was reported already.
    pub(super) diagnostic: Option<Diagnostic>,
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        if let Some(error) = Self::restored(&text) {
            return error;
        }
        let (message, hint) = text.split_once('\n').unwrap_or((&text, ""));
        Error { at: None, diagnostic: Some(Diagnostic::new(message, hint)) }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Str(text) => format!("`{}`", shortened(text)),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "keys and values".to_owned(),
            Unexpected::Bool(it) => format!("`{it}`"),
            Unexpected::Unsigned(it) => format!("`{it}`"),
            Unexpected::Signed(it) => format!("`{it}`"),
            other => other.to_string(),
        };
        Self::custom(format_args!("expected {expected}, found {found}"))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        let near = did_you_mean(nearest(word, known.iter().copied()));
        Self::custom(format_args!(
            "unknown value `{word}`{near}\nwrite one of {}",
            known.join(", ")
        ))
    }

    fn missing_field(name: &'static str) -> Self {
        Self::custom(format_args!("the key `{name}` is missing"))
    }
}

/// Stands before and behind the span in the text of an error.
const MARK: char = '\0';

impl Error {
    /// The error with this text, if the text is that of an error with a span. A deserializer behind
    /// `dyn` passes on nothing but texts.
    fn restored(text: &str) -> Option<Self> {
        let (span, rest) = text.strip_prefix(MARK)?.split_once(MARK)?;
        let mut numbers = span.split(' ').map(str::parse);
        let mut number = || numbers.next()?.ok();
        let at = Span { file: number()?, line: number()?, column: number()?, width: number()? };
        let diagnostic =
            rest.split_once('\n').map(|(message, hint)| Diagnostic::new(message, hint));
        Some(Error { at: Some(at), diagnostic })
    }
}

/// All of the error, for [`Error::restored`].
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Span { file, line, column, width }) = self.at {
            write!(f, "{MARK}{file} {line} {column} {width}{MARK}")?;
        }
        match &self.diagnostic {
            Some(Diagnostic { message, hint, .. }) => write!(f, "{message}\n{hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The front of a text for a message, with secrets hidden before it is cut.
pub(super) fn shortened(text: &str) -> String {
    let text = &*hide(text);
    let mut short: String = text.chars().take(SHORTENED).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
