//! HTTP: a server that ends both connections itself, through hyper, and asks the same gate as every
//! codec.
//!
//! A request is one operation: its name is the method, its resource the route's name. What other
//! protocols that travel by HTTP do differently is a [`Dialect`].

mod attempt;
mod body;
mod buffered;
pub mod cors;
mod dialect;
mod download;
pub mod dry;
mod exchange;
mod expansion;
mod facts;
pub mod hygiene;
mod line;
mod listener;
mod mirror;
pub mod normal;
mod own;
mod pace;
mod plain;
mod pool;
pub mod probe;
mod proxy;
mod record;
pub mod retry;
mod routes;
pub mod screen;
mod serve;
mod server;
mod serving;
mod settings;
mod tunnel;
mod upload;
mod visit;
mod wire;

pub use body::{Body, BodyError};
pub use buffered::{BufferAccount, BufferLimitReached, BufferLimits, BufferReservation};
pub use cors::{Cors, CorsHeaders, CorsRules};
pub use dialect::{
    Dialect, HttpRejection, Meter, ResponseOutcome, RoutedRequest, Translator, UnroutedRequest,
};
pub use facts::{ATTRIBUTES, LATE, LOGGED};
pub use hygiene::{HeaderPolicy, is_method};
pub use listener::HttpListener;
pub use normal::path_fault;
pub use plain::{PROTOCOL, PlainHttp};
pub use pool::PoolPlan;
pub use proxy::{
    Cluster, Connecting, Dialed, Door, Endpoint, Lease, Phase, Timeouts, Unreachable, Way, Whom,
    Wish,
};
pub use retry::{AttemptFailure, Pushback};
pub use routes::{
    Action, AllowedUpgrades, Captures, Defaults, DirectResponse, Mirror, Redirect, RenderedValues,
    RetryOn, RetryPolicy, Route, Routes, StatusSet, Variables, WeightedClusters, clusters,
    switched, unreached,
};
pub use server::{Pools, Server, ServerPlan};
pub use settings::{
    BackoffSettings, BudgetSettings, ClusterSettings, CorsSettings, EditSettings, ForwardedSetting,
    HedgeSettings, MatchSettings, MirrorSettings, PatternRewrite, RedirectSettings, ReplySettings,
    RetryCondition, RetrySettings, RewriteSettings, RouteSettings, Settings, StatusRange,
    UpgradeSettings, ValueMatch, ViaName, WeightedSettings,
};
