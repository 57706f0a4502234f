//! The action taken when a limit is exceeded.

use operation::{Operation, RejectMode};
use values::{Fault, FromText, keyword_schema, parse_keyword};

/// The action taken when a limit is exceeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Over {
    /// Reject with an error.
    #[default]
    Refuse,
    /// Delay, up to a maximum.
    Delay,
    /// Reject clients that back off by themselves, and delay all others.
    ByClient,
    /// Its connection is closed.
    Close,
    /// Its connection is reset.
    Reset,
}

const WORDS: [(&str, Over); 5] = [
    ("refuse", Over::Refuse),
    ("delay", Over::Delay),
    ("by_client", Over::ByClient),
    ("close", Over::Close),
    ("reset", Over::Reset),
];

impl Over {
    /// The word for it in a config.
    pub(crate) fn as_str(self) -> &'static str {
        WORDS.iter().find(|(_, it)| *it == self).map_or("", |(word, _)| word)
    }

    /// How a rejection is delivered.
    pub(crate) fn manner(self) -> RejectMode {
        match self {
            Over::Refuse | Over::Delay | Over::ByClient => RejectMode::Reply,
            Over::Close => RejectMode::Close,
            Over::Reset => RejectMode::Reset,
        }
    }

    /// Whether operations may be delayed.
    pub(crate) fn delays(self) -> bool {
        matches!(self, Over::Delay | Over::ByClient)
    }

    /// Whether this operation is to wait rather than to be refused.
    pub(crate) fn delays_this(self, operation: &Operation<'_>) -> bool {
        match self {
            Over::Refuse | Over::Close | Over::Reset => false,
            Over::Delay => true,
            Over::ByClient => operation.attribute("backs_off").text().as_deref() != Some("true"),
        }
    }
}

impl FromText for Over {
    const EXPECTED: &str = "what becomes of who is over the limit";

    fn from_text(text: &str) -> Result<Self, Fault> {
        parse_keyword(text, &WORDS)
    }

    fn schema() -> schemars::Schema {
        keyword_schema(&WORDS)
    }
}
