//! Replies come in the order of requests: a rejection keeps its turn, and messages that answer no request
//! come between replies. A transaction does not commit without a request that was rejected.

use super::*;
use bytes::Bytes;
use operation::{ClosePoint, Effects, InjectedClose, PendingOperation, ReplyTimeout};
use std::collections::BTreeMap;

/// Denies lines that begin with `deny`, the one `deny later` by a pending verdict, limits the time for `soon`,
/// and cuts the reply to `cut` after three bytes.
#[derive(Default)]
pub(super) struct WordGate {
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
        let ticket = |effects| Ticket::new(Rc::new(Unrecorded), 0, effects);
        if operation.name.starts_with("deny") {
            self.denied.set(self.denied.get() + 1);
            let no = Rejection::new(RejectReason::Denied, "no");
            if operation.name != "deny later" {
                return Verdict::Reject(no);
            }
            let decision = Box::pin(std::future::ready(Decision::Reject(no)));
            return Verdict::Pending(PendingOperation { ticket: ticket(None), decision });
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
        Verdict::Admit(ticket(effects.map(Rc::new)))
    }

    fn resume(&self, _: Ticket, decision: Decision, _: &Operation<'_>, _: Instant) -> Verdict {
        let Decision::Reject(no) = decision else { unreachable!("only rejections are pending") };
        Verdict::Reject(no)
    }

    fn record_rejected(&self, _: &Operation<'_>, _: Instant, _: &Settlement<'_>) {}
}

/// As [`Lines`], with transactions: from `begin` to `commit` a rejected line is replaced by one that fails.
struct Transactions {
    lines: Lines,
    is_open: bool,
    /// The rejections of replaced requests, by tag: the client gets them instead of the service's replies.
    rejections: BTreeMap<u64, Bytes>,
}

impl Codec for Transactions {
    const PROTOCOL: Protocol = Protocol::plain("transactions");

    type Shared = ();

    fn new(shared: &Arc<()>, link: ConnectionInfo) -> Self {
        let lines = Lines::new(shared, link);
        Self { lines, is_open: false, rejections: BTreeMap::new() }
    }

    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        self.is_open |= bytes.starts_with(b"begin\n");
        self.is_open &= !bytes.starts_with(b"commit\n");
        self.lines.request(bytes)
    }

    fn names<'b>(&'b self, front: &'b [u8]) -> OperationNames<'b> {
        self.lines.names(front)
    }

    fn reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation> {
        let next = self.lines.reply(bytes)?;
        let Next::Pass { len, mark: Some(reply), .. } = next else { return Ok(next) };
        let Some(with) = self.rejections.remove(&reply.tag.0) else { return Ok(next) };
        let reply = Reply { outcome: Outcome::Rejected, ..reply };
        Ok(Next::Swap { len: len as usize, with, mark: Some(reply) })
    }

    fn replace_rejected(&mut self, Tag(line): Tag, why: &RejectionRef<'_>) -> Option<Bytes> {
        let error = format!("no: {}\n", why.reason);
        self.is_open.then(|| self.rejections.insert(line, error.into()))?;
        Some(Bytes::from("fail\n"))
    }

    fn reject(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        self.lines.reject(tag, why, out)
    }
}

/// A service with transactions, and the lines that it has received. `fail` spoils its transaction.
async fn transactional_service() -> (SocketAddr, Rc<RefCell<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let received = Rc::new(RefCell::new(String::new()));
    let lines = Rc::clone(&received);
    spawn_local(async move {
        let mut socket = BufReader::new(listener.accept().await.unwrap().0);
        let (mut line, mut failed) = (String::new(), false);
        while socket.read_line(&mut line).await.is_ok_and(|n| n > 0) {
            lines.borrow_mut().push_str(&line);
            let answer = match (line.as_str(), failed) {
                ("fail\n", _) => "failed\n",
                ("commit\n", true) => "rolled back\n",
                ("commit\n", false) => "committed\n",
                (_, true) => "aborted\n",
                (_, false) => "done\n",
            };
            failed = (failed || line == "fail\n") && line != "commit\n";
            socket.write_all(answer.as_bytes()).await.unwrap();
            line.clear();
        }
    });
    (address, received)
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

/// Reads until the connection ends, which it has to with a reset.
pub(super) async fn read_to_reset(client: &mut BufReader<TcpStream>) {
    let mut text = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(30), client.read_to_end(&mut text));
    let error = end.await.expect("the connection ends in time").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_time_limit_within_a_push_resets_the_connection() {
    run(async {
        let (service, answer) = server().await;
        answer.set(Some("push: half of the ne"));
        let mut client = client::<Lines>(service, WordGate::default()).await;
        client.write_all(b"soon\n").await.unwrap();
        read_to_reset(&mut client).await;
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

#[test]
fn a_transaction_does_not_commit_without_a_rejected_request() {
    run(async {
        let (service, received) = transactional_service().await;
        let mut client = client::<Transactions>(service, WordGate::default()).await;
        client.write_all(b"begin\none\ndeny it\ntwo\ncommit\ndeny\nthree\n").await.unwrap();
        let replies = "done\ndone\nno: denied\naborted\nrolled back\nno: denied\ndone\n";
        assert_eq!(read(&mut client, 7).await, replies);
        // Outside a transaction the service does not see the rejection.
        assert_eq!(*received.borrow(), "begin\none\nfail\ntwo\ncommit\nthree\n");
    });
}

#[test]
fn a_pending_verdict_fails_a_transaction_too() {
    run(async {
        let (service, received) = transactional_service().await;
        let mut client = client::<Transactions>(service, WordGate::default()).await;
        client.write_all(b"begin\ndeny later\ndeny\ncommit\n").await.unwrap();
        let replies = "done\nno: denied\nno: denied\nrolled back\n";
        assert_eq!(read(&mut client, 4).await, replies);
        assert_eq!(*received.borrow(), "begin\nfail\nfail\ncommit\n");
    });
}
