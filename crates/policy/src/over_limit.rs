//! The action taken when a limit is exceeded.

use operation::{Operation, RejectMode};
use values::{Diagnostic, FromText, keyword_schema, parse_keyword};

/// The action taken when a limit is exceeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OverLimit {
    /// Reject with an error.
    #[default]
    Refuse,
    /// Delay, up to a maximum.
    Delay,
    /// Reject clients that back off by themselves, and delay all others.
    ByClient,
    /// Close the connection.
    Close,
    /// Reset the connection.
    Reset,
}

const WORDS: [(&str, OverLimit); 5] = [
    ("refuse", OverLimit::Refuse),
    ("delay", OverLimit::Delay),
    ("by_client", OverLimit::ByClient),
    ("close", OverLimit::Close),
    ("reset", OverLimit::Reset),
];

impl OverLimit {
    /// The word for it in a config.
    pub(crate) fn as_str(self) -> &'static str {
        WORDS.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }

    /// How a rejection is delivered.
    pub(crate) fn reject_mode(self) -> RejectMode {
        match self {
            OverLimit::Refuse | OverLimit::Delay | OverLimit::ByClient => RejectMode::Reply,
            OverLimit::Close => RejectMode::Close,
            OverLimit::Reset => RejectMode::Reset,
        }
    }

    /// Whether operations may be delayed.
    pub(crate) fn delays(self) -> bool {
        matches!(self, OverLimit::Delay | OverLimit::ByClient)
    }

    /// Whether this operation is delayed instead of rejected.
    pub(crate) fn delays_operation(self, operation: &Operation<'_>) -> bool {
        match self {
            OverLimit::Refuse | OverLimit::Close | OverLimit::Reset => false,
            OverLimit::Delay => true,
            OverLimit::ByClient => !operation.client_backs_off(),
        }
    }
}

impl FromText for OverLimit {
    const EXPECTED: &str = "an action for what is over the limit";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        parse_keyword(text, &WORDS)
    }

    fn schema() -> schemars::Schema {
        keyword_schema(&WORDS)
    }
}
