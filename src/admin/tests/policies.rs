//! Policies are shown, changed and added; mistakes are reported as `check` reports them.

use super::*;

pub(super) const CONFIG: &str = "
listeners: { db: { address: ':0', protocol: mongo, cluster: c } }
clusters: { c: { endpoints: ['d:1'] } }
policies:
  - { name: no-drops, match: { operation: drop* }, deny: { message: no } }
  - { name: quiet, dry_run: true, deny: {} }
  - name: slow-down
    match: { app: importer, operation: find }
    rate_limit: { rate: 50/s, burst: 20 }
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
fn policies_are_listed_in_order_with_their_counts() {
    let admin = fixture();
    let rules = admin.policies.rules();
    rules[0].counts.refused().increment(4);
    rules[1].counts.would_modify().increment(3);
    let expected = json!([
        {
            "name": "no-drops", "kind": "deny", "enabled": true, "dry_run": false,
            "match": { "operation": "drop*" }, "settings": { "message": "no", "over": "refuse" },
            "refused": 4, "modified": 0, "would_refuse": 0, "would_modify": 0, "changed": false,
        },
        {
            "name": "quiet", "kind": "deny", "enabled": true, "dry_run": true,
            "match": {}, "settings": { "over": "refuse" },
            "refused": 0, "modified": 0, "would_refuse": 0, "would_modify": 3, "changed": false,
        },
    ]);
    let told = admin.get("/policies").json();
    assert_eq!(told.as_array().unwrap()[..2], *expected.as_array().unwrap());
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
    assert!(!after[1].enabled && Arc::ptr_eq(&before[1].config, &after[1].config));
    let reply = admin.send("PUT", "/policies/quiet", "{\"enabled\": true, \"dry_run\": false}");
    assert_eq!((reply.status, &reply.json()["dry_run"]), (200, &json!(false)));
    assert_eq!(admin.get("/policies").json()[1]["changed"], true);
    let reply = admin.send("PUT", "/policies/quiet", "{\"dry_run\": true}");
    assert_eq!(reply.json()["changed"], false);
}

#[test]
fn what_is_not_written_of_a_policy_stays_and_what_is_null_goes() {
    let admin = fixture();
    let before = admin.policies.rules();
    let put = |body: &str| {
        let reply = admin.send("PUT", "/policies/slow-down", body);
        assert_eq!(reply.status, 200, "{}", reply.body);
        let json = reply.json();
        (json["match"].clone(), json["settings"].clone(), json["changed"].clone())
    };
    let of = |app: &str| json!({ "app": app, "operation": "find" });
    let limit = |rate: &str, burst: u32| {
        let settings = &before[2].config.to_json();
        let mut settings = settings.clone();
        (settings["rate"], settings["burst"]) = (rate.into(), burst.into());
        settings
    };
    let rate = put("{\"rate_limit\": {\"rate\": \"100/s\"}}");
    assert_eq!(rate, (of("importer"), limit("100/s", 20), json!(true)));
    let whose = put("match: { app: reports }");
    assert_eq!(whose, (of("reports"), limit("100/s", 20), json!(true)));
    assert_eq!(put("{\"match\": {\"app\": null}}").0, json!({ "operation": "find" }));
    assert_eq!(put("{\"match\": null}").0, json!({}));
    let other = put("{\"match\": {\"app\": \"x\"}, \"deny\": {}}");
    assert_eq!(other, (json!({ "app": "x" }), json!({ "over": "refuse" }), json!(true)));
    // As the config has it, it is the config's again, with all that it knew.
    let same = "match: { app: importer, operation: find }\nrate_limit: { rate: 50/s, burst: 20 }";
    assert_eq!(put(same), (of("importer"), limit("50/s", 20), json!(false)));
    assert!(Arc::ptr_eq(&before[2], &admin.policies.rules()[2]));
}

