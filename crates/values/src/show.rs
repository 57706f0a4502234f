//! Values as text for a config.

use super::{
    Factor, InRange, Keyword, Name, OneOrMore, OrOff, Rate, Share, Size, Text, duration_text,
};
use serde::ser::{Serialize, Serializer};
use std::time::Duration;

/// A value that can be written as in a config: reading it returns the same.
pub trait Show {
    /// Serializes it.
    ///
    /// # Errors
    /// Only those of the serializer.
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;
}

/// Serializes a value as in a config, for `serialize_with`.
///
/// # Errors
/// Only those of the serializer.
pub fn shown<T: Show, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    value.show(to)
}

/// Serializes a number of bytes as in a config, for `serialize_with`.
///
/// # Errors
/// Only those of the serializer.
pub fn shown_size<S: Serializer>(bytes: &usize, to: S) -> Result<S::Ok, S::Error> {
    Size(*bytes as u64).show(to)
}

/// Serializes a number of which 0 is `off`, for `serialize_with`.
///
/// # Errors
/// Only those of the serializer.
pub fn shown_or_off<S: Serializer>(number: &u32, to: S) -> Result<S::Ok, S::Error> {
    Some(*number).filter(|number| *number > 0).show(to)
}

impl<T: Keyword> Show for T {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<T: Show> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.show(to)
    }
}

impl<T: Serialize> Serialize for OneOrMore<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(to),
            more => more.serialize(to),
        }
    }
}

impl<T: Show> Show for OrOff<T> {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => value.show(to),
            None => to.serialize_str("off"),
        }
    }
}

impl Show for u32 {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(*self)
    }
}

impl Show for usize {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.serialize(to)
    }
}

impl Show for Duration {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&duration_text(*self))
    }
}

impl Show for Size {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text())
    }
}

impl Show for Rate {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text())
    }
}

impl Show for Name {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<const MIN: usize, const MAX: usize> Show for InRange<MIN, MAX> {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl Show for Share {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.0)
    }
}

impl Show for Factor {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.0)
    }
}
