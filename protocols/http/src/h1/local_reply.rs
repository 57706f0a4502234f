//! Responses that the proxy makes itself.

use super::{
    attributes::HeadAttributes,
    compose::{write_date, write_field},
    link::{Ending, Flow},
    matched_route::MatchedRoute,
    request::ClientRequest,
};
use crate::{
    active_operation::OperationEnd,
    admitted_request::{RequestTimeout, failed_attempt, invalid_body, late_response},
    body::Body,
    h1_validator::H1Error,
    incoming_request::rejection_response,
    local_reply::{complete, end_of_direct_response, reason_phrase},
    server::Server,
    upstream_request::AttemptError,
};
use http::{HeaderValue, Response, StatusCode, header};
use operation::{Close, EndReason, Rejection};
use std::{future::poll_fn, io::Write, task::Poll, time::Instant};

/// A response of the proxy.
pub(super) type LocalReply = Response<Body>;

/// The reply to a request that a policy rejects.
pub(super) fn rejection(
    server: &Server,
    attributes: &HeadAttributes<'_>,
    matched: &MatchedRoute,
    rejection: &Rejection,
) -> LocalReply {
    let reply = rejection_response(&*server.dialect, &matched.routed, rejection.as_ref());
    finish(server, attributes, matched, reply, None)
}

/// The reply to a request whose attempt failed, and how its operation ends.
pub(super) fn failed(
    server: &Server,
    attributes: &HeadAttributes<'_>,
    matched: &MatchedRoute,
    error: AttemptError,
) -> (LocalReply, OperationEnd) {
    let (reply, end) = failed_attempt(&*server.dialect, &matched.routed, error);
    (finish(server, attributes, matched, reply, end.reason), end)
}

/// The reply to a request whose time is over, how its operation ends, and why the client's connection closes, if it
/// does.
pub(super) fn late(
    server: &Server,
    attributes: &HeadAttributes<'_>,
    matched: &MatchedRoute,
    late: RequestTimeout,
) -> (LocalReply, OperationEnd, Option<Close>) {
    let (reply, end, close) = late_response(&*server.dialect, &matched.routed, late);
    (finish(server, attributes, matched, reply, end.reason), end, close)
}

/// The reply to a request whose body is invalid, and how its operation ends.
pub(super) fn invalid(
    server: &Server,
    attributes: &HeadAttributes<'_>,
    matched: &MatchedRoute,
    error: H1Error,
) -> (LocalReply, OperationEnd) {
    let (reply, end) = invalid_body(error);
    (finish(server, attributes, matched, reply, end.reason), end)
}

/// Completes the reply of a route without cluster; also returns how its operation ends.
pub(super) fn direct(
    server: &Server,
    attributes: &HeadAttributes<'_>,
    matched: &MatchedRoute,
    reply: LocalReply,
) -> (LocalReply, OperationEnd) {
    let (head, body) = reply.into_parts();
    let end = end_of_direct_response(&*server.dialect, &head);
    let reply = Response::from_parts(head, body);
    (finish(server, attributes, matched, reply, Some(EndReason::LocalReply)), end)
}

/// Adds the route's headers and the request's id. `reason` is the reply's reason in the log.
fn finish(
    server: &Server,
    attributes: &HeadAttributes<'_>,
    matched: &MatchedRoute,
    mut reply: LocalReply,
    reason: Option<EndReason>,
) -> LocalReply {
    let id = attributes.assign_request_id(&server.plan.header_policy);
    if matched.edits_response() {
        matched.edit_response(reply.headers_mut(), attributes);
    }
    let id = id.and_then(|id| HeaderValue::from_str(id).ok());
    complete(&*server.dialect, &attributes.progress, &mut reply, (id.as_ref(), reason));
    reply
}

impl ClientRequest<'_> {
    /// Sends a reply, behind the 1xx heads that the client has not got yet. The connection closes if the request's
    /// body has not come yet.
    pub(super) async fn reply(
        &mut self,
        reply: LocalReply,
        out: &mut Vec<u8>,
        hints: &[u8],
    ) -> Flow {
        if let Err(fault) = self.incoming.take_present(|_| {}) {
            fault.count(&*self.link.session);
        }
        let last = !self.incoming.is_ended() || self.is_last();
        match self.write_reply(reply, out, hints, last).await {
            Err(close) => Flow::Close(close, Ending::Drop),
            Ok(()) if last => Flow::Close(self.last_close(), Ending::Linger),
            Ok(()) => Flow::Next,
        }
    }

    /// Writes a reply. `last`: the connection closes after it.
    ///
    /// # Errors
    /// Why the client's connection closes.
    pub(super) async fn write_reply(
        &mut self,
        reply: LocalReply,
        out: &mut Vec<u8>,
        hints: &[u8],
        last: bool,
    ) -> Result<(), Close> {
        out.clear();
        out.extend_from_slice(hints);
        self.compose_reply(reply, out, last);
        let mut sent = 0;
        let write = self.link.session.timeouts().write;
        let due = write.map(|most| (Instant::now() + most, Close::WriteTimeout));
        poll_fn(|cx| {
            while sent < out.len() {
                match self.link.poll_write(cx, &out[sent..]) {
                    Poll::Ready(Ok(count)) => sent += count,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Close::ClientReset)),
                    Poll::Pending => return self.link.watch.poll(cx, due).map(Err),
                }
            }
            match self.link.poll_flush(cx) {
                Poll::Ready(flushed) => Poll::Ready(flushed.map_err(|_| Close::ClientReset)),
                Poll::Pending => self.link.watch.poll(cx, due).map(Err),
            }
        })
        .await
    }

    fn compose_reply(&self, reply: LocalReply, out: &mut Vec<u8>, last: bool) {
        let (head, body) = reply.into_parts();
        let body = match &body {
            Body::Full(bytes) => &bytes[..],
            _ => &[],
        };
        let reason = reason_phrase(head.status);
        // Writing to memory can't fail.
        let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", head.status.as_str());
        for (name, value) in &head.headers {
            if !matches!(*name, header::CONNECTION | header::CONTENT_LENGTH) {
                write_field(out, name.as_str().as_bytes(), value.as_bytes());
            }
        }
        let bare = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !bare {
            write_field(out, b"content-length", body.len().to_string().as_bytes());
        }
        if !head.headers.contains_key(header::DATE) {
            write_date(out);
        }
        if last {
            write_field(out, b"connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
        if !bare && self.head.method.of(self.bytes) != b"HEAD" {
            out.extend_from_slice(body);
        }
    }
}
