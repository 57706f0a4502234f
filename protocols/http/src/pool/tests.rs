//! The pool against a service on the test's own thread.

mod shop;
mod uploads;

use super::*;
use crate::{
    body::Body,
    request_body::{ReplayBody, RequestBody},
};
use http::Request;
use http_body_util::BodyExt;
use shop::Shop;
use std::{
    future::poll_fn,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context, Poll, Wake, Waker},
};
use tokio::{
    task::{LocalSet, yield_now},
    time::timeout,
};

/// Runs a test with either version, against a service with this limit of streams.
fn each(streams: u32, test: impl AsyncFn(bool, Rc<Shop>)) {
    [false, true]
        .into_iter()
        .for_each(|http2| with(http2, streams, async |shop| test(http2, shop).await));
}

fn with(http2: bool, streams: u32, test: impl AsyncFnOnce(Rc<Shop>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let test = async { test(Shop::open(http2, streams).await).await };
        timeout(Duration::from_secs(20), test).await.expect("it ends");
    });
}

/// A pool that keeps its connections.
fn plan(http2: bool) -> PoolPlan {
    let version = if http2 { UpstreamVersion::Http2 } else { UpstreamVersion::Http1 };
    PoolPlan { version, idle_timeout: None, ..PoolPlan::default() }
}

fn pool(shop: &Rc<Shop>, plan: PoolPlan) -> Rc<Pool> {
    Pool::new(Rc::clone(shop) as Rc<dyn Connector>, plan)
}

async fn reach(pool: &Rc<Pool>) -> UpstreamConn {
    pool.get(None, &[], &Cell::default()).await.expect("a connection")
}

fn get(path: &str) -> Request<RequestBody> {
    let body = RequestBody::new(&ReplayBody::new(Body::Empty, 0, None, None), None);
    Request::get(format!("http://shop{path}")).body(body).unwrap()
}

/// Sends a request, and reads the whole response. `false` if there is none.
async fn asks(conn: &mut UpstreamConn, path: &str) -> bool {
    let request = get(path);
    let Ok(answer) = conn.send(request).await else { return false };
    let whole = conn.drive(answer.into_body().collect()).await;
    whole.is_ok_and(|whole| whole.to_bytes() == "ok")
}

async fn ask(conn: &mut UpstreamConn, path: &str) {
    assert!(asks(conn, path).await, "no answer");
}

/// One request from start to end.
async fn trip(pool: &Rc<Pool>) {
    let mut conn = reach(pool).await;
    ask(&mut conn, "/").await;
    pool.put(conn);
}

/// Lets the other tasks of this thread run.
async fn becomes(look: impl Fn() -> bool) {
    while !look() {
        yield_now().await;
    }
}

/// Polls once, and expects `Pending`.
async fn waits<F: Future>(mut future: Pin<&mut F>) {
    let ready = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
    assert!(!ready, "it need not wait");
}

#[test]
fn a_connection_is_reused() {
    each(100, async |http2, shop| {
        let pool = pool(&shop, plan(http2));
        for _ in 0..5 {
            trip(&pool).await;
        }
        assert_eq!(shop.dials.get(), 1);
    });
}

#[test]
fn a_connection_carries_at_most_max_requests() {
    each(100, async |http2, shop| {
        let pool = pool(&shop, PoolPlan { max_requests: 2, ..plan(http2) });
        for _ in 0..5 {
            trip(&pool).await;
        }
        assert_eq!(shop.dials.get(), 3);
        pool.close_unwanted();
    });
}

#[test]
fn connections_idle_for_too_long_are_closed() {
    each(100, async |http2, shop| {
        let pool = pool(&shop, PoolPlan { idle_timeout: Some(Duration::ZERO), ..plan(http2) });
        trip(&pool).await;
        let used = reach(&pool).await;
        pool.close_unwanted();
        trip(&pool).await;
        pool.close_unwanted();
        // A connection in use is not idle.
        becomes(|| shop.open_connections() == 1).await;
        drop(used);
        pool.close_unwanted();
        becomes(|| shop.open_connections() == 0).await;
    });
}

