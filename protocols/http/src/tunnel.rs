//! Tunnels: connections that change to another protocol, by `upgrade` (WebSocket) or `CONNECT`.
//! Their bytes are not interpreted.

mod copy;

use crate::{
    active_operation::{AttemptGuard, OperationEnd},
    admitted_request::{AdmittedRequest, ReservedCluster},
    attempt_span::AttemptSpan,
    body::Body,
    client_connection::{ClientConnection, Tunnel, TunnelUpstream},
    header_policy::{self, Upgrade},
    incoming_request::ResponseResult,
    mirror::single_use_body,
    request_attributes::RequestFlags,
    response_body::ResponseBody,
    routes::Route,
    upstream_conn::UpstreamConn,
    upstream_error::UpstreamError,
    upstream_request::{AttemptError, UpstreamRequest, UpstreamResponse},
};
use bytes::Bytes;
use cluster::{ConnectOptions, UpstreamConnection};
use copy::{IdleWatch, TunnelSide, copy};
use http::{Response, StatusCode, Version, request};
use net::Stream;
use operation::{Close, Direction, Outcome, RejectReason, RejectionRef};
use std::{cell::Cell, future::pending, rc::Rc, time::Instant};
use tokio::{select, time::sleep_until};

/// The upgrade that a request asks for, if its route allows it.
pub(crate) fn allowed_upgrade(head: &request::Parts, route: &Route) -> Option<Upgrade> {
    let upgrade = header_policy::upgrade_of(head)?;
    let allowed = match &upgrade {
        // A tunnel has no path, so it cannot be mistaken for a request.
        Upgrade::Tunnel | Upgrade::Stream(_) => true,
        Upgrade::Switch(_) => route.upgrade.allow(upgrade.protocol()),
    };
    allowed.then_some(upgrade)
}

impl AdmittedRequest {
    /// Opens the tunnel, if the service agrees.
    pub(crate) async fn open_tunnel(
        self: Box<Self>,
        upgrade: Upgrade,
        way: ReservedCluster,
    ) -> ResponseResult {
        let connects = self.routed.route.connect && self.head.version == Version::HTTP_11;
        match upgrade {
            Upgrade::Switch(_) => self.switch_protocols(way).await,
            Upgrade::Tunnel if connects => self.connect_tunnel(way).await,
            Upgrade::Tunnel | Upgrade::Stream(_) => {
                let words = "this route has no tunnels for CONNECT";
                let end = OperationEnd::new(Outcome::Rejected, RejectReason::Denied);
                Ok(self.reject(&RejectionRef::new(RejectReason::Denied, words), &end))
            }
        }
    }

    async fn switch_protocols(mut self: Box<Self>, way: ReservedCluster) -> ResponseResult {
        if let Err(answer) = self.prepare_head(&way.pool, true) {
            return Ok(answer);
        }
        self.operation.request_sent.set(Some(Instant::now()));
        let route = &self.routed.route;
        let upstream_request = UpstreamRequest {
            head: &self.head,
            authority: route.host().or_else(|| self.authority.value()),
            body: single_use_body(Body::Empty),
            operation: &self.operation,
            route,
            pool: &way.pool,
            hash: None,
            throttle: None,
            expects_continue: false,
            buffer_request: false,
        };
        let response = select! {
            response = upstream_request.send_with_retries(None, async |_| None) => response,
            late = self.timeout(Instant::now(), None) => return Ok(self.timeout_response(late)),
        };
        let mut response = match response {
            Ok(response) => response,
            Err(failed) => return self.error_response(failed),
        };
        if response.head.status != StatusCode::SWITCHING_PROTOCOLS {
            return self.respond(response, way).await;
        }
        self.finish_response_head(&mut response.head);
        let UpstreamResponse { head, conn, attempt, .. } = *response;
        let UpstreamConn::H1(own) = conn else {
            return self.error_response(AttemptError::Upstream(UpstreamError::InvalidResponse));
        };
        self.operation.set_attempt(attempt);
        self.start_tunnel(TunnelUpstream::Switched(own), head.status);
        Ok(Response::from_parts(head, ResponseBody::untracked(Body::Empty)))
    }

