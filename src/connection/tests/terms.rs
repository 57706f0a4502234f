//! The terms of an operation are kept, for messages and for streams.

use super::{
    frames::{End, Frames, frame, relayed, run, script, to_end},
    mongo, ping, proxy_with,
};
use crate::worker::Message;
use operation::{
    Close, ClosePoint, Decision, Effects, InjectedClose, Outcome, RejectMode, RejectReason,
    Rejection, ReplyTimeout,
};
use std::{num::NonZeroU64, time::Duration};
use tcp::Tcp;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

type Tells = Frames<true>;

const SECOND: Duration = Duration::from_secs(1);

fn bend(terms: Effects) -> Decision {
    Decision::Modify(std::rc::Rc::new(terms))
}

fn limit(after: Duration) -> Decision {
    let limit = Some(ReplyTimeout { after, message: "too slow".into(), policy: "it".into() });
    bend(Effects { reply_timeout: limit, ..Effects::default() })
}

fn cut(place: ClosePoint, reset: bool) -> Decision {
    bend(Effects { injected_close: Some(InjectedClose { at: place, reset }), ..Effects::default() })
}

fn rejection(manner: RejectMode) -> Decision {
    Decision::Reject(Rejection { mode: manner, ..Rejection::new(RejectReason::Denied, "no") })
}

const LATE: (Outcome, Option<&str>) = (Outcome::Lost, Some("timed_out"));
const INJECTED: (Outcome, Option<&str>) = (Outcome::Lost, Some("injected"));
const OK: (Outcome, Option<&str>) = (Outcome::Ok, None);

fn manners() -> [(bool, End); 2] {
    [(false, End::Orderly), (true, End::Reset)]
}

#[test]
fn a_timed_out_operation_drops_its_late_reply() {
    run(async {
        let mut ends = relayed::<Tells>(|_| limit(SECOND)).await;
        ends.client_sends(&frame(1, b"slow?")).await;
        let began = Instant::now();
        ends.client_receives(1, b"timed_out").await;
        assert!(began.elapsed() >= SECOND && began.elapsed() < 2 * SECOND);
        assert_eq!(*ends.settled.borrow(), [LATE]);
        ends.server_sends(&frame(1, b"late")).await;
        ends.client_sends(&frame(2, b"again?")).await;
        ends.server_sends(&frame(2, b"yes")).await;
        ends.client_receives(2, b"yes").await;
        assert_eq!(*ends.settled.borrow(), [LATE, OK]);
    });
}

#[test]
fn of_pipelined_requests_only_the_late_ones_time_out() {
    run(async {
        let mut ends =
            relayed::<Tells>(|n| if n <= 2 { limit(SECOND) } else { Decision::Admit }).await;
        for number in 1..=4 {
            ends.client_sends(&frame(number, b"?")).await;
        }
        // The third reply overtakes, and does not answer those before it.
        ends.server_sends(&frame(3, b"three")).await;
        ends.client_receives(3, b"three").await;
        ends.client_receives(1, b"timed_out").await;
        ends.client_receives(2, b"timed_out").await;
        ends.server_sends(&[frame(2, b"late"), frame(4, b"four"), frame(1, b"late")].concat())
            .await;
        ends.client_receives(4, b"four").await;
        ends.client_sends(&frame(5, b"?")).await;
        ends.server_sends(&frame(5, b"five")).await;
        ends.client_receives(5, b"five").await;
        assert_eq!(*ends.settled.borrow(), [OK, LATE, LATE, OK, OK]);
    });
}

#[test]
fn a_reply_that_has_begun_is_never_cut_short_by_a_time_limit() {
    run(async {
        let mut ends = relayed::<Tells>(|_| limit(SECOND)).await;
        ends.client_sends(&[frame(1, b"?"), frame(2, b"?")].concat()).await;
        let reply = frame(1, &[7; 1000]);
        ends.server_sends(&reply[..500]).await;
        // The second is late now, but its rejection must not be written inside the reply.
        sleep(5 * SECOND).await;
        assert_eq!(ends.settled.borrow().len(), 0);
        ends.server_sends(&reply[500..]).await;
        ends.client_receives(1, &[7; 1000]).await;
        ends.client_receives(2, b"timed_out").await;
        assert_eq!(*ends.settled.borrow(), [OK, LATE]);
    });
}

