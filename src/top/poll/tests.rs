use super::*;
use tokio::net::TcpListener;

/// What comes of it if the admin interface answers so.
async fn answered(answer: &'static str) -> anyhow::Result<Vec<Series>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = AdminAddress::plain(listener.local_addr().unwrap().to_string());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        assert!(request.starts_with(b"GET /operations HTTP/1.1\r\n"));
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    tokio::join!(operations(&admin), serve).0
}

#[tokio::test]
async fn a_list_with_unknown_fields_is_read() {
    let found = answered(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n\
         [{\"operation\":\"find\",\"resource\":\"a.b\",\"count\":3,\"p50_ms\":null,\"new\":[1]}]",
    );
    let found = found.await.unwrap();
    assert_eq!((found[0].operation.as_str(), found[0].count), ("find", 3));
    assert_eq!(found[0].p50_ms, None);
}

#[tokio::test]
async fn a_chunked_list_is_read() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(head.len() > 4);
    let found = answered(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1;x=y\r\n]\r\n0\r\n\r\n",
    );
    assert!(found.await.unwrap().is_empty());
}

#[tokio::test]
async fn anything_else_is_a_problem_that_says_so() {
    for (answer, problem) in [
        ("", "not HTTP"),
        ("HTTP/1.1 503 Busy\r\n\r\n", "503"),
        ("HTTP/1.1 200 OK\r\n\r\n{}", "no list of operations"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n[", "cut short"),
    ] {
        let error = answered(answer).await.unwrap_err();
        assert!(format!("{error:#}").contains(problem), "{answer:?}: {error:#}");
    }
}
