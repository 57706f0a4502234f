//! Connections of users, and questions to the service.

use super::*;

/// A user, with the options that take a connection of this user.
fn of_user(name: &str, login: u64) -> TakeOptions {
    let user = Some(PoolUser { name: name.into(), login });
    TakeOptions { identity: Identity { user, application: None }, ..TakeOptions::default() }
}

/// Answers the handshakes of connections with these words, in turn.
fn answer_handshakes(service: Service, answers: &'static [&'static str]) {
    thread::spawn(move || {
        for answer in answers {
            let mut socket = service.accept();
            thread::spawn(move || {
                let mut word = [0; 6];
                while socket.read_exact(&mut word).is_ok() {
                    socket.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn users_share_no_connection() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(2));
        answer_handshakes(service, &["welcome"; 3]);
        std::mem::forget(pool.join(Arc::new(Password("sesame"))));
        let take = |name, login| Rc::clone(&pool).take(of_user(name, login), None);
        let first = take("ann", 1).await.unwrap();
        let of_ann = name(&first);
        first.give_back();
        let of_bob = take("bob", 1).await.unwrap();
        assert_ne!(name(&of_bob), of_ann);
        assert_ne!(name(&take("ann", 2).await.unwrap()), of_ann, "with other credentials");
        assert_eq!(name(&take("ann", 1).await.unwrap()), of_ann);
    });
}

#[test]
fn a_refused_user_does_not_blame_the_endpoint() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(2));
        answer_handshakes(service, &["begone"]);
        std::mem::forget(pool.join(Arc::new(Password("sesame"))));
        let error = Rc::clone(&pool).take(of_user("ann", 1), None).await.unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains("the user has left"), "{error}");
        assert!(pool.cluster().endpoints()[0].usable());
    });
}

#[test]
fn a_question_is_asked_on_a_connection_of_its_user() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(1));
        answer_handshakes(service, &["welcome"]);
        std::mem::forget(pool.join(Arc::new(Password("sesame"))));
        let identity = of_user("ann", 1).identity;
        let exchange = Box::new(Password("answer"));
        let query = ServiceQuery { subject: "ann".into(), identity, exchange };
        Rc::clone(&pool).ask(query).await.unwrap();
        // The service accepts one connection only.
        Rc::clone(&pool).take(of_user("ann", 1), None).await.unwrap();
    });
}

/// Counts how often it is asked.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Handshake for Counted {
    fn write_request(&mut self, out: &mut BytesMut) {
        self.0.fetch_add(1, Relaxed);
        out.extend_from_slice(b"counts");
    }

    fn read_reply(&mut self, _: &[u8]) -> HandshakeStep {
        HandshakeStep::Done
    }
}

#[test]
fn clients_with_one_question_ask_once() {
    run(async {
        let service = Service::new();
        let pool = pool_of(&service, sized(4));
        answer_handshakes(service, &["welcome"; 4]);
        let count = Arc::<AtomicUsize>::default();
        let ask = |subject: &str| {
            let exchange = Box::new(Counted(Arc::clone(&count)));
            let (subject, identity) = (subject.into(), Identity::default());
            spawn_local(Rc::clone(&pool).ask(ServiceQuery { subject, identity, exchange }))
        };
        // The first one vanishes.
        let first = ask("ann");
        tokio::task::yield_now().await;
        first.abort();
        let others: Vec<_> = ["ann", "ann", "bob"].map(ask).into();
        for other in others {
            other.await.unwrap().unwrap();
        }
        assert_eq!(count.load(Relaxed), 2);
        ask("ann").await.unwrap().unwrap();
        assert_eq!(count.load(Relaxed), 3, "it was answered before");
    });
}
