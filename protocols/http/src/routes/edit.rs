//! Edits of headers, with variables in their values.

use http::{HeaderName, HeaderValue};
use std::net::SocketAddr;

/// What variables stand for, beside what the request's head tells itself.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// `%{peer}` and `%{peer_ip}`: the client, as far as it is known by trusted hops.
    pub peer: SocketAddr,
    /// `%{host}`: the host that the request is for, without its port.
    pub host: &'a str,
    /// `%{request_id}`: empty if it has none.
    pub request_id: &'a str,
    /// `%{cluster}`: the cluster that was picked; empty if the proxy answers itself.
    pub cluster: &'a str,
}

/// Edits of an answer's headers, their variables filled in while the request was at hand.
#[derive(Clone, Debug, Default)]
pub struct Rendered(pub(super) Vec<Option<(HeaderName, HeaderValue)>>);
