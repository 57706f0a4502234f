//! Errors of values.

use serde::de::Error;

/// An error of a value whose place is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is invalid.
    pub message: String,
    /// How to fix it; may be empty.
    pub hint: String,
}

impl Fault {
    /// An error with a hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// An error somewhere inside a value, and the keys that lead there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The keys, from the outer value inwards.
    pub path: Vec<String>,
    /// The error there.
    pub fault: Fault,
}

impl Mistake {
    /// The error at the end of `path`.
    pub fn new(path: &[&str], message: impl Into<String>, hint: impl Into<String>) -> Self {
        let path = path.iter().map(|&key| key.to_owned()).collect();
        Self { path, fault: Fault::new(message, hint) }
    }
}

/// Converts an error for `decode`, which separates message and hint again.
pub fn to_serde_error<E: Error>(fault: Fault) -> E {
    E::custom(format_args!("{}\n{}", fault.message, fault.hint))
}
