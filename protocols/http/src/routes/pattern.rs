//! Regular expressions of bounded size.

use regex::{Regex, RegexBuilder, bytes};
use values::Fault;

/// Largest compiled size, in bytes.
const LARGEST: usize = 1 << 20;

/// Compiles a regex that must match a whole text.
pub(super) fn whole(text: &str) -> Result<Regex, Fault> {
    anywhere(text)?;
    anywhere(&format!("^(?:{text})$"))
}

/// Compiles a regex that must match all bytes.
pub(super) fn whole_bytes(text: &str) -> Result<bytes::Regex, Fault> {
    anywhere(text)?;
    let regex = bytes::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(LARGEST).build();
    regex.map_err(|error| fault(text, &error))
}

/// Compiles a regex that may match any part of a text.
pub(super) fn anywhere(text: &str) -> Result<Regex, Fault> {
    RegexBuilder::new(text).size_limit(LARGEST).build().map_err(|error| fault(text, &error))
}

fn fault(text: &str, error: &regex::Error) -> Fault {
    if let regex::Error::CompiledTooBig(_) = error {
        let message = format!("the regular expression `{text}` is too large");
        return Fault::new(
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
    Fault::new(format!("`{text}` is no regular expression: {what}"), hint)
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
        let fault = whole("/v(").unwrap_err();
        assert_eq!(fault.message, "`/v(` is no regular expression: unclosed group");
        let fault = whole("a)(b").unwrap_err();
        assert!(fault.message.contains("unopened group"), "{fault:?}");
        assert!(whole(r"\w{5000}").unwrap_err().message.contains("too large"));
    }
}
