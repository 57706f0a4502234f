//! Mirroring: sends a copy of a request to a second cluster and ignores the response.

use crate::{
    active_operation::AttemptGuard,
    admitted_request::AdmittedRequest,
    attempt_span::AttemptSpan,
    body::Body,
    request_attributes::RequestFlags,
    request_body::{ReplayBody, RequestBody},
    upstream_request::{UpstreamRequest, set_target},
};
use http::Request;
use http_body_util::BodyExt;
use operation::Outcome;
use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{task::spawn_local, time::timeout};

/// Default for the bytes of a request body that are kept for a second copy.
pub(crate) const DEFAULT_MAX_BODY: u64 = 64 * 1024;

/// How long a mirrored request may take. Bounded, so that copies do not pile up before a slow
/// service.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Sends a copy, if the route has `mirror` and the whole body has arrived.
pub(crate) fn send(request: &AdmittedRequest, upstream_request: &UpstreamRequest<'_>) {
    let Some(mirror) = &upstream_request.route.mirror else { return };
    if fastrand::f64() >= mirror.share {
        return;
    }
    if upstream_request.body.is_incomplete() || !upstream_request.body.is_replayable() {
        request.operation.attributes.progress.add_flag(RequestFlags::NOT_MIRRORED);
        return;
    }
    let Some(pool) = request.connection.server.pool(&mirror.cluster).map(Rc::clone) else { return };
    request.operation.attributes.progress.add_flag(RequestFlags::MIRRORED);
    let body = RequestBody::new(&upstream_request.body, None);
    let (attributes, dialect) = (&request.operation.attributes, &request.connection.server.dialect);
    let name = dialect.operation_name(&request.head.method, &attributes.uri);
    let mut span = AttemptSpan::mirror(attributes, pool.cluster().name(), name);
    let mut request = Request::from_parts(upstream_request.head.clone(), body);
    if let Some(span) = &span {
        span.send_in(request.headers_mut());
    }
    let authority = upstream_request.authority.clone();
    spawn_local(async move {
        let sent = timeout(TIMEOUT, async {
            let mut conn = pool.get(None, &[], &Cell::default()).await.ok()?;
            let name = conn.lease().endpoint().name();
            set_target(&mut request, authority.as_ref(), name, conn.http2_scheme());
            if conn.exceeded_head_limit(&request).await.is_some() {
                return None;
            }
            let mut attempt = AttemptGuard::start(conn.lease(), span.take());
            let answer = conn.send(request).await.ok()?;
            attempt.set_response(answer.status(), conn.version());
            let outcome =
                if answer.status().is_server_error() { Outcome::Failed } else { Outcome::Ok };
            let mut body = answer.into_body();
            while let Some(Ok(_)) = conn.drive(body.frame()).await {}
            attempt.finish(outcome, Instant::now());
            pool.put(conn);
            Some(())
        });
        let _ = sent.await;
    });
}

/// A body that is sent only once.
pub(crate) fn single_use_body(body: Body) -> Rc<ReplayBody> {
    ReplayBody::new(body, 0, None, None)
}
