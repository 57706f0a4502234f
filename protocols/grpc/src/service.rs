//! What a service's answer is to a translator: whether it is gRPC's at all, and the one message of
//! a unary call.

use crate::{
    body::Messages,
    frame::{COMPRESSED, Framed},
    media::Media,
    status::{Code, GRPC_MESSAGE, GRPC_STATUS, Status, code_of},
};
use http::{HeaderMap, response};

/// The status of a call that failed with the answer's head: it says so, or it is not gRPC's.
pub(crate) fn failed(head: &response::Parts) -> Option<Status> {
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
        _ => Some(Status::new(Code::Unknown, "the service's answer is no gRPC")),
    }
}

/// Takes out of an answer's head what it says of the end, `OK` then: with it an answer without a
/// message is over ("Trailers-Only"). Where trailers follow, theirs counts.
pub(crate) fn take_end(head: &mut HeaderMap) -> HeaderMap {
    let mut end = HeaderMap::new();
    for name in [GRPC_STATUS, GRPC_MESSAGE] {
        end.extend(head.remove(&name).map(|value| (name, value)));
    }
    end
}

/// How trailers say that a call ended.
pub(crate) fn end(trailers: &HeaderMap) -> Status {
    let missing = || Status::new(Code::Unknown, "the service's answer ended without a status");
    Status::of(trailers).unwrap_or_else(missing)
}

/// The first part of an answer to a call that should be unary.
pub(crate) enum Unary {
    /// One message, and then `OK`.
    One(Framed),
    /// `OK` and no message: what a stream may be, and a unary call may not.
    Nothing,
    /// Any other end. It has the service's trailers, if those said so.
    Failed(Status),
    /// Two messages, and so perhaps more.
    Many(Framed, Framed),
}

/// Reads an answer until it is plain what it is.
pub(crate) async fn unary(messages: &mut Messages) -> Unary {
    let first = match messages.next().await {
        Err(status) => return Unary::Failed(status),
        Ok(first) => first,
    };
    let second = match (&first, messages.next().await) {
        (_, Err(status)) => return Unary::Failed(status),
        (_, Ok(second)) => second,
    };
    match (first, second) {
        (Some(first), Some(second)) => Unary::Many(first, second),
        _ if code_of(&messages.trailers) != Some(Code::Ok) => {
            Unary::Failed(end(&messages.trailers))
        }
        (Some(first), _) => Unary::One(first),
        (None, _) => Unary::Nothing,
    }
}

/// How a unary call ends whose service answered `OK` and no message.
pub(crate) fn no_message() -> Status {
    Status::new(Code::Internal, "the service answered OK and no message")
}

/// The message, for who reads it.
pub(crate) fn readable(frame: Framed) -> Result<bytes::Bytes, Status> {
    match frame.flags & COMPRESSED {
        0 => Ok(frame.message),
        _ => {
            let message = "the service's message is compressed, which it was asked not to be";
            Err(Status::new(Code::Internal, message))
        }
    }
}
