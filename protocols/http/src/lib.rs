//! HTTP: a server that ends both connections itself, through hyper, and asks the same gate as every
//! codec.
//!
//! A request is one operation: its name is the method, its resource the route's name. What other
//! protocols that travel by HTTP do differently is a [`Dialect`].

mod body;
mod dialect;
mod hygiene;
mod probe;
mod retry;
mod routes;
pub mod screen;
mod settings;

pub use body::{Body, BodyError};
pub use dialect::{Asked, Dialect, Judged, Meter, Misdirected, No, Translator};
pub use routes::Route;
