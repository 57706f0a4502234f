//! The schema: every key is in it, with its documentation, and it takes what the reader takes.

use super::fixtures;
use serde_json::Value;
use std::{collections::BTreeSet, fs};

#[test]
fn every_good_config_fits_the_schema() {
    let schema = config::schema();
    for path in fixtures("good") {
        let text = fs::read_to_string(&path).unwrap();
        // Editors take a word such as `off` for text, as this reader does.
        let options = serde_saphyr::options! { strict_booleans: true };
        let written: Value = serde_saphyr::from_str_with_options(&text, options).unwrap();
        fits(&schema, &schema, &written).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // …and so does what runs, which has every key that has a default.
        let shown = config::load(&path).unwrap().to_json();
        fits(&schema, &schema, &shown).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let schema = config::schema();
    let names = [
        "unknown_key",
        "admin",
        "missing_keys",
        "wrong_type",
        "endpoints_not_a_list",
        "balancing",
        "connections",
        "endpoint_keys",
        "endpoints_nowhere",
        "health_check",
        "outlier_detection",
        "probes",
        "unknown_protocol",
        "numbers_out_of_range",
        "no_listeners",
        "policies",
        "rates",
        "concurrency_and_connections",
        "bytes_and_time",
        "faults",
        "http_routes",
        "http_settings",
        "http_probes",
        "grpc_settings",
    ];
    for name in names {
        let path = fixtures("bad").into_iter().find(|path| path.file_stem().unwrap() == name);
        let text = fs::read_to_string(path.unwrap()).unwrap();
        let written: Value = serde_saphyr::from_str(&text).unwrap();
        assert!(fits(&schema, &schema, &written).is_err(), "{name}");
    }
}

/// Keys that users type: none of them may go.
const KEYS: &[&str] = &[
    "access_log",
    "adaptive",
    "address",
    "admin",
    "advertise",
    "allowed_hosts",
    "attempts",
    "backoff",
    "bandwidth_limit",
    "base_backoff",
    "body",
    "bridge",
    "budget",
    "burst",
    "circuit_breaker",
    "cluster",
    "clusters",
    "concurrency_limit",
    "connect",
    "connect_attempts",
    "connect_timeout",
    "connection_limit",
    "control",
    "cors",
    "credentials",
    "delay",
    "deny",
    "descriptors",
    "dns",
    "down",
    "drain",
    "drain_timeout",
    "dry_run",
    "enabled",
    "endpoints",
    "endpoints_file",
    "event_log",
    "every",
    "expect",
    "failed",
    "failure_percentage",
    "fault",
    "first_byte_timeout",
    "forwarded",
    "grpc",
    "half_close",
    "half_close_timeout",
    "handshake_timeout",
    "hash",
    "hash_key_file",
    "headers",
    "health_check",
    "hedge",
    "host",
    "http",
    "idle_timeout",
    "include",
    "keepalive",
    "lb_policy",
    "listeners",
    "match",
    "max",
    "max_body",
    "max_buffered",
    "max_buffered_per_connection",
    "max_concurrent_streams",
    "max_connection_duration",
    "max_connections",
    "max_delay",
    "max_head",
    "max_headers",
    "max_idle",
    "max_keys",
    "max_message",
    "max_request_body",
    "max_requests_per_connection",
    "max_series",
    "max_target",
    "max_ttl",
    "members",
    "message",
    "message_timeout",
    "methods",
    "min_ttl",
    "mirror",
    "mongo",
    "name",
    "not",
    "nth",
    "of",
    "on",
    "on_violation",
    "operation",
    "origins",
    "outlier_detection",
    "over",
    "path",
    "path_prefix",
    "path_regex",
    "path_template",
    "peer",
    "per_try_timeout",
    "percent",
    "plain",
    "policies",
    "priority",
    "probe",
    "protocol",
    "query",
    "queue",
    "queue_timeout",
    "rate",
    "rate_limit",
    "read_only",
    "redirect",
    "refuse",
    "rejected",
    "remove",
    "reply",
    "request_headers",
    "request_id",
    "request_timeout",
    "reserved_connections",
    "reset",
    "resource",
    "response_headers",
    "reverse_bridge",
    "rewrite",
    "rewrite_hello",
    "routes",
    "seed",
    "server_streams",
    "service",
    "set",
    "shard_keys",
    "slow_start",
    "slower_than",
    "spare_connections",
    "srv",
    "status",
    "stream_idle_timeout",
    "success_rate",
    "tcp",
    "tcp_user_timeout",
    "throttle",
    "time_limit",
    "timeout",
    "times",
    "token_file",
    "total_timeout",
    "trace",
    "transcode",
    "truncate",
    "trusted_hops",
    "unit",
    "up",
    "upgrade",
    "upstream_connect_mode",
    "values",
    "version",
    "via",
    "wait",
    "web",
    "weight",
    "withhold_frames",
    "workers",
    "write_timeout",
    "zone",
];

#[test]
#[allow(clippy::too_many_lines, reason = "a list of keys")]
fn every_key_is_documented_in_the_schema() {
    let schema = config::schema();
    let mut keys = BTreeSet::new();
    each_property(&schema, &mut |name, property| {
        assert!(property["description"].is_string(), "{name}: {property}");
        keys.insert(name.to_owned());
    });
    for key in KEYS {
        assert!(keys.contains(*key), "{key} is not in {keys:?}");
    }
}

#[test]
fn the_example_with_every_key_has_every_key() {
    let mut keys = BTreeSet::new();
    each_property(&config::schema(), &mut |name, _| {
        keys.insert(name.to_owned());
    });
    let path = fixtures("good").into_iter().find(|path| path.ends_with("every_key.yaml")).unwrap();
    let text = fs::read_to_string(path).unwrap();
    for key in keys {
        assert!(text.contains(&format!("{key}:")), "{key}");
    }
}

fn each_property(schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                for (name, property) in properties {
                    visit(name, property);
                }
            }
            object.values().for_each(|value| each_property(value, visit));
        }
        Value::Array(items) => items.iter().for_each(|value| each_property(value, visit)),
        _ => {}
    }
}

