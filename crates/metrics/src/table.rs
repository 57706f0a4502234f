//! Every metric once: its name, kind, unit, help and labels. `docs/metrics.md` is checked against it.
//!
//! To add one: a constant for its name in `names.rs`, a row in [`TABLE`], and
//! `UPDATE_DOCS=1 cargo test --test docs`.

mod extras;
mod names;
mod row;

pub use extras::extras;
pub use names::*;
pub use row::{Kind, Metric};
use row::{counter, gauge, histogram};

/// The label that a series lacks if it has no value.
pub const REASON: &str = "reason";

const LISTENER: &[&str] = &["listener"];
const OPERATION: &[&str] = &["listener", "protocol", "operation", "resource"];
const ENDPOINT: &[&str] = &["cluster", "endpoint"];
const CALLSITE: &[&str] = &["listener", "callsite", "operation", "resource"];

/// Every metric of the proxy itself. Protocols declare theirs.
pub const TABLE: &[Metric] = &[
    counter(
        CONNECTIONS_TOTAL,
        "connections",
        LISTENER,
        "Client connections accepted, whatever became of them.",
    ),
    gauge(CONNECTIONS_ACTIVE, "connections", LISTENER, "Client connections open."),
    counter(
        CONNECTION_CLOSE_TOTAL,
        "connections",
        &["listener", "reason"],
        "Client connections ended, by reason.",
    ),
    counter(
        TLS_HANDSHAKES_TOTAL,
        "handshakes",
        &["listener", "result"],
        "TLS handshakes with clients: `ok`, `resumed`, or why they failed.",
    ),
    histogram(TLS_HANDSHAKE_SECONDS, LISTENER, "The duration of TLS handshakes with clients."),
    counter(
        TLS_CONNECTIONS_TOTAL,
        "connections",
        &["listener", "version", "cipher"],
        "Encrypted client connections, by TLS version and cipher suite.",
    ),
    gauge(
        TLS_CERTIFICATE_NOT_AFTER_SECONDS,
        "seconds",
        &["certificate"],
        "When a certificate that is in use expires, in seconds since 1970; the label is its file.",
    ),
    counter(
        TLS_RELOADS_TOTAL,
        "reloads",
        &["result"],
        "Times that certificate files had changed and were read again: `ok` or `failed`.",
    ),
    counter(
        ACCEPT_PAUSED_TOTAL,
        "pauses",
        LISTENER,
        "Times that accepting stopped for a moment because the process was out of descriptors.",
    ),
    counter(
        REQUESTS_NOT_HELD_TOTAL,
        "requests",
        LISTENER,
        "Requests that could not be held until policies knew all that they needed, since the \
         listener's `max_held_bytes` were in use.",
    ),
    counter(
        PANICS_TOTAL,
        "panics",
        &[],
        "Panics, each of which is a bug in Tollgate: a line on stderr has the place. One while a \
         connection is served ends that connection.",
    ),
    gauge(
        WORKER_CONNECTIONS_ACTIVE,
        "connections",
        &["worker"],
        "Client connections open, by the worker that serves them.",
    ),
    counter(
        OPERATIONS_TOTAL,
        "operations",
        &["listener", "protocol", "operation", "resource", "outcome", REASON],
        "Operations ended, by outcome: ok, rejected, failed, lost, cancelled. `reason` is there only \
         where the proxy itself rejected, and is the cause; without it, `rejected` is the service's \
         answer.",
    ),
    histogram(
        OPERATION_DURATION_SECONDS,
        OPERATION,
        "Time from an operation's first byte to the last byte of its reply.",
    ),
    counter(
        OPERATION_BYTES_TOTAL,
        "bytes",
        &["listener", "protocol", "operation", "resource", "direction"],
        "Bytes of operations, by direction: request, reply.",
    ),
    gauge(OPERATIONS_ACTIVE, "operations", LISTENER, "Operations under way."),
    counter(
        REFUSALS_TOTAL,
        "operations",
        &["listener", "policy", "reason"],
        "Operations and connections that the proxy refused, by policy and reason.",
    ),
    counter(
        DRY_RUN_REFUSALS_TOTAL,
        "operations",
        &["listener", "policy", "reason"],
        "Operations and connections that a policy with `dry_run` would have refused.",
    ),
    counter(
        POLICY_EFFECTS_TOTAL,
        "operations",
        &["listener", "policy"],
        "Operations that a policy delayed, limited in time, slowed down or is to cut short.",
    ),
    counter(
        DRY_RUN_POLICY_EFFECTS_TOTAL,
        "operations",
        &["listener", "policy"],
        "Operations that a policy with `dry_run` would have delayed, limited in time, slowed down \
         or cut short.",
    ),
    counter(
        RATE_LIMIT_OVERFLOW_TOTAL,
        "operations",
        &["policy"],
        "Operations and connections whose key found no room in a rate limit (`max_keys`), so that \
         they shared one allowance with others like them.",
    ),
    counter(
        SHARED_LIMIT_REQUESTS_TOTAL,
        "requests",
        &["policy", "store", "result"],
        "Round trips to the store of a limit that machines share, by result: granted, refused.",
    ),
    histogram(
        SHARED_LIMIT_DURATION_SECONDS,
        &["policy", "store"],
        "Time that round trips to the store of a shared limit took, if they brought an answer.",
    ),
    counter(
        SHARED_LIMIT_ERRORS_TOTAL,
        "requests",
        &["policy", "store", "kind"],
        "Round trips to the store of a shared limit that brought no answer: timeout, unreachable, \
         error, full.",
    ),
    counter(
        SHARED_LIMIT_FALLBACKS_TOTAL,
        "operations",
        &["policy", "store"],
        "Operations that `on_store_failure` decided, since the store of a shared limit could not \
         be asked in time.",
    ),
    counter(
        VIOLATIONS_TOTAL,
        "messages",
        &["listener", "protocol", "kind"],
        "Messages that could not be read as what the protocol says.",
    ),
    counter(
        SERIES_CAPPED_TOTAL,
        "operations",
        LISTENER,
        "Operations counted under \"other\" because the listener keeps enough series apart.",
    ),
    counter(
        FINDINGS_TOTAL,
        "findings",
        &["listener", "finding"],
        "What the order and the size of operations say about the programs that send them, each time that it \
         was found: see `GET /findings`.",
    ),
    counter(
        SHAPES_EVICTED_TOTAL,
        "rows",
        &[],
        "Query shapes that were evicted from full tables; what they had counted is not in `GET /shapes`.",
    ),
    counter(
        CALLSITE_OPERATIONS_TOTAL,
        "operations",
        CALLSITE,
        "Operations ended, by the place in the client's code that they come from.",
    ),
    histogram(
        CALLSITE_DURATION_SECONDS,
        CALLSITE,
        "Time that operations took, by the place in the client's code that they come from.",
    ),
    counter(
        ENDPOINTS_CAPPED_TOTAL,
        "endpoints",
        &["cluster"],
        "Endpoints that came when 1,024 others by SRV records or a file had series of their own: \
         they are counted under \"other\".",
    ),
    gauge(
        UPSTREAM_CONNECTIONS_ACTIVE,
        "connections",
        &["cluster", "endpoint"],
        "Connections to an endpoint that are open.",
    ),
    counter(
        UPSTREAM_CONNECT_TOTAL,
        "attempts",
        &["cluster", "endpoint", "result"],
        "Attempts to connect to an endpoint, by result: ok, refused, timeout, error, local_error (this \
         machine lacked ports, descriptors or memory).",
    ),
    gauge(
        ENDPOINT_UP,
        "addresses",
        ENDPOINT,
        "Addresses of an endpoint that its health checks find healthy; all, where there are none.",
    ),
    gauge(
        ENDPOINT_EJECTED,
        "addresses",
        ENDPOINT,
        "Addresses of an endpoint that are ejected, by outlier detection or by hand.",
    ),
    gauge(
        ENDPOINT_PRIMARY,
        "addresses",
        ENDPOINT,
        "Whether an endpoint is the primary of its replica set: their sum is 0 while there is none.",
    ),
    gauge(
        ENDPOINT_LAG_SECONDS,
        "seconds",
        ENDPOINT,
        "How far an endpoint is behind the primary of its replica set, as its last answer said.",
    ),
    counter(
        EJECTIONS_TOTAL,
        "ejections",
        &["cluster", "endpoint", "detector"],
        "Ejections of an endpoint, by what detected that it fails.",
    ),
    counter(
        EJECTIONS_NOT_ENFORCED_TOTAL,
        "ejections",
        &["cluster", "endpoint", "detector"],
        "Ejections of an endpoint that were only logged: not enforced, or too many already.",
    ),
    counter(
        HEALTH_CHECKS_TOTAL,
        "checks",
        &["cluster", "endpoint", "result"],
        "Health checks of an endpoint, by result: ok, failed, local_error (this machine could not make \
         it).",
    ),
    counter(
        ENDPOINT_OPERATIONS_TOTAL,
        "operations",
        &["cluster", "endpoint", "outcome"],
        "Operations on an endpoint that ended, by outcome: ok, rejected, failed, lost, cancelled.",
    ),
    gauge(
        ENDPOINT_OPERATIONS_ACTIVE,
        "operations",
        ENDPOINT,
        "Operations on an endpoint under way.",
    ),
    histogram(ENDPOINT_DURATION_SECONDS, ENDPOINT, "Time that operations on an endpoint took."),
    gauge(
        CLUSTER_PANIC,
        "clusters",
        &["cluster"],
        "1 while so few endpoints are usable that health is ignored, or everything refused.",
    ),
    gauge(
        CLUSTER_PAUSED,
        "clusters",
        &["cluster"],
        "1 while an operator has paused the cluster, and new operations wait.",
    ),
    gauge(
        PAUSE_WAITING,
        "operations",
        &["cluster"],
        "Operations and connections that wait because their cluster is paused.",
    ),
    counter(
        PAUSES_EXPIRED_TOTAL,
        "pauses",
        &["cluster"],
        "Pauses of a cluster that no operator has ended: they ended after their resume_after.",
    ),
    gauge(
        CONNECTIONS_PENDING,
        "connections",
        &["cluster"],
        "Client connections that wait because the cluster has as many upstream connections as it \
         may.",
    ),
    gauge(
        POOL_CONNECTIONS,
        "connections",
        &["cluster", "endpoint", "user", "state"],
        "Connections that operations share, by the user of a log-in at the proxy and by state: idle, active (an operation uses it), awaiting (an \
         operation that waits for news uses it), connecting.",
    ),
    gauge(
        POOL_WAITING,
        "operations",
        &["cluster", "endpoint", "user"],
        "Operations that wait for a connection of a pool, by the user of a log-in at the proxy.",
    ),
    histogram(
        POOL_WAIT_SECONDS,
        &["cluster"],
        "Time that operations have waited for a connection of a pool, without those that got one at once.",
    ),
    counter(
        POOL_REFUSALS_TOTAL,
        "operations",
        &["cluster", "reason"],
        "Operations that got no connection of a pool, by reason: queue_full, timeout, no_endpoint, paused.",
    ),
    histogram(
        HELD_SECONDS,
        &["cluster"],
        "Time for which operations of a pool were held because no endpoint fitted them or could be reached, \
         without those that were not held.",
    ),
    counter(
        REPLAYS_TOTAL,
        "operations",
        &["cluster", "cause", "outcome"],
        "Operations of which the request was sent again, by the last cause (role, connection, cursor, \
         unsupported) and their outcome.",
    ),
    counter(
        ORPHANS_TOTAL,
        "orphans",
        &["cluster", "kind"],
        "What clients that vanished have left open, and a pool has ended, by kind: transaction, cursor.",
    ),
    counter(
        MIRRORED_TOTAL,
        "reads",
        &["cluster", "result"],
        "Reads chosen for a mirror, by result: same, differs, sent, failed, unreachable, too_long, dropped.",
    ),
    counter(
        BREAKER_REFUSALS_TOTAL,
        "refusals",
        &["cluster", "limit"],
        "Connections, operations and retries refused because a limit of a cluster was reached, by \
         the limit's key.",
    ),
    counter(
        DNS_LOOKUPS_TOTAL,
        "lookups",
        &["cluster", "result"],
        "Look-ups of the names of a cluster's endpoints, by result.",
    ),
    counter(SPANS_EXPORTED_TOTAL, "spans", &[], "Spans that the collector of traces has accepted."),
    counter(
        SPANS_DROPPED_TOTAL,
        "spans",
        &[REASON],
        "Spans lost, by reason: rate (more than `max_spans_per_second`), queue_full (the collector takes \
         them more slowly than they come), refused (by the collector), unreachable.",
    ),
    counter(
        LOG_DROPPED_TOTAL,
        "lines",
        &[],
        "Lines of the proxy's own log, on stderr, lost because they could not be written, or not as \
         fast as they came.",
    ),
    counter(
        ACCESS_LOG_DROPPED_TOTAL,
        "lines",
        &[],
        "Access-log lines lost because they could not be written, or not as fast as they came.",
    ),
    counter(
        EVENT_LOG_DROPPED_TOTAL,
        "lines",
        &[],
        "Lines of the event log lost because they could not be written, or not as fast as they \
         came.",
    ),
    counter(
        METRICS_DROPPED_TOTAL,
        "series",
        &[],
        "Requests for a series that is not recorded, because there are too many or it is \
         not declared.",
    ),
    counter(CONFIG_RELOADS_TOTAL, "reloads", &["result"], "Reloads: `ok`, `unchanged`, `failed`."),
    gauge(CONFIG_LAST_RELOAD_SECONDS, "seconds", &[], "When the last good reload was (Unix time)."),
    gauge(CONFIG_INFO, "configs", &["hash"], "Always 1; the label identifies the config."),
    gauge(BUILD_INFO, "builds", &["version"], "Always 1; the version is its label."),
];
