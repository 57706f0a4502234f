//! What people write about a route.

mod either;

use super::{cors::CorsSettings, word::RetryCondition};
pub use either::{UpgradeSettings, ValueMatch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use values::{Between, Limit, Name, OneOrMore, OrOff, Percent, Share, Size, Text};

/// Where requests of one kind go, and what is done to them on the way. It has a name, and exactly
/// one of `cluster`, `clusters`, `redirect` and `reply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpRoute",
    expecting = "keys and values, such as `{ name: all, cluster: shop }`"
)]
pub struct RouteSettings {
    /// What it is called: the resource of its operations in metrics, logs and policies.
    pub name: Text<Name>,
    /// Which requests it is for: those for which all of this holds. Default: every request.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<MatchSettings>,
    /// The cluster that they go to. Default: `clusters`, `redirect` or `reply` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Clusters that share them by weight. Default: `cluster`, `redirect` or `reply` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub clusters: Option<Vec<WeightedSettings>>,
    /// Send the client elsewhere. Default: `cluster`, `clusters` or `reply` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectSettings>,
    /// Answer in the place of a service. Default: `cluster`, `clusters` or `redirect` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplySettings>,
    /// How long the answer may take to begin: from the end of the request to the answer's head,
    /// with all tries and the pauses between them, or `off`. Behind `grpc` it is the time until
    /// the answer's end, as with `total_timeout`. Default: `15s`; `off` behind `grpc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Text<OrOff<Duration>>>,
    /// How long the answer may take in all: from the end of the request to the end of the answer,
    /// with all tries, or `off`. An answer that has begun is cut short then. Default: `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_timeout: Option<Text<OrOff<Duration>>>,
    /// How long nothing may move either way within a request and its answer, or `off`.
    /// Default: the listener's `stream_idle_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Text<OrOff<Duration>>>,
    /// What is tried again, and how often. Default: nothing, but what an endpoint did not read on
    /// a connection that was kept for reuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetrySettings>,
    /// A cluster that gets a copy of requests; what it answers is thrown away. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorSettings>,
    /// Ask a second endpoint when the first has not answered for a time, and take what comes
    /// first. The service has to bear being asked twice. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge: Option<HedgeSettings>,
    /// What the service sees in the place of the request's path and host. Default: what the
    /// client asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<RewriteSettings>,
    /// What is done to the request's headers. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<EditSettings>,
    /// What is done to the answer's headers. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<EditSettings>,
    /// Which other sites' pages may ask (CORS). Default: the listener's `cors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsSettings>,
    /// Let clients change the protocol of their connection: `true` to whichever they like, or a
    /// list such as `[websocket]`. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeSettings>,
    /// Let clients use `CONNECT`, which makes a tunnel to the cluster. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<bool>,
    /// How many bytes a request's body may have, or `off`. More are refused with 413.
    /// Default: the listener's `max_request_body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_body: Option<Text<OrOff<Size>>>,
}

/// Which requests a route is for: those for which every key here holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpMatch",
    expecting = "keys and values, such as `{ path_prefix: /cart }`"
)]
pub struct MatchSettings {
    /// The host that the request is for, or a list: `shop.example.com`, `*.example.com` (any name
    /// below it), `shop.*` (any name that begins so). Neither its port nor case matter.
    /// Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<OneOrMore<String>>,
    /// The whole path, without the query. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path's first segments: `/cart` is for `/cart` and `/cart/items`, not for `/cartoon`.
    /// Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// The path's segments, with names for those that may be anything: `/users/{id}`; `{rest=**}`
    /// at the end is all that follows, also nothing. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_template: Option<String>,
    /// A regular expression that the whole path fits, without the query: `/v[0-9]+/.*`.
    /// Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// The method, or a list: `GET`, `[GET, HEAD]`. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<OneOrMore<String>>,
    /// Headers, and what each has to be: text for exactly that, or keys. Default: any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, ValueMatch>,
    /// Parameters of the query, and what each has to be: text for exactly that, or keys.
    /// Default: any.
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
    /// Its share beside the others; 0 gets nothing. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Text<Between<0, 1_000_000>>>,
}

/// Sends the client elsewhere. What is not given stays as the client asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpRedirect",
    expecting = "keys and values, such as `{ host: shop.example.com }`"
)]
pub struct RedirectSettings {
    /// 301, 302, 303, 307 or 308. Default: 301.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Text<Between<301, 308>>>,
    /// `http` or `https`. Default: the request's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The host, without its port. Default: the request's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port. Default: the scheme's own if `scheme` or `host` is given, or else the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Text<Between<1, 65_535>>>,
    /// The whole path; `{name}` stands for what the match named so. Default: the request's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Put in the place of the match's `path_prefix`. Default: the request's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Keep the query. Default: `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<bool>,
}