/// Validates a value against those keywords that our schema uses, patterns left out.
#[expect(clippy::too_many_lines, reason = "a check for every keyword")]
fn fits(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(rules) = schema.as_object() else {
        return if schema == &Value::Bool(false) { Err("nothing fits".into()) } else { Ok(()) };
    };
    for (keyword, rule) in rules {
        let ok = match keyword.as_str() {
            "$ref" => {
                let path = rule.as_str().unwrap().strip_prefix('#').unwrap();
                fits(root, root.pointer(path).unwrap(), value)?;
                true
            }
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is_kind(value, kind)),
                kind => is_kind(value, kind),
            },
            "const" => rule == value,
            "enum" => rule.as_array().unwrap().contains(value),
            "anyOf" => rule.as_array().unwrap().iter().any(|one| fits(root, one, value).is_ok()),
            "oneOf" => {
                let ones = rule.as_array().unwrap().iter();
                ones.filter(|one| fits(root, one, value).is_ok()).count() == 1
            }
            "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap()),
            "minLength" => value.as_str().is_none_or(|it| it.len() >= bound(rule)),
            "maxLength" => value.as_str().is_none_or(|it| it.len() <= bound(rule)),
            "maxItems" => value.as_array().is_none_or(|list| list.len() <= bound(rule)),
            "minItems" => value.as_array().is_none_or(|list| list.len() >= bound(rule)),
            "minProperties" => value.as_object().is_none_or(|map| map.len() >= bound(rule)),
            "maxProperties" => value.as_object().is_none_or(|map| map.len() <= bound(rule)),
            "required" => value.as_object().is_none_or(|map| {
                rule.as_array().unwrap().iter().all(|key| map.contains_key(key.as_str().unwrap()))
            }),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    fits(root, rule, item)?;
                }
                true
            }
            "properties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    if let Some(property) = rule.get(key) {
                        fits(root, property, inner).map_err(|e| format!("{key}: {e}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                // What people keep for themselves.
                let own =
                    |key: &str| rules.contains_key("patternProperties") && key.starts_with("x-");
                let entries = value.as_object().into_iter().flatten();
                for (key, inner) in entries.filter(|(key, _)| !own(key)) {
                    if rules.get("properties").and_then(|known| known.get(key)).is_none() {
                        fits(root, rule, inner).map_err(|e| format!("{key}: {e}"))?;
                    }
                }
                true
            }
            "patternProperties" | "$schema" | "$defs" | "title" | "description" | "default"
            | "examples" | "pattern" | "format" | "propertyNames" => true,
            other => panic!("teach this test the keyword {other}"),
        };
        if !ok {
            return Err(format!("{value} breaks {keyword}: {rule}"));
        }
    }
    Ok(())
}

fn bound(rule: &Value) -> usize {
    usize::try_from(rule.as_u64().unwrap()).unwrap()
}

fn is_kind(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("teach this test the type {other}"),
    }
}
