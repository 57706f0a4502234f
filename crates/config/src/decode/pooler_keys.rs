//! Keys of a `pool` that have other names in other poolers and in drivers.

/// A key of pgbouncer, pgdog or RDS Proxy, or an option of a driver.
pub(super) struct PoolerKey {
    name: &'static str,
    /// The key of a `pool` with this meaning, if there is one.
    pub(super) key: Option<&'static str>,
    /// What to do, if there is more to say than the key.
    pub(super) hint: Option<&'static str>,
}

const BY_OPERATION: &str = "leave it out: an operation gives its connection back with its reply, and \
                            transactions and cursors need no connection of their own";
const NO_RESERVE: &str =
    "there is no reserve: raise `max_pool_size`, and limit the wait by `wait_queue_timeout`";
const NO_SHARE: &str = "it is a number of connections to each endpoint, not a percentage";

const KEYS: &[PoolerKey] = &[
    // pgbouncer
    same("default_pool_size", "max_pool_size"),
    same("server_idle_timeout", "max_idle_time"),
    same("server_lifetime", "max_lifetime"),
    same("query_wait_timeout", "wait_queue_timeout"),
    other("reserve_pool_size", None, NO_RESERVE),
    other("reserve_pool_timeout", None, NO_RESERVE),
    other("max_client_conn", None, "it is `max_connections` of the listener"),
    other("max_db_connections", None, "it is `circuit_breaker.max_connections` of the cluster"),
    other("server_connect_timeout", None, "it is `connect_timeout` of the cluster"),
    other("pool_mode", None, BY_OPERATION),
    other("mode", None, BY_OPERATION),
    // Of this proxy
    other("orphan_grace", None, "it is `failover.orphan_grace` of the cluster"),
    // pgdog
    other("pooler_mode", None, BY_OPERATION),
    same("checkout_timeout", "wait_queue_timeout"),
    // RDS Proxy
    other("MaxConnectionsPercent", Some("max_pool_size"), NO_SHARE),
    same("ConnectionBorrowTimeout", "wait_queue_timeout"),
    // Options of drivers
    same("maxPoolSize", "max_pool_size"),
    same("minPoolSize", "min_pool_size"),
    same("maxIdleTimeMS", "max_idle_time"),
    same("maxConnecting", "max_connecting"),
    same("waitQueueTimeoutMS", "wait_queue_timeout"),
];

const fn same(name: &'static str, key: &'static str) -> PoolerKey {
    PoolerKey { name, key: Some(key), hint: None }
}

const fn other(name: &'static str, key: Option<&'static str>, hint: &'static str) -> PoolerKey {
    PoolerKey { name, key, hint: Some(hint) }
}

/// The key of another pooler with this name, if the map with the keys `known` is a `pool`.
pub(super) fn pooler_key(name: &str, known: &[&str]) -> Option<&'static PoolerKey> {
    let is_pool = known.contains(&"max_pool_size");
    // Drivers read their options in any case.
    KEYS.iter().find(|it| is_pool && it.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of a `pool`, by its schema.
    fn keys_of_a_pool() -> Vec<String> {
        let schema = crate::schema();
        let pool = schema["$defs"]["Pool"]["properties"].as_object().unwrap();
        pool.keys().cloned().collect()
    }

    #[test]
    fn each_counterpart_is_a_key_of_a_pool() {
        let known = keys_of_a_pool();
        for PoolerKey { name, key, hint } in KEYS {
            assert!(!known.iter().any(|key| key == name), "{name} is a key itself");
            assert!(key.is_none_or(|key| known.iter().any(|it| it == key)), "{name}");
            assert!(key.is_some() || hint.is_some(), "{name} needs a hint");
        }
    }

    #[test]
    fn keys_of_poolers_are_known_in_a_pool_only() {
        let known = keys_of_a_pool();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let key = |name| pooler_key(name, &known).and_then(|it| it.key);
        assert_eq!(key("maxpoolsize"), Some("max_pool_size"));
        assert_eq!(key("pool_mode"), None);
        assert!(pooler_key("pool_mode", &known).is_some());
        assert!(pooler_key("mode", &["address", "protocol"]).is_none());
    }
}
