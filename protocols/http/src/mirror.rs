//! Mirroring: sends a copy of a request to a second cluster and ignores the response.

use crate::{
    admitted_request::AdmittedRequest,
    body::Body,
    request_attributes::RequestFlags,
    request_body::{ReplayBody, RequestBody},
    upstream_request::{UpstreamRequest, set_target},
};
use http::Request;
use http_body_util::BodyExt;
use operation::Outcome;
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::{task::spawn_local, time::timeout};

/// Default for the bytes of a request body that are kept for a second copy.
pub(crate) const DEFAULT_MAX_BODY: u64 = 64 * 1024;

/// How long a mirrored request may take. Bounded, so that copies do not pile up before a slow
/// service.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Sends a copy, if the route has `mirror` and the whole body has arrived.
pub(crate) fn send(serving: &AdmittedRequest, errand: &UpstreamRequest<'_>) {
    let Some(mirror) = &errand.route.mirror else { return };
    if fastrand::f64() >= mirror.share {
        return;
    }
    if errand.body.is_incomplete() || !errand.body.is_replayable() {
        serving.operation.attributes.add_flag(RequestFlags::NOT_MIRRORED);
        return;
    }
    let Some(pool) = serving.connection.server.pool(&mirror.cluster).map(Rc::clone) else { return };
    serving.operation.attributes.add_flag(RequestFlags::MIRRORED);
    let body = RequestBody::new(&errand.body, None);
    let mut request = Request::from_parts(errand.head.clone(), body);
    let authority = errand.authority.clone();
    spawn_local(async move {
        let sent = timeout(TIMEOUT, async {
            let mut wire = pool.get(None, &[], &Cell::default()).await.ok()?;
            let lease = Rc::clone(wire.lease());
            set_target(&mut request, authority.as_ref(), lease.name(), pool.is_http2());
            if wire.exceeded_head_limit(&request).await.is_some() {
                return None;
            }
            let trip = crate::active_operation::AttemptGuard::start(wire.lease());
            let answer = wire.send(request).await.ok()?;
            let outcome =
                if answer.status().is_server_error() { Outcome::Failed } else { Outcome::Ok };
            let mut body = Body::Incoming(answer.into_body());
            while let Some(Ok(_)) = wire.drive(body.frame()).await {}
            trip.finish(outcome);
            pool.put(wire);
            Some(())
        });
        let _ = sent.await;
    });
}

/// A body that is sent only once.
pub(crate) fn single_use_body(body: Body) -> Rc<ReplayBody> {
    ReplayBody::new(body, 0, None, None)
}