/// An answer in the place of a service's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpReply",
    expecting = "keys and values, such as `{ status: 404 }`"
)]
pub struct ReplySettings {
    /// Its status, 200 to 599.
    pub status: Text<Between<200, 599>>,
    /// Its body, at most 64 KiB. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Its headers. Default: `content-type: text/plain; charset=utf-8` where there is a body.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// What is tried again, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpRetry",
    expecting = "keys and values, such as `{ on: [connect_failure, 503] }`"
)]
pub struct RetrySettings {
    /// When: `connect_failure`, `reset`, `refused_stream`, `5xx` and `gateway_error` (502 to 504),
    /// which both include those three and a try that took too long, `retriable_4xx` (409), any
    /// status or range of them, or a gRPC status such as `unavailable`.
    pub on: OneOrMore<Text<RetryCondition>>,
    /// How many times more, beside the first. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Text<Between<1, 10>>>,
    /// How long one try may take, up to the head of its answer. Default: as long as there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Text<Duration>>,
    /// How long it waits before each. Default: `{ base: 25ms, max: 250ms }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<BackoffSettings>,
    /// How many may be under way, so that retries do not drown a service that is ill.
    /// Default: `{ percent: 20, min: 3 }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSettings>,
    /// How many bytes of a request's body are kept to be sent again. A request with more is not
    /// tried again once more than that was sent. Default: `64KiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<Text<Size>>,
    /// The methods that are tried again when the service may have acted on the first try.
    /// What was not sent or not read is tried again whatever its method. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<OneOrMore<String>>,
}

/// How long it waits before a retry: at random, up to a bound that about doubles each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpBackoff",
    expecting = "keys and values, such as `{ base: 25ms, max: 250ms }`"
)]
pub struct BackoffSettings {
    /// The bound before the first. Before the n-th it is (2ⁿ − 1) times that. Default: `25ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Text<Duration>>,
    /// The most that the bound grows to. Default: ten times `base`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Text<Duration>>,
}

/// How many retries may be under way on a route at once, on each worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpBudget",
    expecting = "keys and values, such as `{ percent: 20, min: 3 }`"
)]
pub struct BudgetSettings {
    /// In percent of the route's requests that are under way. Default: 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Text<Percent>>,
    /// How many are always allowed. Default: 3.
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
    /// How many of a hundred requests, at random. Default: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Text<Share>>,
    /// How much of a request's body is kept to be sent twice. A request with more is not copied.
    /// At most `16MiB`. Default: `64KiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<Text<Size>>,
}

/// When a second endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpHedge",
    expecting = "keys and values, such as `{ after: 100ms }`"
)]
pub struct HedgeSettings {
    /// How long the first has not begun to answer.
    pub after: Text<Duration>,
}

/// What the service sees in the place of what the client asked for. The query stays, and so does
/// the rest of the path, byte for byte. At most one of `prefix`, `path` and `regex`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpRewrite",
    expecting = "keys and values, such as `{ prefix: / }`"
)]
pub struct RewriteSettings {
    /// Put in the place of the match's `path_prefix`. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The whole path; `{name}` stands for what `path_template` or `path_regex` named so.
    /// Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What fits a regular expression is replaced, wherever it is in the path. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<PatternRewrite>,
    /// The host, with its port if it has one. Default: the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// What is replaced in a path, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpPatternRewrite",
    expecting = "keys and values, such as `{ pattern: \"^/v([0-9]+)\", substitution: \"/api/$1\" }`"
)]
pub struct PatternRewrite {
    /// A regular expression; every place that fits is replaced.
    pub pattern: String,
    /// What is put there: `$1` or `${name}` stands for a group, `$$` for a dollar sign.
    pub substitution: String,
}

/// What is done to headers: first some are removed, then some set, then some added.
///
/// Values may have variables, `%{peer_ip}`; `%%` is a percent sign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "HttpHeaderEdits",
    expecting = "keys and values, such as `{ remove: [x-debug] }`"
)]
pub struct EditSettings {
    /// Headers that have this value, and no other. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Headers that get a line more, beside those that they have. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, String>,
    /// Headers that go, all lines of them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}