#[test]
fn a_request_that_has_not_passed_yet_is_not_late() {
    run(async {
        let mut ends = relayed::<Tells>(|_| limit(SECOND)).await;
        let request = frame(1, &[7; 1000]);
        ends.client_sends(&request[..500]).await;
        sleep(5 * SECOND).await;
        assert_eq!(ends.settled.borrow().len(), 0);
        ends.client_sends(&request[500..]).await;
        ends.client_receives(1, b"timed_out").await;
        ends.server_receives(&request).await;
    });
}

#[test]
fn operations_without_a_reply_and_long_polls_do_not_time_out() {
    run(async {
        let mut ends = relayed::<Tells>(|_| limit(SECOND)).await;
        ends.client_sends(&[frame(0, b"take this"), frame(1000, b"any news?")].concat()).await;
        sleep(60 * SECOND).await;
        ends.server_sends(&frame(1000, b"now")).await;
        ends.client_receives(1000, b"now").await;
        assert_eq!(*ends.settled.borrow(), [OK, OK]);
    });
}

#[test]
fn without_request_ids_a_time_out_closes_the_connection() {
    run(async {
        let mut ends = relayed::<Frames<false>>(|_| limit(SECOND)).await;
        ends.client_sends(&frame(1, b"?")).await;
        assert_eq!(to_end(&mut ends.client).await, (vec![], End::Orderly));
        drop(ends.client);
        assert_eq!(ends.close.take(), None, "it waits for the client's end");
    });
}

#[test]
fn a_session_times_out_only_while_the_service_is_silent() {
    run(async {
        let mut ends = relayed::<Tcp>(|_| limit(SECOND)).await;
        ends.client_sends(b"anybody?").await;
        let began = Instant::now();
        assert_eq!(to_end(&mut ends.client).await, (vec![], End::Orderly));
        assert!(began.elapsed() >= SECOND / 2);
        ends.client.shutdown().await.unwrap();
        assert_eq!(ends.ended().await, Close::OperationTimeout);
        assert_eq!(*ends.settled.borrow(), [(Outcome::Lost, Some("operation_timeout"))]);

        let mut ends = relayed::<Tcp>(|_| limit(SECOND)).await;
        ends.server_sends(b"welcome").await;
        sleep(60 * SECOND).await;
        drop(ends.server);
        assert_eq!(to_end(&mut ends.client).await, (b"welcome".to_vec(), End::Orderly));
    });
}

#[test]
fn a_cut_request_is_not_forwarded_but_older_replies_are() {
    for (reset, end) in manners() {
        run(async {
            let mut ends = relayed::<Tells>(move |n| match n {
                3 => cut(ClosePoint::BeforeRequest, reset),
                2 => rejection(RejectMode::Reply),
                _ => Decision::Admit,
            })
            .await;
            ends.client_sends(
                &[frame(1, b"?"), frame(2, b"?"), frame(3, b"?"), frame(4, b"?")].concat(),
            )
            .await;
            ends.server_receives(&frame(1, b"?")).await;
            // Bytes that the kernel could not send at once would be lost with a reset.
            ends.server_sends(&frame(1, &[9; 10_000])).await;
            let all = [frame(1, &[9; 10_000]), frame(2, b"denied")].concat();
            assert!(to_end(&mut ends.client).await == (all, end));
            drop(ends.client);
            assert_eq!(to_end(&mut ends.server).await.0, b"", "nothing else is heard");
            assert_eq!(*ends.settled.borrow(), [INJECTED, OK]);
        });
    }
}

