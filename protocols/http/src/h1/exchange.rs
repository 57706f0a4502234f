//! One request: routed, admitted, sent to an endpoint, and answered.

use super::{
    attributes::{HeadAttributes, HeadView, RequestId},
    compose::{self, RequestFields},
    download::Download,
    field::FieldName,
    link::{Ending, Flow, Scratch},
    local_reply::{self, LocalReply},
    operation::ActiveRequest,
    request::{ClientRequest, Failure, Way},
    upload::{AwaitedResponse, Awaiting, Upload},
};
use crate::{
    active_operation::OperationEnd,
    admission::{ask_policies, operation},
    client_connection::Admitted,
    header_policy::{begin_trace, traceparent_text},
    pool::Pool,
    request_attributes::{RequestFlags, UpstreamTarget},
    retry::is_safe_to_repeat,
    routes::Action,
    settings::UpstreamVersion,
    upstream_conn::{H1Connection, UpstreamConn},
    upstream_error::UpstreamError,
    upstream_request::AttemptError,
};
use http::{Method, Version};
use operation::{Close, Outcome, RejectMode, Rejection, SpanContext, Ticket};
use std::{cell::RefCell, future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll};

impl ClientRequest<'_> {
    /// Serves it: finds its route, asks the policies, and answers it.
    pub(super) async fn serve(mut self, scratch: &mut Scratch) -> Flow {
        let Scratch { fields, response_fields, out } = scratch;
        let (bytes, head) = (self.bytes, self.head);
        let view = HeadView { bytes, head, fields };
        let Some(way) = self.find_way(&view) else { return Flow::Handover(None) };
        let (session, peer) = (Rc::clone(&self.link.session), Rc::clone(&self.link.peer));
        let (reply, server) = (RefCell::new(None), Rc::clone(&self.link.server));
        let on_rejected = |attributes: &HeadAttributes<'_>, rejection: &Rejection| {
            let made = local_reply::rejection(&server, attributes, &way.route, rejection);
            *reply.borrow_mut() = Some(made);
        };
        let attributes = HeadAttributes::new(view, &*session, &peer, &on_rejected);
        let names = (view.method(), &*way.route.name);
        let operation = operation(&*server.dialect, names, &attributes);
        match ask_policies(&*session, &operation, self.began).await {
            Ok(ticket) => self.forward(&attributes, ticket, &way, (response_fields, out)).await,
            Err(Some(rejection)) => self.reject(&rejection, reply.take(), out).await,
            Err(None) => Flow::Close(Close::ClientReset, Ending::Drop),
        }
    }

    /// Finds the route, and picks a cluster. `None`: the request needs more than to be forwarded.
    fn find_way(&self, view: &HeadView<'_>) -> Option<Way> {
        let path = view.path();
        if self.head.odd_path && (path.contains(['%', '\\']) || crate::path_fault(path).is_some()) {
            return None;
        }
        let (route, _) = self.link.server.dialect.direct_routes()?.find(view, view.host())?;
        let too_large = route.max_request_body.is_some_and(|most| self.body > most);
        let Action::Forward(clusters) = &route.action else { return None };
        if too_large || !route.only_forwards() {
            return None;
        }
        let pool = Rc::clone(self.link.server.pool(clusters.pick(fastrand::f64()))?);
        (pool.version() == UpstreamVersion::Http1).then_some(Way { route, pool })
    }

    /// Sends a policy's rejection to the client.
    async fn reject(
        &mut self,
        rejection: &Rejection,
        reply: Option<LocalReply>,
        out: &mut Vec<u8>,
    ) -> Flow {
        self.link.requests += 1;
        match rejection.mode {
            RejectMode::Reply => match reply {
                Some(reply) => self.reply(reply, out).await,
                None => Flow::Close(rejection.reason.close(), Ending::Drop),
            },
            RejectMode::Close => Flow::Close(rejection.reason.close(), Ending::Linger),
            RejectMode::Reset => Flow::Close(rejection.reason.close(), Ending::Reset),
        }
    }

    /// Forwards an admitted request.
    async fn forward<'a>(
        &mut self,
        attributes: &'a HeadAttributes<'a>,
        ticket: Ticket,
        way: &Way,
        (response_fields, out): (&mut Vec<super::Field>, &mut Vec<u8>),
    ) -> Flow {
        let limit = match ticket.effects() {
            None => None,
            Some(effects) if effects.is_timeout_only() => effects.reply_timeout.clone(),
            Some(_) => return self.hand_over(attributes, ticket),
        };
        if attributes.span.borrow().is_some() {
            return self.hand_over(attributes, ticket);
        }
        let Some(_permit) = way.pool.cluster().admit_operation() else {
            return self.hand_over(attributes, ticket);
        };
        self.link.requests += 1;
        self.compose(attributes, out);
        let mut operation =
            ActiveRequest::new(ticket, attributes, self.bytes.len() as u64, self.began);
        let mut awaiting = Awaiting { way, limit, response_fields, out, hints: Vec::new() };
        match self.send(attributes, &mut operation, &mut awaiting).await {
            Ok(response) => {
                let Awaiting { response_fields, out, mut hints, .. } = awaiting;
                let head = response.head;
                let download = Download::new(self, way, attributes, operation, response);
                out.clear();
                out.append(&mut hints);
                download.run(&head, response_fields, out).await
            }
            Err(Failure::Close(close)) => {
                operation.settle(&OperationEnd::new(close.outcome(false), close));
                Flow::Close(close, Ending::Drop)
            }
            Err(Failure::Attempt(AttemptError::ClientAborted)) => {
                operation.settle(&OperationEnd::new(Outcome::Cancelled, Close::ClientReset));
                Flow::Close(Close::ClientReset, Ending::Drop)
            }
            Err(Failure::Attempt(error)) => {
                let server = &self.link.server;
                let (reply, end) = local_reply::failed(server, attributes, &way.route, error);
                operation.settle(&end);
                self.reply(reply, awaiting.out).await
            }
            Err(Failure::Late(late)) => {
                let server = &self.link.server;
                let (reply, end, close) = local_reply::late(server, attributes, &way.route, late);
                operation.settle(&end);
                let Some(close) = close else { return self.reply(reply, awaiting.out).await };
                let _ = self.write_reply(reply, awaiting.out, true).await;
                Flow::Close(close, Ending::Linger)
            }
        }
    }

    /// Others serve this request.
    fn hand_over(&self, attributes: &HeadAttributes<'_>, ticket: Ticket) -> Flow {
        let span = attributes.span.take();
        Flow::Handover(Some(Admitted { ticket, span }))
    }

    /// Writes the request's head for the service, and the part of its body that is here, to `out`.
    fn compose(&self, attributes: &HeadAttributes<'_>, out: &mut Vec<u8>) {
        let (policy, view) = (&self.link.server.plan.header_policy, &attributes.view);
        let id = RequestId::of(view, policy);
        let mut replaced = self.link.replaced();
        let mut traceparent = None;
        if policy.trace {
            let received = view.value(FieldName::Traceparent).and_then(SpanContext::read);
            let context = received.unwrap_or_else(|| {
                replaced.insert(FieldName::Traceparent);
                replaced.insert(FieldName::Tracestate);
                let context = begin_trace(&mut fastrand::Rng::new());
                traceparent = Some(traceparent_text(context));
                context
            });
            attributes.trace_id.set(Some(context.trace_id));
        }
        if let Some(RequestId::New(_)) = id {
            replaced.insert(FieldName::XRequestId);
        }
        let id = id.map(|id| attributes.request_id.get_or_init(|| id));
        let new_id = id.filter(|id| matches!(id, RequestId::New(_)));
        out.clear();
        compose::request(
            out,
            view,
            &RequestFields {
                replaced,
                forwarded: &self.link.forwarded,
                request_id: new_id.map(|id| id.as_str().as_bytes()),
                traceparent: traceparent.as_ref().map(|it| &it[..]),
            },
        );
        out.extend_from_slice(&self.bytes[self.head.len..]);
    }

    /// Sends the request, and waits for the head of its response. Once more, if a kept connection was closed by the
    /// service meanwhile.
    async fn send(
        &mut self,
        attributes: &HeadAttributes<'_>,
        operation: &mut ActiveRequest<'_>,
        awaiting: &mut Awaiting<'_>,
    ) -> Result<AwaitedResponse, Failure> {
        let pool = &awaiting.way.pool;
        let hash = pool.cluster().hash_client(self.link.session.info().peer.ip());
        let mut connecting = pin!(pool.get(hash, &[], &attributes.progress.wait_times));
        let mut conn = self.connect(attributes, awaiting, connecting.as_mut()).await?;
        loop {
            let (fresh, lease) = (conn.requests == 0, Rc::clone(conn.lease()));
            let endpoint = Arc::clone(lease.endpoint());
            conn.requests += 1;
            set_target(attributes, pool, Some(&conn));
            operation.start_attempt(&lease);
            let mut upload = Upload::new(self.unread(), self.began);
            let error = match self.await_response(conn, &mut upload, operation, awaiting).await {
                Ok((conn, reply, head)) => {
                    return Ok(AwaitedResponse { conn, upload, reply, head });
                }
                Err(error) => error,
            };
            let Failure::Attempt(AttemptError::Upstream(lost)) = &error else {
                operation.end_attempt(&error);
                return Err(error);
            };
            let lost = *lost;
            operation.end_attempt(&error);
            if fresh
                && matches!(lost, UpstreamError::ConnectionReset | UpstreamError::InvalidResponse)
            {
                lease.record_no_answer();
            }
            let method = Method::from_bytes(self.head.method.of(self.bytes)).unwrap_or_default();
            let repeats = !fresh
                && lost == UpstreamError::ConnectionReset
                && !upload.has_read_more()
                && is_safe_to_repeat(&method, upload.has_sent());
            if !repeats {
                return Err(error);
            }
            attributes.progress.add_flag(RequestFlags::STALE);
            let again = pin!(pool.connect_new(hash, endpoint, &attributes.progress.wait_times));
            conn = self.connect(attributes, awaiting, again).await?;
        }
    }

    /// Waits for a connection to an endpoint.
    async fn connect(
        &mut self,
        attributes: &HeadAttributes<'_>,
        awaiting: &Awaiting<'_>,
        mut connecting: std::pin::Pin<
            &mut impl Future<Output = Result<UpstreamConn, crate::pool::Unreachable>>,
        >,
    ) -> Result<Box<H1Connection>, Failure> {
        attributes.progress.attempts.set(attributes.progress.attempts.get() + 1);
        let upload = Upload::new(self.unread(), self.began);
        let reached = poll_fn(|cx| {
            if let Poll::Ready(reached) = connecting.as_mut().poll(cx) {
                return Poll::Ready(Ok(reached));
            }
            self.poll_interrupt(cx, &upload, awaiting).map(Err)
        });
        match reached.await? {
            Ok(UpstreamConn::H1(conn)) => Ok(conn),
            Ok(UpstreamConn::H2Stream(_)) => Err(UpstreamError::Refused.into()),
            Err(unreachable) => {
                set_target(attributes, &awaiting.way.pool, None);
                Err(Failure::Attempt(AttemptError::Unreachable(unreachable)))
            }
        }
    }
}

/// Notes where an attempt was sent.
fn set_target(attributes: &HeadAttributes<'_>, pool: &Pool, conn: Option<&H1Connection>) {
    let endpoint = conn.map(|conn| Arc::clone(conn.lease().endpoint().name()));
    let version = conn.map(|_| Version::HTTP_11);
    let cluster = Arc::clone(pool.cluster().name());
    attributes.progress.target.set(Some(UpstreamTarget { cluster, endpoint, version }));
}
