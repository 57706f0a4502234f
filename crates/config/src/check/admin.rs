//! The admin interface: its addresses, its token and its host names.

use super::{Check, or};
use crate::{
    ADMIN,
    file::{Admin, AdminKeys},
    plan::{AdminPlan, ControlAddress},
};
use std::{net::SocketAddr, sync::Arc};
use values::wrong_secret_file;
use values::{Span, is_host_name, spanned::Spanned};

/// The longest file with a token, in bytes.
const MAX_TOKEN_FILE: u64 = 64 << 10;

impl Check<'_> {
    /// The admin interface; `None` if it is off.
    pub(super) fn admin(&mut self, written: Option<Spanned<Admin>>) -> Option<AdminPlan> {
        let default: Option<SocketAddr> = ADMIN.parse().ok();
        let at = written.as_ref().map_or(self.tree.at, |admin| admin.at);
        let keys = match written.and_then(|admin| admin.value) {
            None => return self.read_at(default, at),
            Some(Admin::Short(address)) => return self.read_at(address, at),
            Some(Admin::Long(keys)) => keys,
        };
        let AdminKeys { address, control, token_file, allowed_hosts, tls } = *keys;
        let at = address.as_ref().map_or(at, |address| address.at);
        let address = default.map(|default| or(address, default));
        let mut plan = self.read_at(address, at)?;
        if let Some(Spanned { at, value: Some(control) }) = control {
            if let ControlAddress::Tcp(address) = control.0 {
                self.take(address, "the admin interface's `control`".to_owned(), at);
            }
            plan.control = Some(control.0);
        }
        if let Some(Spanned { at, value: Some(file) }) = token_file {
            if let Some(error) = wrong_secret_file(&file, MAX_TOKEN_FILE) {
                self.report.add_diagnostic(at, error);
            }
            plan.token_file = Some(file);
        }
        let hosts = allowed_hosts.and_then(|hosts| hosts.value).unwrap_or_default();
        plan.allowed_hosts = hosts.into_iter().filter_map(|host| self.host(host)).collect();
        plan.tls = self.admin_tls(tls);
        Some(plan)
    }

    fn read_at(&mut self, address: Option<SocketAddr>, at: Span) -> Option<AdminPlan> {
        let plan = AdminPlan::new(address?);
        self.take(plan.address, "the admin interface".to_owned(), at);
        Some(plan)
    }

    fn host(&mut self, Spanned { at, value }: Spanned<String>) -> Option<Arc<str>> {
        let host = value?.to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        if host != "*" && !is_host_name(name) {
            let message = format!("`{host}` is not the name of a host");
            let hint = "write the name alone, without a port: `proxy.example.net`, `*.example.net`";
            self.report.add(at, message, hint);
        }
        Some(host.into())
    }
}
