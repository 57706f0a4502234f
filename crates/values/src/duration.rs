//! Durations.

use crate::{Diagnostic, FromText, octal};
use schemars::{Schema, json_schema};
use std::time::Duration;

const DAY: u128 = 24 * 60 * 60 * 1_000_000_000;
const MAX_DURATION: u128 = 365 * DAY;
/// The units and their nanoseconds.
pub(crate) const UNITS: [(&str, u128); 5] =
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
    fn a_minimum_duration_may_be_zero() {
        for text in ["0", "0s", "0ms"] {
            assert_eq!(AtLeast::from_text(text), Ok(AtLeast(Duration::ZERO)), "{text}");
        }
        assert_eq!(AtLeast::from_text("5s"), Ok(AtLeast(Duration::from_secs(5))));
        assert_eq!(duration_text(Duration::ZERO), "0s");
    }
}
