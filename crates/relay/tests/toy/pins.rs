//! State that one of several services holds: what continues it goes there, and what no pin names
//! it is asked of one service after the other.

use super::*;
use operation::{PinChange, Placement, ResendReason, TakenUpstream};

/// As [`Lines`], but `open N` begins a state, `more N` continues it and `close N` ends it. A service that
/// does not hold it answers `unknown`. `read` may be answered `demoted` by a service that serves no reads.
struct PinnedLines {
    lines: Lines,
    last: String,
    upstream: TakenUpstream,
}

impl PinnedLines {
    /// What the last line does, and to which state.
    fn last(&self) -> (&str, Option<u64>) {
        let (verb, number) = self.last.split_once(' ').unwrap_or((&self.last, ""));
        (verb, number.parse().ok())
    }
}

impl Codec for PinnedLines {
    const PROTOCOL: Protocol = Protocol::plain("lines");

    type Shared = ();

    fn new(shared: &Arc<()>, link: ConnectionInfo) -> Self {
        let upstream = TakenUpstream { endpoint: link.peer, has_untried: false, may_resend: false };
        Self { lines: Lines::new(shared, link), last: String::new(), upstream }
    }

    fn request(&mut self, bytes: &[u8]) -> Result<Next<Request>, Violation> {
        if let Some(len) = line(bytes) {
            let text = String::from_utf8_lossy(&bytes[..len as usize]);
            self.last = text.trim_end().to_owned();
        }
        self.lines.request(bytes)
    }

    fn names<'b>(&'b self, front: &'b [u8]) -> OperationNames<'b> {
        self.lines.names(front)
    }

    fn reply(&mut self, bytes: &[u8]) -> Result<Next<Reply>, Violation> {
        let reason = match bytes {
            b"unknown\n" if self.upstream.has_untried => Some(ResendReason::NotHeld),
            b"demoted\n" if self.upstream.may_resend => Some(ResendReason::LostRole),
            _ => None,
        };
        if let Some(reason) = reason {
            return Ok(Next::Resend { len: bytes.len(), reason });
        }
        let mut next = self.lines.reply(bytes)?;
        if let Next::Pass { mark: Some(reply), .. } = &mut next {
            reply.pin = match self.last() {
                ("open" | "more", Some(number)) => Some(PinChange::Pin(number)),
                ("close", Some(number)) => Some(PinChange::Unpin(number)),
                _ => None,
            };
        }
        Ok(next)
    }

    fn reject(&mut self, tag: Tag, why: &RejectionRef<'_>, out: &mut BytesMut) -> bool {
        self.lines.reject(tag, why, out)
    }

    fn placement(&self) -> Placement {
        match self.last() {
            ("more" | "close", Some(number)) => Placement::Pinned(number),
            _ => Placement::Primary,
        }
    }

    fn keeps_request(&self) -> bool {
        true
    }

    fn upstream_taken(&mut self, upstream: TakenUpstream) {
        self.upstream = upstream;
    }
}

/// A service that knows the states that were opened at it.
struct Holder {
    address: SocketAddr,
    known: Rc<RefCell<BTreeSet<String>>>,
    asked: Rc<Cell<usize>>,
}

impl Holder {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let holder = Self { address, known: Rc::default(), asked: Rc::default() };
        let (known, asked) = (Rc::clone(&holder.known), Rc::clone(&holder.asked));
        spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                spawn_local(Self::serve(socket, Rc::clone(&known), Rc::clone(&asked)));
            }
        });
        holder
    }

    async fn serve(
        socket: TcpStream,
        known: Rc<RefCell<BTreeSet<String>>>,
        asked: Rc<Cell<usize>>,
    ) {
        let port = socket.local_addr().unwrap().port();
        let (mut socket, mut line) = (BufReader::new(socket), String::new());
        while socket.read_line(&mut line).await.is_ok_and(|n| n > 0) {
            asked.set(asked.get() + 1);
            let (verb, number) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
            if verb == "read" && known.borrow().contains("demoted") {
                socket.write_all(b"demoted\n").await.unwrap();
                line.clear();
                continue;
            }
            let knows = match verb {
                "read" => true,
                "open" => known.borrow_mut().insert(number.to_owned()),
                "close" => known.borrow_mut().remove(number),
                _ => known.borrow().contains(number),
            };
            let reply = if knows { format!("{port}\n") } else { "unknown\n".to_owned() };
            socket.write_all(reply.as_bytes()).await.unwrap();
            line.clear();
        }
    }
}

