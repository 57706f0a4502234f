//! Policies are shown, changed and asked for, and what can't be is told as `check` tells it.

use super::*;

pub(super) const CONFIG: &str = "
listeners: { db: { address: ':0', protocol: mongo, cluster: c } }
clusters: { c: { endpoints: ['d:1'] } }
policies:
  - { name: no-drops, match: { operation: drop* }, deny: { message: no } }
  - { name: quiet, dry_run: true, deny: {} }
";

fn problem(reply: &Reply) -> String {
    assert_eq!(reply.status, 400, "{}", reply.body);
    let json = reply.json();
    assert!(!json["problems"].as_array().unwrap().is_empty());
    json["error"].as_str().unwrap().to_owned()
}

fn in_force(admin: &Fixture) -> Vec<String> {
    admin.policies.rules().iter().map(|rule| rule.name.to_string()).collect()
}

#[test]
fn policies_are_told_in_their_order_with_what_they_did() {
    let admin = fixture();
    for (listener, reason) in [("db", "denied"), ("other", "denied")] {
        let labels = [("listener", listener), ("policy", "no-drops"), ("reason", reason)];
        admin.metrics.counter(table::REFUSALS_TOTAL, &labels).increment(2);
    }
    let labels = [("listener", "db"), ("policy", "quiet")];
    admin.metrics.counter(table::DRY_RUN_BENT_OPERATIONS_TOTAL, &labels).increment(3);
    let expected = json!([
        {
            "name": "no-drops", "kind": "deny", "enabled": true, "dry_run": false,
            "match": { "operation": "drop*" }, "settings": { "message": "no", "over": "refuse" },
            "refused": 4, "bent": 0, "would_refuse": 0, "would_bend": 0, "changed": false,
        },
        {
            "name": "quiet", "kind": "deny", "enabled": true, "dry_run": true,
            "match": {}, "settings": { "over": "refuse" },
            "refused": 0, "bent": 0, "would_refuse": 0, "would_bend": 3, "changed": false,
        },
    ]);
    assert_eq!(admin.get("/policies").json(), expected);
}

#[test]
fn a_policy_is_switched_and_the_others_stay() {
    let admin = fixture();
    let before = admin.policies.rules();
    let reply = admin.send("PUT", "/policies/quiet", "{\"enabled\": false}");
    assert_eq!(reply.status, 200, "{}", reply.body);
    let json = reply.json();
    assert_eq!((&json["enabled"], &json["dry_run"]), (&json!(false), &json!(true)));
    assert_eq!(json["changed"], true);
    let after = admin.policies.rules();
    assert!(Arc::ptr_eq(&before[0], &after[0]));
    assert!(!after[1].enabled && Arc::ptr_eq(&before[1].action, &after[1].action));
    let reply = admin.send("PUT", "/policies/quiet", "{\"enabled\": true, \"dry_run\": false}");
    assert_eq!((reply.status, &reply.json()["dry_run"]), (200, &json!(false)));
    assert_eq!(admin.get("/policies").json()[1]["changed"], true);
    let reply = admin.send("PUT", "/policies/quiet", "{\"dry_run\": true}");
    assert_eq!(reply.json()["changed"], false);
}

#[test]
fn a_whole_policy_takes_the_place_of_another() {
    let admin = fixture();
    let body =
        "{\"match\": {\"operation\": [\"drop\", \"dropIndexes\"]}, \"deny\": {\"code\": 50}}";
    let reply = admin.send("PUT", "/policies/no-drops", body);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let first = &admin.get("/policies").json()[0];
    assert_eq!(first["name"], "no-drops");
    assert_eq!(first["match"], json!({ "operation": ["drop", "dropIndexes"] }));
    assert_eq!(first["settings"], json!({ "code": 50, "over": "refuse" }));
    assert_eq!(first["changed"], true);
    // YAML does as well, as in a file.
    let reply = admin.send("PUT", "/policies/no-drops", "name: no-drops\ndeny: {}\n");
    assert_eq!(reply.status, 200, "{}", reply.body);
}

#[test]
fn a_wrong_body_is_told_as_a_file_would_be_and_changes_nothing() {
    let admin = fixture();
    for (body, told) in [
        ("", "body: nothing is asked for"),
        ("{", "body:1:1: not valid YAML"),
        ("[]", "body:1:1: expected"),
        ("{}", "body: nothing is asked for"),
        ("{\"enabled\": 1}", "body:1:13: expected `true` or `false`, found `1`"),
        ("{\"enabld\": true}", "unknown key `enabld`, did you mean `enabled`?"),
        (
            "{\"deny\": {\"mesage\": \"x\"}}",
            "body:1:11: unknown key `mesage`, did you mean `message`?",
        ),
        (
            "{\"deny\": {}, \"match\": {\"listener\": \"bd\"}}",
            "body:1:36: there is no listener `bd`",
        ),
        (
            "{\"deny\": {}, \"match\": {\"ap\": \"x\"}}",
            "body:1:24: unknown key `ap`, did you mean `app`?",
        ),
        ("{\"deny\": {}, \"name\": \"other\"}", "this is the policy `other`, and not `quiet`"),
        ("{\"enabled\": true, \"name\": \"quiet\"}", "this policy does nothing"),
    ] {
        let text = problem(&admin.send("PUT", "/policies/quiet", body));
        assert!(text.contains(told), "{body}: {text}");
    }
    assert!(!admin.policies.policies().iter().any(crate::policy::live::Changed::is_changed));
}

