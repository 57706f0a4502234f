//! Bytes pass no faster than bandwidth policies allow, and no peer is closed for that delay.

use super::{
    frames::{End, Ends, Frames, frame, relayed_by, run, to_end},
    mongo, plan, proxy_with,
};
use crate::worker::Message;
use config::plan::ListenerPlan;
use operation::{Attributes, ByteBucket, Direction, RejectMode, RejectReason, Rejection};
use policy::series::SeriesKey;
use policy::{ConnectDecision, ConnectionPermit, SeriesPolicy, WorkerPolicy};
use protocols::ListenerProtocol;
use session::Timeouts;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
use tcp::Tcp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

const SECOND: Duration = Duration::from_secs(1);

/// This many bytes a second in each direction, for all connections together.
#[derive(Clone)]
struct Narrow([Arc<ByteBucket>; 2]);

impl Narrow {
    fn to(rate: u64) -> Box<Self> {
        let bucket = || Arc::new(ByteBucket::smooth(rate, Instant::now().into_std()));
        Box::new(Self([bucket(), bucket()]))
    }
}

impl WorkerPolicy for Narrow {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        None
    }

    fn connect(&self, _: &dyn Attributes, _: std::time::Instant) -> ConnectDecision {
        ConnectDecision::AcceptWith(Box::new(self.clone()))
    }
}

impl ConnectionPermit for Narrow {
    fn max_chunk(&self, way: Direction) -> usize {
        self.0[way as usize].max_chunk()
    }

    fn record(
        &self,
        way: Direction,
        bytes: usize,
        now: std::time::Instant,
    ) -> Option<std::time::Instant> {
        self.0[way as usize].record(bytes, now)
    }
}

/// A listener whose time-outs are short.
fn impatient() -> ListenerPlan {
    let soon = Some(Duration::from_millis(5));
    let usual = plan(protocols::plain("tcp").unwrap());
    let timeouts = Timeouts { idle: soon, message: soon, write: soon, ..usual.timeouts };
    ListenerPlan { timeouts, ..usual }
}

fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn bytes_pass_unchanged_at_the_rate_and_no_timeout_fires() {
    run(async {
        let began = Instant::now();
        let mut ends = relayed_by::<Tcp>(impatient(), Narrow::to(10_000)).await;
        ends.client_sends(&noise(20_000)).await;
        ends.client.shutdown().await.unwrap();
        ends.server_sends(&noise(30_000)).await;
        let Ends { client, server, .. } = &mut ends;
        server.shutdown().await.unwrap();
        let (up, down) = tokio::join!(to_end(server), to_end(client));
        assert!(up == (noise(20_000), End::Orderly), "{:?}: {:?}", ends.close, up.0.len());
        assert!(down == (noise(30_000), End::Orderly), "{:?}: {:?}", ends.close, down.0.len());
        let took = began.elapsed();
        assert!(took > SECOND * 28 / 10 && took < SECOND * 31 / 10, "{took:?}");
    });
}

#[test]
fn messages_are_throttled_without_timing_out() {
    run(async {
        let began = Instant::now();
        let mut ends = relayed_by::<Frames<true>>(impatient(), Narrow::to(10_000)).await;
        let asked = [frame(1, &noise(10_000)), frame(2, &noise(10_000))].concat();
        ends.client_sends(&asked).await;
        ends.server_receives(&asked).await;
        let took = began.elapsed();
        assert!(took > SECOND * 18 / 10 && took < SECOND * 21 / 10, "{took:?}");
        ends.server_sends(&[frame(1, &noise(10_000)), frame(2, b"")].concat()).await;
        ends.client_receives(1, &noise(10_000)).await;
        ends.client_receives(2, b"").await;
        assert!(began.elapsed() > SECOND * 28 / 10);
    });
}

#[test]
fn two_connections_share_a_rate_equally() {
    run(async {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = protocols::plain("tcp").unwrap();
        let at = upstream.local_addr().unwrap();
        let (address, _drain) = proxy_with(at, tcp, Narrow::to(100_000));
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(TcpStream::connect(address).await.unwrap());
            let (mut server, _) = upstream.accept().await.unwrap();
            tokio::task::spawn_local(async move { server.write_all(&noise(1 << 20)).await });
        }
        let got: Vec<Rc<RefCell<usize>>> = vec![Rc::default(), Rc::default()];
        for (mut client, got) in clients.into_iter().zip(got.clone()) {
            tokio::task::spawn_local(async move {
                let mut some = vec![0; 65536];
                while let Ok(n @ 1..) = client.read(&mut some).await {
                    *got.borrow_mut() += n;
                }
            });
        }
        sleep(10 * SECOND).await;
        for got in got {
            let got = *got.borrow();
            assert!((485_000..=515_000).contains(&got), "{got}");
        }
    });
}

