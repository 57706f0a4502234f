//! Values that configs write as text: durations, sizes, rates, numbers and names, with errors for
//! users.
//!
//! Shared by the proxy's own keys and the settings of protocols and policies; this crate knows
//! neither.

mod address;
mod amount;
mod diagnostic;
mod files;
mod keyword;
mod list;
mod node;
mod secret;
mod show;
mod span;
pub mod spanned;
mod target;

pub use address::split_host_port;
pub use amount::{Rate, Size};
pub use diagnostic::{Diagnostic, Location, to_serde_error};
pub use files::{
    irregular_file, irregular_log, open_regular, read_at_most, read_regular, read_text,
};
pub use keyword::{did_you_mean, keyword_schema, nearest, parse_keyword};
pub use list::OneOrMore;
pub use node::{Node, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
pub use secret::{HIDDEN, hide, secrets};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
pub use show::Show;
pub use span::{Span, text_lines};
use std::{borrow::Cow, fmt, marker::PhantomData, sync::Arc, time::Duration};
pub use target::{HostPort, SrvTarget, Target, host_port, is_host_name};

/// A value that a file contains as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<T>(pub T);

/// A type read from text, with its JSON schema.
pub trait FromText: Sized {
    /// What is expected, as the end of "expected …".
    const EXPECTED: &str;

    /// Reads the text.
    ///
    /// # Errors
    /// If the text is invalid, with a hint.
    fn from_text(text: &str) -> Result<Self, Diagnostic>;

    /// Its JSON Schema.
    fn schema() -> Schema;
}

/// A value, or `off`.
pub type OrOff<T> = Option<T>;

/// A whole number between these bounds, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InRange<const MIN: usize, const MAX: usize>(pub usize);

/// A number, at least 1.
pub type Count = InRange<1, MAX_COUNT>;

/// A number, which may be 0.
pub type Limit = InRange<0, MAX_COUNT>;

/// A percentage, as a whole number.
pub type Percent = InRange<0, 100>;

/// A factor or an exponent: 0.1 to 100, with any precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor(pub f64);

/// A percentage, with any precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

/// The range excludes `NaN`.
impl Eq for Share {}

/// The name of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(pub Arc<str>);

/// A name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub Arc<str>);

/// The number of worker threads; `None` is one per core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers(pub Option<usize>);

const MAX_COUNT: usize = 10_000_000;
const MAX_WORKERS: usize = 1024;
const MIN_FACTOR: f64 = 0.1;
const MAX_FACTOR: f64 = 100.0;
const DAY: u128 = 24 * 60 * 60 * 1_000_000_000;
const MAX_DURATION: u128 = 365 * DAY;
const UNITS: [(&str, u128); 5] =
    [("d", DAY), ("h", DAY / 24), ("m", DAY / 1440), ("s", 1_000_000_000), ("ms", 1_000_000)];

impl FromText for Duration {
    const EXPECTED: &str = "a duration such as `5s`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        if text == "off" {
            let message = "`off` is not a duration: this can't be switched off";
            return Err(Diagnostic::new(message, DURATION_UNITS));
        }
        let time = duration(text)?;
        if time.is_zero() {
            let message = format!("`{text}` is no time at all");
            return Err(Diagnostic::new(message, "write more than that: `1ms`, `5s`"));
        }
        Ok(time)
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)? *(ms|s|m|h|d)$",
            "examples": ["250ms", "5s", "1h"],
        })
    }
}

const DURATION_UNITS: &str = "the units are ms, s, m, h and d: `250ms`, `5s`, `1.5h`";

