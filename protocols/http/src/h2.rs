//! HTTP/2 on the h2 crate.

mod client;
mod client_socket;
mod connection_headers;
mod keep_alive;
mod peer_settings;
mod request;
mod send_body;
mod server;
mod stream_body;
mod turn;
mod upload;

pub(crate) use client::{H2Connection, H2Stream};
pub(crate) use client_socket::ClientSocket;
pub(crate) use server::ServerConnection;
pub use stream_body::StreamBody;

/// The head limit for h2. h2 drops larger heads without details, so it gets twice the limit, and
/// the exact limit is checked elsewhere.
pub(crate) fn list_size(max_head: usize) -> u32 {
    u32::try_from(max_head.saturating_mul(2)).unwrap_or(u32::MAX)
}
