//! Why an endpoint's connection or stream gave no usable response.

use http::Request;
use hyper::client::conn::TrySendError;

/// Why there is no usable response.
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
    /// Why an HTTP/1 connection gave none.
    pub(crate) fn of_hyper<B>(error: &TrySendError<Request<B>>) -> Self {
        if error.message().is_some() {
            return UpstreamError::Refused;
        }
        match error.error() {
            error if error.is_parse_too_large() => UpstreamError::HeadTooLarge,
            error if error.is_parse() => UpstreamError::InvalidResponse,
            _ => UpstreamError::ConnectionReset,
        }
    }

    /// Why a stream of an HTTP/2 connection gave none.
    pub(crate) fn of_h2(error: &::h2::Error) -> Self {
        let reason = error.reason();
        let goes_away = error.is_go_away() && error.is_remote();
        match () {
            () if reason == Some(::h2::Reason::REFUSED_STREAM) => UpstreamError::Refused,
            () if goes_away && reason == Some(::h2::Reason::NO_ERROR) => UpstreamError::Refused,
            () if error.is_reset() && error.is_remote() => UpstreamError::StreamReset,
            () if error.is_reset() && error.is_library() => UpstreamError::InvalidResponse,
            () => UpstreamError::ConnectionReset,
        }
    }
}
