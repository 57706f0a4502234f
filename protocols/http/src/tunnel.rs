//! Connections that change to another protocol: WebSocket and the like by `upgrade`, anything by
//! `CONNECT`. Their bytes are nobody's business from then on.

mod copy;

use crate::{
    attempt::{Answered, Errand, Failed, Lost},
    body::Body,
    download::Download,
    exchange::Answer,
    facts::Flags,
    hygiene::{self, Upgrade},
    mirror::once,
    proxy::{Way as Direction, Whom},
    record::{End, Trip},
    routes::Route,
    serving::{Serving, Way},
    visit::{Tunnel, TunnelEnd, Visit},
    wire::Wire,
};
use bytes::Bytes;
use copy::{Rest, Side, copy};
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

impl Serving {
    /// Changes to another protocol, if the service does.
    pub(crate) async fn tunnel(self: Box<Self>, upgrade: Upgrade, way: Way) -> Answer {
        let connects = self.asked.route.connect && self.head.version == Version::HTTP_11;
        match upgrade {
            Upgrade::Switch(_) => self.switch(way).await,
            Upgrade::Tunnel if connects => self.connect(way).await,
            Upgrade::Tunnel | Upgrade::Stream(_) => {
                let words = "this route has no tunnels for CONNECT";
                let end = End::of(Outcome::Rejected, Reason::Denied.as_str());
                Ok(self.refuse(&Refusal::new(Reason::Denied, words), &end))
            }
        }
    }

    async fn switch(mut self: Box<Self>, way: Way) -> Answer {
        if let Err(answer) = self.prepare(&way.pool, true) {
            return Ok(answer);
        }
        self.record.sent.set(Some(Instant::now()));
        let route = &self.asked.route;
        let errand = Errand {
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
        let Answered { head, wire, trip, .. } = *answered;
        let Wire::Own(own) = wire else {
            return self.fail(Failed::Lost(Lost::Unreadable));
        };
        self.record.follows(trip);
        self.granted(TunnelEnd::Switched(own), head.status);
        Ok(Response::from_parts(head, Download::plain(Body::Empty)))
    }

    async fn connect(self: Box<Self>, way: Way) -> Answer {
        let cluster = Rc::clone(way.pool.cluster());
        match cluster.connect(Whom::default()).await {
            Ok(dialed) => {
                self.record.follows(Some(Trip::begin(&dialed.lease)));
                self.granted(TunnelEnd::Plain(dialed.stream, dialed.lease), StatusCode::OK);
                Ok(Response::new(Download::plain(Body::Empty)))
            }
            Err(unreachable) => self.fail(Failed::Unreachable(unreachable)),
        }
    }

    fn granted(&self, end: TunnelEnd, status: StatusCode) {
        let facts = &self.record.facts;
        facts.flag(Flags::UPGRADED);
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
        visit: &Visit,
        (mut client, asked): (TcpStream, Bytes),
        began: Instant,
    ) -> Close {
        let (mut service, said, lease) = match self.end {
            TunnelEnd::Switched(own) => own.open(),
            TunnelEnd::Plain(stream, lease) => (stream, Bytes::new(), lease),
        };
        let patience = visit.door.patience();
        let rest = Rest {
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
        let near = Side { said: asked, from: from_client, to: to_client };
        let far = Side { said, from: from_service, to: to_service };
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
        record.settle(&End::of(close.outcome(true), close.as_str()));
        close
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}
