//! HTTP: a server, based on hyper, that terminates the client's connection and the upstream one.
//!
//! A request is one operation: its name is the method, its resource the route's name. What other
//! protocols over HTTP (gRPC) do differently is a [`Dialect`]. The crate knows neither config files
//! nor policies, listeners or workers: a client's connection is a `session::Session`, which also
//! asks the policies.
//!
//! | modules | what they are |
//! |---|---|
//! | `server` | a listener's server on one worker |
//! | `connection`, `client_connection`, `client_io` | a client's connection: its life, its state, its socket |
//! | `h1` | the HTTP/1 engine: requests, from their bytes to those of their responses |
//! | `h2` | HTTP/2 on the h2 crate |
//! | `h1_validator`, `hpack_budget` | strict HTTP/1 parsing before hyper; the bound of HPACK's amplification |
//! | `incoming_request`, `admission`, `admitted_request`, `active_operation`, `attempt_span`, `request_attributes` | a request before and after the policies, its settlement, what traces, logs and policies see of it |
//! | `header_policy`, `header_lines`, `normalize`, `routes`, `cors` | checks and edits of heads, normal forms, routing |
//! | `upstream_request`, `upstream_error`, `retry`, `mirror`, `pool`, `upstream_conn` | attempts, retries, copies, connections to endpoints |
//! | `request_body`, `response_body`, `body`, `buffer_account`, `throttle` | bodies on their way, their memory and their rate |
//! | `local_reply`, `tunnel` | responses of the proxy itself; upgrades and CONNECT |
//! | `dialect`, `plain_http`, `settings`, `operation_names`, `http_listener`, `probe`, `dry_run` | the seam for protocols over HTTP, plain HTTP, its settings, names of operations, health checks, `tollgate check --explain` |

mod active_operation;
mod admission;
mod admitted_request;
mod attempt_span;
mod body;
mod buffer_account;
mod client_connection;
mod client_io;
mod clock;
mod connection;
pub mod cors;
mod date;
mod dialect;
pub mod dry_run;
mod earliest;
pub mod h1;
pub mod h1_validator;
mod h2;
mod header_lines;
pub mod header_policy;
mod hpack_budget;
mod http_listener;
mod incoming_request;
mod local_reply;
mod mirror;
pub mod normalize;
mod operation_names;
mod plain_http;
mod pool;
pub mod probe;
mod request_attributes;
mod request_body;
mod response_body;
pub mod retry;
mod routes;
mod server;
mod settings;
mod throttle;
mod tunnel;
mod upstream_conn;
mod upstream_error;
mod upstream_request;

pub use body::{Body, BodyError};
pub use buffer_account::{BufferAccount, BufferLimitReached, BufferLimits, BufferReservation};
pub use cors::{Cors, CorsHeaders, CorsRules};
pub use dialect::{
    Dialect, HttpRejection, Meter, ResponseOutcome, RoutedRequest, Translator, UnroutedRequest,
};
pub use h2::StreamBody;
pub use header_lines::HeaderLines;
pub use header_policy::{CertificateStyle, HeaderPolicy};
pub use http_listener::HttpListener;
pub use incoming_request::UNROUTED;
pub use normalize::path_fault;
pub use operation_names::no_operation;
pub use plain_http::{PROTOCOL, PlainHttp};
pub use pool::PoolPlan;
pub use request_attributes::{ATTRIBUTES, LATE, LOGGED};
pub use retry::{AttemptFailure, Pushback};
pub use routes::{
    Action, AllowedUpgrades, Captures, Defaults, DirectResponse, Mirror, Redirect, RequestHead,
    RetryOn, RetryPolicy, Route, Routes, StatusSet, Variables, WeightedClusters, clusters,
    unreachable_routes,
};
pub use server::{Pools, Server, ServerPlan};
pub use settings::{
    BackoffSettings, BudgetSettings, ClusterSettings, CorsSettings, EditSettings, ForwardedSetting,
    HedgeSettings, MatchSettings, MirrorSettings, PatternRewrite, RedirectSettings, ReplySettings,
    RetryCondition, RetrySettings, RewriteSettings, RouteSettings, Settings, StatusRange,
    UnfitCluster, UpgradeSettings, UpstreamVersion, ValueMatch, ViaName, WeightedSettings,
    unfit_clusters,
};