#[test]
fn a_change_is_visible_in_its_reply_and_in_the_config() {
    let admin = fixture();
    assert_eq!(admin.get("/config").json()["policies"][2]["rate_limit"]["rate"], "50/s");
    let body = "{\"rate_limit\": {\"rate\": \"100/s\"}, \"dry_run\": true}";
    let reply = admin.send("PUT", "/policies/slow-down", body).json();
    assert_eq!((&reply["was"]["dry_run"], &reply["dry_run"]), (&json!(false), &json!(true)));
    assert_eq!(reply["was"]["rate_limit"]["rate"], "50/s");
    assert_eq!(reply["settings"]["rate"], "100/s");
    let listed = &admin.get("/policies").json()[2];
    assert_eq!(listed["configured"]["rate_limit"]["rate"], "50/s");
    assert_eq!(admin.get("/policies").json()[1].get("configured"), None, "it is as configured");
    let runs = &admin.get("/config").json()["policies"][2];
    assert_eq!((&runs["dry_run"], &runs["rate_limit"]["rate"]), (&json!(true), &json!("100/s")));
}

#[test]
fn what_a_policy_knows_outlives_a_change_of_what_it_matches() {
    let admin = fixture();
    let action = || Arc::clone(&admin.policies.rules()[2].config);
    let before = action();
    for body in ["{\"match\": {\"app\": \"x\"}}", "{\"rate_limit\": {\"rate\": \"50/s\"}}"] {
        assert_eq!(admin.send("PUT", "/policies/slow-down", body).status, 200);
        assert!(Arc::ptr_eq(&before, &action()), "{body}");
    }
    admin.send("PUT", "/policies/slow-down", "{\"rate_limit\": {\"rate\": \"51/s\"}}");
    assert!(!Arc::ptr_eq(&before, &action()));
}

#[test]
fn a_policy_is_added_before_the_others_and_taken_back() {
    let admin = fixture();
    let whole = "{\"match\": {\"app\": \"importer\"}, \"deny\": {}}";
    let reply = admin.send("PUT", "/policies/stop", whole);
    assert_eq!(reply.status, 201, "{}", reply.body);
    assert!(reply.head.contains("\r\nlocation: /policies/stop\r\n"), "{}", reply.head);
    let json = reply.json();
    assert_eq!((&json["changed"], &json["added"]), (&json!(true), &json!(true)));
    assert_eq!(in_force(&admin), ["stop", "no-drops", "quiet", "slow-down"]);
    assert_eq!(admin.get("/config").json()["policies"][0]["name"], "stop");
    admin.policies.rules()[0].counts.refused().increment(3);
    let reply = admin.send("PUT", "/policies/stop", "{\"deny\": {\"message\": \"m\"}}");
    assert_eq!((reply.status, &reply.json()["match"]["app"]), (200, &json!("importer")));
    assert_eq!(reply.json()["refused"], 3, "it is the same policy");
    assert_eq!(admin.ask("DELETE", "/policies/stop", "\r\n").status, 204);
    assert_eq!(admin.ask("DELETE", "/policies/stop", "\r\n").status, 404);
    assert_eq!(in_force(&admin), ["no-drops", "quiet", "slow-down"]);
    assert_eq!(admin.send("PUT", "/policies/stop", whole).json()["refused"], 0, "this is another");
}

#[test]
fn a_part_of_a_policy_under_another_name_adds_none() {
    let admin = fixture();
    for body in ["{\"rate_limit\": {\"rate\": \"9/s\"}}", "{\"match\": {}}", "{\"dry_run\": true}"]
    {
        let reply = admin.send("PUT", "/policies/slow-donw", body);
        assert_eq!(reply.status, 404, "{body}: {}", reply.body);
        assert!(reply.json()["hint"].as_str().unwrap().contains("`match`"), "{}", reply.body);
    }
    let wrong = "{\"match\": {\"ap\": \"x\"}, \"deny\": {}}";
    let text = problem(&admin.send("PUT", "/policies/stop", wrong));
    assert!(text.contains("body:1:12: unknown key `ap`, did you mean `app`?"), "{text}");
    let text = problem(&admin.send("PUT", "/policies/a%20b", "{\"match\": {}, \"deny\": {}}"));
    assert!(text.contains("name"), "{text}");
    assert_eq!(in_force(&admin).len(), 3);
}

