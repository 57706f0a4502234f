mod from_file;
mod from_srv;

use super::*;
use crate::plan::EndpointPlan;
use crate::{
    CloseRequest, Exclusion, PickOptions,
    tests::{Recorded, listener, plan},
};
use serde_json::json;
use std::{collections::VecDeque, sync::atomic::Ordering::Relaxed};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Returns the answers in this order, the last one for ever, and reports each question.
struct Scripted {
    answers: Mutex<VecDeque<Result<HostAnswer, String>>>,
    asked: UnboundedSender<String>,
}

impl Resolver for Scripted {
    fn resolve<'a>(&'a self, host: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            self.asked.send(host.to_owned()).ok();
            let mut answers = self.answers.lock().unwrap();
            match answers.len() {
                1 => answers[0].clone(),
                _ => answers.pop_front().expect("a script has an answer"),
            }
        })
    }
}

fn scripted(
    plan: ClusterPlan,
    recorder: &Metrics,
    answers: impl IntoIterator<Item = Result<HostAnswer, String>>,
) -> (Arc<Cluster>, UnboundedReceiver<String>) {
    let (asked, questions) = unbounded_channel();
    let answers = Mutex::new(answers.into_iter().collect());
    let resolver = Box::new(Scripted { answers, asked });
    (Cluster::with_resolver(Arc::new(plan), recorder, resolver), questions)
}

fn answer(addresses: &[&str], ttl: Duration) -> Result<HostAnswer, String> {
    Ok(HostAnswer { addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(), ttl })
}

fn for_a_second(addresses: &[&str]) -> Result<HostAnswer, String> {
    answer(addresses, Duration::from_secs(1))
}

fn failure() -> Result<HostAnswer, String> {
    Err("no such name".to_owned())
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.endpoints().iter().map(|e| e.address().to_string()).collect()
}

#[tokio::test]
async fn all_addresses_of_a_name_are_endpoints() {
    let answers = [for_a_second(&["10.0.0.2", "10.0.0.1", "::5", "10.0.0.2"])];
    let (cluster, _) = scripted(plan(&[("db", 5000), ("10.9.9.9", 1)]), &Metrics::new(), answers);
    assert_eq!(addresses(&cluster), ["10.9.9.9:1"]);
    cluster.resolve().await;
    let expected = ["10.0.0.1:5000", "10.0.0.2:5000", "[::5]:5000", "10.9.9.9:1"];
    assert_eq!(addresses(&cluster), expected);
    assert_eq!(&**cluster.endpoints()[2].name(), "db:5000");
}

#[tokio::test]
async fn a_look_up_that_panics_is_repeated() {
    // An empty script panics.
    let (cluster, _) = scripted(plan(&[("db", 5000)]), &Metrics::new(), []);
    cluster.resolve().await;
    let error = cluster.report()["dns"]["last_error"].to_string();
    assert!(error.contains("db: a panic, which is a bug in Tollgate"), "{error}");
    assert!(cluster.names.lock().sources.iter().all(|source| source.due.is_some()));
}

#[tokio::test]
async fn an_address_of_two_names_is_one_endpoint() {
    let answers = [for_a_second(&["10.0.0.1"])];
    let (cluster, _) = scripted(plan(&[("a", 5000), ("b", 5000)]), &Metrics::new(), answers);
    cluster.resolve().await;
    assert_eq!(addresses(&cluster), ["10.0.0.1:5000"]);
}

#[tokio::test]
async fn a_failed_look_up_keeps_the_last_good_answer() {
    let good = for_a_second(&["10.0.0.1"]);
    let nothing = for_a_second(&[]);
    let answers = [failure(), good.clone(), failure(), nothing, good];
    let recorded = Recorded::default();
    let (cluster, _) = scripted(plan(&[("db", 5000)]), &recorded, answers);
    let dns = |field: &str| cluster.report()["dns"][field].clone();

    cluster.resolve().await;
    assert!(cluster.pick(PickOptions::default()).is_none());
    assert_eq!(dns("last_error"), "db: no such name");
    assert!(dns("last_ok_seconds_ago").is_null());

    cluster.resolve().await;
    let endpoint = cluster.pick(PickOptions::default()).unwrap();
    assert!(dns("last_error").is_null());

    for error in ["db: no such name", "db: it has no address"] {
        cluster.resolve().await;
        assert!(Arc::ptr_eq(&cluster.pick(PickOptions::default()).unwrap(), &endpoint));
        assert_eq!(dns("last_error"), error);
        assert_eq!(dns("last_ok_seconds_ago"), 0);
    }

    cluster.resolve().await;
    assert!(Arc::ptr_eq(&cluster.pick(PickOptions::default()).unwrap(), &endpoint));
    assert!(dns("last_error").is_null());
    assert_eq!(recorded.count("tollgate_dns_lookups_total(orders, ok)"), 2);
    assert_eq!(recorded.count("tollgate_dns_lookups_total(orders, error)"), 3);
}

