use super::*;

fn lines(before: &Value, after: &Value) -> Vec<String> {
    Changes::between(before, after).0.iter().map(ToString::to_string).collect()
}

fn config() -> Value {
    json!({
        "workers": 2,
        "drain_timeout": "30s",
        "listeners": { "db": { "address": "127.0.0.1:1" } },
        "clusters": { "orders": { "endpoints": ["a:1"], "connect_timeout": "1s" } },
        "policies": [
            { "name": "one", "match": { "peer": ["10.0.0.0/8"] }, "deny": {} },
            { "name": "two", "match": {}, "rate_limit": { "rate": "500/s" } },
        ],
    })
}

#[test]
fn equal_configs_have_no_change() {
    assert!(Changes::between(&config(), &config()).is_empty());
}

#[test]
fn each_change_is_a_line_with_its_effect() {
    let mut after = config();
    after["workers"] = 4.into();
    after["drain_timeout"] = "10s".into();
    after["listeners"]["cache"] = json!({ "address": "127.0.0.1:2" });
    after["listeners"]["db"]["on_violation"] = "close".into();
    after["clusters"] = json!({
        "orders": { "endpoints": ["a:1", "b:1"], "connect_timeout": "500ms" },
    });
    after["policies"][0]["match"]["peer"] = json!(["10.1.0.0/16"]);
    after["policies"][1]["rate_limit"]["rate"] = "300/s".into();
    assert_eq!(
        lines(&config(), &after),
        [
            "+ listener cache (begins to accept)",
            "~ listener db: on_violation (none) → close (next connections; open ones end as they began)",
            "~ cluster orders: connect_timeout 1s → 500ms, endpoints [\"a:1\"] → [\"a:1\",\"b:1\"] \
             (endpoints that leave drain; next connections)",
            "~ policy one: match.peer [\"10.0.0.0/8\"] → [\"10.1.0.0/16\"] (at once, and it keeps its state)",
            "~ policy two: rate_limit.rate 500/s → 300/s (at once, and its state begins anew)",
            "~ drain_timeout 30s → 10s (next drain)",
            "! workers 2 → 4 (after a restart or an upgrade)",
        ]
    );
    let back = lines(&after, &config());
    assert!(
        back.contains(
            &"- listener cache (accepts no more, and its connections close when they are idle)"
                .to_owned()
        )
    );
}

#[test]
fn the_order_of_policies_is_a_change() {
    let mut after = config();
    after["policies"].as_array_mut().unwrap().reverse();
    assert_eq!(lines(&config(), &after), ["~ policies order one, two → two, one (at once)"]);
}

#[test]
fn a_hidden_change_has_no_value() {
    let mut changes = Changes::default();
    changes.add_hidden(ConfigObject::Cluster, "orders");
    changes.add_hidden(ConfigObject::Cluster, "orders");
    changes.count_connections(|object, _| (object == ConfigObject::Cluster).then_some(12));
    let text = "~ cluster orders: a secret, a file that it names, or how it is written \
                (12 open connections: at once)\n";
    assert_eq!(changes.to_string(), text);
    assert!(!changes.need_only_restart());
}

#[test]
fn a_long_value_is_cut() {
    let mut after = config();
    after["clusters"]["orders"]["endpoints"] = json!(vec!["host.example.net:27017"; 10]);
    let lines = lines(&config(), &after);
    assert!(lines[0].chars().count() < 200 && lines[0].contains('…'), "{lines:?}");
}