#[test]
fn at_most_max_idle_connections_are_kept() {
    with(false, 0, async |shop| {
        let pool = pool(&shop, PoolPlan { max_idle: 2, ..plan(false) });
        let mut wires = Vec::new();
        for _ in 0..4 {
            wires.push(reach(&pool).await);
        }
        for mut conn in wires {
            ask(&mut conn, "/").await;
            pool.put(conn);
        }
        assert_eq!((shop.dials.get(), shop.open_connections()), (4, 2));
    });
}

#[test]
fn streams_share_a_connection_up_to_the_lower_limit() {
    for (service, most) in [(2, 100), (100, 2)] {
        with(true, service, async |shop| {
            let pool = pool(&shop, PoolPlan { max_streams: most, ..plan(true) });
            // The service's limit is known once its SETTINGS have arrived.
            trip(&pool).await;
            let mut wires = Vec::new();
            for dials in [1, 1, 2, 2, 3] {
                let mut conn = reach(&pool).await;
                assert_eq!(shop.dials.get(), dials, "{service} {most}");
                ask(&mut conn, "/").await;
                wires.push(conn);
            }
            drop(wires.pop());
            wires.push(reach(&pool).await);
            assert_eq!(shop.dials.get(), 3, "a place that was left is taken");
        });
    }
}

#[test]
fn many_requests_at_once_dial_one_connection_of_http_2() {
    with(true, 100, async |shop| {
        let pool = pool(&shop, plan(true));
        shop.slow.set(true);
        let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(reach(&pool))).collect();
        for one in &mut waiting {
            waits(one.as_mut()).await;
        }
        shop.go.notify_one();
        for one in waiting {
            ask(&mut one.await, "/").await;
        }
        assert_eq!(shop.dials.get(), 1);
    });
}

#[test]
fn a_waiting_request_takes_over_a_cancelled_connect() {
    with(true, 100, async |shop| {
        let pool = pool(&shop, plan(true));
        shop.slow.set(true);
        let mut dials = Box::pin(reach(&pool));
        let (mut gone, mut stays) = (Box::pin(reach(&pool)), Box::pin(reach(&pool)));
        waits(dials.as_mut()).await;
        waits(gone.as_mut()).await;
        waits(stays.as_mut()).await;
        drop(dials);
        drop(gone);
        waits(stays.as_mut()).await;
        assert_eq!(shop.dials.get(), 2);
        shop.go.notify_one();
        ask(&mut stays.await, "/").await;
    });
}

#[test]
fn a_failed_connect_wakes_waiting_requests() {
    each(100, async |http2, shop| {
        let pool = pool(&shop, plan(http2));
        shop.slow.set(true);
        shop.fails.set(true);
        let told = Cell::default();
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(pool.get(None, &[], &told))).collect();
        for one in &mut waiting {
            waits(one.as_mut()).await;
        }
        shop.slow.set(false);
        shop.go.notify_waiters();
        for one in waiting {
            assert_eq!(one.await.expect_err("nothing is there").message, "`shop` has no endpoint");
        }
        // Later requests are not affected.
        shop.fails.set(false);
        trip(&pool).await;
        assert_eq!(shop.dials.get(), 4);
    });
}

#[test]
fn a_connecting_request_takes_a_returned_connection() {
    with(false, 0, async |shop| {
        let pool = pool(&shop, plan(false));
        let mut first = reach(&pool).await;
        ask(&mut first, "/").await;
        shop.slow.set(true);
        let mut waiting = Box::pin(reach(&pool));
        waits(waiting.as_mut()).await;
        pool.put(first);
        let mut second = waiting.await;
        assert!(!second.is_new(), "it was used before");
        ask(&mut second, "/").await;
        shop.go.notify_one();
        becomes(|| shop.open_connections() == 2).await;
        // It is kept as soon as the connecting task has seen it.
        becomes(|| !pool.connections.borrow().values().all(|kept| kept.idle.is_empty())).await;
        let third = reach(&pool).await;
        assert!(third.is_new());
        assert_eq!(shop.dials.get(), 2);
    });
}

