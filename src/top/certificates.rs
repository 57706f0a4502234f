//! The table of certificates, the one that ends first on top.

use super::{
    columns::{self, ListColumn, Shown, age, plain},
    layout::{RED, YELLOW},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// From how many seconds before its end on a certificate is noticed, and from how many on it has a colour.
const SOON: u64 = 3 * 24 * 60 * 60;
const LATER: u64 = 14 * 24 * 60 * 60;

/// A certificate, as the admin interface reports it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CertificateState {
    used_by: BTreeMap<String, String>,
    names: Vec<String>,
    subject: String,
    issuer: String,
    file: String,
    not_after: String,
    expires_in_seconds: u64,
}

/// How long a certificate is valid: loud in its last 14 days.
pub(super) fn left(seconds: u64) -> Shown {
    let colour = match seconds {
        left if left < SOON => RED,
        left if left < LATER => YELLOW,
        _ => "",
    };
    let text = if seconds == 0 { "ended".to_owned() } else { age(seconds as f64) };
    (text, colour)
}

const COLUMNS: [ListColumn<CertificateState>; 6] = [
    ListColumn {
        head: "NAMES",
        width: None,
        from: 0,
        show: |it| plain(if it.names.is_empty() { it.subject.clone() } else { it.names.join(" ") }),
    },
    ListColumn {
        head: "USED BY",
        width: None,
        from: 0,
        show: |it| {
            let used: Vec<_> =
                it.used_by.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
            plain(used.join(" "))
        },
    },
    ListColumn { head: "ISSUER", width: None, from: 100, show: |it| plain(&*it.issuer) },
    ListColumn { head: "FILE", width: None, from: 80, show: |it| plain(&*it.file) },
    ListColumn { head: "NOT AFTER", width: Some(20), from: 60, show: |it| plain(&*it.not_after) },
    ListColumn { head: "LEFT", width: Some(5), from: 0, show: |it| left(it.expires_in_seconds) },
];

/// The table as text, no line longer than `width` columns. With `colour` it holds escape codes.
pub fn render(certificates: &[CertificateState], shape: (usize, bool)) -> String {
    let mut rows = certificates.to_vec();
    rows.sort_by_key(|it| it.expires_in_seconds);
    columns::render(&rows, &COLUMNS, "no listener and no cluster has a certificate", shape)
}

/// A line for each certificate that ends within three days: `certificate of listener web ends in 2d`.
pub fn notices(certificates: &[CertificateState]) -> Vec<String> {
    let soon = certificates.iter().filter(|it| it.expires_in_seconds < SOON);
    soon.map(|it| {
        let used: Vec<_> = it.used_by.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
        let used = used.join(", ");
        match it.expires_in_seconds {
            0 => format!("the certificate of {used} has expired"),
            left => format!("the certificate of {used} ends in {}", age(left as f64)),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificates() -> Vec<CertificateState> {
        let json = serde_json::json!([
            { "used_by": { "cluster": "orders" }, "names": [], "subject": "CN=proxy", "issuer": "CN=ca",
              "file": "me.pem", "not_after": "2027-03-01T00:00:00Z", "expires_in_seconds": 30 * SOON },
            { "used_by": { "listener": "web" }, "names": ["shop.example"], "issuer": "CN=ca",
              "file": "web.pem", "not_after": "2026-12-02T00:00:00Z", "expires_in_seconds": SOON - 86_400 },
        ]);
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_certificate_that_ends_first_comes_first() {
        let expected = "\
NAMES        USED BY        FILE               NOT AFTER  LEFT
shop.example listener web   web.pem 2026-12-02T00:00:00Z    2d
CN=proxy     cluster orders me.pem  2027-03-01T00:00:00Z   90d";
        assert_eq!(render(&certificates(), (90, false)), expected);
        assert!(render(&certificates(), (90, true)).contains(RED));
    }

    #[test]
    fn a_certificate_that_ends_soon_is_noticed() {
        assert_eq!(notices(&certificates()), ["the certificate of listener web ends in 2d"]);
    }
}
