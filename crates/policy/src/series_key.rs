//! The key of a series.

use operation::Protocol;

/// The key of a series within a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesKey {
    /// The listener's protocol.
    pub protocol: &'static Protocol,
    /// The operation's name.
    pub name: Box<str>,
    /// The operation's target.
    pub resource: Box<str>,
    /// Whether the service has confirmed that the resource exists. Clients
    /// choose names: until then they are counted as `other`.
    pub confirmed: bool,
}
