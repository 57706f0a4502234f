//! How many of the proxy's connections are reserved for each listener.

use super::Check;
use crate::plan::ConnectionLimits;
use values::Limit;
use values::spanned::{Opt, Spanned};

impl Check<'_> {
    /// The limits of each listener, of which `wanted` has its `max_connections` and its `reserved_connections`; the
    /// proxy has `all`.
    ///
    /// Of the connections that no listener has reserved, one half is divided evenly among the listeners without that
    /// key, up to their `max_connections`; the other half is shared.
    pub(super) fn connection_limits(
        &mut self,
        wanted: Vec<(usize, Opt<Limit>)>,
        all: usize,
    ) -> Vec<ConnectionLimits> {
        let mut left = all;
        for (max, written) in &wanted {
            let Some(Spanned { at, value: Some(text) }) = written else { continue };
            let reserved = text.get();
            if reserved > *max {
                let message =
                    format!("{reserved} connections are reserved, and the listener may have {max}");
                let hint = "reserve fewer, or raise the listener's `max_connections`";
                self.report.add(*at, message, hint);
            } else if reserved > left {
                let message = format!(
                    "{reserved} connections are reserved, and {left} are left of the proxy's {all}"
                );
                let hint = "reserve fewer, or raise the proxy's `max_connections`";
                self.report.add(*at, message, hint);
            }
            left = left.saturating_sub(reserved);
        }
        let others = wanted.iter().filter(|(_, written)| written.is_none()).count();
        let even = left / 2 / others.max(1);
        let limits = |(max, written): (usize, Opt<Limit>)| {
            let reserved = match written {
                Some(written) => written.value.map_or(0, |text| text.get()),
                None => even.min(max),
            };
            ConnectionLimits { max, reserved }
        };
        wanted.into_iter().map(limits).collect()
    }
}
