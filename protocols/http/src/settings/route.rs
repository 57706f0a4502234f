//! Settings of a route.

mod either;

use super::{cors::CorsSettings, word::RetryCondition};
pub use either::{UpgradeSettings, ValueMatch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use values::{InRange, Limit, Name, OneOrMore, OrOff, Percent, Share, Size, Text};

/// Where matching requests go, and how they are changed. A route has a name, and exactly one of
/// `cluster`, `clusters`, `redirect` and `reply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpRoute",
    expecting = "keys and values, such as `{ name: all, cluster: shop }`"
)]
pub struct RouteSettings {
    /// Its name: the resource of its operations in metrics, logs and policies.
    pub name: Text<Name>,
    /// Which requests it matches: those for which all of this holds. Default: every request.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<MatchSettings>,
    /// The cluster of its requests. Default: `clusters`, `redirect` or `reply` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Clusters that share the requests by weight. Default: `cluster`, `redirect` or `reply`
    /// instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub clusters: Option<Vec<WeightedSettings>>,
    /// Redirect the client. Default: `cluster`, `clusters` or `reply` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectSettings>,
    /// Answer with a fixed response. Default: `cluster`, `clusters` or `redirect` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplySettings>,
    /// How long the response may take to start: from the end of the request to the response's head,
    /// with all attempts and the pauses between them, or `off`. Behind `grpc` it is the time until
    /// the response's end, as with `total_timeout`. Default: `15s`; `off` behind `grpc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Text<OrOff<Duration>>>,
    /// How long the whole response may take: from the end of the request to the end of the
    /// response, with all attempts, or `off`. A response that has started is then cut short.
    /// Default: `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_timeout: Option<Text<OrOff<Duration>>>,
    /// Longest time without a byte in either direction during a request and its response, or `off`.
    /// Default: the listener's `stream_idle_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Text<OrOff<Duration>>>,
    /// Which failures are retried, and how often. Default: none, except requests that an endpoint
    /// did not process on a reused connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetrySettings>,
    /// A cluster that gets copies of requests; its responses are discarded. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorSettings>,
    /// Send a request to a second endpoint when the first has not responded for a time, and use the
    /// first response. The service must tolerate duplicates. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge: Option<HedgeSettings>,
    /// Path and host that the service gets. Default: as the client sent them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<RewriteSettings>,
    /// Edits of request headers. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<EditSettings>,
    /// Edits of response headers. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<EditSettings>,
    /// CORS: which other origins' pages may call. Default: the listener's `cors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsSettings>,
    /// Let clients change the protocol of their connection: `true` for any protocol, or a list such
    /// as `[websocket]`. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeSettings>,
    /// Let clients use `CONNECT`, which opens a tunnel to the cluster. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<bool>,
    /// Largest body of a request, in bytes, or `off`. Larger ones are rejected with 413. Default:
    /// the listener's `max_request_body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_body: Option<Text<OrOff<Size>>>,
}

/// Which requests a route matches: those for which every key here holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpMatch",
    expecting = "keys and values, such as `{ path_prefix: /cart }`"
)]
pub struct MatchSettings {
    /// The request's host, or a list: `shop.example.com`, `*.example.com` (any name below it),
    /// `shop.*` (any name with this prefix). Port and case are ignored. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<OneOrMore<String>>,
    /// The whole path, without the query. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path's first segments: `/cart` matches `/cart` and `/cart/items`, not `/cartoon`.
    /// Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// The path's segments, with names for variable ones: `/users/{id}`; `{rest=**}` at the end
    /// matches the rest, which may be empty. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_template: Option<String>,
    /// A regular expression that must match the whole path, without the query: `/v[0-9]+/.*`.
    /// Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// The method, or a list: `GET`, `[GET, HEAD]`. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<OneOrMore<String>>,
    /// Headers with conditions: a text that must be equal, or keys. Default: any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, ValueMatch>,
    /// Query parameters with conditions: a text that must be equal, or keys. Default: any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, ValueMatch>,
}

/// A cluster, and its share of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpWeighted",
    expecting = "keys and values, such as `{ cluster: shop, weight: 9 }`"
)]
pub struct WeightedSettings {
    /// Its name.
    pub cluster: String,
    /// Its weight relative to the others; 0 gets nothing. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Text<InRange<0, 1_000_000>>>,
}

/// Redirects the client. Parts that are not given stay as requested.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpRedirect",
    expecting = "keys and values, such as `{ host: shop.example.com }`"
)]
pub struct RedirectSettings {
    /// 301, 302, 303, 307 or 308. Default: 301.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Text<InRange<301, 308>>>,
    /// `http` or `https`. Default: the request's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The host, without its port. Default: the request's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port. Default: the scheme's own if `scheme` or `host` is given, or else the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Text<InRange<1, 65_535>>>,
    /// The whole path; `{name}` is a capture of the match. Default: the request's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Replaces the match's `path_prefix`. Default: the request's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Keep the query. Default: `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<bool>,
}