/// A client of a proxy before these services.
async fn client_of(holders: &[Holder]) -> BufReader<TcpStream> {
    let addresses: Vec<_> = holders.iter().map(|holder| holder.address).collect();
    connect_pooled::<PinnedLines>(plan_of(&addresses)).await
}

#[test]
fn what_continues_a_state_goes_where_it_began() {
    run(async {
        let holders = [Holder::start().await, Holder::start().await, Holder::start().await];
        let mut client = client_of(&holders).await;
        let mut places = BTreeSet::new();
        for number in 0..6 {
            let place = ask_on(&mut client, &format!("open {number}")).await;
            for _ in 0..4 {
                assert_eq!(ask_on(&mut client, &format!("more {number}")).await, place);
            }
            assert_eq!(ask_on(&mut client, &format!("close {number}")).await, place);
            places.insert(place);
        }
        assert_eq!(places.len(), 3, "the operations that begin are spread");
        let asked: usize = holders.iter().map(|holder| holder.asked.get()).sum();
        assert_eq!(asked, 6 * 6);
    });
}

#[test]
fn a_state_that_was_begun_elsewhere_is_looked_for_once() {
    run(async {
        let holders = [Holder::start().await, Holder::start().await, Holder::start().await];
        holders[2].known.borrow_mut().insert("7".to_owned());
        let mut client = client_of(&holders).await;
        for _ in 0..5 {
            let place = holders[2].address.port().to_string();
            assert_eq!(ask_on(&mut client, "more 7").await, place);
        }
        let asked: usize = holders.iter().map(|holder| holder.asked.get()).sum();
        assert!((5..=7).contains(&asked), "{asked}");
    });
}

#[test]
fn a_state_that_no_service_holds_is_unknown() {
    run(async {
        let holders = [Holder::start().await, Holder::start().await];
        let mut client = client_of(&holders).await;
        assert_eq!(ask_on(&mut client, "more 7").await, "unknown");
        assert!(holders.iter().all(|holder| holder.asked.get() == 1));
        let place = ask_on(&mut client, "open 8").await;
        assert_eq!(ask_on(&mut client, "more 8").await, place);
    });
}

#[test]
fn a_read_that_a_demoted_service_refuses_goes_to_another() {
    run(async {
        let holders = [Holder::start().await, Holder::start().await];
        holders[0].known.borrow_mut().insert("demoted".to_owned());
        let mut client = client_of(&holders).await;
        let place = holders[1].address.port().to_string();
        for _ in 0..4 {
            assert_eq!(ask_on(&mut client, "read").await, place);
        }
        assert!(holders[0].asked.get() > 0);
        holders[1].known.borrow_mut().insert("demoted".to_owned());
        let asked = || holders.iter().map(|holder| holder.asked.get()).sum::<usize>();
        let before = asked();
        assert_eq!(ask_on(&mut client, "read").await, "demoted");
        assert_eq!(asked() - before, 3, "it is sent three times at most");
    });
}

#[test]
fn a_request_that_can_not_be_sent_again_is_rejected_alone() {
    run(async {
        let gone = Holder::start().await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let holders = [Holder::start().await, Holder { address: closed, ..gone }];
        let mut client = client_of(&holders).await;
        let place = holders[0].address.port().to_string();
        for number in 0..4 {
            assert_eq!(ask_on(&mut client, "more 7").await, "no: no_endpoint");
            assert_eq!(ask_on(&mut client, &format!("open {number}")).await, place);
            assert_eq!(ask_on(&mut client, &format!("more {number}")).await, place);
        }
    });
}