/// Parses a duration, which may be 0; 0 needs no unit.
fn duration(text: &str) -> Result<Duration, Diagnostic> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let wrong = || Diagnostic::new(format!("`{text}` is not a duration"), DURATION_UNITS);
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || part.is_empty() || part.len() > 9 || part.contains('.') {
        return Err(wrong());
    }
    if unit.is_empty() && number.bytes().all(|b| b == b'0') {
        return Ok(Duration::ZERO);
    }
    if unit.is_empty() {
        let n = text.trim_start_matches('0').trim_end();
        let n = if n.starts_with('.') { text } else { n };
        let hint = format!("write `{n}s` for seconds, or `{n}ms`, `{n}m`, `{n}h`");
        return Err(Diagnostic::new(format!("the duration `{text}` has no unit"), hint));
    }
    octal(whole, text)?;
    let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let message = format!("`{text}` is not a duration: there is no unit `{unit}`");
        return Err(Diagnostic::new(message, DURATION_UNITS));
    };
    let too_long = || Diagnostic::new(format!("`{text}` is too long"), "at most `365d`");
    let whole: u128 = whole.parse().map_err(|_| too_long())?;
    let scale = 10_u128.pow(u32::try_from(part.len()).map_err(|_| wrong())?);
    let part: u128 = part.parse().map_err(|_| wrong())?;
    let total = whole.checked_mul(*nanos).map(|whole| whole + part * nanos / scale);
    let total = total.filter(|total| *total <= MAX_DURATION).ok_or_else(too_long)?;
    Ok(Duration::from_nanos(u64::try_from(total).map_err(|_| too_long())?))
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

/// A minimum duration: `0s` is always exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtLeast(pub Duration);

impl FromText for AtLeast {
    const EXPECTED: &str = Duration::EXPECTED;

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        if text == "off" {
            let hint = "leave the key out, or write `0s`, which any time is at least";
            return Err(Diagnostic::new("`off` is not a duration", hint));
        }
        duration(text).map(AtLeast)
    }

    fn schema() -> Schema {
        Duration::schema()
    }
}

/// The text of a duration in a config: `1h`, `90s`, `0.5ms`.
pub fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match UNITS.iter().find(|(_, unit)| nanos.is_multiple_of(*unit)) {
        _ if nanos == 0 => "0s".to_owned(),
        Some((name, unit)) => format!("{}{name}", nanos / unit),
        None => {
            let part = format!("{:06}", nanos % 1_000_000);
            format!("{}.{}ms", nanos / 1_000_000, part.trim_end_matches('0'))
        }
    }
}

impl<T: FromText> FromText for OrOff<T> {
    const EXPECTED: &str = T::EXPECTED;

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        match text {
            "off" => Ok(None),
            _ if is_nothing(text) => {
                let message = format!("`{text}` is out of range");
                Err(Diagnostic::new(message, "to do without, write `off`"))
            }
            _ => T::from_text(text).map(Some),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [T::schema(), { "const": "off" }] })
    }
}

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

impl FromText for Zone {
    const EXPECTED: &str = "the name of a zone";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        if is_name(text) {
            return Ok(Zone(text.into()));
        }
        Err(Diagnostic::new(format!("`{text}` can't be the name of a zone"), NAME))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": NAME_PATTERN })
    }
}

impl FromText for Name {
    const EXPECTED: &str = "a name";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        if is_name(text) {
            return Ok(Name(text.into()));
        }
        Err(Diagnostic::new(format!("`{text}` can't be a name"), NAME))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": NAME_PATTERN })
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

/// Whether this is 0, with or without a unit: `0`, `0s`, `0.0ms`.
fn is_nothing(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    number.starts_with('0') && number.bytes().all(|b| matches!(b, b'0' | b'.'))
}

/// Whether a text is a plain number; the standard library would accept `+1` too.
pub fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The hint for an invalid name.
pub const NAME: &str = "1 to 64 letters, digits, `_`, `.` and `-`: names are metric labels";
/// The pattern of names, for editors.
pub const NAME_PATTERN: &str = "^[A-Za-z0-9_.-]{1,64}$";

/// Whether this is a valid name.
pub fn is_name(text: &str) -> bool {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    !text.is_empty() && text.len() <= 64 && !text.contains(odd)
}

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromText> Visitor<'_> for TextVisitor<T> {
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<T>, E> {
        T::from_text(text).map(Text).map_err(to_serde_error)
    }

    // Numbers of a config arrive as text, as they were written; those of JSON do not.
    fn visit_u64<E: Error>(self, number: u64) -> Result<Text<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Text<T>, E> {
        self.visit_str(&number.to_string())
    }
}

