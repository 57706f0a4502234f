use super::*;
use bson::doc;
use std::net::SocketAddr;

/// A client of a server of its own.
struct Client {
    stream: TcpStream,
    id: i32,
}

async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(serve(listener));
    address
}

impl Client {
    async fn new() -> Self {
        Self::of(server().await).await
    }

    async fn of(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), id: 0 }
    }

    async fn send(&mut self, change: impl FnOnce(&mut WireMessage), body: Document) -> i32 {
        self.id += 1;
        let mut message = WireMessage::new(self.id, 0, body);
        change(&mut message);
        self.stream.write_all(&message.to_bytes().unwrap()).await.unwrap();
        self.id
    }

    async fn receive(&mut self) -> Option<WireMessage> {
        wire::read(&mut self.stream).await.ok().flatten()
    }

    async fn ask(&mut self, mut body: Document) -> Document {
        body.entry("$db").or_insert("shop".into());
        let id = self.send(|_| {}, body).await;
        let reply = self.receive().await.unwrap();
        assert_eq!(reply.reply_to, id);
        reply.body
    }
}

#[tokio::test(flavor = "local")]
async fn a_handshake_is_answered_in_the_opcode_it_came_in() {
    let mut client = Client::new().await;
    for (name, shape, answer, field) in [
        ("hello", Shape::Msg, Shape::Msg, "isWritablePrimary"),
        ("ismaster", Shape::Msg, Shape::Msg, "ismaster"),
        ("isMaster", Shape::Query, Shape::Reply, "ismaster"),
    ] {
        let mut body = doc! { name: true };
        if shape == Shape::Msg {
            body.insert("$db", "admin");
        }
        let id = client.send(|message| message.shape = shape, body).await;
        let reply = client.receive().await.unwrap();
        assert_eq!((reply.reply_to, reply.shape), (id, answer), "{name}");
        assert!(reply.body.get_bool(field).unwrap());
        assert!(reply.body.get_bool("tollgateDemo").unwrap());
        assert!(!reply.body.contains_key("setName"));
    }
}

#[tokio::test(flavor = "local")]
async fn other_commands_are_not_for_op_query() {
    let mut client = Client::new().await;
    client.send(|message| message.shape = Shape::Query, doc! { "ping": 1 }).await;
    let reply = client.receive().await.unwrap();
    assert_eq!(reply.shape, Shape::Reply);
    assert_eq!(reply.body.get_i32("code").unwrap(), 352);
}

#[tokio::test(flavor = "local")]
async fn a_write_that_wants_no_reply_gets_none_and_is_done() {
    let mut client = Client::new().await;
    let insert = doc! { "insert": "orders", "documents": [{ "_id": 1 }], "$db": "shop" };
    client.send(|message| message.more_to_come = true, insert).await;
    let reply = client.ask(doc! { "count": "orders" }).await;
    assert_eq!(reply.get_i32("n").unwrap(), 1);
}

#[tokio::test(flavor = "local")]
async fn everyone_sees_the_same_documents() {
    let address = server().await;
    let (mut one, mut other) = (Client::of(address).await, Client::of(address).await);
    one.ask(doc! { "insert": "orders", "documents": [{ "_id": 1 }] }).await;
    let reply = other.ask(doc! { "find": "orders" }).await;
    let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    assert_eq!(*batch, [doc! { "_id": 1 }.into()]);
}

#[tokio::test(flavor = "local")]
async fn only_a_hello_with_the_current_version_waits() {
    let mut client = Client::new().await;
    let known =
        client.ask(doc! { "hello": 1 }).await.get_document("topologyVersion").unwrap().clone();
    let before = tokio::time::Instant::now();
    let wait = 40;
    client.ask(doc! { "hello": 1, "topologyVersion": known, "maxAwaitTimeMS": wait }).await;
    assert!(before.elapsed() >= Duration::from_millis(wait as u64));
    let other = doc! { "processId": bson::oid::ObjectId::new(), "counter": 0i64 };
    let at_once =
        client.ask(doc! { "hello": 1, "topologyVersion": other, "maxAwaitTimeMS": 60_000 });
    let reply = tokio::time::timeout(Duration::from_secs(10), at_once).await.unwrap();
    assert_eq!(reply.get_f64("ok").unwrap(), 1.0);
}

#[tokio::test(flavor = "local")]
async fn an_exhaust_hello_streams_replies_that_answer_one_another() {
    let mut client = Client::new().await;
    let known = diagnostic::topology_version();
    let hello = doc! { "hello": 1, "topologyVersion": known, "maxAwaitTimeMS": 10, "$db": "admin" };
    let mut expected = client.send(|message| message.exhaust_allowed = true, hello).await;
    for _ in 0..3 {
        let reply = client.receive().await.unwrap();
        assert!(reply.more_to_come);
        assert_eq!(reply.reply_to, expected);
        expected = reply.id;
    }
}

#[tokio::test(flavor = "local")]
async fn a_slow_query_is_cut_off_at_its_max_time() {
    let mut client = Client::new().await;
    let slow = |millis: i32| {
        doc! { "find": "orders", "filter": { "$where": "sleep(30) || true" }, "maxTimeMS": millis }
    };
    assert_eq!(client.ask(slow(5)).await.get_i32("code").unwrap(), 50);
    let before = tokio::time::Instant::now();
    assert_eq!(client.ask(slow(0)).await.get_f64("ok").unwrap(), 1.0);
    assert!(before.elapsed() >= Duration::from_millis(30));
}

#[tokio::test(flavor = "local")]
async fn nonsense_closes_its_connection_and_no_other() {
    let address = server().await;
    let mut fine = Client::of(address).await;
    let mut broken = Client::of(address).await;
    broken.stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(broken.receive().await.is_none());
    assert_eq!(fine.ask(doc! { "ping": 1 }).await, doc! { "ok": 1.0 });
}
