//! Protocols: what the proxy asks of one, and the registry of those that there are.
//!
//! The crate knows neither the config's file nor policies, workers or listeners: what serves a
//! client's connection gets a `session::Session`.
//!
//! | modules | what they are |
//! |---|---|
//! | `registry` | one row for each protocol; only this file names a protocol's crate |
//! | `entry` | the traits: a row, settings as written, a listener's protocol |
//! | `row`, `relayed`, `terminated` | rows made of a protocol's parts: with a codec, or over HTTP |
//! | `written`, `probe` | how they are written in the config; a checked health check |

mod entry;
mod probe;
mod registry;
mod relayed;
mod row;
mod terminated;
mod written;

pub use entry::{
    DryRequest, ListenerContext, ListenerProtocol, NamedSchema, ProtocolEntry, ProtocolSettings,
    UncheckedProbe,
};
use operation::Close;
pub use probe::ProbePlan;
pub use registry::PROTOCOLS;
use std::{future::Future, pin::Pin, sync::Arc};
pub use terminated::{DryRunReport, Pooling, Pools, Server, UnfitCluster};
use values::Diagnostic;
pub use written::{ConfiguredProbe, NAMES, ProtocolConfig};

/// A connection being served, until it ends.
pub type Serving = Pin<Box<dyn Future<Output = Close>>>;

/// Every protocol's name, attributes and counters.
pub fn all() -> impl Iterator<Item = &'static operation::Protocol> {
    PROTOCOLS.iter().map(|entry| entry.describe())
}

/// The protocol of this name.
pub fn find(name: &str) -> Option<&'static dyn ProtocolEntry> {
    PROTOCOLS.iter().copied().find(|entry| entry.describe().name == name)
}

/// A listener of this protocol without any settings; `None` if there is no such protocol.
pub fn plain(name: &str) -> Option<Arc<dyn ListenerProtocol>> {
    find(name)?.default_settings().protocol(ListenerContext::default()).ok()
}

/// Why no operation of a protocol has a name that this glob matches; `None` if one can.
pub fn no_operation(protocol: &operation::Protocol, glob: &str) -> Option<Diagnostic> {
    if glob.len() > 2 && glob.starts_with('/') && glob.ends_with('/') {
        let message = format!("`{glob}` is no glob that an operation fits");
        let hint = "there are globs here, and no regular expressions: `find*` begins so";
        return Some(Diagnostic::new(message, hint));
    }
    find(protocol.name)?.no_operation(glob)
}

/// A policy's glob in the normal form of the attribute's values; `None` if it is in that form.
pub fn normal_glob(attribute: &str, glob: &str) -> Option<String> {
    PROTOCOLS.iter().find_map(|entry| entry.normal_glob(attribute, glob))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_row_makes_a_listener_with_and_without_settings() {
        for protocol in all() {
            let written = json!({ protocol.name: {} });
            let settings: ProtocolConfig = serde_json::from_value(written).unwrap();
            let read = settings.protocol(ListenerContext::default()).unwrap();
            assert_eq!(read.to_json(), plain(protocol.name).unwrap().to_json());
            assert!(std::ptr::eq(read.describe(), protocol));
            let probe: ConfiguredProbe =
                serde_json::from_value(json!({ protocol.name: {} })).unwrap();
            assert_eq!(probe.name(), protocol.name);
            assert!(probe.plan("shop", &Pooling::default()).is_ok());
        }
    }

    #[test]
    fn the_names_of_rows_differ() {
        let names: std::collections::BTreeSet<_> = NAMES.iter().collect();
        assert_eq!(names.len(), PROTOCOLS.len());
    }

    #[test]
    fn a_regular_expression_is_no_glob_of_any_protocol() {
        for protocol in all() {
            let fault = no_operation(protocol, "/^find/").unwrap();
            assert!(fault.hint.contains("no regular expressions"), "{}", fault.hint);
        }
    }
}
