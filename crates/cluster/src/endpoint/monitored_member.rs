//! What is known of an endpoint that is a member of a replica set.

use bytes::Bytes;
use operation::MemberState;
use std::time::{Duration, SystemTime};

/// What the monitor of a member has learned last.
#[derive(Debug)]
pub(crate) struct MonitoredMember {
    state: MemberState,
    /// The smoothed round-trip time.
    rtt: Option<Duration>,
    /// When its last reply came.
    at: SystemTime,
}

impl MonitoredMember {
    /// What a reply says that came just now.
    pub(crate) fn new(state: MemberState, rtt: Option<Duration>) -> Self {
        Self { state, rtt, at: SystemTime::now() }
    }

    /// The reply itself.
    pub(crate) fn reply(&self) -> &Bytes {
        &self.state.reply
    }

    /// When the newest write that it has was made.
    pub(crate) fn last_write(&self) -> Option<SystemTime> {
        self.state.last_write
    }

    /// Its tags, as `name: value`.
    pub(crate) fn tags(&self) -> &[(String, String)] {
        &self.state.tags
    }

    /// The smoothed round-trip time.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// How long before its reply its newest write was made.
    fn write_age(&self) -> Option<Duration> {
        Some(self.at.duration_since(self.state.last_write?).unwrap_or_default())
    }

    /// How far it is behind `primary`.
    pub(crate) fn lag(&self, primary: &MonitoredMember) -> Option<Duration> {
        Some(self.write_age()?.saturating_sub(primary.write_age()?))
    }
}
