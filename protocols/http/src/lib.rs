//! HTTP: a server that ends both connections itself, through hyper, and asks the same gate as every
//! codec.
//!
//! A request is one operation: its name is the method, its resource the route's name. What other
//! protocols that travel by HTTP do differently is a [`Dialect`].

mod active_operation;
mod admitted_request;
mod body;
mod buffer_account;
mod client_connection;
mod client_io;
mod connection;
pub mod cors;
mod dialect;
pub mod dry_run;
pub mod h1_validator;
pub mod header_policy;
mod hpack_budget;
mod http_listener;
mod incoming_request;
mod local_reply;
mod mirror;
pub mod normalize;
mod plain_http;
mod pool;
pub mod probe;
mod proxy;
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
mod upstream_request;

pub use body::{Body, BodyError};
pub use buffer_account::{BufferAccount, BufferLimitReached, BufferLimits, BufferReservation};
pub use cors::{Cors, CorsHeaders, CorsRules};
pub use dialect::{
    Dialect, HttpRejection, Meter, ResponseOutcome, RoutedRequest, Translator, UnroutedRequest,
};
pub use header_policy::{HeaderPolicy, is_method};
pub use http_listener::HttpListener;
pub use normalize::path_fault;
pub use plain_http::{PROTOCOL, PlainHttp};
pub use pool::PoolPlan;
pub use proxy::{
    Cluster, Connecting, Dialed, Door, Endpoint, Lease, Phase, Timeouts, Unreachable, Way, Whom,
    Wish,
};
pub use request_attributes::{ATTRIBUTES, LATE, LOGGED};
pub use retry::{AttemptFailure, Pushback};
pub use routes::{
    Action, AllowedUpgrades, Captures, Defaults, DirectResponse, Mirror, Redirect, RenderedValues,
    RetryOn, RetryPolicy, Route, Routes, StatusSet, Variables, WeightedClusters, clusters,
    unreachable_routes, upgraded_clusters,
};
pub use server::{Pools, Server, ServerPlan};
pub use settings::{
    BackoffSettings, BudgetSettings, ClusterSettings, CorsSettings, EditSettings, ForwardedSetting,
    HedgeSettings, MatchSettings, MirrorSettings, PatternRewrite, RedirectSettings, ReplySettings,
    RetryCondition, RetrySettings, RewriteSettings, RouteSettings, Settings, StatusRange,
    UpgradeSettings, ValueMatch, ViaName, WeightedSettings,
};
