//! Call statuses: the seventeen codes, their headers, and their mapping to HTTP.

pub mod percent;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use operation::{Outcome, RejectReason};

/// The header or trailer with the code.
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The header or trailer with the message, percent-coded.
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The header or trailer with a `google.rpc.Status`, in base64.
pub(crate) const GRPC_STATUS_DETAILS: HeaderName =
    HeaderName::from_static("grpc-status-details-bin");

/// Longest message sent to a client, in bytes before coding.
const MAX_MESSAGE_BYTES: usize = 1024;

/// A code that a call ends with (gRPC, "Status codes and their use").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are gRPC's")]
pub enum Code {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl Code {
    /// All codes, by number.
    pub const ALL: [Code; 17] = [
        Code::Ok,
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// Its number, 0 to 16.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The code with this number. An undefined number is `UNKNOWN`.
    pub(crate) fn of_number(number: i32) -> Self {
        usize::try_from(number)
            .ok()
            .and_then(|at| Self::ALL.get(at))
            .map_or(Self::Unknown, |it| *it)
    }

    /// Its name in the specification, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// The outcome that the code stands for. `CANCELLED` from a service means that the client, or another
    /// caller upstream of it, gave up.
    pub fn outcome(self) -> Outcome {
        match self {
            Code::Ok => Outcome::Ok,
            Code::Cancelled => Outcome::Cancelled,
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Outcome::Rejected,
            Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Outcome::Failed,
        }
    }

    /// The equivalent HTTP status (google/rpc/code.proto).
    pub fn http(self) -> StatusCode {
        match self {
            Code::Ok => StatusCode::OK,
            // The client is gone; nginx calls it "client closed request".
            Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
                StatusCode::BAD_REQUEST
            }
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The code of a response without `grpc-status` (gRPC, "HTTP to gRPC status code mapping"). Never
    /// `OK`: status 200 without a code is `UNKNOWN`.
    pub fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502..=504 => Code::Unavailable,
            _ => Code::Unknown,
        }
    }

    /// The code for the response of a plain HTTP service: its 404 means that an object is missing, not
    /// a method.
    pub(crate) fn of_service(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Code::Ok,
            400 | 405 | 406 | 411..=417 | 422 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 | 410 => Code::NotFound,
            408 | 504 => Code::DeadlineExceeded,
            409 => Code::Aborted,
            429 => Code::ResourceExhausted,
            499 => Code::Cancelled,
            500 => Code::Internal,
            501 => Code::Unimplemented,
            502 | 503 => Code::Unavailable,
            _ => Code::Unknown,
        }
    }

    /// The code of a rejection.
    pub(crate) fn of_reason(reason: RejectReason) -> Self {
        match reason {
            RejectReason::RateLimited => Code::ResourceExhausted,
            RejectReason::Overloaded
            | RejectReason::NoEndpoint
            | RejectReason::Injected
            | RejectReason::Lost => Code::Unavailable,
            RejectReason::Invalid => Code::InvalidArgument,
            RejectReason::TooLarge => Code::ResourceExhausted,
            RejectReason::Denied => Code::PermissionDenied,
            RejectReason::TimedOut => Code::DeadlineExceeded,
        }
    }
}

/// The status of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// The message for people; may be empty.
    pub message: String,
}

impl Status {
    /// A code and its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Reads headers or trailers. Returns `None` without `grpc-status`; an unreadable one is `UNKNOWN`.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let code = code_of(headers)?;
        let message = headers.get(GRPC_MESSAGE).map(|it| percent::decode_text(it.as_bytes()));
        Some(Self { code, message: message.unwrap_or_default() })
    }

    /// Writes the status into headers or trailers, replacing another one.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, HeaderValue::from(self.code.number()));
        let words = percent::encode(truncate(&self.message, MAX_MESSAGE_BYTES));
        match HeaderValue::try_from(words) {
            Ok(words) if !words.is_empty() => _ = headers.insert(GRPC_MESSAGE, words),
            _ => _ = headers.remove(GRPC_MESSAGE),
        }
    }
}

/// Reads the code only.
pub(crate) fn code_of(headers: &HeaderMap) -> Option<Code> {
    let text = headers.get(GRPC_STATUS)?.to_str().unwrap_or_default();
    Some(text.parse().map_or(Code::Unknown, Code::of_number))
}

/// The longest prefix of at most `most` bytes, in whole characters.
pub fn truncate(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests;
