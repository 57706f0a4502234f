//! An admitted request up to the head of its response. [`ResponseBody`] handles the rest, and
//! settles the operation.

mod error_response;
mod timeout;

pub(crate) use error_response::{failed_attempt, invalid_body, late_response};
pub(crate) use timeout::{RequestTimeout, time_left};

use crate::{
    active_operation::{ActiveOperation, OperationEnd},
    body::Body,
    client_connection::ClientConnection,
    cors::CorsHeaders,
    dialect::RoutedRequest,
    header_policy::{self, Authority, HeaderContext},
    incoming_request::ResponseResult,
    local_reply::{self, RouteHeaders},
    mirror,
    pool::Pool,
    request_attributes::{self, RequestFlags, WaitTimes},
    request_body::ReplayBody,
    response_body::{ResponseBody, ResponseContext, ResponseTimeouts},
    retry::{AttemptFailure, Pushback},
    routes::{Action, RenderedValues, Route, Variables, WeightedClusters},
    throttle::Throttle,
    tunnel,
    upstream_request::{UpstreamRequest, UpstreamResponse},
};
use cluster::OperationPermit;
use http::{Response, Version, header, request, response};
use operation::{
    ClosePoint, Effects, EndReason, InjectedClose, Outcome, RejectReason, RejectionRef,
};
use std::{cell::OnceCell, rc::Rc, time::Instant};
use tokio::{select, time::sleep};

/// An admitted request. Boxed, since it is moved several times.
pub(crate) struct AdmittedRequest {
    pub(crate) connection: Rc<ClientConnection>,
    pub(crate) operation: Rc<ActiveOperation>,
    /// The head: first as received, later as sent to the service.
    pub(crate) head: request::Parts,
    pub(crate) routed: RoutedRequest,
    /// Effects that policies demand.
    pub(crate) terms: Effects,
    /// The authority as sent by the client.
    pub(crate) authority: Authority,
    /// Rendered response headers of the route.
    pub(crate) response_values: OnceCell<RenderedValues>,
    /// CORS headers for the response.
    pub(crate) cors: Option<CorsHeaders>,
}

/// The cluster of a request.
pub(crate) struct ReservedCluster {
    pub(crate) pool: Rc<Pool>,
    /// Counts the operation in the cluster.
    permit: OperationPermit,
}