#[test]
fn a_delay_before_a_cut_is_waited_for() {
    run(async {
        let terms = || Effects {
            delay: SECOND,
            injected_close: Some(InjectedClose { at: ClosePoint::BeforeRequest, reset: true }),
            ..Effects::default()
        };
        let mut ends = relayed::<Tells>(move |_| bend(terms())).await;
        ends.client_sends(&frame(1, b"?")).await;
        let began = Instant::now();
        assert_eq!(to_end(&mut ends.client).await, (vec![], End::Reset));
        assert!(began.elapsed() >= SECOND);
        assert_eq!(ends.ended().await, Close::Injected);
    });
}

#[test]
fn a_reply_is_cut_at_the_very_byte() {
    let reply = frame(2, b"twelve bytes");
    for (reset, _) in manners() {
        for n in 0..reply.len() {
            run(async {
                let mut ends = relayed::<Tells>(move |number| match number {
                    2 => cut(ClosePoint::AfterReplyBytes(n as u64), reset),
                    _ => Decision::Admit,
                })
                .await;
                let asked = [frame(1, b"?"), frame(2, b"?"), frame(3, b"?")].concat();
                ends.client_sends(&asked).await;
                ends.server_receives(&asked).await;
                ends.server_sends(&[frame(1, b"one"), reply.clone(), frame(3, b"three")].concat())
                    .await;
                let all = [&frame(1, b"one"), &reply[..n]].concat();
                let end = if reset { End::Reset } else { End::Orderly };
                assert_eq!(to_end(&mut ends.client).await, (all, end));
                drop(ends.client);
                assert_eq!(*ends.settled.borrow(), [OK, INJECTED, INJECTED]);
            });
        }
    }
}

#[test]
fn a_reply_shorter_than_its_cut_is_complete() {
    run(async {
        let mut ends = relayed::<Tells>(|_| cut(ClosePoint::AfterReplyBytes(11), false)).await;
        for number in 1..5 {
            ends.client_sends(&frame(number, b"?")).await;
            ends.server_sends(&frame(number, b"yes")).await;
            ends.client_receives(number, b"yes").await;
        }
    });
}

#[test]
fn a_connection_is_cut_after_a_whole_reply() {
    for (reset, end) in manners() {
        run(async {
            let mut ends = relayed::<Tells>(move |_| cut(ClosePoint::AfterReply, reset)).await;
            ends.client_sends(&[frame(1, b"?"), frame(2, b"?")].concat()).await;
            ends.server_sends(&[frame(1, b"one"), frame(2, b"two")].concat()).await;
            assert_eq!(to_end(&mut ends.client).await, (frame(1, b"one"), end));
            drop(ends.client);
            assert_eq!(*ends.settled.borrow(), [OK, INJECTED]);
        });
    }
}

#[test]
fn a_write_without_reply_is_cut_after_it_has_passed() {
    run(async {
        let mut ends = relayed::<Tells>(|_| cut(ClosePoint::AfterReply, false)).await;
        ends.client_sends(&[frame(0, b"take this"), frame(0, b"and this")].concat()).await;
        assert_eq!(to_end(&mut ends.client).await, (vec![], End::Orderly));
        drop(ends.client);
        assert_eq!(to_end(&mut ends.server).await.0, frame(0, b"take this"));
        assert_eq!(*ends.settled.borrow(), [OK]);
    });
}

#[test]
fn a_session_can_be_cut_at_any_byte() {
    for (reset, _) in manners() {
        let end = || if reset { End::Reset } else { End::Orderly };
        run(async move {
            let mut ends = relayed::<Tcp>(move |_| cut(ClosePoint::BeforeRequest, reset)).await;
            ends.client_sends(b"hello").await;
            assert_eq!(to_end(&mut ends.client).await, (vec![], end()));
            drop(ends.client);
            assert_eq!(to_end(&mut ends.server).await.0, b"");
            assert_eq!(*ends.settled.borrow(), [INJECTED]);

            for n in 0..5 {
                let mut ends =
                    relayed::<Tcp>(move |_| cut(ClosePoint::AfterReplyBytes(n), reset)).await;
                ends.client_sends(b"hello").await;
                ends.server_receives(b"hello").await;
                ends.server_sends(b"hello").await;
                let all = b"hello"[..n as usize].to_vec();
                assert_eq!(to_end(&mut ends.client).await, (all, end()));
            }
            let mut ends = relayed::<Tcp>(move |_| cut(ClosePoint::AfterReply, reset)).await;
            ends.server_sends(b"hello").await;
            ends.server_receives(b"").await;
            drop(ends.server);
            assert_eq!(to_end(&mut ends.client).await, (b"hello".to_vec(), end()));
        });
    }
}