/// A fixed response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpReply",
    expecting = "keys and values, such as `{ status: 404 }`"
)]
pub struct ReplySettings {
    /// Its status, 200 to 599.
    pub status: Text<InRange<200, 599>>,
    /// Its body, at most 64 KiB. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Its headers. Default: `content-type: text/plain; charset=utf-8` where there is a body.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// Which failures are retried, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpRetry",
    expecting = "keys and values, such as `{ on: [connect_failure, 503] }`"
)]
pub struct RetrySettings {
    /// When: `connect_failure`, `reset`, `refused_stream`, `5xx` and `gateway_error` (502 to 504),
    /// which both include those three and an attempt that timed out, `retriable_4xx` (409), any
    /// status or range of them, or a gRPC status such as `unavailable`.
    pub on: OneOrMore<Text<RetryCondition>>,
    /// Most retries after the first attempt. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Text<InRange<1, 10>>>,
    /// How long one attempt may take, up to the head of its response. Default: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Text<Duration>>,
    /// How long to wait before each retry. Default: `{ base: 25ms, max: 250ms }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<BackoffSettings>,
    /// Most concurrent retries, so that they do not overload a failing service. Default: `{
    /// percent: 20, min: 3 }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSettings>,
    /// How many bytes of a request's body are kept for retries. A request is not retried once more
    /// than that was sent. Default: `64KiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<Text<Size>>,
    /// The methods that are retried when the service may have processed the first attempt.
    /// Unprocessed requests are retried with any method. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<OneOrMore<String>>,
}

/// The wait before a retry: random, up to a bound that about doubles each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpBackoff",
    expecting = "keys and values, such as `{ base: 25ms, max: 250ms }`"
)]
pub struct BackoffSettings {
    /// The bound before the first retry. Before the n-th it is (2ⁿ − 1) times that. Default:
    /// `25ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Text<Duration>>,
    /// The largest bound. Default: ten times `base`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Text<Duration>>,
}

/// Most concurrent retries of a route, on each worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpBudget",
    expecting = "keys and values, such as `{ percent: 20, min: 3 }`"
)]
pub struct BudgetSettings {
    /// As a percentage of the route's requests in flight. Default: 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Text<Percent>>,
    /// Number that is always allowed. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Text<Limit>>,
}

/// A cluster that gets a copy of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpMirror",
    expecting = "keys and values, such as `{ cluster: canary, percent: 1 }`"
)]
pub struct MirrorSettings {
    /// Its name.
    pub cluster: String,
    /// Percentage of the requests, chosen at random. Default: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Text<Share>>,
    /// How many bytes of a request's body are kept for the copy. Requests with more are not copied.
    /// At most `16MiB`. Default: `64KiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<Text<Size>>,
}

/// When a second endpoint gets the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpHedge",
    expecting = "keys and values, such as `{ after: 100ms }`"
)]
pub struct HedgeSettings {
    /// After this time without response from the first.
    pub after: Text<Duration>,
}

/// How path and host are rewritten for the service. The query and the rest of the path stay byte
/// for byte. At most one of `prefix`, `path` and `regex`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpRewrite",
    expecting = "keys and values, such as `{ prefix: / }`"
)]
pub struct RewriteSettings {
    /// Replaces the match's `path_prefix`. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The whole path; `{name}` is a capture of `path_template` or `path_regex`. Default:
    /// nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Replaces all matches of a regular expression in the path. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<PatternRewrite>,
    /// The host, with its port if it has one. Default: the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A replacement in a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpPatternRewrite",
    expecting = "keys and values, such as `{ pattern: \"^/v([0-9]+)\", substitution: \"/api/$1\" }`"
)]
pub struct PatternRewrite {
    /// A regular expression; every match is replaced.
    pub pattern: String,
    /// The replacement: `$1` or `${name}` is a group, `$$` a dollar sign. Config files write `$${name}`,
    /// because `${name}` is a variable there.
    pub substitution: String,
}

/// Edits of headers: first some are removed, then some set, then some added.
///
/// Values may have variables, `%{peer_ip}`; `%%` is a percent sign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpHeaderEdits",
    expecting = "keys and values, such as `{ remove: [x-debug] }`"
)]
pub struct EditSettings {
    /// Headers to set: this value replaces all others. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Headers to add, beside existing lines of the same name. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, String>,
    /// Headers to remove, all lines of them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}
