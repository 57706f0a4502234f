//! Numbers.

use crate::{Diagnostic, FromText};
use schemars::{Schema, json_schema};

/// A whole number between these bounds, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InRange<const MIN: usize, const MAX: usize>(pub usize);

impl<const MIN: usize, const MAX: usize> InRange<MIN, MAX> {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

/// A number, at least 1.
pub type Count = InRange<1, MAX_COUNT>;

/// A number, which may be 0.
pub type Limit = InRange<0, MAX_COUNT>;

/// A percentage, as a whole number.
pub type Percent = InRange<0, 100>;

/// A factor or an exponent: 0.1 to 100, with any precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor(pub f64);

impl Factor {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// A percentage, with any precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl Share {
    /// The percentage, at most 100.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// The range excludes `NaN`.
impl Eq for Share {}

/// The number of worker threads; `None` is one per core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers(pub Option<usize>);

const MAX_COUNT: usize = 10_000_000;
const MAX_WORKERS: usize = 1024;
const MIN_FACTOR: f64 = 0.1;
const MAX_FACTOR: f64 = 100.0;

impl<const MIN: usize, const MAX: usize> FromText for InRange<MIN, MAX> {
    const EXPECTED: &str = "a number";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        octal(text, text)?;
        match text.parse() {
            Ok(number) if is_digits(text) && (MIN..=MAX).contains(&number) => Ok(InRange(number)),
            _ if is_digits(text) => {
                Err(Diagnostic::new(format!("`{text}` is out of range"), format!("{MIN} to {MAX}")))
            }
            _ => {
                let bare = text.strip_suffix('%').filter(|bare| is_digits(bare));
                let hint = match bare {
                    Some(bare) => format!("write digits alone: `{bare}`"),
                    None => format!("write digits alone: {MIN} to {MAX}"),
                };
                Err(Diagnostic::new(format!("`{text}` is not a whole number"), hint))
            }
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

impl FromText for Factor {
    const EXPECTED: &str = "a number";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        octal(whole(text), text)?;
        match text.parse() {
            Ok(factor @ MIN_FACTOR..=MAX_FACTOR) if plain => Ok(Factor(factor)),
            Ok(_) if plain => {
                let hint = format!("{MIN_FACTOR} to {MAX_FACTOR}");
                Err(Diagnostic::new(format!("`{text}` is out of range"), hint))
            }
            _ => Err(Diagnostic::new(
                format!("`{text}` is not a number"),
                "write it as `1` or `1.9`",
            )),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "number", "minimum": MIN_FACTOR, "maximum": MAX_FACTOR })
    }
}

impl FromText for Share {
    const EXPECTED: &str = "a number";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let range = "0.001 to 100, without a sign: `10`, `0.5`";
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        octal(whole(text), text)?;
        match text.parse() {
            Ok(share @ 0.001..=100.0) if plain => Ok(Share(share)),
            Ok(_) if plain => Err(Diagnostic::new(format!("`{text}` is out of range"), range)),
            _ => Err(Diagnostic::new(format!("`{text}` is not a number"), range)),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "number", "minimum": 0.001, "maximum": 100 })
    }
}

impl FromText for Workers {
    const EXPECTED: &str = "`auto` or a number";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        octal(text, text)?;
        match text.parse() {
            Ok(count @ 1..=MAX_WORKERS) if is_digits(text) => Ok(Workers(Some(count))),
            _ if text == "auto" => Ok(Workers(None)),
            _ => {
                let hint = format!("write `auto` for one a core, or 1 to {MAX_WORKERS}");
                Err(Diagnostic::new(format!("`{text}` is not a number of workers"), hint))
            }
        }
    }

    fn schema() -> Schema {
        let number = json_schema!({ "type": "integer", "minimum": 1, "maximum": MAX_WORKERS });
        json_schema!({ "anyOf": [{ "const": "auto" }, number] })
    }
}

/// The whole part of a decimal number.
fn whole(text: &str) -> &str {
    text.split('.').next().unwrap_or_default()
}

/// Rejects a number with a leading 0, which YAML 1.1 and many users read as octal.
///
/// # Errors
/// If `number` has one; `text` is the whole text.
pub fn octal(number: &str, text: &str) -> Result<(), Diagnostic> {
    let plain = number.trim_start_matches('0');
    // `0` and `00` are the same in octal.
    if plain.len() == number.len() || number.len() < 2 || !is_digits(plain) {
        return Ok(());
    }
    let hint = format!("write it without: `{}`", text.replacen(number, plain, 1));
    Err(Diagnostic::new(format!("`{text}` begins with a 0, which some take for octal"), hint))
}

/// Whether a text is a plain number; the standard library would accept `+1` too.
pub fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_whole_and_in_range() {
        assert_eq!(Count::from_text("1"), Ok(InRange(1)));
        assert_eq!(Count::from_text("10000000"), Ok(InRange(10_000_000)));
        for text in
            ["0", "10000001", "-1", "1.5", "1_000", "0x10", "+1", "", "99999999999999999999999"]
        {
            assert!(Count::from_text(text).is_err(), "{text}");
        }
        assert_eq!(Workers::from_text("auto"), Ok(Workers(None)));
        assert_eq!(Workers::from_text("1024"), Ok(Workers(Some(1024))));
        for text in ["0", "+1", "1025", "Auto"] {
            assert!(Workers::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_a_plain_number() {
        assert_eq!(Percent::from_text("0"), Ok(InRange(0)));
        assert_eq!(Percent::from_text("100"), Ok(InRange(100)));
        assert_eq!(Percent::from_text("101").unwrap_err().hint, "0 to 100");
        assert_eq!(Percent::from_text("50%").unwrap_err().hint, "write digits alone: `50`");
        assert!(Percent::from_text("0.5").is_err());
    }

    #[test]
    fn factors_are_decimal_and_in_range() {
        for (text, factor) in [("1", 1.0), ("1.9", 1.9), ("0.1", 0.1), ("100", 100.0)] {
            assert_eq!(Factor::from_text(text), Ok(Factor(factor)), "{text}");
        }
        for text in ["", ".", "0", "0.09", "100.1", "-1", "+1", "1e1", "inf", "NaN", "1,9"] {
            assert!(Factor::from_text(text).is_err(), "{text}");
        }
    }
}
