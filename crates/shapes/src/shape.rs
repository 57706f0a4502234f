//! What identifies a row of a table: the shape of operations of one listener.

use crate::Call;
use operation::SHAPE_TEXT;
use std::sync::Arc;

/// The shape of operations of one listener, with its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The key that its codec supplies.
    pub(crate) key: u64,
    /// The key of its row in a worker's table.
    pub(crate) row_key: u64,
    pub(crate) listener: Arc<str>,
    pub(crate) operation: Box<str>,
    pub(crate) resource: Box<str>,
    /// The query without values; empty if the operation has none.
    pub(crate) query: Box<str>,
    /// The attribute `query_hash` of the first operation of the shape.
    pub(crate) query_hash: Box<str>,
}

impl Shape {
    /// The shape of an operation. Reads the text, which takes a few microseconds.
    pub(crate) fn of(call: &Call<'_>) -> Arc<Self> {
        let text = |name| call.attribute(name).unwrap_or_default().into();
        Arc::new(Self {
            key: call.key().get(),
            row_key: call.row_key(),
            listener: Arc::clone(call.listener),
            operation: call.operation.into(),
            resource: call.resource.into(),
            query: text(SHAPE_TEXT),
            query_hash: text("query_hash"),
        })
    }
}
