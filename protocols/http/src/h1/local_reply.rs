//! Responses that the proxy makes itself.

use super::{
    attributes::HeadAttributes,
    compose::{write_date, write_field},
    link::{Ending, Flow},
    request::ClientRequest,
};
use crate::{
    active_operation::OperationEnd,
    admitted_request::{RequestTimeout, failed_attempt, late_response},
    body::Body,
    dialect::RoutedRequest,
    incoming_request::rejection_response,
    routes::{Captures, Route},
    server::Server,
    upstream_request::AttemptError,
};
use http::{Response, header};
use operation::{Close, EndReason, Rejection};
use std::{future::poll_fn, io::Write, sync::Arc, task::Poll, time::Instant};

/// A response of the proxy.
pub(super) type LocalReply = Response<Body>;

/// The reply to a request that a policy rejects.
pub(super) fn rejection(
    server: &Server,
    attributes: &HeadAttributes<'_>,
    route: &Arc<Route>,
    rejection: &Rejection,
) -> LocalReply {
    let reply = rejection_response(&*server.dialect, &routed(route), rejection.as_ref());
    finish(server, attributes, reply, None)
}

/// The reply to a request whose attempt failed, and how its operation ends.
pub(super) fn failed(
    server: &Server,
    attributes: &HeadAttributes<'_>,
    route: &Arc<Route>,
    error: AttemptError,
) -> (LocalReply, OperationEnd) {
    let (reply, end) = failed_attempt(&*server.dialect, &routed(route), error);
    (finish(server, attributes, reply, end.reason), end)
}

/// The reply to a request whose time is over, how its operation ends, and why the client's connection closes, if it
/// does.
pub(super) fn late(
    server: &Server,
    attributes: &HeadAttributes<'_>,
    route: &Arc<Route>,
    late: RequestTimeout,
) -> (LocalReply, OperationEnd, Option<Close>) {
    let (reply, end, close) = late_response(&*server.dialect, &routed(route), late);
    (finish(server, attributes, reply, end.reason), end, close)
}

fn routed(route: &Arc<Route>) -> RoutedRequest {
    RoutedRequest {
        route: Arc::clone(route),
        captures: Captures::default(),
        client_timeout: None,
        translator: None,
        origin_refused: false,
    }
}

/// Adds the request's id. `reason` is the reply's reason in the log.
fn finish(
    server: &Server,
    attributes: &HeadAttributes<'_>,
    mut reply: LocalReply,
    reason: Option<EndReason>,
) -> LocalReply {
    if let Some(id) = attributes.assign_request_id(&server.plan.header_policy) {
        server.dialect.add_request_id(&mut reply, id, reason);
        if let Ok(value) = http::HeaderValue::from_str(id) {
            reply.headers_mut().entry("x-request-id").or_insert(value);
        }
    }
    attributes.progress.status.set(Some(reply.status()));
    reply
}

impl ClientRequest<'_> {
    /// Sends a reply. The connection closes if the request's body has not been read.
    pub(super) async fn reply(&mut self, reply: LocalReply, out: &mut Vec<u8>) -> Flow {
        let last = self.unread() > 0 || self.is_last();
        match self.write_reply(reply, out, last).await {
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
        last: bool,
    ) -> Result<(), Close> {
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
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn compose_reply(&self, reply: LocalReply, out: &mut Vec<u8>, last: bool) {
        let (head, body) = reply.into_parts();
        let body = match &body {
            Body::Full(bytes) => &bytes[..],
            _ => &[],
        };
        out.clear();
        let reason = head.status.canonical_reason().unwrap_or_default();
        // Writing to memory can't fail.
        let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", head.status.as_str());
        for (name, value) in &head.headers {
            if !matches!(*name, header::CONNECTION | header::CONTENT_LENGTH) {
                write_field(out, name.as_str().as_bytes(), value.as_bytes());
            }
        }
        write_field(out, b"content-length", body.len().to_string().as_bytes());
        write_date(out);
        if last {
            write_field(out, b"connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
        if self.head.method.of(self.bytes) != b"HEAD" {
            out.extend_from_slice(body);
        }
    }
}
