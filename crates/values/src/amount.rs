//! Sizes and rates.

use super::{Diagnostic, FromText, UNITS, octal};
use schemars::{Schema, json_schema};
use std::time::Duration;

/// An amount per period: `500/s`, `6000/m`, `10MiB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The amount, at least 1.
    pub amount: u64,
    /// The period: a second, a minute, an hour or a day.
    pub per: Duration,
}

/// A number of bytes: `512`, `64KiB`, `1MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

const SIZES: [(&str, u64); 7] = [
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];
const MAX_SIZE: u64 = 1 << 40;

impl FromText for Size {
    const EXPECTED: &str = "a size such as `64KiB`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let units = "the units are B, kB, KiB, MB, MiB and GiB: `64KiB`";
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        octal(number, text)?;
        let scale = SIZES.iter().find(|(name, _)| *name == unit.trim_start());
        let (Ok(number), Some((_, scale))) = (number.parse::<u64>(), scale) else {
            return Err(Diagnostic::new(format!("`{text}` is not a size"), units));
        };
        match number.checked_mul(*scale) {
            Some(0) => Err(Diagnostic::new(format!("`{text}` is nothing at all"), "at least 1")),
            Some(size) if size <= MAX_SIZE => Ok(Size(size)),
            _ => Err(Diagnostic::new(format!("`{text}` is too much"), "at most `1024GiB`")),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "string", "pattern": "^[0-9]+ *(B|kB|KiB|MB|MiB|GiB)?$" },
            ],
            "examples": ["64KiB", "1MiB"],
        })
    }
}

impl Size {
    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// The text in a config: `64KiB`.
    pub fn text(self) -> String {
        let units = SIZES.iter().rev().filter(|(name, _)| name.contains('i'));
        match units.into_iter().find(|(_, scale)| self.0.is_multiple_of(*scale)) {
            Some((name, scale)) => format!("{}{name}", self.0 / scale),
            None => self.0.to_string(),
        }
    }
}

impl FromText for Rate {
    const EXPECTED: &str = "a rate such as `500/s`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let hint = "write how many in how much time: `500/s`, `6000/m`, `10MiB/s`";
        let wrong = || Diagnostic::new(format!("`{text}` is not a rate"), hint);
        let (amount, unit) = text.split_once('/').ok_or_else(wrong)?;
        let per = UNITS.iter().find(|(name, _)| *name == unit.trim() && *name != "ms");
        let (_, nanos) = per.ok_or_else(wrong)?;
        let Size(amount) = Size::from_text(amount.trim()).map_err(|error| {
            Diagnostic::new(format!("`{text}` is not a rate: {}", error.message), hint)
        })?;
        let per = Duration::from_nanos(u64::try_from(*nanos).map_err(|_| wrong())?);
        Ok(Rate { amount, per })
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+ *(B|kB|KiB|MB|MiB|GiB)? */ *(s|m|h|d)$",
            "examples": ["500/s", "6000/m", "10MiB/s"],
        })
    }
}

impl Rate {
    /// The text in a config: `500/s`.
    pub fn text(self) -> String {
        format!("{}/{}", self.amount, self.unit())
    }

    /// The text in a config, as bytes: `10MiB/s`.
    pub fn bytes_text(self) -> String {
        format!("{}/{}", Size(self.amount).text(), self.unit())
    }

    fn unit(self) -> &'static str {
        let nanos = self.per.as_nanos();
        UNITS.iter().find(|(_, unit)| *unit == nanos).map_or("s", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_amounts_per_period() {
        let rate = |amount, secs| Ok(Rate { amount, per: Duration::from_secs(secs) });
        assert_eq!(Rate::from_text("500/s"), rate(500, 1));
        assert_eq!(Rate::from_text("6000/m"), rate(6000, 60));
        assert_eq!(Rate::from_text("1 / h"), rate(1, 3600));
        assert_eq!(Rate::from_text("10MiB/s"), rate(10 << 20, 1));
        for text in ["", "500", "/s", "0/s", "-1/s", "1.5/s", "5/ms", "5/fortnight", "1XB/s"] {
            assert!(Rate::from_text(text).is_err(), "{text}");
        }
        for text in ["500/s", "6000/m", "3/d"] {
            assert_eq!(Rate::from_text(text).unwrap().text(), text);
        }
        assert_eq!(Rate::from_text("10MiB/s").unwrap().bytes_text(), "10MiB/s");
    }

    #[test]
    fn sizes_have_a_unit_or_are_bytes() {
        for (text, size) in [("512", 512), ("64KiB", 65536), ("1MB", 1_000_000), ("2 GiB", 2 << 30)]
        {
            assert_eq!(Size::from_text(text), Ok(Size(size)), "{text}");
        }
        for text in ["", "KiB", "0", "1.5MiB", "-1", "1TiB", "99999999999999999999", "2000GiB"] {
            assert!(Size::from_text(text).is_err(), "{text}");
        }
        for text in ["512", "64KiB", "1000000", "2GiB"] {
            assert_eq!(Size::from_text(text).unwrap().text(), text);
        }
    }
}
