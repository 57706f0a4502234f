//! A client of Envoy's rate-limit protocol: `envoy.service.ratelimit.v3.RateLimitService`.
//!
//! The messages are written by hand: they have few fields, and generating them from their definitions
//! would need a compiler for these at build time.

use super::super::store_socket::StoreSocket;
use http::uri::PathAndQuery;
use prost::Message;
use std::time::Duration;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use values::error_chain;

const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(1);

/// A request to the service.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimitRequest {
    /// Which of its configurations is meant.
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    /// What the request is to be counted under; over the limit of one is over the limit.
    #[prost(message, repeated, tag = "2")]
    pub(super) descriptors: Vec<RateLimitDescriptor>,
    /// How many there are at once.
    #[prost(uint32, tag = "3")]
    pub(super) hits_addend: u32,
}

/// `envoy.extensions.common.ratelimit.v3.RateLimitDescriptor`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimitDescriptor {
    /// Its entries, in order.
    #[prost(message, repeated, tag = "1")]
    pub(super) entries: Vec<DescriptorEntry>,
}

/// An entry of a descriptor.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DescriptorEntry {
    /// Its key.
    #[prost(string, tag = "1")]
    pub(super) key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// What the service answers; fields that are of no use here are skipped.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimitResponse {
    /// 1: within the limits, 2: over one of them.
    #[prost(int32, tag = "1")]
    pub(super) overall_code: i32,
    /// One for each descriptor, in order.
    #[prost(message, repeated, tag = "2")]
    pub(super) statuses: Vec<DescriptorStatus>,
}

/// What the service found for a descriptor.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DescriptorStatus {
    /// 1: within its limit, 2: over it.
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    /// When there will be more.
    #[prost(message, optional, tag = "4")]
    pub(super) duration_until_reset: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct ProtoDuration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    /// The rest.
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// Codes of a response: within the limit...
pub(super) const OK: i32 = 1;
/// ...and over it.
pub(super) const OVER_LIMIT: i32 = 2;

impl RateLimitResponse {
    /// How long it takes until no descriptor is over its limit, if the service says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let over = self.statuses.iter().filter(|status| status.code == OVER_LIMIT);
        let spans = over.filter_map(|status| {
            let span = status.duration_until_reset?;
            let (secs, nanos) =
                (u64::try_from(span.seconds).ok()?, u32::try_from(span.nanos).ok()?);
            Some(Duration::from_secs(secs).saturating_add(Duration::from_nanos(nanos.into())))
        });
        spans.max()
    }
}

/// A connection to a service, made when it is needed and made again when it broke.
#[derive(Clone, Debug)]
pub(super) struct RateLimitClient(Grpc<Channel>);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RateLimitError {
    /// The service can't be reached.
    Unreachable(String),
    /// It answered with an error.
    Error(String),
}

impl RateLimitClient {
    /// A client that connects with the first request. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When nothing can be dialled by the address.
    pub(super) fn new(socket: StoreSocket) -> Result<Self, RateLimitError> {
        let origin = match socket.tls {
            None => format!("http://{}", socket.address),
            Some(_) => format!("https://{}", socket.address),
        };
        let endpoint = Endpoint::from_shared(origin)
            .map_err(|error| RateLimitError::Unreachable(error.to_string()))?;
        let channel = endpoint.connect_timeout(CONNECT).connect_with_connector_lazy(socket);
        Ok(Self(Grpc::new(channel)))
    }

    /// Sends a request and returns the answer. The caller sets the time-out.
    ///
    /// # Errors
    /// When the service can't be reached or answers with an error.
    pub(super) async fn should_rate_limit(
        &mut self,
        request: RateLimitRequest,
    ) -> Result<RateLimitResponse, RateLimitError> {
        let unreachable =
            |error: tonic::transport::Error| RateLimitError::Unreachable(error_chain(&error));
        self.0.ready().await.map_err(unreachable)?;
        let codec = ProstCodec::<RateLimitRequest, RateLimitResponse>::default();
        let path = PathAndQuery::from_static(METHOD);
        let response = self.0.unary(Request::new(request), path, codec).await;
        response.map(tonic::Response::into_inner).map_err(|status| status_error(&status))
    }
}

fn status_error(status: &Status) -> RateLimitError {
    match status.code() {
        Code::Unavailable => RateLimitError::Unreachable(error_chain(status)),
        _ => RateLimitError::Error(error_chain(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Envoy's own definitions encode it.
    const REQUEST: &[u8] = b"\x0a\x09databases\x12\x0d\x0a\x0b\x0a\x04user\x12\x03ann\x18\x19";
    /// With a limit, which is skipped, and one that has 3 left and more in 7.000000005 s.
    const RESPONSE: &[u8] = b"\x08\x02\x12\x13\x08\x02\x12\x07\x08\x05\x10\x01\x1a\x01x\
        \x18\x03\x22\x04\x08\x07\x10\x05";

    #[test]
    fn the_messages_are_those_of_the_protocol() {
        let entry = DescriptorEntry { key: "user".to_owned(), value: "ann".to_owned() };
        let request = RateLimitRequest {
            domain: "databases".to_owned(),
            descriptors: vec![RateLimitDescriptor { entries: vec![entry] }],
            hits_addend: 25,
        };
        assert_eq!(request.encode_to_vec(), REQUEST);
        let response = RateLimitResponse::decode(RESPONSE).unwrap();
        assert_eq!(response.overall_code, OVER_LIMIT);
        assert_eq!(response.retry_after(), Some(Duration::new(7, 5)));
    }

    #[test]
    fn the_longest_wait_of_what_is_over_its_limit_counts() {
        let status = |code, seconds, nanos| DescriptorStatus {
            code,
            duration_until_reset: Some(ProtoDuration { seconds, nanos }),
        };
        let response = |statuses| RateLimitResponse { overall_code: OVER_LIMIT, statuses };
        let over = [status(OVER_LIMIT, 1, 5), status(OK, 60, 0), status(OVER_LIMIT, 0, 9)];
        assert_eq!(response(over.into()).retry_after(), Some(Duration::new(1, 5)));
        assert_eq!(response(vec![status(OVER_LIMIT, -1, 0)]).retry_after(), None);
        assert_eq!(response(Vec::new()).retry_after(), None);
    }
}
