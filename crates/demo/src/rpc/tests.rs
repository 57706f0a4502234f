use super::*;

fn asked(product: u32) -> Bytes {
    framed(0, &Price { product, cents: 0 }.encode_to_vec())
}

#[test]
fn an_unknown_item_is_not_found_and_a_bad_request_is_rejected() {
    let code = |path, body: &[u8]| match decide(path, body, &mut Xorshift(1)).1 {
        Ok(_) => Code::Ok,
        Err(status) => status.code,
    };
    for method in [QUOTE, DISCOUNT] {
        assert_eq!(code(method, &asked(279)), Code::Ok);
        assert_eq!(code(method, &asked(280)), Code::NotFound);
        assert_eq!(code(method, b""), Code::InvalidArgument);
        assert_eq!(code(method, b"\0\0\0\0\x09short"), Code::InvalidArgument);
        assert_eq!(code(method, &framed(0, b"\xff\xff")), Code::InvalidArgument);
    }
    assert_eq!(code("/shop.Prices/Haggle", &asked(1)), Code::Unimplemented);
}

#[test]
fn discounts_take_longer_than_prices() {
    let mut rng = Xorshift(1);
    let mut takes = |method| decide(method, &asked(1), &mut rng).0;
    for _ in 0..100 {
        assert!(takes(QUOTE) < takes(DISCOUNT));
    }
}

#[tokio::test(flavor = "local")]
async fn a_call_gets_a_message_and_a_status_in_trailers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(serve(listener));
    let stream = TokioIo::new(traffic::connect(address).await.unwrap());
    let (mut calls, connection) = client::conn::http2::handshake(Here, stream).await.unwrap();
    tokio::task::spawn_local(connection);
    for (product, code) in [(7, Code::Ok), (280, Code::NotFound)] {
        let request =
            Request::post(format!("http://prices{QUOTE}")).body(Full::new(asked(product)));
        let answer = calls.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/grpc");
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(Status::of(body.trailers().unwrap()).unwrap().code, code);
        let price = read(&body.to_bytes());
        assert_eq!(price, (code == Code::Ok).then_some(Price { product, cents: 149 }));
    }
}

#[tokio::test(flavor = "local")]
async fn callers_call_every_method_until_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let until = CancellationToken::new();
    let traffic = tokio::task::spawn_local(run(listener.local_addr().unwrap(), until.clone()));
    let called = Rc::new(RefCell::new(std::collections::BTreeSet::new()));
    let enough = CancellationToken::new();
    let prices = accept::each(listener, |stream| {
        let (called, enough) = (called.clone(), enough.clone());
        async move {
            let service = service_fn(move |request: Request<Incoming>| {
                called.borrow_mut().insert(request.uri().path().to_owned());
                if called.borrow().len() == 2 {
                    enough.cancel();
                }
                answer(request, Rc::new(RefCell::new(Xorshift(1))))
            });
            let builder = server::conn::http2::Builder::new(Here);
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    enough.run_until_cancelled(prices).await;
    assert!(called.borrow().iter().eq([DISCOUNT, QUOTE]), "{called:?}");
    until.cancel();
    traffic.await.unwrap();
}
