//! Which endpoints of a replicated service may serve an operation.

use std::{net::SocketAddr, rc::Rc, time::Duration};

/// What an endpoint is in a replicated service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Not known, or it serves no data.
    #[default]
    Unknown,
    /// It takes writes.
    Primary,
    /// It has a copy of the data, which may be older than the primary's.
    Secondary,
}

impl Role {
    /// `primary`, `secondary` or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Unknown => "unknown",
            Role::Primary => "primary",
            Role::Secondary => "secondary",
        }
    }
}

/// Where an operation may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// To the primary, or to any endpoint of a service that has no roles.
    #[default]
    Primary,
    /// Where a read preference says, or to any endpoint of a service that has no roles.
    Read(Rc<ReadPreference>),
    /// To the endpoint that holds what the operation continues, such as a cursor or a transaction, by a key
    /// of the protocol's own; to the primary if no endpoint is known to hold it. See
    /// [`PinChange`].
    Pinned(u64),
    /// To this endpoint.
    Endpoint(SocketAddr),
    /// To any endpoint with data, whatever its role.
    Any,
}

/// What a reply changes about the endpoint that holds the state with a key: see [`Placement::Pinned`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinChange {
    /// The endpoint that has sent the reply holds the state.
    Pin(u64),
    /// The state exists no longer.
    Unpin(u64),
}

/// Which members may serve a read (MongoDB's driver specification `server-selection`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPreference {
    /// Which roles.
    pub mode: ReadMode,
    /// Tag sets in order: the first one that fits a member decides. Empty: any member fits.
    pub tag_sets: Vec<TagSet>,
    /// How far behind the primary a secondary may be; `None`: any lag.
    pub max_staleness: Option<Duration>,
}

/// Names and values, all of which a member must have.
pub type TagSet = Vec<(String, String)>;

/// Which roles may serve a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// Only the primary.
    Primary,
    /// The primary, or a secondary while there is no primary.
    PrimaryPreferred,
    /// Only a secondary.
    Secondary,
    /// A secondary, or the primary if no secondary fits.
    SecondaryPreferred,
    /// Any of both.
    Nearest,
}

impl ReadMode {
    /// As drivers spell it: `secondaryPreferred`.
    pub fn as_str(self) -> &'static str {
        match self {
            ReadMode::Primary => "primary",
            ReadMode::PrimaryPreferred => "primaryPreferred",
            ReadMode::Secondary => "secondary",
            ReadMode::SecondaryPreferred => "secondaryPreferred",
            ReadMode::Nearest => "nearest",
        }
    }

    /// The mode that drivers spell like this.
    pub fn from_driver(word: &str) -> Option<Self> {
        use ReadMode::{Nearest, Primary, PrimaryPreferred, Secondary, SecondaryPreferred};
        [Primary, PrimaryPreferred, Secondary, SecondaryPreferred, Nearest]
            .into_iter()
            .find(|mode| mode.as_str() == word)
    }
}

impl ReadPreference {
    /// A preference without tags and limits.
    pub fn of_mode(mode: ReadMode) -> Self {
        Self { mode, tag_sets: Vec::new(), max_staleness: None }
    }
}