    async fn connect_tunnel(self: Box<Self>, way: ReservedCluster) -> ResponseResult {
        match way.pool.connector().connect(ConnectOptions::default()).await {
            Ok(UpstreamConnection { stream, lease, .. }) => {
                let lease = Rc::new(lease);
                let span =
                    AttemptSpan::begin(&self.operation.attributes, way.pool.cluster().name());
                self.operation.set_attempt(Some(AttemptGuard::start(&lease, span)));
                self.start_tunnel(TunnelUpstream::Connected(stream, lease), StatusCode::OK);
                Ok(Response::new(ResponseBody::untracked(Body::Empty)))
            }
            Err(error) => self.error_response(AttemptError::Unreachable(error.into())),
        }
    }

    fn start_tunnel(&self, end: TunnelUpstream, status: StatusCode) {
        let attributes = &self.operation.attributes;
        attributes.progress.add_flag(RequestFlags::UPGRADED);
        attributes.progress.status.set(Some(status));
        self.operation.first_byte.set(Some(Instant::now()));
        let operation = Rc::clone(&self.operation);
        *self.connection.tunnel.borrow_mut() = Some(Tunnel { upstream: end, operation });
    }
}

impl Tunnel {
    /// Copies bytes until either side ends or a timeout expires. `began` is when the connection was
    /// accepted.
    pub(crate) async fn run(
        self,
        connection: &ClientConnection,
        (mut client, buffered): (Stream, Bytes),
        began: Instant,
    ) -> Close {
        let (mut service, service_buffered, lease) = match self.upstream {
            TunnelUpstream::Switched(own) => match own.into_parts() {
                Some(parts) => parts,
                None => return Close::UpstreamReset,
            },
            TunnelUpstream::Connected(stream, lease) => (stream, Bytes::new(), lease),
        };
        let timeouts = connection.session.timeouts();
        let rest = IdleWatch {
            last_activity: Cell::new(Instant::now()),
            half_closed: Cell::new(false),
            idle: timeouts.idle,
            half_close: timeouts.half_close,
        };
        let operation = &*self.operation;
        let count = |way, n: usize| {
            let now = Instant::now();
            rest.last_activity.set(now);
            if n == 0 {
                rest.half_closed.set(true);
            }
            connection.session.record_read(way, n, now);
            let bytes = match way {
                Direction::Up => &operation.request_bytes,
                Direction::Down => &operation.reply_bytes,
            };
            bytes.set(bytes.get() + n as u64);
            if n > 0 && connection.session.is_limited_now() {
                connection.session.record_passed(way, n, now, None)
            } else {
                None
            }
        };
        let most = |way| {
            if connection.session.is_limited_now() {
                connection.session.max_chunk(way)
            } else {
                usize::MAX
            }
        };
        let ((from_client, to_client), (from_service, to_service)) =
            (tokio::io::split(&mut client), tokio::io::split(&mut service));
        let near = TunnelSide { buffered, from: from_client, to: to_client };
        let far = TunnelSide { buffered: service_buffered, from: from_service, to: to_service };
        let close = select! {
            // First, since its counting moves the other deadlines.
            biased;
            close = copy(near, far, most, count) => close,
            close = rest.run(|| operation.report_bytes()) => close,
            () = sleep_until_due(timeouts.max_duration.map(|life| began + life)) => Close::MaxDuration,
            close = connection.tunnel_closed(&lease) => close,
        };
        if !matches!(close, Close::Client | Close::Upstream) {
            // Only the two ends know whether the bytes so far are complete, and an orderly close
            // would say so.
            client.reset_on_drop();
            service.reset_on_drop();
        }
        operation.settle(&OperationEnd::new(close.outcome(true), close));
        close
    }
}

async fn sleep_until_due(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}