/// Reason, message, and the policy that rejects.
type ReserveError = (RejectReason, String, Option<&'static str>);

impl AdmittedRequest {
    pub(crate) async fn handle(self: Box<Self>, body: Body) -> ResponseResult {
        if !self.terms.delay.is_zero() {
            sleep(self.terms.delay).await;
        }
        if let Some(InjectedClose { at: ClosePoint::BeforeRequest, reset }) =
            self.terms.injected_close
        {
            return Err(self.abort_injected(reset));
        }
        let targets = match &self.routed.route.action {
            Action::Forward(targets) => targets,
            Action::Redirect(redirect) => {
                let policy = &self.connection.server.plan.header_policy;
                let scheme = header_policy::scheme(
                    &self.head.headers,
                    policy,
                    self.connection.session.is_encrypted(),
                );
                let answer = redirect.answer(&self.head, &self.routed.captures, scheme);
                return Ok(self.reply_locally(answer));
            }
            Action::Reply(fixed) => return Ok(self.reply_locally(fixed.answer())),
        };
        let way = match self.reserve(targets) {
            Ok(way) => way,
            Err((reason, words, policy)) => {
                let why = RejectionRef { policy, ..RejectionRef::new(reason, &words) };
                let end = OperationEnd::new(Outcome::Rejected, reason);
                let end = OperationEnd { policy: policy.map(Into::into), ..end };
                return Ok(self.reject(&why, &end));
            }
        };
        if let Some(upgrade) = tunnel::allowed_upgrade(&self.head, &self.routed.route) {
            // The rare case is boxed, so that the common future stays small.
            return Box::pin(self.open_tunnel(upgrade, way)).await;
        }
        self.forward(body, way).await
    }

    /// Picks the cluster, and counts the operation in it.
    fn reserve(&self, targets: &WeightedClusters) -> Result<ReservedCluster, ReserveError> {
        let name = targets.pick(fastrand::f64());
        let Some(pool) = self.connection.server.pool(name) else {
            return Err((RejectReason::NoEndpoint, format!("there is no cluster `{name}`"), None));
        };
        let Some(permit) = pool.cluster().admit_operation() else {
            let policy = self.connection.session.count_overloaded();
            let message = pool.cluster().overloaded();
            return Err((RejectReason::Overloaded, message, Some(policy)));
        };
        Ok(ReservedCluster { pool: Rc::clone(pool), permit })
    }

    /// Records the time spent in policies. Returns when they let the request go on.
    fn start_forwarding(&self) -> Instant {
        if !self.terms.waited && self.terms.delay.is_zero() {
            return self.operation.started;
        }
        let went_on = Instant::now();
        let queue = went_on.saturating_duration_since(self.operation.started);
        self.operation
            .attributes
            .progress
            .wait_times
            .set(WaitTimes { queue, ..WaitTimes::default() });
        went_on
    }

    /// Forwards the request, and returns the response.
    async fn forward(mut self: Box<Self>, body: Body, way: ReservedCluster) -> ResponseResult {
        let went_on = self.start_forwarding();
        let waits = self.head.headers.remove(header::EXPECT).is_some();
        if let Err(answer) = self.prepare_head(&way.pool, false) {
            return Ok(answer);
        }
        if let Some(patience) = self.routed.client_timeout {
            let left = patience.saturating_sub(self.operation.started.elapsed());
            self.connection.server.dialect.set_time_left(&mut self.head, left);
        }
        let (body, at_once) = self.translate(body);
        let route = &self.routed.route;
        let replay = ReplayBody::new(
            body,
            bytes_to_keep(route),
            route.max_request_body,
            Some(&self.connection),
        );
        if replay.is_read_to_end() {
            self.operation.request_sent.set(Some(went_on));
        }
        let upstream_request = UpstreamRequest {
            head: &self.head,
            authority: route.host().or_else(|| self.authority.value()),
            body: Rc::clone(&replay),
            operation: &self.operation,
            route,
            pool: &way.pool,
            hash: self.hash(&way.pool),
            throttle: self.terms.bytes_per_second,
            expects_continue: waits,
            buffer_request: at_once,
        };
        let attempting = self.connection.server.begin_request(route);
        let running = upstream_request.send_with_retries(attempting, async |response| {
            let (failure, pushback) = self.failure(response).await?;
            Some((failure, pushback.within(|| self.time_left(went_on))))
        });
        let result = select! {
            biased;
            result = running => result,
            late = self.timeout(went_on, Some(&replay)) => {
                self.connection.state.body_abandoned.set(replay.is_incomplete());
                return Ok(self.timeout_response(late));
            }
        };
        mirror::send(&self, &upstream_request);
        match result {
            Ok(response) => {
                self.check_early_response(&replay, waits, &response);
                self.respond(response, way).await
            }
            Err(failed) => {
                self.connection.state.body_abandoned.set(replay.is_incomplete());
                self.error_response(failed)
            }
        }
    }

    /// The response may arrive before the request was sent completely. The service may read on,
    /// unless it closes the connection or never asked for the body.
    fn check_early_response(
        &self,
        replay: &Rc<ReplayBody>,
        waits: bool,
        response: &UpstreamResponse,
    ) {
        let given_up = || {
            waits && replay.is_unread()
                || header_policy::has_connection_close(&response.head.headers)
        };
        self.connection.state.body_abandoned.set(replay.is_incomplete() && given_up());
        if replay.only_end_missing() {
            Rc::clone(replay).drain_end();
        } else if !replay.is_read_to_end() {
            self.operation.attributes.progress.add_flag(RequestFlags::EARLY_ANSWER);
        }
    }

    /// Translates the request; also returns whether it must be buffered.
    fn translate(&mut self, body: Body) -> (Body, bool) {
        let Self { routed, head, .. } = self;
        match &mut routed.translator {
            Some(translator) => {
                (translator.translate_request(head, body), translator.buffers_request())
            }
            None => (body, false),
        }
    }

    /// Prepares the head for the service.
    ///
    /// # Errors
    /// The error response, if a header or the path cannot be made.
    #[expect(clippy::result_large_err, reason = "a head that can't be made is rare")]
    pub(crate) fn prepare_head(
        &mut self,
        pool: &Pool,
        upgrades: bool,
    ) -> Result<(), Response<ResponseBody>> {
        self.rewrite_head(pool, upgrades).map_err(|words| {
            let end = OperationEnd::new(Outcome::Rejected, RejectReason::Invalid);
            self.reject(&RejectionRef::new(RejectReason::Invalid, words), &end)
        })
    }

    fn rewrite_head(&mut self, pool: &Pool, upgrades: bool) -> Result<(), &'static str> {
        let Self { head, routed, operation, .. } = self;
        let attributes = &operation.attributes;
        let context = HeaderContext {
            policy: &self.connection.server.plan.header_policy,
            peer: &self.connection.peer,
            authority: &self.authority,
            encrypted: self.connection.session.is_encrypted(),
            forward_upgrade: upgrades,
            certificate: &self.connection.certificate,
            span: attributes.span.get(),
        };
        let traced = header_policy::request(head, &context, &mut self.connection.rng.borrow_mut());
        let traced = attributes.identity.get_or_init(|| traced);
        let id = traced.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let variables = Variables {
            peer: attributes.link.peer,
            host: &attributes.host,
            request_id: id,
            cluster: pool.cluster().name(),
        };
        let route = &routed.route;
        self.response_values
            .get_or_init(|| route.render_response(head, &routed.captures, &variables));
        route.rewrite(head, &routed.captures, &variables)
    }

    fn hash(&self, pool: &Pool) -> Option<u64> {
        pool.cluster().hash_client(self.operation.attributes.link.peer.ip())
    }

    /// Classifies a response for the retry policy: the failure, and when the service wants a retry.
    async fn failure(&self, response: &mut UpstreamResponse) -> Option<(AttemptFailure, Pushback)> {
        let dialect = &self.connection.server.dialect;
        if let Some(judged) = dialect.outcome_of_head(&response.head) {
            let pushback = dialect.pushback(&response.head.headers);
            return Some((dialect.failure(judged.status), pushback));
        }
        if !self.routed.route.retry.as_ref().is_some_and(|retry| retry.on.has_grpc_status()) {
            return None;
        }
        let trailers = response.trailers_only().await?;
        let judged = dialect.outcome_of_trailers(trailers.as_ref());
        let pushback = trailers.map(|told| dialect.pushback(&told)).unwrap_or_default();
        Some((dialect.failure(judged.status), pushback))
    }

    /// Answers with the route's redirect or reply.
    fn reply_locally(&self, answer: Response<Body>) -> Response<ResponseBody> {
        let (head, body) = answer.into_parts();
        let end = local_reply::end_of_direct_response(&*self.connection.server.dialect, &head);
        let answer = self.decorate(Response::from_parts(head, body), Some(EndReason::LocalReply));
        self.operation.settle(&end);
        answer
    }

    /// Sends a local reply, and settles the operation.
    pub(crate) fn local_reply(
        &self,
        answer: Response<Body>,
        end: &OperationEnd,
    ) -> Response<ResponseBody> {
        let answer = self.decorate(answer, end.reason);
        self.operation.settle(end);
        answer
    }

    fn decorate(
        &self,
        answer: Response<Body>,
        reason: Option<EndReason>,
    ) -> Response<ResponseBody> {
        let attributes = &self.operation.attributes;
        local_reply::assign_identity(&self.connection, attributes, &self.head.headers);
        let response_values = || local_reply::response_values(attributes, &self.routed, &self.head);
        let response_values = self.response_values.get_or_init(response_values);
        let cors = self.cors.as_ref();
        let route_headers =
            RouteHeaders { route: &self.routed.route, values: response_values, cors };
        local_reply::finish(&self.connection, attributes, answer, reason, Some(route_headers))
    }

    pub(crate) async fn respond(
        self: Box<Self>,
        response: Box<UpstreamResponse>,
        way: ReservedCluster,
    ) -> ResponseResult {
        let UpstreamResponse { mut head, body, conn, attempt } = *response;
        let (operation, server, route) =
            (&self.operation, &self.connection.server, &self.routed.route);
        let now = Instant::now();
        operation.set_attempt(attempt);
        if let Some(InjectedClose { at: ClosePoint::AfterReplyBytes(0), reset }) =
            self.terms.injected_close
        {
            return Err(self.abort_injected(reset));
        }
        operation.first_byte.set(Some(now));
        operation.last_activity.set(now);
        operation.reply_bytes.set(request_attributes::head_size(17, &head.headers));
        operation.attributes.progress.status.set(Some(head.status));
        let told = server.dialect.outcome_of_head(&head).map(OperationEnd::from);
        self.finish_response_head(&mut head);
        let rest = ResponseContext {
            operation: Rc::clone(operation),
            head_end: told,
            upstream: Some((conn, way.pool)),
            timeouts: ResponseTimeouts {
                timeout: route.total_timeout,
                deadline: self.routed.client_timeout.map(|patience| operation.started + patience),
                idle: route.idle_timeout,
                ..ResponseTimeouts::default()
            },
            cut: self.terms.injected_close,
            throttle: self.terms.bytes_per_second.map(Throttle::new),
            connection: Rc::clone(&self.connection),
            permit: way.permit,
            translated: self.routed.translator.is_some(),
        };
        if self.routed.translator.is_some() {
            operation.start_translation();
        }
        let this = ResponseBody::tracked(body, rest);
        let Some(translator) = self.routed.translator else {
            return Ok(Response::from_parts(head, this));
        };
        let (operation, server) = (&self.operation, &self.connection.server);
        let answer =
            translator.translate_response(Response::from_parts(head, Body::made(this))).await;
        let (head, body) = answer.into_parts();
        operation.finish_translation(head.status, server.dialect.translated_outcome(&head));
        Ok(Response::from_parts(head, ResponseBody::untracked(body)))
    }

    /// Prepares the response's head for the client.
    pub(crate) fn finish_response_head(&self, head: &mut response::Parts) {
        header_policy::response(head, &self.connection.server.plan.header_policy, false);
        if self.operation.attributes.version >= Version::HTTP_2 {
            // A 426 keeps these, which HTTP/2 forbids.
            head.headers.remove(header::UPGRADE);
            head.headers.remove(header::CONNECTION);
        }
        // The upstream version is hop-by-hop.
        head.version = Version::HTTP_11;
        if let Some(response_values) = self.response_values.get() {
            self.routed.route.edit_response(&mut head.headers, response_values);
        }
        if let Some(cors) = &self.cors {
            cors.replace(&mut head.headers);
        }
    }
}

/// How many bytes of a request's body are kept.
fn bytes_to_keep(route: &Route) -> usize {
    let retry = route.retry.as_ref().map(|retry| retry.max_body);
    let mirror = route.mirror.as_ref().map(|mirror| mirror.max_body);
    let hedge = route.hedge.map(|_| mirror::DEFAULT_MAX_BODY);
    let kept = [retry, mirror, hedge].into_iter().flatten().max();
    kept.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}