#[tokio::test]
async fn a_failed_name_does_not_affect_the_others() {
    let (asked, _questions) = unbounded_channel();
    struct FailsB(Scripted);
    impl Resolver for FailsB {
        fn resolve<'a>(&'a self, host: &'a str) -> Lookup<'a> {
            if host == "b" { Box::pin(async { failure() }) } else { self.0.resolve(host) }
        }
    }
    let answers = Mutex::new([for_a_second(&["10.0.0.1"])].into());
    let resolver = Box::new(FailsB(Scripted { answers, asked }));
    let plan = Arc::new(plan(&[("b", 5000), ("a", 5000)]));
    let cluster = Cluster::with_resolver(plan, &Metrics::new(), resolver);
    cluster.resolve().await;
    assert_eq!(addresses(&cluster), ["10.0.0.1:5000"]);
    // A name that was never resolved makes the cluster's value null.
    let expected = json!({ "last_ok_seconds_ago": null, "last_error": "b: no such name" });
    assert_eq!(cluster.report()["dns"], expected);
}

#[tokio::test]
async fn a_removed_address_is_not_picked_but_keeps_its_connections() {
    let (listener, address) = listener().await;
    let answers =
        [for_a_second(&["127.0.0.1", "10.0.0.2"]), for_a_second(&["10.0.0.3", "10.0.0.2"])];
    let (cluster, _) = scripted(plan(&[("db", address.port())]), &Metrics::new(), answers);
    cluster.resolve().await;
    let kept = cluster.endpoints()[0].clone();
    assert_eq!(kept.address().ip().to_string(), "10.0.0.2");
    let upstream = loop {
        let local = async |to: SocketAddr| match to == address {
            true => tokio::net::TcpStream::connect(to).await,
            false => Err(std::io::ErrorKind::ConnectionRefused.into()),
        };
        if let Ok(upstream) = cluster.connect_with_dial(None, local).await {
            break upstream;
        }
    };

    cluster.resolve().await;
    let now: Vec<_> = (0..2).map(|_| cluster.pick(PickOptions::default()).unwrap()).collect();
    assert!(now.iter().any(|e| Arc::ptr_eq(e, &kept)), "{now:?}");
    assert!(now.iter().any(|e| e.address().ip().to_string() == "10.0.0.3"), "{now:?}");

    let (accepted, _) = listener.accept().await.unwrap();
    accepted.try_write(b"still here").unwrap();
    upstream.stream.tcp().readable().await.unwrap();
    let mut bytes = [0; 10];
    assert_eq!(upstream.stream.tcp().try_read(&mut bytes).unwrap(), 10);
    assert_eq!(upstream.lease.endpoint().active_connections(), 1);
    let endpoint = Arc::clone(upstream.lease.endpoint());
    drop(upstream.lease);
    assert_eq!(endpoint.active_connections(), 0);
}

#[tokio::test]
async fn an_address_that_stays_stays_the_same_endpoint() {
    let answers = [for_a_second(&["10.0.0.1", "10.0.0.2"]), for_a_second(&["10.0.0.2"])];
    let (cluster, _) = scripted(plan(&[("db", 5000)]), &Metrics::new(), answers);
    cluster.resolve().await;
    let second = cluster.endpoints()[1].clone();
    cluster.resolve().await;
    assert_eq!(cluster.endpoints().len(), 1);
    assert!(Arc::ptr_eq(&cluster.endpoints()[0], &second));
}

#[tokio::test]
async fn a_shuffled_answer_changes_nothing() {
    let answers =
        [for_a_second(&["10.0.0.1", "10.0.0.2"]), for_a_second(&["10.0.0.2", "10.0.0.1"])];
    let (cluster, _) = scripted(plan(&[("db", 5000)]), &Metrics::new(), answers);
    cluster.resolve().await;
    let before = cluster.set.load_full();
    cluster.resolve().await;
    assert!(Arc::ptr_eq(&before, &cluster.set.load()));
}

#[tokio::test]
async fn names_are_resolved_again_after_their_ttl() {
    let brief = |address| answer(&[address], Duration::from_millis(2));
    let answers = [brief("10.0.0.1"), brief("10.0.0.2"), brief("10.0.0.3")];
    let (cluster, mut questions) = scripted(plan(&[("db", 5000)]), &Metrics::new(), answers);
    let mut discovery = JoinSet::new();
    discovery.spawn(cluster.clone().discover());
    for _ in 0..5 {
        assert_eq!(questions.recv().await.unwrap(), "db");
    }
    // The fourth answer, and so the third, was learned before the fifth question.
    assert_eq!(addresses(&cluster), ["10.0.0.3:5000"]);

    // It ends when it is dropped, and releases the cluster.
    drop(discovery);
    drop(cluster);
    while questions.recv().await.is_some() {}
}

