//! Why an operation gets no connection of a pool.

use crate::ConnectError;
use operation::{Placement, ReadPreference};
use std::{sync::Arc, time::Duration};

/// Why an operation got no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TakeError {
    /// None could be opened.
    #[error(transparent)]
    Connect(#[from] Arc<ConnectError>),
    /// The service refuses the user of the connection.
    #[error("{words}")]
    Refused {
        /// Why, and which user.
        words: String,
    },
    /// No endpoint could be reached as long as the operation was held.
    #[error("{error}{}", held_note(*.held))]
    Unreachable {
        /// Why the last attempt failed.
        error: Arc<ConnectError>,
        /// How long the operation was held.
        held: Duration,
    },
    /// No endpoint may serve the operation.
    #[error("{}{}", needs(.cluster, .placement), held_note(*.held))]
    NoMember {
        /// The cluster's name.
        cluster: Arc<str>,
        /// Where the operation may go.
        placement: Placement,
        /// How long the operation was held.
        held: Duration,
    },
    /// The operation's own time limit ended while it waited.
    #[error(
        "`{cluster}` had no connection for the operation within its own time limit of {limit:?}"
    )]
    TimeLimit {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The limit.
        limit: Duration,
    },
    /// The queue is full.
    #[error(
        "the pool of cluster `{cluster}` is at its limit, and {waiting} operations wait for a connection \
         already (pool.wait_queue_size)"
    )]
    QueueFull {
        /// The cluster's name.
        cluster: Arc<str>,
        /// How many operations wait.
        waiting: usize,
    },
    /// None became free in time.
    #[error(
        "the pool of cluster `{cluster}` is at its limit: no connection was free within {waited:?} \
         (pool.max_pool_size, pool.wait_queue_timeout)"
    )]
    TimedOut {
        /// The cluster's name.
        cluster: Arc<str>,
        /// How long the operation has waited.
        waited: Duration,
    },
    /// An operator has paused the cluster for longer than an operation waits.
    #[error(
        "`{cluster}` is paused by an operator: the operation has waited {:.1} s (pool.wait_queue_timeout)",
        .waited.as_secs_f64()
    )]
    Paused {
        /// The cluster's name.
        cluster: Arc<str>,
        /// How long the operation has waited.
        waited: Duration,
    },
    /// An operator has paused the cluster, and too many operations wait.
    #[error(
        "`{cluster}` is paused by an operator, and {waiting} operations wait already (pool.wait_queue_size)"
    )]
    PausedQueueFull {
        /// The cluster's name.
        cluster: Arc<str>,
        /// How many operations wait.
        waiting: usize,
    },
}

impl From<ConnectError> for TakeError {
    fn from(error: ConnectError) -> Self {
        Arc::new(error).into()
    }
}

impl TakeError {
    /// Whether the service refuses the user, so that another endpoint would refuse it too.
    pub fn is_refusal(&self) -> bool {
        matches!(self, TakeError::Refused { .. })
    }

    /// The reason and message for the client; the message names no addresses.
    pub fn client_error(&self) -> (operation::RejectReason, String) {
        match self {
            TakeError::Connect(error) => error.client_error(),
            TakeError::Refused { .. } => (operation::RejectReason::Denied, self.to_string()),
            TakeError::Unreachable { error, held } => {
                let (reason, message) = error.client_error();
                (reason, message + &held_note(*held))
            }
            TakeError::NoMember { .. } => (operation::RejectReason::NoEndpoint, self.to_string()),
            TakeError::TimeLimit { .. } => (operation::RejectReason::TimedOut, self.to_string()),
            TakeError::QueueFull { .. }
            | TakeError::TimedOut { .. }
            | TakeError::Paused { .. }
            | TakeError::PausedQueueFull { .. } => {
                (operation::RejectReason::Overloaded, self.to_string())
            }
        }
    }

    /// Why the operation ended.
    pub fn close_reason(&self) -> operation::Close {
        match self {
            TakeError::Refused { .. } => operation::Close::Denied,
            TakeError::Connect(error) | TakeError::Unreachable { error, .. } => {
                error.close_reason()
            }
            TakeError::TimeLimit { .. } => operation::Close::OperationTimeout,
            TakeError::NoMember { .. } => operation::Close::NoEndpoint,
            TakeError::QueueFull { .. }
            | TakeError::TimedOut { .. }
            | TakeError::Paused { .. }
            | TakeError::PausedQueueFull { .. } => operation::Close::Overloaded,
        }
    }
}

/// What the cluster lacks.
fn needs(cluster: &str, placement: &Placement) -> String {
    match placement {
        Placement::Primary | Placement::Pinned(_) => format!("`{cluster}` has no primary"),
        Placement::Any => format!("`{cluster}` has no member that can be used"),
        Placement::Endpoint(_) => {
            format!("the member of `{cluster}` that holds what the operation continues is gone")
        }
        Placement::Read(preference) => {
            format!("no member of `{cluster}` fits the read preference {}", describe(preference))
        }
    }
}

/// `secondary with the tags [{use: analytics}] and at most 90s behind the primary`.
fn describe(preference: &ReadPreference) -> String {
    let ReadPreference { mode, tag_sets, max_staleness } = preference;
    let mut words = mode.as_str().to_owned();
    if !tag_sets.is_empty() {
        let tag = |(name, value): &(String, String)| format!("{name}: {value}");
        let set =
            |tags: &Vec<_>| format!("{{{}}}", tags.iter().map(tag).collect::<Vec<_>>().join(", "));
        let sets: Vec<_> = tag_sets.iter().map(set).collect();
        words += &format!(" with the tags [{}]", sets.join(", "));
    }
    if let Some(most) = max_staleness {
        words += &format!(" at most {most:?} behind the primary");
    }
    words
}

fn held_note(held: Duration) -> String {
    if held.is_zero() {
        return String::new();
    }
    format!("; waited {:.1} s (failover.hold)", held.as_secs_f64())
}
