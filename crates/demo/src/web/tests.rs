use super::*;

/// What the shop says to many requests of a kind.
fn said(next: fn(&mut Xorshift) -> (Method, String)) -> Vec<(StatusCode, Duration)> {
    let mut rng = Xorshift(5);
    let mut answers = Vec::new();
    for _ in 0..2000 {
        let (method, target) = next(&mut rng);
        let path = target.split('?').next().unwrap();
        let (status, takes, _) = decide(&method, path, &mut rng);
        answers.push((status, takes));
    }
    answers
}

fn share(answers: &[(StatusCode, Duration)], status: StatusCode) -> f64 {
    answers.iter().filter(|(it, _)| *it == status).count() as f64 / answers.len() as f64
}

#[test]
fn carts_always_work_and_what_is_not_sold_is_not_found() {
    let carts = said(buy);
    assert_eq!(share(&carts, StatusCode::OK) + share(&carts, StatusCode::CREATED), 1.0);
    let browsed = said(browse);
    let (lost, broken) = (
        share(&browsed, StatusCode::NOT_FOUND),
        share(&browsed, StatusCode::INTERNAL_SERVER_ERROR),
    );
    assert!((0.02..0.12).contains(&lost), "{lost}");
    assert!((0.0005..0.01).contains(&broken), "{broken}");
    assert_eq!(share(&said(crawl), StatusCode::NOT_FOUND), 1.0);
}

#[test]
fn a_shop_that_is_ill_now_and_then_is_well_in_between() {
    let ill = |health: Health, seconds| health.is_ill(Duration::from_secs(seconds));
    for seconds in [6, 11, 46, 51] {
        assert!(ill(Health::IllNowAndThen, seconds), "{seconds}");
    }
    for seconds in [0, 5, 12, 39, 45, 52] {
        assert!(!ill(Health::IllNowAndThen, seconds), "{seconds}");
    }
    assert!(!ill(Health::Well, 6));
}

#[test]
fn answers_take_their_time_and_not_the_same() {
    let takes = said(browse).into_iter().map(|(_, takes)| takes);
    let (least, most) = (takes.clone().min().unwrap(), takes.max().unwrap());
    assert!(least >= Duration::from_millis(1) && most < Duration::from_millis(60));
    assert!(most > least * 10, "{least:?} {most:?}");
}

#[tokio::test(flavor = "local")]
async fn the_shop_serves_several_requests_on_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(serve(listener, Health::Well));
    let stream = TokioIo::new(traffic::connect(address).await.unwrap());
    let (mut requests, connection) = client::conn::http1::handshake(stream).await.unwrap();
    tokio::task::spawn_local(connection);
    for (path, status) in [("/cart/7", 200), ("/products/7", 200), ("/products/281", 404)] {
        requests.ready().await.unwrap();
        let request =
            Request::builder().uri(path).header(HOST, "shop").body(Full::<Bytes>::default());
        let answer = requests.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&body).unwrap();
    }
}

#[tokio::test(flavor = "local")]
async fn visitors_send_their_name_and_run_until_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let until = CancellationToken::new();
    let traffic = tokio::task::spawn_local(run(listener.local_addr().unwrap(), until.clone()));
    let agents = Rc::new(RefCell::new(std::collections::BTreeSet::new()));
    let enough = CancellationToken::new();
    let shop = accept::each(listener, |stream| {
        let (agents, enough) = (agents.clone(), enough.clone());
        async move {
            let service = service_fn(async |request: Request<hyper::body::Incoming>| {
                agents.borrow_mut().insert(request.headers()[USER_AGENT].clone());
                if agents.borrow().len() == VISITORS.len() {
                    enough.cancel();
                }
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            });
            let builder = server::conn::http1::Builder::new();
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    enough.run_until_cancelled(shop).await;
    until.cancel();
    traffic.await.unwrap();
}
