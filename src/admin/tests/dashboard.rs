//! `/dashboard`: its fields, its bounds, and what it says of who may change something.

use super::*;

/// Counts operations of this name: how many, and how many of them failed.
fn count(metrics: &Metrics, operation: &str, ok: u64, failed: u64) {
    let labels = [
        ("listener", "orders-db"),
        ("protocol", "mongo"),
        ("operation", operation),
        ("resource", "shop.orders"),
    ];
    for (outcome, count) in [("ok", ok), ("failed", failed)] {
        let labels = [&labels[..], &[("outcome", outcome)]].concat();
        metrics.counter(table::OPERATIONS_TOTAL, &labels).increment(count);
    }
    let duration = metrics.histogram(table::OPERATION_DURATION_SECONDS, &labels);
    duration.record_many(0.001, usize::try_from(ok + failed).unwrap());
}

#[test]
fn the_dashboard_has_what_the_page_shows() {
    let admin = fixture();
    count(&admin.metrics, "find", 8, 2);
    count(&admin.metrics, "insert", 5, 0);
    let labels = [("listener", "orders-db"), ("policy", "slow"), ("reason", "rate_limited")];
    admin.metrics.counter(table::REFUSALS_TOTAL, &labels).increment(3);
    let board = admin.get("/dashboard").json();
    assert_eq!((&board["ready"], &board["last_reload"]), (&json!(true), &Value::Null));
    assert_eq!(board["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&board["totals"]["count"], &board["totals"]["errors"]), (&json!(15), &json!(2)));
    // The bucket of a millisecond, which ends there.
    let bounds = board["bounds_ms"].as_array().unwrap();
    let bucket = bounds.iter().position(|bound| *bound == 1.0).unwrap();
    assert_eq!(board["totals"]["durations"], json!([[bucket, 15]]));
    let find = &board["operations"][0];
    assert_eq!((&find["operation"], &find["errors"]), (&json!("find"), &json!(2)));
    assert_eq!(find["durations"], json!([[bucket, 10]]));
    assert_eq!(board["operations_left_out"], 0);
    assert_eq!(board["listeners"][0]["name"], "orders-db");
    let cluster = &board["clusters"][0];
    assert_eq!(
        (&cluster["endpoints_in_use"], &cluster["endpoints_in_all"]),
        (&json!(2), &json!(2))
    );
    assert!(cluster["endpoints"][0]["state_seconds"].is_f64(), "{cluster}");
    let refused = json!({ "listener": "orders-db", "policy": "slow", "reason": "rate_limited",
        "dry_run": false, "count": 3 });
    assert_eq!(board["refusals"], json!([refused]));
    let policy = &board["policies"][0];
    assert!(policy["name"].is_string() && policy["refused"].is_u64(), "{policy}");
    assert!(policy.get("match").is_none() && policy.get("settings").is_none(), "{policy}");
}

#[test]
fn thousands_of_series_are_a_hundred_rows() {
    let admin = fixture();
    (0..3000).for_each(|number| count(&admin.metrics, &format!("op{number}"), 1, 0));
    let reply = admin.get("/dashboard");
    let board = reply.json();
    assert_eq!(board["operations"].as_array().map(Vec::len), Some(100));
    assert_eq!(board["operations_left_out"], 2900);
    assert_eq!(board["totals"]["count"], 3000);
    assert!(reply.body.len() < 64 << 10, "{} bytes", reply.body.len());
}

#[test]
fn endpoints_out_of_use_are_listed_before_others() {
    let endpoint = |i: usize| EndpointPlan::new(Target::Host(format!("10.0.1.{i}"), 27017));
    let plan = ClusterPlan::new("many", (0..200).map(endpoint).collect());
    let many = Cluster::new(Arc::new(plan), &Metrics::new());
    many.operator_drain("10.0.1.199:27017").unwrap();
    let report = super::super::dashboard::shortened(many.report());
    let endpoints = report["endpoints"].as_array().unwrap();
    assert_eq!((endpoints.len(), &endpoints[0]["state"]), (50, &json!("drained")));
    assert_eq!(
        (&report["endpoints_in_use"], &report["endpoints_in_all"]),
        (&json!(199), &json!(200))
    );
}

#[test]
fn a_browser_gets_the_page_and_others_the_paths() {
    let admin = fixture();
    let browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let page = admin.ask("GET", "/", browser);
    assert!(page.body.contains("<script type=\"module\" src=\"/page.js\">"), "{}", page.body);
    for (path, kind) in [("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        let reply = admin.get(path);
        let kind = format!("\r\ncontent-type: {kind}; charset=utf-8");
        assert!(reply.status == 200 && reply.head.contains(&kind), "{}", reply.head);
    }
    for other in ["", "Accept: */*\r\n", "Accept: application/json\r\n"] {
        assert_eq!(admin.ask("GET", "/", other).body, admin.get("/paths").body);
    }
}

#[test]
fn the_page_is_small_and_has_no_code_of_others() {
    let admin = fixture();
    let browser = "Accept: text/html\r\n";
    let files = [("/", browser), ("/page.js", ""), ("/page.css", "")];
    let texts = files.map(|(path, headers)| admin.ask("GET", path, headers).body);
    let bytes = texts.iter().map(String::len).sum::<usize>();
    assert!(bytes <= 40_000, "{bytes} bytes");
    for forbidden in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=\""]
    {
        assert!(!texts.iter().any(|text| text.contains(forbidden)), "{forbidden}");
    }
}

#[test]
fn live_operations_have_a_filter_that_is_checked() {
    let admin = fixture();
    let live =
        admin.get("/operations/live?outcome=not_ok&slower_than=100ms&resource=shop.*").json();
    assert_eq!((&live["next"], &live["operations"]), (&json!(0), &json!([])));
    for (wrong, words) in [
        ("outcome=bad", "there is no outcome `bad`"),
        ("slower_than=100", "`100` is no duration"),
        ("colour=red", "colour"),
        (&format!("resource={}", "x".repeat(300)), "too long"),
    ] {
        let reply = admin.get(&format!("/operations/live?{wrong}"));
        assert_eq!(reply.status, 400, "{wrong}");
        assert!(reply.json()["error"].as_str().unwrap().contains(words), "{}", reply.body);
    }
}

#[test]
fn only_a_page_from_here_is_loaded_by_a_browser() {
    let admin = fixture();
    for path in ["/", "/page.js", "/dashboard", "/paths", "/operations"] {
        let head = admin.get(path).head;
        let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: "));
        let policy = policy.expect("a policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
}
