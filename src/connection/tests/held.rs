//! Held requests, in a protocol whose messages have their only attribute in the last byte.

use super::{
    frames::{Ends, frame, relayed_at, run},
    parts_behind, plan,
};
use crate::listener::WorkerListener;
use bytes::BytesMut;
use cluster::Cluster;
use config::plan::ListenerPlan;
use operation::{
    AttributeValue, Close, Codec, ConnectionInfo, Next, OperationNames, Outcome, RejectionRef,
    Reply, Request, Tag, Violation,
};
use policy::gate::Gate;
use policy::series::CardinalityLimit;
use policy::{Live, PolicyEnv};
use std::{rc::Rc, sync::Arc};
use tokio::net::TcpListener;
use tollgate_metrics::Metrics;

/// How many bytes of a message are read before it is forwarded.
const FRONT: usize = 16;

/// Numbered messages as in `frames`. The last byte is the `comment`; a `?` there is a violation.
/// `READS_ON` is whether the codec can read more than the front.
#[derive(Default)]
struct Late<const READS_ON: bool> {
    /// How many bytes of the last marked request were read.
    seen: usize,
    rereads: bool,
    /// How many bytes of a forwarded request are outstanding.
    left: usize,
    told: bool,
}

fn head(bytes: &[u8]) -> Option<(u32, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some((word(0)?, 8 + word(4)? as usize))
}

const WRONG: Violation = Violation("question_mark");

impl<const READS_ON: bool> Codec for Late<READS_ON> {
    const PROTOCOL: operation::Protocol = operation::Protocol::plain("late");

    type Shared = ();

    fn new(_: &Arc<()>, _: ConnectionInfo) -> Self {
        Self::default()
    }

    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        if self.left > 0 {
            if bytes.len() < self.left {
                return Ok(Next::Hold(self.left));
            }
            if bytes[self.left - 1] == b'?' && !std::mem::replace(&mut self.told, true) {
                return Ok(Next::Violates(WRONG));
            }
            let len = std::mem::take(&mut self.left) as u64;
            return Ok(Next::Pass { len, mark: None, ends: true });
        }
        let Some((number, len)) = head(bytes) else { return Ok(Next::Hold(8)) };
        let read = if self.rereads { bytes.len() } else { FRONT }.min(len);
        if bytes.len() < read {
            return Ok(Next::Hold(read));
        }
        (self.seen, self.rereads, self.told) = (read, false, false);
        let partial = read < len;
        let wrong = !partial && bytes[len - 1] == b'?';
        let violation = wrong.then_some(WRONG);
        let tag = Some(Tag(number.into()));
        let mark =
            Request { tag, partial, may_have_callsite: true, violation, ..Request::default() };
        self.left = len - read;
        Ok(Next::Pass { len: read as u64, mark: Some(mark), ends: !partial })
    }

    fn names<'b>(&'b self, _: &'b [u8]) -> OperationNames<'b> {
        OperationNames { name: "frame", resource: "" }
    }

    fn attribute<'b>(&'b self, front: &'b [u8], name: &str) -> AttributeValue<'b> {
        match head(front) {
            Some((_, len)) if name == "comment" && len <= self.seen => {
                std::str::from_utf8(&front[len - 1..len]).ok().into()
            }
            _ if name == "comment" => AttributeValue::Unread,
            _ => AttributeValue::Absent,
        }
    }

    fn reread(&mut self, _: Option<Tag>, front: &[u8]) -> usize {
        (self.rereads, self.left) = (READS_ON, 0);
        let len = head(front).map_or(0, |(_, len)| len);
        if READS_ON { len.min(self.seen * 2) } else { self.seen }
    }

    fn reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation> {
        let Some((number, len)) = head(bytes) else { return Ok(Next::Hold(8)) };
        let reply = Reply::new(Tag(number.into()), Outcome::Ok);
        Ok(Next::whole(len as u64, reply))
    }

    fn reject(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        out.extend_from_slice(&frame(tag.0 as u32, why.reason.as_str().as_bytes()));
        true
    }
}

/// A gate with these policies, for a protocol that has comments.
fn gate(policies: &str) -> Gate {
    let text = format!(
        "listeners: {{ l: {{ address: \":0\", protocol: mongo, cluster: c }} }}\n\
         clusters: {{ c: {{ endpoints: [\"d:1\"] }} }}\npolicies: {policies}\n"
    );
    let plan = Arc::new(config::parse("test", &text).unwrap_or_else(|it| panic!("{it}")));
    let metrics = Metrics::new();
    let cardinality = || Arc::new(CardinalityLimit::new(10, metrics::Counter::noop()));
    let from = PolicyEnv {
        has_preface: false,
        metrics: metrics.clone(),
        listener: "l".into(),
        protocol: plan.listeners[0].protocol.describe(),
        cluster: Some(Cluster::new(Arc::clone(&plan.clusters[0]), &metrics)),
        callsites: cardinality(),
        shapes: None,
        lines: None,
        tap: Arc::default(),
        tracer: Arc::default(),
    };
    let live = Live::new(plan.policies.clone());
    Gate::live(live, from, cardinality(), metrics::Gauge::noop())
}