#[test]
fn a_graceful_goaway_loses_no_stream() {
    with(true, 100, async |shop| {
        let pool = pool(&shop, plan(true));
        trip(&pool).await;
        let mut held = reach(&pool).await;
        let mut under_way = Box::pin(ask(&mut held, "/held"));
        waits(under_way.as_mut()).await;
        // It has arrived once a later request is answered.
        trip(&pool).await;
        shop.service.ends.notify_waiters();
        while shop.dials.get() < 2 {
            // One that crosses the GOAWAY is refused, and would be sent again.
            asks(&mut reach(&pool).await, "/").await;
        }
        assert_eq!(shop.open_connections(), 2, "it is waited for");
        shop.service.answers.notify_one();
        under_way.await;
        drop(held);
        pool.close_unwanted();
        becomes(|| shop.open_connections() == 1).await;
    });
}

#[test]
fn an_idle_connection_closed_by_the_service_is_not_used() {
    with(false, 0, async |shop| {
        let pool = pool(&shop, plan(false));
        trip(&pool).await;
        shop.service.ends.notify_waiters();
        becomes(|| {
            pool.close_unwanted();
            shop.open_connections() == 0
        })
        .await;
        trip(&pool).await;
        assert_eq!(shop.dials.get(), 2);
    });
}

#[test]
fn connections_to_close_when_idle_get_no_requests() {
    each(100, async |http2, shop| {
        let pool = pool(&shop, plan(http2));
        trip(&pool).await;
        let name = Arc::clone(shop.endpoint().name());
        shop.cluster().operator_drain(&name).unwrap();
        pool.close_unwanted();
        becomes(|| shop.open_connections() == 0).await;
        shop.cluster().operator_return(&name).unwrap();
        trip(&pool).await;
        assert_eq!(shop.dials.get(), 2);
    });
}

#[test]
fn idle_connections_close_if_a_request_waits_for_a_slot() {
    each(100, async |http2, shop| {
        let pool = pool(&shop, plan(http2));
        trip(&pool).await;
        shop.awaited.set(true);
        pool.close_unwanted();
        becomes(|| shop.open_connections() == 0).await;
        trip(&pool).await;
        // An HTTP/1 connection is not even kept.
        assert_eq!(shop.open_connections(), usize::from(http2));
        pool.close_unwanted();
        becomes(|| shop.open_connections() == 0).await;
    });
}

#[test]
fn connect_new_ignores_pooled_connections() {
    each(100, async |http2, shop| {
        let pool = pool(&shop, plan(http2));
        trip(&pool).await;
        let mut conn =
            pool.connect_new(None, shop.endpoint(), &Cell::default()).await.expect("a connection");
        assert!(conn.is_new());
        ask(&mut conn, "/").await;
        pool.put(conn);
        pool.close_unwanted();
        becomes(|| shop.open_connections() == 1).await;
        trip(&pool).await;
        assert_eq!(shop.dials.get(), 2);
    });
}

#[test]
fn a_drain_closes_only_idle_connections() {
    each(100, async |http2, shop| {
        let pool = pool(&shop, PoolPlan { max_streams: 1, ..plan(http2) });
        let mut busy = reach(&pool).await;
        let rests = reach(&pool).await;
        drop(rests);
        pool.close_idle();
        becomes(|| shop.open_connections() == 1).await;
        ask(&mut busy, "/").await;
    });
}

/// Counts wake-ups.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn reading_a_response_does_not_wake_its_reader() {
    with(false, 1, async |shop| {
        let mut conn = reach(&pool(&shop, plan(false))).await;
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let mut sending = Box::pin(conn.send(get("/")));
        let answer = loop {
            match sending.as_mut().poll(&mut cx) {
                Poll::Ready(answer) => break answer,
                Poll::Pending => yield_now().await,
            }
        };
        drop(sending);
        let Ok(answer) = answer else { panic!("no answer") };
        let UpstreamConn::H1(conn) = &mut conn else { panic!("a connection of HTTP/1") };
        let mut body = answer.into_body();
        let before = wakes.0.load(SeqCst);
        let Poll::Ready(Some(Ok(frame))) = conn.poll_frame(&mut cx, &mut body) else {
            panic!("the body came with the head")
        };
        assert_eq!(frame.into_data().unwrap(), "ok");
        assert!(matches!(conn.poll_frame(&mut cx, &mut body), Poll::Ready(None)));
        assert_eq!(wakes.0.load(SeqCst), before);
    });
}
