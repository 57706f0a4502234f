//! Why an endpoint's connection or stream gave no usable response.

use hyper::client::conn::TrySendError;
use std::error::Error;

/// Why an endpoint's connection or stream gave no usable response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    /// The service reports that it did not process the request: the stream was refused, or the
    /// connection went away.
    Refused,
    /// The connection ended; the service may have processed the request.
    ConnectionReset,
    /// The service reset this stream; its connection continues.
    StreamReset,
    /// The response is not valid HTTP.
    InvalidResponse,
    /// The response declares two different lengths, or has an unsupported transfer coding.
    ConflictingLength,
    /// The response's head exceeds `max_head`.
    HeadTooLarge,
}

impl UpstreamError {
    /// What hyper's error says of the connection or stream.
    pub(crate) fn of<T>(error: &TrySendError<T>) -> Self {
        if error.message().is_some() {
            return UpstreamError::Refused;
        }
        let error = error.error();
        let reason = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
        let unprocessed = reason.is_some_and(|it| {
            it.reason() == Some(h2::Reason::REFUSED_STREAM)
                || (it.is_go_away() && it.is_remote() && it.reason() == Some(h2::Reason::NO_ERROR))
        });
        match () {
            () if unprocessed => UpstreamError::Refused,
            () if reason.is_some_and(|it| it.is_reset() && it.is_remote()) => {
                UpstreamError::StreamReset
            }
            () if error.is_parse_too_large() => UpstreamError::HeadTooLarge,
            () if error.is_parse() => UpstreamError::InvalidResponse,
            () if reason.is_some_and(|it| it.is_reset() && it.is_library()) => {
                UpstreamError::InvalidResponse
            }
            () => UpstreamError::ConnectionReset,
        }
    }
}
