//! One request: routed, admitted, sent to an endpoint, and answered.

use super::{
    attributes::{HeadAttributes, HeadView, RequestId},
    compose::{self, RequestFields},
    download::Download,
    field::{Field, FieldName, FieldSet},
    link::{Ending, Flow, Scratch},
    local_reply::{self, LocalReply},
    matched_route::MatchedRoute,
    operation::ActiveRequest,
    request::{ClientRequest, Failure},
    upload::{Awaiting, Upload},
};
use crate::{
    active_operation::OperationEnd,
    admission::{ask_policies, operation},
    client_connection::Admitted,
    header_policy::{begin_trace, traceparent_text},
    upstream_request::AttemptError,
};
use operation::{Close, Outcome, RejectMode, Rejection, SpanContext, Ticket};
use std::{cell::RefCell, future::poll_fn, pin::pin, rc::Rc, task::Poll};

impl ClientRequest<'_> {
    /// Serves it: finds its route, asks the policies, and answers it.
    pub(super) async fn serve(&mut self, scratch: &mut Scratch) -> Flow {
        let Scratch { fields, response_fields, out } = scratch;
        let (bytes, head) = (self.bytes, self.head);
        let view = HeadView { bytes, head, fields };
        let matched = MatchedRoute::find(&self.link.server, &view, self.incoming.declared());
        let Some(matched) = matched else { return Flow::Handover(None) };
        let (session, peer) = (Rc::clone(&self.link.session), Rc::clone(&self.link.peer));
        let (reply, server) = (RefCell::new(None), Rc::clone(&self.link.server));
        let on_rejected = |attributes: &HeadAttributes<'_>, rejection: &Rejection| {
            let made = local_reply::rejection(&server, attributes, &matched, rejection);
            *reply.borrow_mut() = Some(made);
        };
        let client = self.link.client_fields.client(&view, &server.plan.header_policy);
        let attributes = HeadAttributes::new(view, &*session, (&peer, client), &on_rejected);
        self.incoming.limit(matched.routed.route.max_request_body);
        matched.flag_origin(&attributes);
        let names = (view.method(), &*matched.routed.route.name);
        let operation = operation(&*server.dialect, names, &attributes);
        let mut asking = pin!(ask_policies(&*session, &operation, self.began));
        let asked = poll_fn(|cx| match asking.as_mut().poll(cx) {
            Poll::Ready(asked) => Poll::Ready(Ok(asked)),
            Poll::Pending => self.link.watch.poll(cx, None).map(Err),
        });
        let asked = match asked.await {
            Ok(asked) => asked,
            Err(close) => return Flow::Close(close, Ending::Drop),
        };
        match asked {
            Ok(ticket) => {
                self.serve_admitted(&attributes, ticket, &matched, (response_fields, out)).await
            }
            Err(Some(rejection)) => {
                matched.count_origin(&attributes);
                self.reject(&rejection, reply.take(), out).await
            }
            Err(None) => Flow::Close(Close::ClientReset, Ending::Drop),
        }
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
                Some(reply) => self.reply(reply, out, &[]).await,
                None => Flow::Close(rejection.reason.close(), Ending::Drop),
            },
            RejectMode::Close => Flow::Close(rejection.reason.close(), Ending::Linger),
            RejectMode::Reset => Flow::Close(rejection.reason.close(), Ending::Reset),
        }
    }

    /// Serves an admitted request.
    async fn serve_admitted<'a>(
        &mut self,
        attributes: &'a HeadAttributes<'a>,
        ticket: Ticket,
        matched: &MatchedRoute,
        (response_fields, out): (&mut Vec<Field>, &mut Vec<u8>),
    ) -> Flow {
        let limit = match ticket.effects() {
            None => None,
            Some(effects) if effects.is_timeout_only() => effects.reply_timeout.clone(),
            Some(_) => return self.hand_over(attributes, ticket),
        };
        if attributes.span.borrow().is_some() {
            return self.hand_over(attributes, ticket);
        }
        let Some(pool) = &matched.pool else {
            return self.reply_directly(attributes, ticket, matched, out).await;
        };
        let Some(_permit) = pool.cluster().admit_operation() else {
            return self.hand_over(attributes, ticket);
        };
        if self.compose(attributes, matched, out).is_err() {
            return self.hand_over(attributes, ticket);
        }
        let kept = matched.routed.route.retry.as_ref().map_or(0, |retry| retry.max_body);
        let present = self.incoming.take_present(|bytes| out.extend_from_slice(bytes));
        let Ok(present) = present else { return self.hand_over(attributes, ticket) };
        let mut operation = self.begin(attributes, ticket, matched);
        operation.request_bytes += present;
        let awaiting = Awaiting {
            matched,
            pool,
            limit,
            attempt_due: None,
            upload: Upload::new(self.incoming.is_ended(), self.began, (present, kept)),
            response_fields,
            out,
            hints: Vec::new(),
        };
        self.forward(attributes, operation, awaiting).await
    }

    /// The request is not handed over any more.
    fn begin<'a>(
        &mut self,
        attributes: &'a HeadAttributes<'a>,
        ticket: Ticket,
        matched: &MatchedRoute,
    ) -> ActiveRequest<'a> {
        self.link.requests += 1;
        matched.count_origin(attributes);
        ActiveRequest::new(ticket, attributes, self.head.len as u64, self.began)
    }

    /// Answers with the route's redirect or fixed response.
    async fn reply_directly<'a>(
        &mut self,
        attributes: &'a HeadAttributes<'a>,
        ticket: Ticket,
        matched: &MatchedRoute,
        out: &mut Vec<u8>,
    ) -> Flow {
        let server = Rc::clone(&self.link.server);
        let reply = match matched.direct_response(attributes, &server.plan.header_policy) {
            Some(reply) => reply,
            None => return self.hand_over(attributes, ticket),
        };
        let mut operation = self.begin(attributes, ticket, matched);
        let (reply, end) = local_reply::direct(&server, attributes, matched, reply);
        operation.settle(&end);
        self.reply(reply, out, &[]).await
    }

    /// Forwards a request.
    async fn forward<'a>(
        &mut self,
        attributes: &'a HeadAttributes<'a>,
        mut operation: ActiveRequest<'a>,
        mut awaiting: Awaiting<'_>,
    ) -> Flow {
        let (matched, pool) = (awaiting.matched, awaiting.pool);
        match self.send(attributes, &mut operation, &mut awaiting).await {
            Ok(response) => {
                let Awaiting { mut upload, response_fields, out, mut hints, .. } = awaiting;
                upload.release_front(out);
                let head = response.head;
                let download =
                    Download::new(self, (matched, pool), attributes, operation, response, upload);
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
                let (reply, end) = local_reply::failed(server, attributes, matched, error);
                operation.settle(&end);
                self.reply(reply, awaiting.out, &awaiting.hints).await
            }
            Err(Failure::Invalid(error)) => {
                let server = &self.link.server;
                let (reply, end) = local_reply::invalid(server, attributes, matched, error);
                operation.settle(&end);
                self.reply(reply, awaiting.out, &awaiting.hints).await
            }
            Err(Failure::Late(late)) => {
                let server = &self.link.server;
                let (reply, end, close) = local_reply::late(server, attributes, matched, late);
                operation.settle(&end);
                let Some(close) = close else {
                    return self.reply(reply, awaiting.out, &awaiting.hints).await;
                };
                let _ = self.write_reply(reply, awaiting.out, &awaiting.hints, true).await;
                Flow::Close(close, Ending::Linger)
            }
        }
    }

    /// Others serve this request.
    fn hand_over(&self, attributes: &HeadAttributes<'_>, ticket: Ticket) -> Flow {
        let span = attributes.span.take();
        Flow::Handover(Some(Admitted { ticket, span }))
    }

    /// Writes the request's head for the service to `out`.
    ///
    /// # Errors
    /// Why the route's path for the service is invalid.
    fn compose(
        &self,
        attributes: &HeadAttributes<'_>,
        matched: &MatchedRoute,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let (policy, view) = (&self.link.server.plan.header_policy, &attributes.view);
        let id = RequestId::of(view, policy);
        let mut replaced = FieldSet::default();
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
                client: &self.link.client_fields,
                policy,
                request_id: new_id.map(|id| id.as_str().as_bytes()),
                traceparent: traceparent.as_ref().map(|it| &it[..]),
            },
        );
        matched.edit_request(out, attributes)
    }
}
