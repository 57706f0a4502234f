//! Words of the settings.

use crate::header_policy::CertificateStyle;
use schemars::{Schema, json_schema};
use serde::ser::Serializer;
use std::fmt;
use values::{Diagnostic, FromText, Keyword, Show, is_digits};

/// Which headers pass on the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedSetting {
    /// `x-forwarded-for`, `x-forwarded-proto`, `x-forwarded-host`.
    XForwarded,
    /// `forwarded` of RFC 7239.
    Forwarded,
    /// All of them.
    Both,
    /// None, and what came with the request is passed on untouched.
    Off,
}

/// The name of the proxy in `via`: a token of RFC 9110, at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViaName(pub Box<str>);

/// Statuses of answers, both ends included: `5xx`, `503`, `500-504`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The first, at least 100.
    pub from: u16,
    /// The last, at most 599.
    pub to: u16,
}

/// The failures that are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCondition {
    /// No connection to the endpoint came about. Nothing was sent.
    ConnectFailure,
    /// The connection or stream broke before the answer began.
    Reset,
    /// The endpoint refused the stream unread (`REFUSED_STREAM`, or behind its GOAWAY).
    RefusedStream,
    /// 502, 503 or 504.
    GatewayError,
    /// 409.
    Retriable4xx,
    /// A status, or one of a class.
    Status(StatusRange),
    /// A gRPC status, 1 to 16.
    Grpc(u8),
}

impl Keyword for ForwardedSetting {
    const EXPECTED: &str = "which headers pass on the client's address";
    const WORDS: &[(&str, Self)] = &[
        ("x_forwarded", ForwardedSetting::XForwarded),
        ("forwarded", ForwardedSetting::Forwarded),
        ("both", ForwardedSetting::Both),
        ("off", ForwardedSetting::Off),
    ];
}

impl Keyword for CertificateStyle {
    const EXPECTED: &str = "which headers pass on the client's certificate";
    const WORDS: &[(&str, Self)] = &[
        ("off", CertificateStyle::Off),
        ("xfcc", CertificateStyle::Xfcc),
        ("rfc9440", CertificateStyle::Rfc9440),
    ];
}

const CONDITIONS: [(&str, RetryCondition); 5] = [
    ("connect_failure", RetryCondition::ConnectFailure),
    ("reset", RetryCondition::Reset),
    ("refused_stream", RetryCondition::RefusedStream),
    ("gateway_error", RetryCondition::GatewayError),
    ("retriable_4xx", RetryCondition::Retriable4xx),
];

/// The names of gRPC's statuses, by their numbers.
const GRPC: [&str; 17] = [
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

impl FromText for ViaName {
    const EXPECTED: &str = "a name for `via`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:".contains(c));
        if text.is_empty() || text.len() > 64 || text.contains(odd) {
            let message = format!("`{text}` can't be the name of a proxy");
            return Err(Diagnostic::new(message, "1 to 64 letters, digits, `-`, `.` and `_`"));
        }
        Ok(ViaName(text.into()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "maxLength": 64, "minLength": 1 })
    }
}

impl Show for ViaName {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl FromText for StatusRange {
    const EXPECTED: &str = "a status such as `503` or `5xx`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        let status = |text: &str| {
            text.parse::<u16>().ok().filter(|it| is_digits(text) && (100..600).contains(it))
        };
        let class = |text: &str| {
            let digit = text.strip_suffix("xx").filter(|digit| is_digits(digit))?;
            digit.parse::<u16>().ok().filter(|digit| (1..6).contains(digit))
        };
        let range = match (class(text), text.split_once('-')) {
            (Some(digit), _) => Some((digit * 100, digit * 100 + 99)),
            (None, Some((from, to))) => status(from).zip(status(to)),
            (None, None) => status(text).map(|one| (one, one)),
        };
        match range {
            Some((from, to)) if from <= to => Ok(StatusRange { from, to }),
            _ => Err(Diagnostic::new(
                format!("`{text}` is no status"),
                "write a status (`503`), a class (`5xx`) or a range (`500-504`), 100 to 599",
            )),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": "^([1-5]xx|[1-5][0-9][0-9](-[1-5][0-9][0-9])?)$" },
            ],
        })
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = *self;
        match (from == to, from % 100 == 0 && to == from + 99) {
            (true, _) => write!(f, "{from}"),
            (_, true) => write!(f, "{}xx", from / 100),
            _ => write!(f, "{from}-{to}"),
        }
    }
}

impl Show for StatusRange {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.from == self.to {
            true => to.serialize_u16(self.from),
            false => to.collect_str(self),
        }
    }
}

impl FromText for RetryCondition {
    const EXPECTED: &str = "a condition such as `connect_failure`";

    fn from_text(text: &str) -> Result<Self, Diagnostic> {
        if let Some((_, it)) = CONDITIONS.iter().find(|(word, _)| *word == text) {
            return Ok(*it);
        }
        let code = GRPC.iter().skip(1).position(|name| *name == text);
        if let Some(code) = code.and_then(|at| u8::try_from(at + 1).ok()) {
            return Ok(RetryCondition::Grpc(code));
        }
        StatusRange::from_text(text).map(RetryCondition::Status).map_err(|_| {
            Diagnostic::new(
                format!("`{text}` is nothing to retry on"),
                "write connect_failure, reset, refused_stream, gateway_error, retriable_4xx, a \
                 status (503, 5xx, 500-504), or a gRPC status such as unavailable",
            )
        })
    }

    fn schema() -> Schema {
        json_schema!({
            "anyOf": [
                { "enum": CONDITIONS.map(|(word, _)| word) },
                { "enum": &GRPC[1..] },
                StatusRange::schema(),
            ],
        })
    }
}

impl Show for RetryCondition {
    fn show<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            RetryCondition::Status(range) => range.show(to),
            RetryCondition::Grpc(code) => {
                to.serialize_str(GRPC.get(usize::from(*code)).unwrap_or(&""))
            }
            other => {
                let word = CONDITIONS.iter().find(|(_, it)| it == other);
                to.serialize_str(word.map_or("", |(word, _)| word))
            }
        }
    }
}