impl<T: FromText> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::EXPECTED.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        let millis = |text: &str| Duration::from_text(text).map(|it| it.as_micros());
        for (text, micros) in [
            ("250ms", 250_000),
            ("5s", 5_000_000),
            ("1m", 60_000_000),
            ("1h", 3_600_000_000),
            ("1d", 86_400_000_000),
            ("1.5s", 1_500_000),
            ("0.25ms", 250),
            ("5 s", 5_000_000),
        ] {
            assert_eq!(millis(text), Ok(micros), "{text}");
        }
        let wrong =
            ["", "s", "5", "-5s", "5S", "5sec", "1.s", ".5s", "1.2.3s", "1e3s", "0s", "366d"];
        for text in wrong {
            assert!(millis(text).is_err(), "{text}");
        }
        for text in ["99999999999999999999999999999999999999999d", "0.0000000000001s", "1s5m", "٣s"]
        {
            assert!(millis(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_would_be_written() {
        for text in ["250ms", "5s", "90s", "1m", "1h", "1d", "1500ms", "0.5ms", "36h"] {
            let duration = Duration::from_text(text).unwrap();
            assert_eq!(duration_text(duration), text);
        }
        assert_eq!(duration_text(Duration::from_text("1.5h").unwrap()), "90m");
    }

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

    #[test]
    fn a_0_instead_of_off_has_a_hint() {
        for text in ["0", "0s", "0.0ms", "00"] {
            let error = OrOff::<Duration>::from_text(text).unwrap_err();
            assert_eq!(error.hint, "to do without, write `off`", "{text}");
        }
        assert_eq!(OrOff::<Count>::from_text("0").unwrap_err().hint, "to do without, write `off`");
        assert_eq!(OrOff::<Count>::from_text("off"), Ok(None));
    }

    #[test]
    fn a_minimum_duration_may_be_zero() {
        for text in ["0", "0s", "0ms"] {
            assert_eq!(AtLeast::from_text(text), Ok(AtLeast(Duration::ZERO)), "{text}");
        }
        assert_eq!(AtLeast::from_text("5s"), Ok(AtLeast(Duration::from_secs(5))));
        assert_eq!(duration_text(Duration::ZERO), "0s");
    }

    #[test]
    fn a_leading_0_is_rejected() {
        let errors = [
            Count::from_text("010").unwrap_err(),
            Percent::from_text("007").unwrap_err(),
            Workers::from_text("04").unwrap_err(),
            Factor::from_text("01.5").unwrap_err(),
            Share::from_text("05").unwrap_err(),
            Size::from_text("0777KiB").unwrap_err(),
            Rate::from_text("010/s").unwrap_err(),
            Duration::from_text("010s").unwrap_err(),
        ];
        for error in errors {
            assert!(error.message.contains("begins with a 0"), "{error:?}");
        }
        assert_eq!(Count::from_text("010").unwrap_err().hint, "write it without: `10`");
        assert!(Factor::from_text("0.5").is_ok() && Duration::from_text("0.5s").is_ok());
    }

    /// The quoted suggestions of a hint, if they are complete.
    fn suggestions(error: &Diagnostic) -> Vec<String> {
        let parts = error.hint.split('`').skip(1).step_by(2);
        parts.filter(|it| !it.contains('…')).map(str::to_owned).collect()
    }

    /// Following each hint must lead to a valid value.
    fn follow<T: FromText>(texts: &[&str]) {
        for text in texts {
            let Err(error) = T::from_text(text) else { continue };
            for suggested in suggestions(&error) {
                let again = T::from_text(&suggested).map(drop);
                assert_eq!(again, Ok(()), "`{text}` has the hint to write `{suggested}`");
            }
        }
    }

    #[test]
    fn following_a_hint_gives_a_valid_value() {
        let texts = [
            "",
            "0",
            "00",
            "010",
            "0s",
            "0ms",
            "off",
            "5",
            "1.5",
            "-1",
            "5S",
            "5%",
            "many",
            "1e3",
            "400d",
            "0.5",
            "1/s",
            "5/ms",
            "0/s",
            "64 kilobytes",
            "2000GiB",
            "101",
        ];
        follow::<Duration>(&texts);
        follow::<AtLeast>(&texts);
        follow::<OrOff<Duration>>(&texts);
        follow::<OrOff<Count>>(&texts);
        follow::<Count>(&texts);
        follow::<Workers>(&texts);
        follow::<Size>(&texts);
        follow::<Rate>(&texts);
        follow::<Factor>(&texts);
        follow::<Share>(&texts);
    }
}
