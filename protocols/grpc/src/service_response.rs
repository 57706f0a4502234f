//! How translators read a service's response: whether it is gRPC, and the message of a unary call.

use crate::{
    body::MessageStream,
    frame::{COMPRESSED, MessageFrame},
    media::Media,
    status::{Code, GRPC_MESSAGE, GRPC_STATUS, Status, code_of},
};
use http::{HeaderMap, response};

/// The status of a call that failed with the response head: `grpc-status` is set, or it is not gRPC.
pub(crate) fn head_status(head: &response::Parts) -> Option<Status> {
    let said = Status::of(&head.headers);
    if said.as_ref().is_some_and(|status| status.code != Code::Ok) {
        return said;
    }
    if !head.status.is_success() {
        let message = format!("the service answered {}", head.status);
        return Some(Status::new(Code::of_http(head.status), message));
    }
    match (said, Media::of(&head.headers)) {
        (Some(_), _) | (None, Media::Grpc) => None,
        _ => Some(Status::new(Code::Unknown, "the service's response is not gRPC")),
    }
}

/// Removes the status headers of a response head, where the status is `OK`. They end a response
/// without messages ("Trailers-Only"); trailers that follow take precedence.
pub(crate) fn take_status_headers(head: &mut HeaderMap) -> HeaderMap {
    let mut end = HeaderMap::new();
    for name in [GRPC_STATUS, GRPC_MESSAGE] {
        end.extend(head.remove(&name).map(|value| (name, value)));
    }
    end
}

/// The status in trailers.
pub(crate) fn final_status(trailers: &HeaderMap) -> Status {
    let missing = || Status::new(Code::Unknown, "the service's response ended without a status");
    Status::of(trailers).unwrap_or_else(missing)
}

/// The response to a call that should be unary.
pub(crate) enum UnaryResponse {
    /// One message, and then `OK`.
    One(MessageFrame),
    /// `OK` and no message: valid for a stream, invalid for a unary call.
    Nothing,
    /// Any other end, with the service's trailers if they carried the status.
    Failed(Status),
    /// Two messages, possibly more.
    Many(MessageFrame, MessageFrame),
}

/// Reads a response until its kind is known.
pub(crate) async fn read_unary(messages: &mut MessageStream) -> UnaryResponse {
    let first = match messages.next().await {
        Err(status) => return UnaryResponse::Failed(status),
        Ok(first) => first,
    };
    let second = match (&first, messages.next().await) {
        (_, Err(status)) => return UnaryResponse::Failed(status),
        (_, Ok(second)) => second,
    };
    match (first, second) {
        (Some(first), Some(second)) => UnaryResponse::Many(first, second),
        _ if code_of(&messages.trailers) != Some(Code::Ok) => {
            UnaryResponse::Failed(final_status(&messages.trailers))
        }
        (Some(first), _) => UnaryResponse::One(first),
        (None, _) => UnaryResponse::Nothing,
    }
}

/// The status of a unary call whose service returned `OK` without a message.
pub(crate) fn missing_message() -> Status {
    Status::new(Code::Internal, "the service returned OK without a message")
}

/// The message, or an error if it is compressed.
pub(crate) fn uncompressed(frame: MessageFrame) -> Result<bytes::Bytes, Status> {
    match frame.flags & COMPRESSED {
        0 => Ok(frame.message),
        _ => {
            let message =
                "the service's message is compressed, although no compression was accepted";
            Err(Status::new(Code::Internal, message))
        }
    }
}