#[test]
fn only_a_rejection_by_closing_waits_for_older_replies() {
    run(async {
        let second = |manner| move |n| if n == 2 { rejection(manner) } else { Decision::Admit };
        let asked = [frame(1, b"?"), frame(2, b"?"), frame(3, b"?")].concat();
        let mut ends = relayed::<Tells>(second(RejectMode::Close)).await;
        ends.client_sends(&asked).await;
        ends.server_receives(&frame(1, b"?")).await;
        ends.server_sends(&frame(1, b"one")).await;
        assert_eq!(to_end(&mut ends.client).await, (frame(1, b"one"), End::Orderly));
        ends.client.shutdown().await.unwrap();
        assert_eq!(ends.ended().await, Close::Denied);
        assert_eq!(to_end(&mut ends.server).await.0, b"");

        let mut ends = relayed::<Tells>(second(RejectMode::Reset)).await;
        ends.client_sends(&asked).await;
        assert_eq!(to_end(&mut ends.client).await, (vec![], End::Reset));
        assert_eq!(ends.ended().await, Close::Denied);
    });
}

#[test]
fn a_session_is_rejected_by_closing_or_by_reset() {
    run(async {
        let cases = [RejectMode::Reply, RejectMode::Close, RejectMode::Reset];
        for manner in cases {
            let mut ends = relayed::<Tcp>(move |_| rejection(manner)).await;
            // It may be gone by now.
            let _ = ends.client.write_all(b"hello").await;
            let end = if manner == RejectMode::Reset { End::Reset } else { End::Orderly };
            assert_eq!(to_end(&mut ends.client).await, (vec![], end), "{manner:?}");
            drop(ends.client);
            assert_eq!(to_end(&mut ends.server).await.0, b"");
        }
    });
}

/// Bytes that differ from their neighbours.
fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn throttled_bytes_arrive_unchanged_and_on_time() {
    run(async {
        let pace = NonZeroU64::new(100_000);
        let paced = move |_| bend(Effects { bytes_per_second: pace, ..Effects::default() });
        let within = |began: Instant, secs: u64| {
            let took = began.elapsed();
            let expected = Duration::from_secs(secs);
            assert!(took > expected * 9 / 10 && took < expected * 11 / 10, "{took:?}");
        };
        let mut ends = relayed::<Tells>(paced).await;
        let began = Instant::now();
        let request = frame(1, &noise(200_000));
        ends.client_sends(&request).await;
        ends.server_receives(&request).await;
        within(began, 2);
        let began = Instant::now();
        ends.server_sends(&frame(1, &noise(300_000))).await;
        ends.client_receives(1, &noise(300_000)).await;
        within(began, 3);
        assert_eq!(*ends.settled.borrow(), [OK]);

        let mut ends = relayed::<Tcp>(paced).await;
        let began = Instant::now();
        ends.client_sends(&noise(200_000)).await;
        ends.client.shutdown().await.unwrap();
        assert!(to_end(&mut ends.server).await == (noise(200_000), End::Orderly));
        within(began, 2);
    });
}

#[test]
fn a_low_rate_passes_bytes_evenly() {
    run(async {
        let pace = NonZeroU64::new(10 * 1024);
        let mut ends =
            relayed::<Tcp>(move |_| bend(Effects { bytes_per_second: pace, ..Effects::default() }))
                .await;
        ends.server_sends(&noise(20 * 1024)).await;
        let began = Instant::now();
        let (mut got, mut last) = (Vec::new(), began);
        while got.len() < 20 * 1024 {
            tokio::io::AsyncReadExt::read_buf(&mut ends.client, &mut got).await.unwrap();
            assert!(last.elapsed() < SECOND / 10, "nothing for {:?}", last.elapsed());
            last = Instant::now();
        }
        assert!(got == noise(20 * 1024));
        assert!(began.elapsed() > SECOND * 18 / 10, "{:?}", began.elapsed());
    });
}

