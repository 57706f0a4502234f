//! The metrics of protocols.

use super::{Metric, row::counter};

/// The metrics that a protocol adds to the table, as rows.
pub fn extras(protocol: &operation::Protocol) -> impl Iterator<Item = Metric> {
    // The labels that `operation::Protocol` defines.
    let items: &[&str] = &["listener", "operation", "resource", "direction"];
    let codes: &[&str] = &["listener", "operation", "code"];
    let shapes: &[&str] = &["listener", "resource", "shape"];
    [
        (protocol.items, "items", items),
        (protocol.codes, "operations", codes),
        (protocol.shapes, "operations", shapes),
    ]
    .into_iter()
    .filter_map(|(extra, unit, labels)| {
        extra.map(|extra| counter(extra.metric, unit, labels, extra.help))
    })
}
