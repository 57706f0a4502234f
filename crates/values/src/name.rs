//! Names.

use crate::{Diagnostic, FromText};
use schemars::{Schema, json_schema};
use std::sync::Arc;

/// The name of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(pub Arc<str>);

/// A name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub Arc<str>);

impl Name {
    /// The text.
    pub fn text(&self) -> &Arc<str> {
        &self.0
    }
}

impl FromText for Zone {
    const EXPECTED: &str = "the name of a zone";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        if is_name(text) {
            return Ok(Zone(text.into()));
        }
        Err(Diagnostic::new(format!("`{text}` can't be the name of a zone"), NAME_HINT))
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
        Err(Diagnostic::new(format!("`{text}` can't be a name"), NAME_HINT))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": NAME_PATTERN })
    }
}

/// The hint for an invalid name.
pub const NAME_HINT: &str = "1 to 64 letters, digits, `_`, `.` and `-`: names are metric labels";
/// The pattern of names, for editors.
pub(crate) const NAME_PATTERN: &str = "^[A-Za-z0-9_.-]{1,64}$";

/// Whether this is a valid name.
pub fn is_name(text: &str) -> bool {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    !text.is_empty() && text.len() <= 64 && !text.contains(odd)
}
