//! HTTP: a server that ends both connections itself, through hyper, and asks the same gate as every
//! codec.
//!
//! A request is one operation: its name is the method, its resource the route's name. What other
//! protocols that travel by HTTP do differently is a [`Dialect`].

mod body;
mod dialect;
pub mod hygiene;
pub mod probe;
pub mod retry;
mod routes;
mod screen;
mod settings;

pub use body::{Body, BodyError};
pub use dialect::{Asked, Dialect, Judged, Meter, Misdirected, No, Translator};
pub use routes::Route;
