//! Replies come in the order of requests: a rejection keeps its turn.

use super::*;

/// Denies lines that begin with `deny`.
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
        Verdict::Admit(Ticket::new(Rc::new(Unrecorded), 0, None))
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
