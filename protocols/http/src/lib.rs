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
pub use buffered::{Bounds, Buffered, Full, Hold};
pub use cors::{Cors, Grant, Sites};
pub use dialect::{Asked, Dialect, Judged, Meter, Misdirected, No, Translator};
pub use facts::{ATTRIBUTES, LATE, LOGGED};
pub use hygiene::{Hygiene, is_method};
pub use listener::Listener;
pub use normal::path_fault;
pub use plain::{Http, PROTOCOL};
pub use pool::PoolPlan;
pub use proxy::{
    Cluster, Connecting, Dialed, Door, Endpoint, Lease, Patience, Phase, Unreachable, Way, Whom,
    Wish,
};
pub use retry::{Failure, Pushback};
pub use routes::{
    Action, Captures, Defaults, Fixed, Mirror, Redirect, Rendered, Retry, RetryOn, Route, Routes,
    Statuses, Targets, Upgrades, Variables, clusters, switched, unreached,
};
pub use server::{Pools, Server, ServerPlan};
pub use settings::{
    BackoffSettings, BudgetSettings, ClusterSettings, Condition, CorsSettings, EditSettings,
    Forwarded, HedgeSettings, MatchSettings, MirrorSettings, PatternRewrite, RedirectSettings,
    ReplySettings, RetrySettings, RewriteSettings, RouteSettings, Settings, StatusRange,
    UpgradeSettings, ValueMatch, Via, WeightedSettings,
};