#[test]
fn delays_keep_the_order_of_requests() {
    run(async {
        let mut ends = relayed::<Tells>(|n| match n {
            2 => Decision::delay(SECOND),
            _ => Decision::Admit,
        })
        .await;
        let asked = [frame(1, b"a"), frame(2, b"b"), frame(3, b"c")].concat();
        ends.client_sends(&asked).await;
        ends.server_receives(&frame(1, b"a")).await;
        let began = Instant::now();
        ends.server_receives(&[frame(2, b"b"), frame(3, b"c")].concat()).await;
        assert!(began.elapsed() >= SECOND);
    });
}

#[test]
fn a_pending_verdict_ends_with_the_connection() {
    run(async {
        let mut ends = relayed::<Tells>(|n| {
            Decision::Pending(Box::pin(async move {
                sleep(SECOND).await;
                match n {
                    1 => limit(SECOND / 2),
                    2 => rejection(RejectMode::Reply),
                    3 => cut(ClosePoint::AfterReplyBytes(3), false),
                    _ => std::future::pending().await,
                }
            }))
        })
        .await;
        ends.client_sends(&[frame(1, b"?"), frame(2, b"?")].concat()).await;
        ends.server_receives(&frame(1, b"?")).await;
        // The first times out while the verdict on the second is pending.
        ends.client_receives(1, b"timed_out").await;
        ends.client_receives(2, b"denied").await;
        ends.client_sends(&frame(3, b"?")).await;
        ends.server_receives(&frame(3, b"?")).await;
        ends.server_sends(&frame(3, b"!")).await;
        assert_eq!(to_end(&mut ends.client).await.0, frame(3, b"!")[..3]);
        assert_eq!(*ends.settled.borrow(), [LATE, INJECTED]);
    });
}

fn never() -> Decision {
    Decision::Pending(Box::pin(std::future::pending()))
}

#[test]
fn a_pending_verdict_does_not_outlast_the_idle_timeout() {
    run(async {
        let mut ends = relayed::<Tells>(|_| never()).await;
        ends.client_sends(&frame(1, b"?")).await;
        assert_eq!(to_end(&mut ends.client).await, (vec![], End::Orderly));
        assert_eq!(ends.ended().await, Close::IdleTimeout);
        assert_eq!(*ends.settled.borrow(), [(Outcome::Cancelled, None)]);
    });
}

#[test]
fn a_drain_waits_for_delayed_operations_up_to_its_timeout() {
    let hour = Duration::from_secs(3600);
    let pace = NonZeroU64::new(1);
    let cases: [fn(Duration, Option<NonZeroU64>) -> Decision; 6] = [
        |_, _| never(),
        |hour, _| Decision::delay(hour),
        |hour, _| limit(hour),
        |_, _| cut(ClosePoint::AfterReplyBytes(0), true),
        |_, _| cut(ClosePoint::AfterReply, false),
        |_, pace| bend(Effects { bytes_per_second: pace, ..Effects::default() }),
    ];
    for (case, decide) in cases.into_iter().enumerate() {
        run(async move {
            let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (policy, settled) = script(move |_| decide(hour, pace));
            let at = upstream.local_addr().unwrap();
            let (address, (inbox, work)) = proxy_with(at, mongo(), policy);
            let mut client = TcpStream::connect(address).await.unwrap();
            let (_server, _) = upstream.accept().await.unwrap();
            client.write_all(&ping(1)).await.unwrap();
            sleep(SECOND).await;
            let began = Instant::now();
            inbox.send(Message::Drain(super::at_once(2 * SECOND))).unwrap();
            to_end(&mut client).await;
            assert!(began.elapsed() >= 2 * SECOND, "case {case}: it was cut short");
            assert!(began.elapsed() < 4 * SECOND, "case {case}: it lasts");
            work.await.unwrap().unwrap();
            assert_eq!(settled.borrow().len(), 1, "case {case}");
        });
    }
}
