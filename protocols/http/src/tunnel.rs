//! Connections that change to another protocol: WebSocket and the like by `upgrade`, anything by
//! `CONNECT`. Their bytes are nobody's business from then on.

use crate::{
    attempt::{Answered, Errand},
    body::Body,
    dialect::Asked,
    download::Download,
    exchange::Answer,
    facts::Flags,
    hygiene::{self, Upgrade},
    mirror::once,
    proxy::Whom,
    record::{End, Trip},
    routes::Route,
    serving::{Serving, Way},
    visit::{Tunnel, TunnelEnd, Visit},
    wire::Wire,
};
use bytes::Bytes;
use http::{Response, StatusCode, Version, request};
use operation::{Close, Outcome, Reason, Refusal};
use std::{
    cell::Cell,
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    select,
    time::sleep_until,
};

/// How much is moved at once.
const CHUNK: usize = 16 * 1024;

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

impl Serving<'_> {
    /// Changes to another protocol, if the service does.
    pub(crate) async fn tunnel(
        self,
        upgrade: Upgrade,
        head: request::Parts,
        asked: Asked,
        way: Way,
    ) -> Answer {
        match upgrade {
            Upgrade::Switch(_) => self.switch(head, asked, way).await,
            Upgrade::Tunnel if asked.route.connect && head.version == Version::HTTP_11 => {
                self.connect(&asked, way).await
            }
            Upgrade::Tunnel | Upgrade::Stream(_) => {
                let words = "this route has no tunnels for CONNECT";
                let end = End::of(Outcome::Rejected, Reason::Denied.as_str());
                Ok(self.refuse(&asked, &Refusal::new(Reason::Denied, words), &end))
            }
        }
    }

    async fn switch(self, mut head: request::Parts, asked: Asked, way: Way) -> Answer {
        let rendered = match self.prepare(&mut head, &asked, &way.pool, true) {
            Ok(rendered) => rendered,
            Err(words) => {
                let end = End::of(Outcome::Rejected, Reason::Invalid.as_str());
                return Ok(self.refuse(&asked, &Refusal::new(Reason::Invalid, words), &end));
            }
        };
        self.record.sent.set(Some(Instant::now()));
        let route = Arc::clone(&asked.route);
        let errand = Errand {
            head,
            authority: route.host().or_else(|| self.authority.value()),
            source: once(Body::Empty),
            record: &self.record,
            route: &route,
            pool: &way.pool,
            hash: None,
            pace: None,
            waits: false,
        };
        let answered = select! {
            answered = errand.run(None, async |_| None) => answered,
            late = self.late(&route, asked.patience, Instant::now(), None) => {
                return Ok(self.refuse_late(&asked, late));
            }
        };
        let mut answered = match answered {
            Ok(answered) => answered,
            Err(failed) => return self.fail(&asked, failed),
        };
        if answered.head.status != StatusCode::SWITCHING_PROTOCOLS {
            return self.answer(answered, &rendered, asked, way).await;
        }
        self.finish_head(&mut answered.head, &route, &rendered);
        let Answered { head, wire, trip, .. } = answered;
        let Wire::Own(own) = wire else {
            return self
                .fail(&asked, crate::attempt::Failed::Lost(crate::attempt::Lost::Unreadable));
        };
        self.record.follows(trip);
        self.granted(TunnelEnd::Switched(own), head.status);
        Ok(Response::from_parts(head, Download::plain(Body::Empty)))
    }

    async fn connect(self, asked: &Asked, way: Way) -> Answer {
        let cluster = Rc::clone(way.pool.cluster());
        match cluster.connect(Whom::default()).await {
            Ok(dialed) => {
                self.record.follows(Some(Trip::begin(&dialed.lease)));
                self.granted(TunnelEnd::Plain(dialed.stream, dialed.lease), StatusCode::OK);
                Ok(Response::new(Download::plain(Body::Empty)))
            }
            Err(unreachable) => self.fail(asked, crate::attempt::Failed::Unreachable(unreachable)),
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
    /// Moves bytes both ways until either side ends, or nothing has moved for too long.
    pub(crate) async fn run(self, visit: &Visit, client: (TcpStream, Bytes)) -> Close {
        let (mut service, said, _lease) = match self.end {
            TunnelEnd::Switched(own) => own.open(),
            TunnelEnd::Plain(stream, lease) => (stream, Bytes::new(), lease),
        };
        let (mut client, asked) = client;
        let moved = Cell::new(Instant::now());
        let idle = visit.door.patience().idle;
        let record = &*self.record;
        let moving = async {
            let ((from_client, to_client), (from_service, to_service)) =
                (client.split(), service.split());
            let up = pump(asked, from_client, to_service, |n| {
                moved.set(Instant::now());
                record.request_bytes.set(record.request_bytes.get() + n as u64);
            });
            let down = pump(said, from_service, to_client, |n| {
                moved.set(Instant::now());
                record.reply_bytes.set(record.reply_bytes.get() + n as u64);
            });
            let (up, down) = (pin!(up), pin!(down));
            both(up, down).await
        };
        let close = select! {
            close = moving => close,
            () = rested(&moved, idle) => Close::IdleTimeout,
            () = visit.left() => Close::DrainTimeout,
        };
        let outcome = close.outcome(true);
        let reason = (outcome != Outcome::Ok).then_some(close.as_str());
        record.settle(&End { reason, ..End::of(outcome, "") });
        close
    }
}

/// Ends when both ways have; tells who ended first, or broke.
async fn both(
    mut up: impl Future<Output = Result<(), bool>> + Unpin,
    mut down: impl Future<Output = Result<(), bool>> + Unpin,
) -> Close {
    let broken = |reading: bool, up: bool| match reading == up {
        true => Close::ClientReset,
        false => Close::UpstreamReset,
    };
    let (first, rest) = select! {
        ended = &mut up => match ended {
            Ok(()) => (Close::Client, down.await.map_err(|reading| broken(reading, false))),
            Err(reading) => return broken(reading, true),
        },
        ended = &mut down => match ended {
            Ok(()) => (Close::Upstream, up.await.map_err(|reading| broken(reading, true))),
            Err(reading) => return broken(reading, false),
        },
    };
    rest.err().unwrap_or(first)
}

/// Moves bytes one way to their end. Fails with whether it was the reading that broke.
async fn pump(
    first: Bytes,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: impl Fn(usize),
) -> Result<(), bool> {
    let broken = |_: io::Error| false;
    if !first.is_empty() {
        to.write_all(&first).await.map_err(broken)?;
        count(first.len());
    }
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = from.read(&mut chunk).await.map_err(|_| true)?;
        if n == 0 {
            return to.shutdown().await.map_err(broken);
        }
        to.write_all(&chunk[..n]).await.map_err(broken)?;
        count(n);
    }
}

/// Ends when nothing has moved for so long.
async fn rested(moved: &Cell<Instant>, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    loop {
        let due = moved.get() + idle;
        if Instant::now() >= due {
            return;
        }
        sleep_until(due.into()).await;
    }
}
