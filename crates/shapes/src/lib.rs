//! Which query costs most: operations counted by their shape, and what their order says about the
//! programs that send them.
//!
//! A codec supplies the key of a shape ([`operation::QueryShape`]) and, on demand, its text; this crate
//! knows no protocol. Each worker counts in a table of its own, without locks ([`WorkerShapes`]). What
//! concerns all workers is in [`SharedShapes`], behind locks that an ordinary operation does not take:
//! open cursors, ended connections, and findings.
//!
//! - `worker_shapes`: one operation counted; `call`: the operation, as it ended
//! - `shape_table`: the rows of a worker; `shape`: what identifies a row; `report`: the rows of all
//!   workers merged
//! - `lookup_run`: loops that send a query for each item
//! - `client_table`: the clients that a worker serves; `bounded_names`: a few names of many
//! - `mirrored_shape`: what a mirror has answered
//! - `open_cursors`, `connection_churn`: state that findings come from; `findings`: the findings

mod bounded_names;
mod call;
mod client_table;
mod connection_churn;
mod findings;
mod lookup_run;
mod mirrored_shape;
mod open_cursors;
mod report;
mod shape;
mod shape_table;
mod shared_shapes;
#[cfg(test)]
mod testing;
mod worker_shapes;

pub use call::{Call, listener_key};
pub use findings::{FindingKind, FindingRow};
pub use mirrored_shape::{MirrorExample, MirrorReport};
pub use report::{ShapeOrder, ShapeReport, ShapeRow};
pub use shape_table::WorkerReport;
pub use shared_shapes::SharedShapes;
pub use worker_shapes::WorkerShapes;
