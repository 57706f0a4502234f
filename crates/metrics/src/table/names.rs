//! The names of the metrics, for the code that records them.

/// Client connections accepted.
pub const CONNECTIONS_TOTAL: &str = "tollgate_connections_total";
/// Client connections open.
pub const CONNECTIONS_ACTIVE: &str = "tollgate_connections_active";
/// Client connections ended, by reason.
pub const CONNECTION_CLOSE_TOTAL: &str = "tollgate_connection_close_total";
/// TLS handshakes with clients, by result.
pub const TLS_HANDSHAKES_TOTAL: &str = "tollgate_tls_handshakes_total";
/// The duration of TLS handshakes with clients.
pub const TLS_HANDSHAKE_SECONDS: &str = "tollgate_tls_handshake_seconds";
/// Encrypted client connections, by version and cipher suite.
pub const TLS_CONNECTIONS_TOTAL: &str = "tollgate_tls_connections_total";
/// When a certificate expires.
pub const TLS_CERTIFICATE_NOT_AFTER_SECONDS: &str = "tollgate_tls_certificate_not_after_seconds";
/// Times that certificate files were read again because they had changed, by result.
pub const TLS_RELOADS_TOTAL: &str = "tollgate_tls_reloads_total";
/// Times that accepting stopped because descriptors ran out.
pub const ACCEPT_PAUSED_TOTAL: &str = "tollgate_accept_paused_total";
/// Requests that could not be held until policies knew enough to decide.
pub const REQUESTS_NOT_HELD_TOTAL: &str = "tollgate_requests_not_held_total";
/// Panics of the process.
pub const PANICS_TOTAL: &str = "tollgate_panics_total";
/// Client connections open, by worker.
pub const WORKER_CONNECTIONS_ACTIVE: &str = "tollgate_worker_connections_active";
/// Operations ended, by outcome.
pub const OPERATIONS_TOTAL: &str = "tollgate_operations_total";
/// How long operations took.
pub const OPERATION_DURATION_SECONDS: &str = "tollgate_operation_duration_seconds";
/// Bytes of operations.
pub const OPERATION_BYTES_TOTAL: &str = "tollgate_operation_bytes_total";
/// Operations in flight.
pub const OPERATIONS_ACTIVE: &str = "tollgate_operations_active";
/// Operations rejected.
pub const REFUSALS_TOTAL: &str = "tollgate_refusals_total";
/// Operations that a policy with `dry_run` would have rejected.
pub const DRY_RUN_REFUSALS_TOTAL: &str = "tollgate_dry_run_refusals_total";
/// Operations that a policy modified.
pub const POLICY_EFFECTS_TOTAL: &str = "tollgate_policy_effects_total";
/// Operations that a policy with `dry_run` would have modified.
pub const DRY_RUN_POLICY_EFFECTS_TOTAL: &str = "tollgate_dry_run_policy_effects_total";
/// Operations and connections without a bucket of their own in a rate limit.
pub const RATE_LIMIT_OVERFLOW_TOTAL: &str = "tollgate_rate_limit_overflow_total";
/// Round trips to the store of a shared limit, by result.
pub const SHARED_LIMIT_REQUESTS_TOTAL: &str = "tollgate_shared_limit_requests_total";
/// The duration of round trips to such a store.
pub const SHARED_LIMIT_DURATION_SECONDS: &str = "tollgate_shared_limit_duration_seconds";
/// Round trips to such a store without an answer, by kind.
pub const SHARED_LIMIT_ERRORS_TOTAL: &str = "tollgate_shared_limit_errors_total";
/// Operations decided without such a store.
pub const SHARED_LIMIT_FALLBACKS_TOTAL: &str = "tollgate_shared_limit_fallbacks_total";
/// Messages that could not be parsed.
pub const VIOLATIONS_TOTAL: &str = "tollgate_violations_total";
/// Operations counted under `other`.
pub const SERIES_CAPPED_TOTAL: &str = "tollgate_series_capped_total";
/// Findings about the programs that send operations.
pub const FINDINGS_TOTAL: &str = "tollgate_findings_total";
/// Rows of query shapes that full tables have evicted.
pub const SHAPES_EVICTED_TOTAL: &str = "tollgate_shapes_evicted_total";
/// Operations, by their place in the client's code.
pub const CALLSITE_OPERATIONS_TOTAL: &str = "tollgate_callsite_operations_total";
/// The duration of operations, by their place in the client's code.
pub const CALLSITE_DURATION_SECONDS: &str = "tollgate_callsite_duration_seconds";
/// Endpoints that share the label `other`.
pub const ENDPOINTS_CAPPED_TOTAL: &str = "tollgate_endpoints_capped_total";
/// Connections to an endpoint that are open.
pub const UPSTREAM_CONNECTIONS_ACTIVE: &str = "tollgate_upstream_connections_active";
/// Attempts to connect to an endpoint.
pub const UPSTREAM_CONNECT_TOTAL: &str = "tollgate_upstream_connect_total";
/// Addresses of an endpoint that are up.
pub const ENDPOINT_UP: &str = "tollgate_endpoint_up";
/// Addresses of an endpoint that are ejected.
pub const ENDPOINT_EJECTED: &str = "tollgate_endpoint_ejected";
/// Whether an endpoint is the primary of its replica set.
pub const ENDPOINT_PRIMARY: &str = "tollgate_endpoint_primary";
/// How far an endpoint is behind the primary of its replica set.
pub const ENDPOINT_LAG_SECONDS: &str = "tollgate_endpoint_lag_seconds";
/// Ejections of an endpoint, by detector.
pub const EJECTIONS_TOTAL: &str = "tollgate_ejections_total";
/// Ejections of an endpoint that were not enforced, by detector.
pub const EJECTIONS_NOT_ENFORCED_TOTAL: &str = "tollgate_ejections_not_enforced_total";
/// Health checks of an endpoint.
pub const HEALTH_CHECKS_TOTAL: &str = "tollgate_health_checks_total";
/// Operations on an endpoint that ended, by outcome.
pub const ENDPOINT_OPERATIONS_TOTAL: &str = "tollgate_endpoint_operations_total";
/// Operations on an endpoint in flight.
pub const ENDPOINT_OPERATIONS_ACTIVE: &str = "tollgate_endpoint_operations_active";
/// How long operations on an endpoint took.
pub const ENDPOINT_DURATION_SECONDS: &str = "tollgate_endpoint_operation_duration_seconds";
/// Whether a cluster panics.
pub const CLUSTER_PANIC: &str = "tollgate_cluster_panic";
/// Clients that wait for an upstream connection.
pub const CONNECTIONS_PENDING: &str = "tollgate_connections_pending";
/// Whether an operator has paused a cluster.
pub const CLUSTER_PAUSED: &str = "tollgate_cluster_paused";
/// Operations and connections that wait because their cluster is paused.
pub const PAUSE_WAITING: &str = "tollgate_pause_waiting";
/// Pauses that have ended because their time was over.
pub const PAUSES_EXPIRED_TOTAL: &str = "tollgate_pauses_expired_total";
/// Pooled connections, by state.
pub const POOL_CONNECTIONS: &str = "tollgate_pool_connections";
/// Operations that wait for a pooled connection.
pub const POOL_WAITING: &str = "tollgate_pool_waiting";
/// How long operations have waited for a pooled connection.
pub const POOL_WAIT_SECONDS: &str = "tollgate_pool_wait_seconds";
/// Operations that got no pooled connection.
pub const POOL_REFUSALS_TOTAL: &str = "tollgate_pool_refusals_total";
/// How long operations were held because no endpoint fitted them.
pub const HELD_SECONDS: &str = "tollgate_held_seconds";
/// Operations of which the request was sent again, by cause and outcome.
pub const REPLAYS_TOTAL: &str = "tollgate_replays_total";
/// What clients have left open, and the proxy has ended.
pub const ORPHANS_TOTAL: &str = "tollgate_orphans_total";
/// Reads that a mirror has got too, by result.
pub const MIRRORED_TOTAL: &str = "tollgate_mirrored_total";
/// Rejections by circuit breakers, by limit.
pub const BREAKER_REFUSALS_TOTAL: &str = "tollgate_breaker_refusals_total";
/// Look-ups of a cluster's names.
pub const DNS_LOOKUPS_TOTAL: &str = "tollgate_dns_lookups_total";
/// Spans that a collector has accepted.
pub const SPANS_EXPORTED_TOTAL: &str = "tollgate_spans_exported_total";
/// Spans lost, by reason.
pub const SPANS_DROPPED_TOTAL: &str = "tollgate_spans_dropped_total";
/// Lines of the proxy's own log lost.
pub const LOG_DROPPED_TOTAL: &str = "tollgate_log_dropped_total";
/// Access-log lines lost.
pub const ACCESS_LOG_DROPPED_TOTAL: &str = "tollgate_access_log_dropped_total";
/// Lines of the event log lost.
pub const EVENT_LOG_DROPPED_TOTAL: &str = "tollgate_event_log_dropped_total";
/// Series that were not recorded.
pub const METRICS_DROPPED_TOTAL: &str = "tollgate_metrics_dropped_total";
/// Always 1; the version is its label.
pub const BUILD_INFO: &str = "tollgate_build_info";
/// Reloads of the config, by result.
pub const CONFIG_RELOADS_TOTAL: &str = "tollgate_config_reloads_total";
/// When the config was last reloaded without an error.
pub const CONFIG_LAST_RELOAD_SECONDS: &str = "tollgate_config_last_reload_seconds";
/// The config that runs.
pub const CONFIG_INFO: &str = "tollgate_config_info";
