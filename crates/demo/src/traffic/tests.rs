use super::*;
use crate::{
    commands::{self, Request},
    server,
    store::Store,
};
use std::collections::BTreeSet;
use tokio::net::TcpListener;

fn rolled(next: fn(&mut Xorshift) -> Document) -> Vec<Document> {
    let mut rng = Xorshift(1);
    (0..1000).map(|_| next(&mut rng)).collect()
}

#[test]
fn every_operation_is_one_that_the_server_knows() {
    let mut store = Store::default();
    let mut names = BTreeSet::new();
    let mut duplicates = 0;
    for command in APPS.iter().flat_map(|app| rolled(app.next)) {
        let reply = commands::run(&mut store, Request::new(&command, 1).unwrap());
        let reply = reply.unwrap_or_else(|failure| panic!("{command}: {failure:?}"));
        names.insert(command.keys().next().unwrap().clone());
        duplicates += usize::from(reply.contains_key("writeErrors"));
    }
    let expected =
        ["aggregate", "count", "delete", "distinct", "find", "findAndModify", "insert", "update"];
    assert!(names.iter().eq(expected), "{names:?}");
    assert!(duplicates > 10, "{duplicates}");
}

#[test]
fn every_operation_names_its_calling_function() {
    for command in APPS.iter().flat_map(|app| rolled(app.next)) {
        let comment = command.get_str("comment").unwrap();
        let comment: serde_json::Value = serde_json::from_str(comment).unwrap();
        assert!(comment["callingFunction"].is_string(), "{command}");
    }
}

#[tokio::test(flavor = "local")]
async fn cursors_are_read_to_their_end_or_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(server::serve(listener));
    let mut client = Client::connect(address, "reports").await.unwrap();
    let documents: Vec<Document> = (0..300).map(|id| doc! { "_id": id }).collect();
    client.ask(doc! { "insert": "orders", "documents": documents, "$db": "shop" }).await.unwrap();
    let mut rng = Xorshift(7);
    for _ in 0..20 {
        let find = doc! { "find": "orders", "batchSize": 50, "$db": "shop" };
        client.operate(find, &mut rng).await.unwrap();
    }
    let status = client.ask(doc! { "serverStatus": 1, "$db": "admin" }).await.unwrap();
    let cursors = status.get_document("metrics").unwrap().get_document("cursor").unwrap();
    assert_eq!(cursors.get_document("open").unwrap().get_i64("total").unwrap(), 0);
}

#[tokio::test(flavor = "local")]
async fn traffic_sends_its_name_and_runs_until_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let until = CancellationToken::new();
    let traffic = tokio::task::spawn_local(run(listener.local_addr().unwrap(), until.clone()));
    let mut apps = BTreeSet::new();
    let mut streams = Vec::new();
    while apps.len() < APPS.len() {
        let (mut stream, _) = listener.accept().await.unwrap();
        let hello = wire::read(&mut stream).await.unwrap().unwrap().body;
        let client = hello.get_document("client").unwrap();
        let name = client.get_document("application").unwrap().get_str("name").unwrap();
        apps.insert(name.to_owned());
        streams.push(stream);
    }
    until.cancel();
    traffic.await.unwrap();
}