#[test]
fn a_policy_that_is_not_there_is_told_with_those_that_are() {
    let admin = fixture();
    let reply = admin.send("PUT", "/policies/no-drop", "{\"enabled\": false}");
    assert_eq!(reply.status, 404);
    assert_eq!(reply.json()["error"], "there is no policy `no-drop`; there is no-drops, quiet");
    assert_eq!(admin.ask("DELETE", "/policies/quiet", "").status, 405);
}

#[test]
fn a_fault_comes_before_all_policies_and_is_taken_back() {
    let admin = fixture();
    let body = "{\"match\": {\"operation\": \"find\"}, \"deny\": {}, \"for\": \"30s\"}";
    let reply = admin.send("POST", "/faults", body);
    assert_eq!(reply.status, 201, "{}", reply.body);
    let fault = reply.json();
    let id = fault["id"].as_str().unwrap();
    assert!(reply.head.contains(&format!("\r\nlocation: /faults/{id}\r\n")), "{}", reply.head);
    assert_eq!((&fault["name"], &fault["kind"]), (&json!("fault"), &json!("deny")));
    let left = fault["expires_in_ms"].as_u64().unwrap();
    assert!((20_000..=30_000).contains(&left), "{left}");
    assert_eq!(in_force(&admin), ["fault", "no-drops", "quiet"]);
    assert_eq!(admin.get("/faults").json()[0]["id"], *id);
    assert_eq!(admin.get("/policies").json()[0]["id"], *id);
    let path = format!("/faults/{id}");
    assert_eq!(admin.ask("DELETE", &path, "").status, 204);
    let again = admin.ask("DELETE", &path, "");
    assert_eq!(again.status, 404);
    assert!(again.json()["error"].as_str().unwrap().contains(id));
    assert_eq!(in_force(&admin), ["no-drops", "quiet"]);
    assert_eq!(admin.get("/faults").json(), json!([]));
}

#[test]
fn a_fault_ends_by_itself() {
    let admin = fixture();
    let reply =
        admin.send("POST", "/faults", "{\"deny\": {}, \"for\": \"1ms\", \"name\": \"short\"}");
    assert_eq!((reply.status, &reply.json()["name"]), (201, &json!("short")));
    // Whoever asks after its end does not see it; by itself it goes at the next sweep.
    let began = Instant::now();
    while in_force(&admin).len() > 2 {
        assert!(began.elapsed() < Duration::from_secs(20), "it is never swept away");
        std::thread::yield_now();
    }
    assert_eq!(admin.get("/faults").json(), json!([]));
}

#[test]
fn a_fault_that_can_not_be_is_told_and_there_are_only_so_many() {
    let admin = fixture();
    for (body, told) in [
        ("{\"deny\": {}}", "body:1:1: the key `for` is missing"),
        ("{\"deny\": {}, \"for\": 30}", "body:1:21: the duration `30` has no unit"),
        ("{\"deny\": {\"for\": \"30s\"}}", "unknown key `for`"),
        ("{\"for\": \"30s\"}", "this policy does nothing"),
        (
            "{\"deny\": {}, \"for\": \"30s\", \"name\": \"quiet\"}",
            "there is a policy `quiet` already",
        ),
        ("{\"deny\": {}, \"for\": \"30s\", \"match\": {\"peer\": \"x\"}}", "`x` is no IP address"),
    ] {
        let text = problem(&admin.send("POST", "/faults", body));
        assert!(text.contains(told), "{body}: {text}");
    }
    assert_eq!(in_force(&admin).len(), 2);
    let body = "{\"deny\": {}, \"for\": \"1h\"}";
    for _ in 0..100 {
        assert_eq!(admin.send("POST", "/faults", body).status, 201);
    }
    let reply = admin.send("POST", "/faults", body);
    assert_eq!(reply.status, 409);
    assert!(reply.json()["error"].as_str().unwrap().contains("100 faults"));
    assert_eq!(in_force(&admin).len(), 102);
}

#[test]
fn a_page_of_another_site_changes_no_policy() {
    let admin = fixture();
    let evil = |method: &str, path: &str, body: &str| {
        let length = body.len();
        let headers =
            format!("Origin: http://evil.example\r\nContent-Length: {length}\r\n\r\n{body}");
        admin.ask(method, path, &headers).status
    };
    assert_eq!(evil("PUT", "/policies/quiet", "{\"enabled\": false}"), 403);
    assert_eq!(evil("POST", "/faults", "{\"deny\": {}, \"for\": \"1h\"}"), 403);
    assert_eq!(evil("DELETE", "/faults/1", ""), 403);
    assert_eq!(in_force(&admin), ["no-drops", "quiet"]);
}
