//! What is wrong with a value.

use serde::de::Error;

/// What is wrong with a value, before it is known where that value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// What to do about it; empty if that is plain.
    pub hint: String,
}

impl Fault {
    /// What is wrong, and what to do about it.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// A fault somewhere inside a value, and the keys that lead there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The keys, from the value in question down.
    pub path: Vec<String>,
    /// What is wrong there.
    pub fault: Fault,
}

impl Mistake {
    /// What is wrong at the end of `path`, and what to do about it.
    pub fn new(path: &[&str], message: impl Into<String>, hint: impl Into<String>) -> Self {
        let path = path.iter().map(|&key| key.to_owned()).collect();
        Self { path, fault: Fault::new(message, hint) }
    }
}

/// Hands a fault to `decode`, which takes message and hint apart again.
pub fn to_serde_error<E: Error>(fault: Fault) -> E {
    E::custom(format_args!("{}\n{}", fault.message, fault.hint))
}
