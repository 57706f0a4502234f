//! How many of the proxy's connections are reserved for each listener.

use super::Check;
use crate::plan::ListenerPlan;
use values::Limit;
use values::spanned::{Opt, Spanned};

impl Check<'_> {
    /// Reserves connections for each listener: its `reserved_connections` of the proxy's `all`.
    ///
    /// Of the rest, one half is divided evenly among the listeners without that key, up to their
    /// `max_connections`; the other half is shared.
    pub(super) fn reserve(&mut self, listeners: &mut [(ListenerPlan, Opt<Limit>)], all: usize) {
        let mut left = all;
        for (plan, written) in listeners.iter_mut() {
            let Some(Spanned { at, value: Some(text) }) = written else { continue };
            let reserved = text.get();
            if reserved > plan.max_connections {
                let most = plan.max_connections;
                let message = format!(
                    "{reserved} connections are reserved, and the listener may have {most}"
                );
                let hint = "reserve fewer, or raise the listener's `max_connections`";
                self.report.add(*at, message, hint);
            } else if reserved > left {
                let message = format!(
                    "{reserved} connections are reserved, and {left} are left of the proxy's {all}"
                );
                let hint = "reserve fewer, or raise the proxy's `max_connections`";
                self.report.add(*at, message, hint);
            }
            plan.reserved_connections = reserved;
            left = left.saturating_sub(reserved);
        }
        let others = listeners.iter().filter(|(_, written)| written.is_none()).count();
        let even = left / 2 / others.max(1);
        for (plan, _) in listeners.iter_mut().filter(|(_, written)| written.is_none()) {
            plan.reserved_connections = even.min(plan.max_connections);
        }
    }
}
