//! Connections that change to another protocol: WebSocket and the like by `upgrade`, anything by
//! `CONNECT`. Their bytes are nobody's business from then on.

mod copy;

use crate::{
    attempt::{AttemptError, UpstreamError, UpstreamRequest, UpstreamResponse},
    body::Body,
    download::ResponseBody,
    exchange::ResponseResult,
    facts::RequestFlags,
    hygiene::{self, Upgrade},
    mirror::once,
    proxy::{Way as Direction, Whom},
    record::{AttemptGuard, OperationEnd},
    routes::Route,
    serving::{AdmittedRequest, ReservedCluster},
    visit::{ClientConnection, Tunnel, TunnelUpstream},
    wire::UpstreamConn,
};
use bytes::Bytes;
use copy::{IdleWatch, TunnelSide, copy};
use http::{Response, StatusCode, Version, request};
use operation::{Close, Outcome, Reason, Refusal};
use std::{cell::Cell, future::pending, rc::Rc, time::Instant};
use tokio::{net::TcpStream, select, time::sleep_until};

/// The other protocol that a request asks for, if its route lets it.
pub(crate) fn wanted(head: &request::Parts, route: &Route) -> Option<Upgrade> {
    let upgrade = hygiene::upgrade_of(head)?;
    let allowed = match &upgrade {
        // A tunnel has no path, and so it is never mistaken for a request.
        Upgrade::Tunnel | Upgrade::Stream(_) => true,
        Upgrade::Switch(_) => route.upgrade.allow(upgrade.protocol()),
    };
    allowed.then_some(upgrade)
}

impl AdmittedRequest {
    /// Changes to another protocol, if the service does.
    pub(crate) async fn tunnel(
        self: Box<Self>,
        upgrade: Upgrade,
        way: ReservedCluster,
    ) -> ResponseResult {
        let connects = self.asked.route.connect && self.head.version == Version::HTTP_11;
        match upgrade {
            Upgrade::Switch(_) => self.switch(way).await,
            Upgrade::Tunnel if connects => self.connect(way).await,
            Upgrade::Tunnel | Upgrade::Stream(_) => {
                let words = "this route has no tunnels for CONNECT";
                let end = OperationEnd::of(Outcome::Rejected, Reason::Denied.as_str());
                Ok(self.refuse(&Refusal::new(Reason::Denied, words), &end))
            }
        }
    }

    async fn switch(mut self: Box<Self>, way: ReservedCluster) -> ResponseResult {
        if let Err(answer) = self.prepare(&way.pool, true) {
            return Ok(answer);
        }
        self.record.sent.set(Some(Instant::now()));
        let route = &self.asked.route;
        let errand = UpstreamRequest {
            head: &self.head,
            authority: route.host().or_else(|| self.authority.value()),
            source: once(Body::Empty),
            record: &self.record,
            route,
            pool: &way.pool,
            hash: None,
            pace: None,
            waits: false,
            at_once: false,
        };
        let answered = select! {
            answered = errand.run(None, async |_| None) => answered,
            late = self.late(Instant::now(), None) => return Ok(self.refuse_late(late)),
        };
        let mut answered = match answered {
            Ok(answered) => answered,
            Err(failed) => return self.fail(failed),
        };
        if answered.head.status != StatusCode::SWITCHING_PROTOCOLS {
            return self.answer(answered, way).await;
        }
        self.finish_head(&mut answered.head);
        let UpstreamResponse { head, wire, trip, .. } = *answered;
        let UpstreamConn::Own(own) = wire else {
            return self.fail(AttemptError::Lost(UpstreamError::Unreadable));
        };
        self.record.follows(trip);
        self.granted(TunnelUpstream::Switched(own), head.status);
        Ok(Response::from_parts(head, ResponseBody::plain(Body::Empty)))
    }

    async fn connect(self: Box<Self>, way: ReservedCluster) -> ResponseResult {
        let cluster = Rc::clone(way.pool.cluster());
        match cluster.connect(Whom::default()).await {
            Ok(dialed) => {
                self.record.follows(Some(AttemptGuard::begin(&dialed.lease)));
                self.granted(TunnelUpstream::Plain(dialed.stream, dialed.lease), StatusCode::OK);
                Ok(Response::new(ResponseBody::plain(Body::Empty)))
            }
            Err(unreachable) => self.fail(AttemptError::Unreachable(unreachable)),
        }
    }

    fn granted(&self, end: TunnelUpstream, status: StatusCode) {
        let facts = &self.record.facts;
        facts.flag(RequestFlags::UPGRADED);
        facts.status.set(Some(status));
        self.record.first_byte.set(Some(Instant::now()));
        let record = Rc::clone(&self.record);
        *self.visit.tunnel.borrow_mut() = Some(Tunnel { end, record });
    }
}

impl Tunnel {
    /// Moves bytes both ways until either side ends, or nothing has moved for too long, or the
    /// connection, which `began` then, is old enough.
    pub(crate) async fn run(
        self,
        visit: &ClientConnection,
        (mut client, asked): (TcpStream, Bytes),
        began: Instant,
    ) -> Close {
        let (mut service, said, lease) = match self.end {
            TunnelUpstream::Switched(own) => own.open(),
            TunnelUpstream::Plain(stream, lease) => (stream, Bytes::new(), lease),
        };
        let patience = visit.door.patience();
        let rest = IdleWatch {
            moved: Cell::new(Instant::now()),
            half_closed: Cell::new(false),
            idle: patience.idle,
            half_close: patience.half_close,
        };
        let record = &*self.record;
        let count = |way, n: usize| {
            let now = Instant::now();
            rest.moved.set(now);
            if n == 0 {
                rest.half_closed.set(true);
            }
            visit.door.moved(way, n, now);
            let bytes = match way {
                Direction::Up => &record.request_bytes,
                Direction::Down => &record.reply_bytes,
            };
            bytes.set(bytes.get() + n as u64);
            if n > 0 && visit.door.is_paced() { visit.door.passed(way, n, now) } else { None }
        };
        let most = |way| if visit.door.is_paced() { visit.door.most(way) } else { usize::MAX };
        let ((from_client, to_client), (from_service, to_service)) =
            (client.split(), service.split());
        let near = TunnelSide { said: asked, from: from_client, to: to_client };
        let far = TunnelSide { said, from: from_service, to: to_service };
        let close = select! {
            // First, since what it counts moves the others' deadlines.
            biased;
            close = copy(near, far, most, count) => close,
            close = rest.over(|| record.count()) => close,
            () = until(patience.life.map(|life| began + life)) => Close::MaxDuration,
            close = visit.parts(&*lease) => close,
        };
        if !matches!(close, Close::Client | Close::Upstream) {
            // Nobody but its two ends knows whether what has passed is whole, and an end in good order
            // would say so. Either may be gone already.
            let _ = (client.set_zero_linger(), service.set_zero_linger());
        }
        record.settle(&OperationEnd::of(close.outcome(true), close.as_str()));
        close
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}
