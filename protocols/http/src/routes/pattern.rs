//! Regular expressions of bounded size.

use regex::{Regex, RegexBuilder, bytes};
use values::Diagnostic;

/// Largest compiled size, in bytes.
const LARGEST: usize = 1 << 20;

/// Compiles a regex that must match a whole text.
pub(super) fn whole(text: &str) -> Result<Regex, Diagnostic> {
    anywhere(text)?;
    anywhere(&format!("^(?:{text})$"))
}

/// Compiles a regex that must match all bytes.
pub(super) fn whole_bytes(text: &str) -> Result<bytes::Regex, Diagnostic> {
    anywhere(text)?;
    let regex = bytes::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(LARGEST).build();
    regex.map_err(|error| invalid(text, &error))
}

/// Compiles a regex that may match any part of a text.
pub(super) fn anywhere(text: &str) -> Result<Regex, Diagnostic> {
    RegexBuilder::new(text).size_limit(LARGEST).build().map_err(|error| invalid(text, &error))
}

fn invalid(text: &str, error: &regex::Error) -> Diagnostic {
    if let regex::Error::CompiledTooBig(_) = error {
        let message = format!("the regular expression `{text}` is too large");
        return Diagnostic::new(
            message,
            "smaller counts in `{…}` help, and `[0-9]` in the place of `\\d`",
        );
    }
    // The message of `regex` has several lines that point into the pattern; the last one says what
    // is wrong.
    let told = error.to_string();
    let what = told.lines().last().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let hint = "a backslash before `. + * ? ( ) [ ] { } | ^ $` makes it a plain character";
    Diagnostic::new(format!("`{text}` is no regular expression: {what}"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_regex_matches_the_whole_text() {
        let regex = whole("/v[0-9]|/w").unwrap();
        for (text, fits) in [("/v1", true), ("/w", true), ("/v1/", false), ("x/w", false)] {
            assert_eq!(regex.is_match(text), fits, "{text}");
        }
    }

    #[test]
    fn an_invalid_regex_is_reported_with_its_text() {
        let error = whole("/v(").unwrap_err();
        assert_eq!(error.message, "`/v(` is no regular expression: unclosed group");
        let error = whole("a)(b").unwrap_err();
        assert!(error.message.contains("unopened group"), "{error:?}");
        assert!(whole(r"\w{5000}").unwrap_err().message.contains("too large"));
    }
}
