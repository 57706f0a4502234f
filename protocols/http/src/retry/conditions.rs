//! After which failures a request is attempted again.

use values::Fault;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no connection to send it by.
    Connect,
    /// The service says that it was not looked at: a stream that was refused, or one that came
    /// after GOAWAY.
    Refused,
    /// The connection or the stream ended before the answer's head.
    Reset,
    /// The attempt took longer than attempts may.
    PerTryTimeout,
    /// An answer with this HTTP status.
    Status(u16),
    /// An answer with this status of gRPC, in headers or in trailers.
    Code(u16),
}

/// A set of failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    connect: bool,
    refused: bool,
    reset: bool,
    /// The HTTP statuses 400 to 599, from the lowest bit.
    statuses: [u64; 4],
    /// The statuses of gRPC, 0 to 16.
    codes: u32,
}

/// The first HTTP status that can be a condition, and the first that can't any more.
const STATUSES: std::ops::Range<u16> = 400..600;

/// The statuses of gRPC by their numbers, in the config's words.
const CODES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

impl Conditions {
    /// The words that can be written, but for the statuses of gRPC.
    pub const WORDS: [&'static str; 6] =
        ["connect_failure", "refused_stream", "reset", "5xx", "gateway_error", "retriable_4xx"];

    /// The failures that one word means: `connect_failure`, `refused_stream`, `reset` (which has
    /// `per_try_timeout` too), `5xx` (all of these, and the statuses 500 to 599), `gateway_error`
    /// (502, 503 and 504), `retriable_4xx` (409), an HTTP status of 400 to 599, or a status of
    /// gRPC: `unavailable`.
    ///
    /// # Errors
    /// What is wrong with the word, and what to write instead.
    pub fn parse(word: &str) -> Result<Self, Fault> {
        let none = Self::default();
        let conditions = match word {
            "connect_failure" => Self { connect: true, ..none },
            "refused_stream" => Self { refused: true, ..none },
            "reset" => Self { reset: true, ..none },
            "5xx" => Self { connect: true, refused: true, reset: true, ..none }.with(500..600),
            "gateway_error" => none.with(502..505),
            "retriable_4xx" => none.with(409..410),
            _ => {
                let code = CODES.iter().position(|code| *code == word);
                match (code, word.parse::<u16>()) {
                    (Some(1..), _) => Self { codes: code.map_or(0, |code| 1 << code), ..none },
                    (None, Ok(status)) if STATUSES.contains(&status) && word.len() == 3 => {
                        none.with(status..status + 1)
                    }
                    _ => return Err(unknown(word)),
                }
            }
        };
        Ok(conditions)
    }

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.connect |= other.connect;
        self.refused |= other.refused;
        self.reset |= other.reset;
        self.codes |= other.codes;
        for (mine, others) in self.statuses.iter_mut().zip(other.statuses) {
            *mine |= others;
        }
        self
    }

    /// Whether a failure is one of these.
    pub fn covers(&self, failure: Failure) -> bool {
        match failure {
            Failure::Connect => self.connect,
            // It is a reset too, and the safest one.
            Failure::Refused => self.refused || self.reset,
            Failure::Reset | Failure::PerTryTimeout => self.reset,
            Failure::Status(status) => {
                let bit = STATUSES.contains(&status).then(|| bit(status));
                bit.is_some_and(|(at, bit)| self.statuses.get(at).is_some_and(|it| it & bit != 0))
            }
            Failure::Code(code) => code < 32 && self.codes & 1 << code != 0,
        }
    }

    /// Whether any status of gRPC is one of these, so that trailers matter.
    pub fn has_codes(&self) -> bool {
        self.codes != 0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn with(mut self, statuses: std::ops::Range<u16>) -> Self {
        for (at, bit) in statuses.map(bit) {
            if let Some(word) = self.statuses.get_mut(at) {
                *word |= bit;
            }
        }
        self
    }
}

/// Where a status's bit is: the word's index, and the bit in it. The status is in [`STATUSES`].
fn bit(status: u16) -> (usize, u64) {
    let at = status.saturating_sub(STATUSES.start);
    (usize::from(at / 64), 1 << (at % 64))
}

fn unknown(word: &str) -> Fault {
    let hint = match word.replace('-', "_").to_ascii_lowercase() {
        meant if meant != word && Conditions::parse(&meant).is_ok() => format!("write `{meant}`"),
        _ if word.parse::<u16>().is_ok() => "a status is 400 to 599: `503`".to_owned(),
        _ => format!(
            "there are {}, a status such as `503`, and those of gRPC such as `unavailable`",
            Conditions::WORDS.map(|word| format!("`{word}`")).join(", ")
        ),
    };
    Fault::new(format!("`{word}` is no condition to retry on"), hint)
}
