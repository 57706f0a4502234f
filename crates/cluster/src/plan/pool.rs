//! The plan of a cluster's pooled connections.

use serde::{Serialize, Serializer};
use std::{sync::Arc, time::Duration};
use values::shown;

/// The limits of connections that operations share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolPlan {
    /// The most connections to each endpoint that are idle or used by operations.
    pub max_pool_size: usize,
    /// How many connections to each endpoint are kept open.
    pub min_pool_size: usize,
    /// How long a connection may be idle.
    #[serde(serialize_with = "shown")]
    pub max_idle_time: Duration,
    /// How old a connection may get; `None`: any age.
    #[serde(serialize_with = "shown")]
    pub max_lifetime: Option<Duration>,
    /// The most connections to each endpoint that are opened at the same time, on each worker.
    pub max_connecting: usize,
    /// The most connections to each endpoint that are used by long polls.
    pub max_awaiting: usize,
    /// The attribute by whose values operations that wait take turns; `None`: by connection.
    #[serde(serialize_with = "fair_by")]
    pub fair_by: Option<Arc<str>>,
    /// Connections introduce themselves as the application of the client, and serve no other.
    pub by_app: bool,
    /// How long an operation may wait for a connection.
    #[serde(serialize_with = "shown")]
    pub wait_queue_timeout: Duration,
    /// The most operations that wait for a connection to each endpoint.
    pub wait_queue_size: usize,
}

fn fair_by<S: Serializer>(attribute: &Option<Arc<str>>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(attribute.as_deref().unwrap_or(PoolPlan::BY_CONNECTION))
}

impl Default for PoolPlan {
    fn default() -> Self {
        Self {
            max_pool_size: 100,
            min_pool_size: 0,
            max_idle_time: Duration::from_secs(10 * 60),
            max_lifetime: Some(Duration::from_secs(60 * 60)),
            max_connecting: 2,
            max_awaiting: 100,
            fair_by: None,
            by_app: false,
            wait_queue_timeout: Duration::from_secs(10),
            wait_queue_size: 10_000,
        }
    }
}

impl PoolPlan {
    /// How operations take turns that wait in the order in which they came: a connection has one of them at
    /// a time.
    pub const BY_CONNECTION: &str = "connection";

    /// The share of one worker of `workers`, counted from 0. The shares of a limit add up to the limit,
    /// but each worker has at least one connection.
    pub fn share(&self, worker: usize, workers: usize) -> Self {
        let part = |total: usize| total / workers + usize::from(worker < total % workers);
        Self {
            max_pool_size: part(self.max_pool_size).max(1),
            min_pool_size: part(self.min_pool_size),
            max_awaiting: part(self.max_awaiting).max(1),
            wait_queue_size: part(self.wait_queue_size).max(1),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_limit() {
        let plan = PoolPlan { max_pool_size: 10, min_pool_size: 3, ..PoolPlan::default() };
        let sizes = |workers: usize| -> Vec<_> {
            (0..workers).map(|worker| plan.share(worker, workers).max_pool_size).collect()
        };
        assert_eq!(sizes(4), [3, 3, 2, 2]);
        assert_eq!(sizes(1), [10]);
        assert_eq!((0..4).map(|worker| plan.share(worker, 4).min_pool_size).sum::<usize>(), 3);
    }

    #[test]
    fn every_worker_has_a_connection() {
        let plan = PoolPlan { max_pool_size: 2, ..PoolPlan::default() };
        assert!((0..4).all(|worker| plan.share(worker, 4).max_pool_size == 1));
    }
}