/// A listener with these policies that may hold this many bytes, and its server.
async fn listener(policies: &str, max_held_bytes: usize) -> (TcpListener, Rc<WorkerListener>) {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plan = ListenerPlan { max_held_bytes, ..plan(protocols::plain("tcp").unwrap()) };
    let address = upstream.local_addr().unwrap();
    let (_, _, worker_listener) = parts_behind(plan, address, gate(policies), 1);
    (upstream, worker_listener)
}

/// A connection on a listener of its own.
async fn behind<C: Codec<Shared = ()>>(policies: &str, max_held_bytes: usize) -> Ends {
    let (upstream, worker_listener) = listener(policies, max_held_bytes).await;
    relayed_at::<C>(&upstream, worker_listener).await
}

type Reads = Late<true>;

const DENIES: &str = "[{ name: it, match: { comment: x }, deny: {} }]";
const ELSEWHERE: &str = "[{ name: it, match: { operation: drop }, deny: {} }]";
const PLENTY: usize = 1 << 20;

/// A payload of this length that ends with this byte.
fn ending(len: usize, last: u8) -> Vec<u8> {
    let mut payload = vec![b'.'; len];
    payload[len - 1] = last;
    payload
}

#[test]
fn a_request_is_held_up_to_the_byte_that_a_policy_needs() {
    run(async {
        let mut ends = behind::<Reads>(DENIES, PLENTY).await;
        let denied = frame(1, &ending(100_000, b'x'));
        for piece in [&denied[..9], &denied[9..50], &denied[50..99_999], &denied[99_999..]] {
            ends.client_sends(piece).await;
        }
        ends.client_receives(1, b"denied").await;
        // The server receives nothing of it.
        let other = frame(2, &ending(100_000, b'y'));
        ends.client_sends(&other).await;
        ends.server_receives(&other).await;
        ends.server_sends(&frame(2, b"yes")).await;
        ends.client_receives(2, b"yes").await;
    });
}

#[test]
fn at_the_held_bytes_bound_policies_decide_by_what_is_known() {
    run(async {
        let mut ends = behind::<Reads>(DENIES, 150_000).await;
        let long = frame(1, &ending(300_000, b'y'));
        let (front, rest) = long.split_at(250_000);
        ends.client_sends(front).await;
        ends.client_receives(1, b"denied").await;
        // The rest of a rejected request is dropped.
        ends.client_sends(rest).await;
        let short = frame(2, &ending(10, b'y'));
        ends.client_sends(&short).await;
        ends.server_receives(&short).await;
    });
}

#[test]
fn held_bytes_are_returned_when_the_request_was_forwarded() {
    run(async {
        // There is room for one of them at a time.
        let (upstream, worker_listener) = listener(DENIES, 250_000).await;
        let mut first = relayed_at::<Reads>(&upstream, Rc::clone(&worker_listener)).await;
        let mut second = relayed_at::<Reads>(&upstream, worker_listener).await;
        for number in 1..4 {
            for ends in [&mut first, &mut second] {
                let long = frame(number, &ending(200_000, b'y'));
                ends.client_sends(&long).await;
                ends.server_receives(&long).await;
                ends.server_sends(&frame(number, b"yes")).await;
                ends.client_receives(number, b"yes").await;
            }
        }
    });
}

#[test]
fn a_codec_that_reads_no_further_is_not_waited_for() {
    run(async {
        let mut ends = behind::<Late<false>>(DENIES, PLENTY).await;
        ends.client_sends(&frame(1, &ending(1000, b'y'))[..500]).await;
        ends.client_receives(1, b"denied").await;
    });
}

#[test]
fn a_held_request_is_rejected_and_the_next_one_passes() {
    run(async {
        let mut ends = behind::<Reads>(DENIES, PLENTY).await;
        let wrong = frame(1, &ending(1000, b'?'));
        ends.client_sends(&wrong[..500]).await;
        ends.client_sends(&wrong[500..]).await;
        ends.client_receives(1, b"denied").await;
        let short = frame(2, b"y");
        ends.client_sends(&short).await;
        ends.server_receives(&short).await;
    });
}

#[test]
fn a_violation_behind_the_front_is_never_forwarded_whole() {
    run(async {
        let wrong = frame(1, &ending(1000, b'?'));
        let mut ends = behind::<Reads>(ELSEWHERE, PLENTY).await;
        ends.client_sends(&wrong).await;
        assert_eq!(ends.ended().await, Close::ClientViolation);
        let (got, _) = super::frames::to_end(&mut ends.server).await;
        assert!(got.len() < wrong.len(), "the server has all of it");
        // Without a guarding policy the violation is counted, and the message passes.
        let mut ends = behind::<Reads>("[]", PLENTY).await;
        ends.client_sends(&wrong).await;
        ends.server_receives(&wrong).await;
    });
}
