//! Compiles header edits.

use super::DiagnosticScope;
use crate::{
    routes::edit::{EditValue, HeaderEdits},
    settings::EditSettings,
};
use http::HeaderName;
use std::{collections::BTreeMap, sync::Arc};
use values::Diagnostic;

/// Hop-by-hop headers (RFC 9110, 7.6.1), and headers that frame a message.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
];

/// Parses the name of a header that may be edited.
pub(super) fn header(name: &str) -> Result<HeaderName, Diagnostic> {
    let header = name.parse::<HeaderName>().map_err(|_| {
        let hint = "letters, digits and `-`, as in `x-version`";
        Diagnostic::new(format!("`{name}` can't be a header"), hint)
    })?;
    if HOP_BY_HOP.contains(&header.as_str()) {
        let message = format!("`{name}` belongs to each connection, not to what passes");
        return Err(Diagnostic::new(message, "leave it out: the proxy sees to it"));
    }
    if header == http::header::HOST {
        let hint = "write `rewrite: { host: … }`";
        return Err(Diagnostic::new("the host is no header of every request", hint));
    }
    Ok(header)
}

pub(super) fn edits(
    settings: &EditSettings,
    route: &str,
    names: &[Arc<str>],
    place: &mut DiagnosticScope<'_>,
) -> HeaderEdits {
    let mut remove = Vec::new();
    for (at, name) in settings.remove.iter().enumerate() {
        remove.extend(place.ok_or_report(&["remove", &at.to_string()], header(name)));
    }
    let mut values = |key: &str, list: &BTreeMap<String, String>| {
        let mut values = Vec::new();
        for (name, text) in list {
            let header = place.ok_or_report(&[key, name], header(name));
            let value = place.ok_or_report(&[key, name], EditValue::new(text, route, names));
            values.extend(header.zip(value));
        }
        values.into_boxed_slice()
    };
    let set = values("set", &settings.set);
    let add = values("add", &settings.add);
    let edits = HeaderEdits { remove: remove.into(), set, add };
    if settings == &EditSettings::default() {
        place.report(&[], "this does nothing", "`set`, `add` or `remove` headers");
    }
    edits
}
