//! What the settings of a shared limit become, and which mistakes are reported.

use super::*;
use serde_json::json;

fn planned(text: &str) -> Result<Plan, Vec<Diagnostic>> {
    crate::testing::read::<Settings>(text).unwrap().plan()
}

/// Where something is wrong, and what.
fn wrong(text: &str) -> Vec<(String, String)> {
    let wrong = planned(text).unwrap_err();
    wrong.into_iter().map(|it| (it.path.join("."), it.message)).collect()
}

#[test]
fn a_redis_needs_only_an_address() {
    let plan = planned("redis: { address: 'redis:6379' }").unwrap();
    assert_eq!((plan.on_failure, plan.timeout), (OnStoreFailure::Allow, TIMEOUT));
    let shown = json!({
        "redis": { "address": "redis:6379", "database": 0 },
        "on_store_failure": "allow",
        "timeout": "20ms",
    });
    assert_eq!(plan.to_json(), shown);
}

#[test]
fn everything_that_is_written_is_shown_but_no_password() {
    let plan = planned(
        "redis: { address: '[::1]:1', database: 3, user: ann, password_file: /run/secret }\n\
         on_store_failure: local\n\
         timeout: 5ms",
    );
    let shown = json!({
        "redis": {
            "address": "[::1]:1",
            "database": 3,
            "user": "ann",
            "password_file": "/run/secret",
        },
        "on_store_failure": "local",
        "timeout": "5ms",
    });
    assert_eq!(plan.unwrap().to_json(), shown);
}

#[test]
fn a_store_may_be_encrypted() {
    let shown = planned("redis: { address: 'redis:6379', tls: { verify: false } }").unwrap();
    assert_eq!(shown.to_json()["redis"]["tls"], json!({ "verify": false }));
    let wrong = wrong("redis: { address: 'redis:6379', tls: { ca: nowhere.crt } }");
    assert_eq!(wrong[0].0, "shared.redis.tls.ca");
}

#[test]
fn a_service_receives_descriptors() {
    let plan = planned(
        "rate_limit_service:\n  \
           address: limits:8081\n  \
           domain: databases\n  \
           descriptors: [[{ key: user }, { key: generic_key, value: orders }], [{ key: peer }]]",
    );
    let shown = plan.unwrap().to_json();
    let descriptors = json!([
        [{ "key": "user" }, { "key": "generic_key", "value": "orders" }],
        [{ "key": "peer" }],
    ]);
    assert_eq!(shown["rate_limit_service"]["descriptors"], descriptors);
    assert_eq!(shown["rate_limit_service"]["domain"], "databases");
}

#[test]
fn the_key_of_the_hash_is_read_from_a_file_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let redis = "redis: { address: 'a:1' }";
    let text = format!("{redis}\nhash_key_file: {}\nplain: [user]", file.display());
    let refused = |part: &str| {
        let wrong = wrong(&text);
        assert_eq!(wrong[0].0, "shared.hash_key_file");
        assert!(wrong[0].1.contains(part), "{wrong:?}");
    };
    refused("can't be read");
    std::fs::write(&file, "short\nbut with a second line\n").unwrap();
    refused("a secret of 5 bytes can be guessed");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let plan = planned(&text).unwrap();
    assert!(!plan.hashes_in_public() && planned(redis).unwrap().hashes_in_public());
    let shown = plan.to_json();
    assert_eq!((&shown["hash_key_file"], &shown["plain"]), (&json!(file), &json!(["user"])));
    assert!(!format!("{shown} {plan:?}").contains("0123456789abcdef"));
    assert_eq!(
        wrong(&format!("{redis}\nplain: [[usr, user]]")),
        [("shared.plain.0".to_owned(), "unknown attribute `usr`".to_owned())]
    );
}

#[test]
fn mistakes_say_where_they_are() {
    let one = |path: &str, message: &str| vec![(path.to_owned(), message.to_owned())];
    assert_eq!(wrong("timeout: 5ms"), one("shared", "the limit has no store"));
    assert_eq!(wrong("redis: {}"), one("shared.redis.address", "`address` is missing"));
    let both = "redis: { address: 'a:1' }\nrate_limit_service: { address: 'a:1' }";
    assert_eq!(wrong(both), one("shared", "a limit has one store"));
    assert_eq!(
        wrong("redis: { address: 'a:1' }\ntimeout: 1m"),
        one("shared.timeout", "operations would wait too long for the store"),
    );
    assert_eq!(
        wrong("redis: { address: 'a:1', user: ann }"),
        one("shared.redis.user", "a user logs in with a password"),
    );
    let places: Vec<String> =
        wrong("rate_limit_service: {}").into_iter().map(|(path, _)| path).collect();
    let key = |key: &str| format!("shared.rate_limit_service.{key}");
    assert_eq!(places, [key("address"), key("domain"), key("descriptors")]);
    for empty in ["[]", "[[]]"] {
        let text =
            format!("rate_limit_service: {{ address: 'a:1', domain: d, descriptors: {empty} }}");
        let path = "shared.rate_limit_service.descriptors";
        assert_eq!(wrong(&text), one(path, "a descriptor has at least one entry"));
    }
}
