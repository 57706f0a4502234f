//! A connection's socket, plain or encrypted.
//!
//! Everything above names [`Stream`] and does not ask which of the two it is, but where bytes may go
//! past the process ([`Stream::plain`]).

mod peek;
mod stream;

pub use peek::{peek, skip};
pub use stream::Stream;
