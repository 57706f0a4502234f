//! Mirroring: a second cluster gets a copy of a request, and its answer is nobody's business.

use crate::{
    attempt::{UpstreamRequest, address},
    body::Body,
    facts::RequestFlags,
    serving::AdmittedRequest,
    upload::{ReplayBody, RequestBody},
};
use http::Request;
use http_body_util::BodyExt;
use operation::Outcome;
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::{task::spawn_local, time::timeout};

/// How much of a request's body is kept to be sent a second time.
pub(crate) const KEEPS: u64 = 64 * 1024;

/// How long a mirrored request may take: it must not pile up before a service that is slow.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends a copy, if the route has it so and the whole of the body is here.
pub(crate) fn send(serving: &AdmittedRequest, errand: &UpstreamRequest<'_>) {
    let Some(mirror) = &errand.route.mirror else { return };
    if fastrand::f64() >= mirror.share {
        return;
    }
    if errand.source.still_comes() || !errand.source.is_whole() {
        serving.record.facts.flag(RequestFlags::NOT_MIRRORED);
        return;
    }
    let Some(pool) = serving.visit.server.pool(&mirror.cluster).map(Rc::clone) else { return };
    serving.record.facts.flag(RequestFlags::MIRRORED);
    let body = RequestBody::new(&errand.source, None);
    let mut request = Request::from_parts(errand.head.clone(), body);
    let authority = errand.authority.clone();
    spawn_local(async move {
        let sent = timeout(PATIENCE, async {
            let mut wire = pool.reach(None, &[], &Cell::default()).await.ok()?;
            let lease = Rc::clone(wire.lease());
            address(&mut request, authority.as_ref(), lease.name(), pool.speaks_http2());
            if wire.over_limit(&request).await.is_some() {
                return None;
            }
            let trip = crate::record::AttemptGuard::begin(wire.lease());
            let answer = wire.send(request).await.ok()?;
            let outcome =
                if answer.status().is_server_error() { Outcome::Failed } else { Outcome::Ok };
            let mut body = Body::Incoming(answer.into_body());
            while let Some(Ok(_)) = wire.drive(body.frame()).await {}
            trip.over(outcome);
            pool.give_back(wire);
            Some(())
        });
        let _ = sent.await;
    });
}

/// A body that nobody has to send twice.
pub(crate) fn once(body: Body) -> Rc<ReplayBody> {
    ReplayBody::new(body, 0, None, None)
}