/// A policy that decides about connections.
struct ConnectionPolicy(fn() -> ConnectDecision);

impl WorkerPolicy for ConnectionPolicy {
    fn bind(&self, _: &SeriesKey) -> Option<Box<dyn SeriesPolicy>> {
        None
    }

    fn connect(&self, _: &dyn Attributes, _: std::time::Instant) -> ConnectDecision {
        (self.0)()
    }
}

/// A connection to a proxy with this policy in front of `protocol`'s server.
async fn connect_through(
    protocol: Arc<dyn ListenerProtocol>,
    decide: fn() -> ConnectDecision,
) -> (TcpStream, TcpListener, impl Fn(Message)) {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = upstream.local_addr().unwrap();
    let (address, (inbox, _)) = proxy_with(at, protocol, Box::new(ConnectionPolicy(decide)));
    let client = TcpStream::connect(address).await.unwrap();
    (client, upstream, move |message| inbox.send(message).unwrap())
}

fn refused(manner: RejectMode) -> ConnectDecision {
    ConnectDecision::Reject(Rejection {
        mode: manner,
        ..Rejection::new(RejectReason::Denied, "not you")
    })
}

#[test]
fn a_rejected_connection_is_answered_closed_or_reset() {
    run(async {
        let cases: [(fn() -> ConnectDecision, End); 3] = [
            (|| refused(RejectMode::Reply), End::Orderly),
            (|| refused(RejectMode::Close), End::Orderly),
            (|| refused(RejectMode::Reset), End::Reset),
        ];
        for (decide, end) in cases {
            let tcp = protocols::plain("tcp").unwrap();
            let (mut client, upstream, _tell) = connect_through(tcp, decide).await;
            // It may be gone by now.
            let _ = client.write_all(b"hello").await;
            assert_eq!(to_end(&mut client).await, (vec![], end));
            assert!(timeout(SECOND, upstream.accept()).await.is_err(), "it was let through");
        }
        let (mut client, _upstream, _tell) =
            connect_through(mongo(), || refused(RejectMode::Reply)).await;
        client.write_all(&super::ping(1)).await.unwrap();
        let (said, end) = to_end(&mut client).await;
        assert!(String::from_utf8_lossy(&said).contains("not you"));
        assert_eq!(end, End::Orderly);
    });
}

#[test]
fn a_drain_ends_a_delayed_connection() {
    run(async {
        let hour = || ConnectDecision::Delay(Duration::from_secs(3600));
        let tcp = || protocols::plain("tcp").unwrap();
        let began = Instant::now();
        let (_client, upstream, _tell) = connect_through(tcp(), hour).await;
        let _server = upstream.accept().await.unwrap();
        assert!(began.elapsed() >= 3600 * SECOND);

        let began = Instant::now();
        let (mut client, upstream, tell) = connect_through(tcp(), hour).await;
        sleep(SECOND).await;
        tell(Message::Drain(super::at_once(SECOND)));
        let _ = to_end(&mut client).await;
        assert!(began.elapsed() < 10 * SECOND);
        assert!(timeout(SECOND, upstream.accept()).await.is_err());
    });
}

#[test]
fn a_drain_waits_for_throttled_bytes_up_to_its_timeout() {
    run(async {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = upstream.local_addr().unwrap();
        let (address, (inbox, work)) =
            proxy_with(at, protocols::plain("tcp").unwrap(), Narrow::to(1000));
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut server, _) = upstream.accept().await.unwrap();
        server.write_all(&noise(10_000)).await.unwrap();
        sleep(SECOND).await;
        inbox.send(Message::Drain(super::at_once(2 * SECOND))).unwrap();
        let (got, _) = to_end(&mut client).await;
        assert!((2_800..3_200).contains(&got.len()), "{}", got.len());
        work.await.unwrap().unwrap();
    });
}
