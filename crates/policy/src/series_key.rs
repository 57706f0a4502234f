//! What names a series.

use operation::Protocol;

/// What names a series within a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesKey {
    /// The listener's protocol.
    pub protocol: &'static Protocol,
    /// The operation's name.
    pub name: Box<str>,
    /// What it is about.
    pub resource: Box<str>,
    /// Whether the service has confirmed that the resource exists. Names come from clients:
    /// until then they make no metric of their own, and are counted as `other`.
    pub confirmed: bool,
}
