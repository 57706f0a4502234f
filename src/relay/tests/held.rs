//! Requests of which a policy needs more than their front, in a protocol of which only the last byte
//! tells what matters.

use super::{
    frames::{Ends, frame, relayed_at, run},
    parts_behind, plan,
};
use crate::{
    cluster::Cluster,
    config::{self, plan::ListenerPlan},
    gate::Gate,
    listener::Local,
    policy::{Live, PolicyEnv},
    protocols::Protocol,
    series::CardinalityLimit,
};
use bytes::BytesMut;
use operation::{
    Close, Codec, Fact, Link, Named, Next, Outcome, Refusal, Reply, Request, Tag, Violation,
};
use std::{rc::Rc, sync::Arc};
use tokio::net::TcpListener;
use tollgate_metrics::Metrics;

/// How many bytes of a message are read before it goes on.
const FRONT: usize = 16;

/// Numbered messages as those of `frames`. The last byte is the `comment`; a `?` there breaks a
/// rule. `READS_ON` is whether the codec can read more than the front.
#[derive(Default)]
struct Late<const READS_ON: bool> {
    /// How much of the request marked last was read.
    seen: usize,
    rereads: bool,
    /// What is still to come of a request that has gone on.
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

    fn new(_: &Arc<()>, _: Link) -> Self {
        Self::default()
    }

    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        if self.left > 0 {
            if bytes.len() < self.left {
                return Ok(Next::Hold(self.left));
            }
            if bytes[self.left - 1] == b'?' && !std::mem::replace(&mut self.told, true) {
                return Ok(Next::Breaks(WRONG));
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
        let mark = Request { tag, partial, callsite: true, violation, ..Request::default() };
        self.left = len - read;
        Ok(Next::Pass { len: read as u64, mark: Some(mark), ends: !partial })
    }

    fn named<'b>(&'b self, _: &'b [u8]) -> Named<'b> {
        Named { name: "frame", resource: "" }
    }

    fn attribute<'b>(&'b self, front: &'b [u8], name: &str) -> Fact<'b> {
        match head(front) {
            Some((_, len)) if name == "comment" && len <= self.seen => {
                std::str::from_utf8(&front[len - 1..len]).ok().into()
            }
            _ if name == "comment" => Fact::Unread,
            _ => Fact::Absent,
        }
    }

    fn reread(&mut self, _: Option<Tag>, front: &[u8]) -> usize {
        (self.rereads, self.left) = (READS_ON, 0);
        let len = head(front).map_or(0, |(_, len)| len);
        if READS_ON { len.min(self.seen * 2) } else { self.seen }
    }

    fn reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation> {
        let Some((number, len)) = head(bytes) else { return Ok(Next::Hold(8)) };
        let reply = Reply {
            tag: Tag(number.into()),
            outcome: Outcome::Ok,
            code: None,
            items: 0,
            confirms: false,
            greeting: false,
            violation: None,
        };
        Ok(Next::whole(len as u64, reply))
    }

    fn refuse(&mut self, tag: Tag, why: &Refusal<'_>, out: &mut BytesMut) -> bool {
        out.extend_from_slice(&frame(tag.0 as u32, why.reason.as_str().as_bytes()));
        true
    }
}

/// A gate with these policies. They are those of a protocol that has comments.
fn gate(policies: &str) -> Gate {
    let text = format!(
        "listeners: {{ l: {{ address: \":0\", protocol: mongo, cluster: c }} }}\n\
         clusters: {{ c: {{ endpoints: [\"d:1\"] }} }}\npolicies: {policies}\n"
    );
    let plan = Arc::new(config::parse("test", &text).unwrap_or_else(|it| panic!("{it}")));
    let metrics = Metrics::new();
    let census = || Arc::new(CardinalityLimit::new(10, metrics::Counter::noop()));
    let from = PolicyEnv {
        metrics: metrics.clone(),
        listener: "l".into(),
        protocol: plan.listeners[0].protocol.describe(),
        cluster: Some(Cluster::new(Arc::clone(&plan.clusters[0]), &metrics)),
        callsites: census(),
        lines: None,
        plan: Arc::clone(&plan),
    };
    let live = Live::new(plan.policies.clone());
    Gate::live(live, from, census(), metrics::Gauge::noop())
}

/// A listener with these policies that may hold so many bytes, and the server that it leads to.
async fn listener(policies: &str, max_held_bytes: usize) -> (TcpListener, Rc<Local>) {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plan = ListenerPlan { max_held_bytes, ..plan(Protocol::Tcp(Arc::new(()))) };
    let address = upstream.local_addr().unwrap();
    let (_, _, local) = parts_behind(plan, address, gate(policies), 1);
    (upstream, local)
}

/// A connection on a listener of its own.
async fn behind<C: Codec<Shared = ()>>(policies: &str, max_held_bytes: usize) -> Ends {
    let (upstream, local) = listener(policies, max_held_bytes).await;
    relayed_at::<C>(&upstream, local).await
}

type Reads = Late<true>;

const DENIES: &str = "[{ name: it, match: { comment: x }, deny: {} }]";
const ELSEWHERE: &str = "[{ name: it, match: { operation: drop }, deny: {} }]";
const PLENTY: usize = 1 << 20;

/// A payload of so many bytes with this one at its end.
fn ending(len: usize, last: u8) -> Vec<u8> {
    let mut payload = vec![b'.'; len];
    payload[len - 1] = last;
    payload
}

#[test]
fn a_request_is_held_until_the_byte_that_a_policy_needs() {
    run(async {
        let mut ends = behind::<Reads>(DENIES, PLENTY).await;
        let denied = frame(1, &ending(100_000, b'x'));
        for piece in [&denied[..9], &denied[9..50], &denied[50..99_999], &denied[99_999..]] {
            ends.ask(piece).await;
        }
        ends.told(1, b"denied").await;
        // The server hears nothing of it.
        let other = frame(2, &ending(100_000, b'y'));
        ends.ask(&other).await;
        ends.heard(&other).await;
        ends.answer(&frame(2, b"yes")).await;
        ends.told(2, b"yes").await;
    });
}

#[test]
fn where_no_more_can_be_held_policies_decide_by_what_is_known() {
    run(async {
        let mut ends = behind::<Reads>(DENIES, 150_000).await;
        let long = frame(1, &ending(300_000, b'y'));
        let (front, rest) = long.split_at(250_000);
        ends.ask(front).await;
        ends.told(1, b"denied").await;
        // The rest of what is refused is dropped.
        ends.ask(rest).await;
        let short = frame(2, &ending(10, b'y'));
        ends.ask(&short).await;
        ends.heard(&short).await;
    });
}

#[test]
fn what_a_request_held_is_given_back_when_it_has_gone() {
    run(async {
        // There is room for one of them at a time.
        let (upstream, local) = listener(DENIES, 250_000).await;
        let mut first = relayed_at::<Reads>(&upstream, Rc::clone(&local)).await;
        let mut second = relayed_at::<Reads>(&upstream, local).await;
        for number in 1..4 {
            for ends in [&mut first, &mut second] {
                let long = frame(number, &ending(200_000, b'y'));
                ends.ask(&long).await;
                ends.heard(&long).await;
                ends.answer(&frame(number, b"yes")).await;
                ends.told(number, b"yes").await;
            }
        }
    });
}

#[test]
fn a_codec_that_reads_no_further_is_not_waited_for() {
    run(async {
        let mut ends = behind::<Late<false>>(DENIES, PLENTY).await;
        ends.ask(&frame(1, &ending(1000, b'y'))[..500]).await;
        ends.told(1, b"denied").await;
    });
}

#[test]
fn a_held_request_that_breaks_a_rule_is_refused_and_the_next_one_goes_on() {
    run(async {
        let mut ends = behind::<Reads>(DENIES, PLENTY).await;
        let wrong = frame(1, &ending(1000, b'?'));
        ends.ask(&wrong[..500]).await;
        ends.ask(&wrong[500..]).await;
        ends.told(1, b"denied").await;
        let short = frame(2, b"y");
        ends.ask(&short).await;
        ends.heard(&short).await;
    });
}

#[test]
fn a_request_that_breaks_a_rule_behind_its_front_never_ends_where_a_policy_guards() {
    run(async {
        let wrong = frame(1, &ending(1000, b'?'));
        let mut ends = behind::<Reads>(ELSEWHERE, PLENTY).await;
        ends.ask(&wrong).await;
        assert_eq!(ends.ended().await, Close::ClientViolation);
        let (got, _) = super::frames::to_end(&mut ends.server).await;
        assert!(got.len() < wrong.len(), "the server has all of it");
        // Where nothing guards it is counted, and passes.
        let mut ends = behind::<Reads>("[]", PLENTY).await;
        ends.ask(&wrong).await;
        ends.heard(&wrong).await;
    });
}