#[tokio::test]
async fn a_ttl_is_kept_within_limits() {
    let mut plan = plan(&[("db", 5000)]);
    plan.dns.min_ttl = Duration::from_secs(5);
    plan.dns.max_ttl = Duration::from_secs(60);
    let seconds = |s| answer(&["10.0.0.1"], Duration::from_secs(s));
    let answers = [seconds(0), seconds(30), seconds(86_400)];
    let (cluster, _) = scripted(plan, &Metrics::new(), answers);
    for expected in [5, 30, 60] {
        cluster.resolve().await;
        let table = cluster.names.lock();
        let holds = table.sources[0].due.unwrap() - table.sources[0].last_ok.unwrap();
        assert_eq!(holds, Duration::from_secs(expected));
    }
}

#[tokio::test]
async fn failed_look_ups_back_off() {
    let (cluster, _) = scripted(plan(&[("db", 5000)]), &Metrics::new(), [failure()]);
    for failures in 0..4 {
        let before = Instant::now();
        cluster.resolve().await;
        let table = cluster.names.lock();
        let due = table.sources[0].due.unwrap();
        assert!(due >= before + retry_after(failures, 0.0));
        assert!(due <= Instant::now() + retry_after(failures, 1.0));
        assert_eq!(table.sources[0].failures, failures + 1);
    }
    assert_eq!(retry_after(0, 0.5), MIN_RETRY);
    assert_eq!(retry_after(1, 0.5), MIN_RETRY * 2);
    assert!(MAX_RETRY <= Duration::from_secs(5), "a name that appears is found within seconds");
    assert_eq!(retry_after(u32::MAX, 0.5), MAX_RETRY);
}

#[tokio::test]
async fn addresses_are_never_looked_up() {
    let plan = plan(&[("10.0.0.1", 5000), ("::1", 5000)]);
    let (cluster, mut questions) = scripted(plan, &Metrics::new(), [failure()]);
    cluster.resolve().await;
    let _discovery = JoinSet::from_iter([cluster.clone().discover()]);
    tokio::task::yield_now().await;
    assert!(questions.try_recv().is_err());
    assert_eq!(addresses(&cluster), ["10.0.0.1:5000", "[::1]:5000"]);
    assert!(cluster.report()["dns"].is_null());
}

#[tokio::test]
async fn an_answer_of_any_size_makes_a_bounded_number_of_endpoints() {
    let many = (0..2_000u32).map(|i| IpAddr::from((0x0a00_0000 + i).to_be_bytes())).collect();
    let answers = [Ok(HostAnswer { addresses: many, ttl: Duration::from_secs(1) })];
    let (cluster, _) = scripted(plan(&[("db", 5000)]), &Metrics::new(), answers);
    cluster.resolve().await;
    assert_eq!(cluster.endpoints().len(), MAX_ADDRESSES);
}

/// The endpoints: address, name, weight, priority and zone.
fn places(cluster: &Cluster) -> Vec<String> {
    let set = cluster.set.load();
    let place = |m: &crate::set::Member| {
        let zone = m.zone.as_deref().unwrap_or("-");
        let (address, name) = (m.endpoint.address(), m.endpoint.name());
        format!("{address} {name} {} {} {zone}", m.weight, m.priority)
    };
    set.members.iter().map(place).collect()
}

#[tokio::test(start_paused = true)]
async fn weights_priorities_and_zones_of_the_config_reach_the_set() {
    let mut plan = plan(&[("db", 5000), ("10.9.9.9", 1)]);
    plan.endpoints[0].weight = 3;
    plan.endpoints[0].priority = 1;
    plan.endpoints[1].zone = Some("west".into());
    let (cluster, _) = scripted(plan, &Metrics::new(), [for_a_second(&["10.0.0.1", "10.0.0.2"])]);
    cluster.resolve().await;
    let expected = [
        "10.0.0.1:5000 db:5000 3 1 -",
        "10.0.0.2:5000 db:5000 3 1 -",
        "10.9.9.9:1 10.9.9.9:1 1 0 west",
    ];
    assert_eq!(places(&cluster), expected);
}

