//! Replies come in the order of requests: a rejection keeps its turn, and messages that answer no request
//! come between replies.

use super::*;
use operation::{ClosePoint, Effects, InjectedClose, ReplyTimeout};

/// Denies lines that begin with `deny`, limits the time for `soon`, and cuts the reply to `cut` after three
/// bytes.
#[derive(Default)]
struct WordGate {
    denied: Rc<Cell<usize>>,
}

/// Nothing is recorded.
struct Unrecorded;

impl SettleSink for Unrecorded {
    fn settle(&self, _: u32, _: &Settlement<'_>) {}

    fn abandon(&self, _: u32) {}
}

impl Gate for WordGate {
    fn admit(&self, operation: &Operation<'_>, _: Instant) -> Verdict {
        if operation.name.starts_with("deny") {
            self.denied.set(self.denied.get() + 1);
            return Verdict::Reject(Rejection::new(RejectReason::Denied, "no"));
        }
        let timeout = ReplyTimeout {
            after: Duration::from_millis(30),
            message: "too late".into(),
            policy: "soon".into(),
        };
        let cut = InjectedClose { at: ClosePoint::AfterReplyBytes(3), reset: false };
        let effects = match operation.name {
            "soon" => Some(Effects { reply_timeout: Some(timeout), ..Effects::default() }),
            "cut" => Some(Effects { injected_close: Some(cut), ..Effects::default() }),
            _ => None,
        };
        Verdict::Admit(Ticket::new(Rc::new(Unrecorded), 0, effects.map(Rc::new)))
    }

    fn resume(&self, _: Ticket, _: Decision, _: &Operation<'_>, _: Instant) -> Verdict {
        unreachable!("no verdict is pending")
    }

    fn record_rejected(&self, _: &Operation<'_>, _: Instant, _: &Settlement<'_>) {}
}

/// A client of a proxy with this gate, before this service.
async fn client<C: Codec<Shared = ()>>(
    service: SocketAddr,
    gate: WordGate,
) -> BufReader<TcpStream> {
    let at = EndpointPlan::new(Target::Host(service.ip().to_string(), service.port()));
    let plan = ClusterPlan::new("lines", vec![at]);
    let cluster = Cluster::new(Arc::new(plan), &Metrics::new());
    let address = listen::<C>(&cluster, Rc::new(gate)).await;
    BufReader::new(TcpStream::connect(address).await.unwrap())
}

/// All that the client receives until the connection ends, or until it has received `lines` lines.
async fn read(client: &mut BufReader<TcpStream>, lines: usize) -> String {
    let mut text = String::new();
    for _ in 0..lines {
        let line = tokio::time::timeout(Duration::from_secs(30), client.read_line(&mut text));
        line.await.expect("the line comes in time").unwrap();
    }
    text
}

#[test]
fn a_rejection_keeps_its_turn_between_two_replies() {
    run(async {
        let (service, answer) = server().await;
        let gate = WordGate::default();
        let denied = Rc::clone(&gate.denied);
        let mut client = client::<Lines>(service, gate).await;
        answer.set(None);
        client.write_all(b"one\ndeny\ntwo\n").await.unwrap();
        until("the second line is rejected", || denied.get() == 1).await;
        answer.set(Some("fine\n"));
        assert_eq!(read(&mut client, 3).await, "fine\nno: denied\nfine\n");
    });
}

#[test]
fn a_push_does_not_end_the_time_limit_of_a_request() {
    run(async {
        let (service, answer) = server().await;
        answer.set(Some("push: news\n"));
        let mut client = client::<Lines>(service, WordGate::default()).await;
        client.write_all(b"soon\n").await.unwrap();
        // Without a reply in time the connection ends.
        assert_eq!(read(&mut client, 2).await, "push: news\n");
    });
}

#[test]
fn a_push_does_not_count_as_a_part_of_a_cut_reply() {
    run(async {
        let (service, answer) = server().await;
        answer.set(Some("push: news\nfine\n"));
        let mut client = client::<Lines>(service, WordGate::default()).await;
        client.write_all(b"cut\n").await.unwrap();
        assert_eq!(read(&mut client, 3).await, "push: news\nfin");
    });
}

#[test]
fn a_push_answers_no_request() {
    run(async {
        let (service, answer) = server().await;
        answer.set(Some("push: one\nfine\npush: two\n"));
        let mut client = client::<Lines>(service, WordGate::default()).await;
        client.write_all(b"one\ntwo\n").await.unwrap();
        let each = "push: one\nfine\npush: two\n";
        assert_eq!(read(&mut client, 6).await, [each, each].concat());
    });
}