#[test]
fn a_fault_counts_for_itself_whatever_it_is_called() {
    let admin = fixture();
    let add = || {
        let fault = admin.send("POST", "/faults", "{\"deny\": {}, \"for\": \"30s\"}").json();
        (fault["id"].as_str().unwrap().to_owned(), fault["refused"].as_u64().unwrap())
    };
    let (first, none) = add();
    admin.policies.rules()[0].counts.refused().increment(3);
    assert_eq!((none, &admin.get("/faults").json()[0]["refused"]), (0, &json!(3)));
    assert_eq!(add().1, 0, "the first one's strikes are not its own");
    admin.ask("DELETE", &format!("/faults/{first}"), "\r\n");
    assert_eq!(add().1, 0, "nor are those of one that is gone");
}

#[test]
fn an_invalid_body_is_reported_like_a_config_file() {
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
        ("{\"deny\": null}", "this policy does nothing"),
        ("{\"deny\": {}, \"deny\": {}}", "the key `deny` stands here for the second time"),
        ("{\"rate_limit\": {\"rate\": \"100\"}}", "body:1:25: "),
    ] {
        let text = problem(&admin.send("PUT", "/policies/quiet", body));
        assert!(text.contains(told), "{body}: {text}");
    }
    assert!(!admin.policies.policies().iter().any(policy::live::LivePolicy::is_changed));
}

#[test]
fn the_error_for_an_unknown_policy_lists_the_known_ones() {
    let admin = fixture();
    let reply = admin.send("PUT", "/policies/no-drop", "{\"enabled\": false}");
    assert_eq!(reply.status, 404);
    assert_eq!(
        reply.json()["error"],
        "there is no policy `no-drop`; there is no-drops, quiet, slow-down"
    );
    let reply = admin.ask("DELETE", "/policies/quiet", "");
    assert_eq!(reply.status, 405);
    assert!(reply.json()["error"].as_str().unwrap().contains("PUT"), "{}", reply.body);
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
    assert_eq!(in_force(&admin), ["fault", "no-drops", "quiet", "slow-down"]);
    assert_eq!(admin.get("/faults").json()[0]["id"], *id);
    assert_eq!(admin.get("/policies").json()[0]["id"], *id);
    let path = format!("/faults/{id}");
    assert_eq!(admin.ask("DELETE", &path, "").status, 204);
    let again = admin.ask("DELETE", &path, "");
    assert_eq!(again.status, 404);
    assert!(again.json()["error"].as_str().unwrap().contains(id));
    assert_eq!(in_force(&admin), ["no-drops", "quiet", "slow-down"]);
    assert_eq!(admin.get("/faults").json(), json!([]));
}

#[test]
fn a_fault_ends_by_itself() {
    let admin = fixture();
    let reply =
        admin.send("POST", "/faults", "{\"deny\": {}, \"for\": \"1ms\", \"name\": \"short\"}");
    assert_eq!((reply.status, &reply.json()["name"]), (201, &json!("short")));
    // It is hidden after its end, and removed at the next sweep.
    let began = Instant::now();
    while in_force(&admin).len() > 3 {
        assert!(began.elapsed() < Duration::from_secs(20), "it is never swept away");
        std::thread::yield_now();
    }
    assert_eq!(admin.get("/faults").json(), json!([]));
}

#[test]
fn invalid_faults_and_too_many_faults_are_errors() {
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
    assert_eq!(in_force(&admin).len(), 3);
    let body = "{\"deny\": {}, \"for\": \"1h\"}";
    for _ in 0..100 {
        assert_eq!(admin.send("POST", "/faults", body).status, 201);
    }
    let reply = admin.send("POST", "/faults", body);
    assert_eq!(reply.status, 409);
    assert!(reply.json()["error"].as_str().unwrap().contains("100 faults"));
    assert_eq!(in_force(&admin).len(), 103);
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
    assert_eq!(evil("PUT", "/policies/new", "{\"match\": {}, \"deny\": {}}"), 403);
    assert_eq!(evil("DELETE", "/policies/quiet", ""), 403);
    assert_eq!(evil("POST", "/faults", "{\"deny\": {}, \"for\": \"1h\"}"), 403);
    assert_eq!(evil("DELETE", "/faults/1", ""), 403);
    assert_eq!(in_force(&admin), ["no-drops", "quiet", "slow-down"]);
}