#[tokio::test(start_paused = true)]
async fn a_removed_endpoint_drains_and_keeps_its_state() {
    let long = Duration::from_secs(30);
    let answers = [
        answer(&["10.0.0.1", "10.0.0.2"], long),
        answer(&["10.0.0.2"], long),
        answer(&["10.0.0.1", "10.0.0.2"], long),
        answer(&["10.0.0.2"], Duration::from_secs(60)),
        failure(),
    ];
    let mut plan = plan(&[("db", 5000)]);
    plan.drain_timeout = Duration::from_secs(40);
    let (cluster, mut questions) = scripted(plan, &Metrics::new(), answers);
    let notifications = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = notifications.clone();
    cluster.on_close_request(move || {
        counted.fetch_add(1, Relaxed);
    });
    cluster.resolve().await;
    let [one, two] = <[_; 2]>::try_from(cluster.endpoints()).unwrap();
    assert_eq!((one.close_request(), notifications.load(Relaxed)), (CloseRequest::None, 0));

    let _discovery = JoinSet::from_iter([cluster.clone().discover()]);
    let mut asked = async |times| {
        for _ in 0..times {
            questions.recv().await.unwrap();
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    asked(2).await;
    assert_eq!((one.close_request(), one.usable()), (CloseRequest::WhenIdle, false));
    assert!(one.is_excluded(Exclusion::Removed));
    assert_eq!(notifications.load(Relaxed), 1);

    // The address comes back after 30 s.
    asked(1).await;
    assert!(Arc::ptr_eq(&cluster.endpoints()[0], &one));
    assert_eq!((one.close_request(), one.usable()), (CloseRequest::None, true));
    assert_eq!(notifications.load(Relaxed), 2);

    // It leaves again, and its drain ends 40 s later.
    asked(1).await;
    let removed = Instant::now();
    assert_eq!(one.close_request(), CloseRequest::WhenIdle);
    while one.close_request() == CloseRequest::WhenIdle {
        time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(one.close_request(), CloseRequest::Removed);
    assert_eq!(removed.elapsed().as_secs(), 40);
    assert_eq!(notifications.load(Relaxed), 4);
    assert!(cluster.names.lock().draining.is_empty());
    assert_eq!((two.close_request(), two.usable()), (CloseRequest::None, true));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_resolved_at_once_when_all_its_addresses_fail() {
    let minutes = Duration::from_secs(600);
    let answers = [
        answer(&["10.0.0.1", "10.0.0.2"], minutes),
        answer(&["10.0.0.1", "10.0.0.2"], minutes),
        answer(&["10.0.0.3"], minutes),
    ];
    let mut plan = plan(&[("db", 5000)]);
    plan.dns.min_ttl = Duration::from_secs(1);
    plan.dns.max_ttl = minutes;
    let (cluster, mut questions) = scripted(plan, &Metrics::new(), answers);
    cluster.resolve().await;
    questions.recv().await.unwrap();
    let _discovery = JoinSet::from_iter([cluster.clone().discover()]);
    let dead: SocketAddr = "10.0.0.2:5000".parse().unwrap();
    let connect = async |only_one: bool| {
        let dial = async |address: SocketAddr| match only_one && address != dead {
            true => Ok(crate::tests::loopback()),
            false => Err(std::io::ErrorKind::ConnectionRefused.into()),
        };
        cluster.connect_with_dial(None, dial).await.is_ok()
    };
    time::sleep(Duration::from_secs(10)).await;

    // As long as one address works, the answer is valid.
    for _ in 0..4 {
        assert!(connect(true).await);
    }
    time::sleep(Duration::from_secs(10)).await;
    assert!(questions.try_recv().is_err());

    // When none does, the name is resolved at once, but not more often than `min_ttl` allows.
    for _ in 0..4 {
        connect(false).await;
    }
    let began = Instant::now();
    questions.recv().await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    connect(false).await;
    questions.recv().await.unwrap();
    let waited = began.elapsed().as_millis();
    assert!((500..=1000).contains(&waited), "{waited} ms");
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(addresses(&cluster), ["10.0.0.3:5000"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_without_an_endpoint_triggers_a_look_up() {
    let later = answer(&["10.0.0.1"], Duration::from_secs(60));
    let mut plan = plan(&[("db", 5000)]);
    plan.dns.min_ttl = Duration::from_millis(100);
    let (cluster, mut questions) = scripted(plan, &Metrics::new(), [failure(), later]);
    cluster.resolve().await;
    questions.recv().await.unwrap();
    let _discovery = JoinSet::from_iter([cluster.clone().discover()]);
    time::sleep(Duration::from_millis(300)).await;
    assert!(cluster.is_empty());
    let began = Instant::now();
    let error = cluster.connect(None).await.unwrap_err();
    assert_eq!(error.close_reason(), operation::Close::NoEndpoint);
    questions.recv().await.unwrap();
    // Without the second that a failed look-up is cached.
    assert_eq!(began.elapsed(), Duration::ZERO);
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(addresses(&cluster), ["10.0.0.1:5000"]);
    assert!(!cluster.is_empty());
}
